"""`vault halt` as a person runs it, a process of its own, against senders that are processes of their own.

What the bank was asked for is counted by the bank's stand-in when a request arrives. How soon the last one comes is a campaign:
`./vault test -s -m campaign tests/integration/disbursements/test_halt_process.py` prints it.
"""

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from local_stack.home import REPOSITORY
from tests.integration.disbursements.conftest import Day, client, loan
from tests.integration.disbursements.test_halt import sender_environment, start_sender, until_paid
from vault_core.disbursements.batches import form_batches

LOANS = 300
LATENCY_MS = 300  # of the bank's answer, so that some requests wait for it whenever the stop comes
_WAITS = "SELECT count(*) AS n FROM pg_locks WHERE relation = 'payout_halts'::regclass AND NOT granted"


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many requests had reached the bank by the time the command returned, and how long after it could begin that was."""

    asked: int
    begun_at: datetime
    returned_at: datetime


async def asked(day: Day) -> int:
    """How many B2C requests have reached the bank, answered or not."""
    return int((await day.truth())["calls"]["mpesa b2c"])


async def stop_two_senders(day: Day, database_url: str, owner_url: str, home: Path, *, after: int) -> Stopped:
    """Two processes send a long queue, the command stops them when `after` are paid, and they go on as long as they want.

    A lock keeps the command, started up, from its first word until payouts are under way: how long a Python takes to start is
    another matter.
    """
    await day.control("settings", {"b2c_latency_ms": LATENCY_MS})
    await day.fund(50_000)
    await day.poll()
    batches = [str(batch.id) for batch in await form_batches(day.runtime)]
    engine = create_engine(owner_url)
    with engine.connect() as kept_back:
        kept_back.execute(text("LOCK TABLE payout_halts IN SHARE MODE"))  # senders look on
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vault_cli", "halt", "--reason", "wrong float", "--json"),
            cwd=REPOSITORY,
            env={**sender_environment(day, database_url), "VAULT_HOME": str(home)},
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            while not (await day.rows(_WAITS))[0]["n"]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.02)
        senders = [await start_sender(day, database_url, *batches) for _ in range(2)]
        await until_paid(day, after)
        begun_at = datetime.now(UTC)
        kept_back.rollback()
    engine.dispose()
    said, _ = await command.communicate()
    returned_at = datetime.now(UTC)
    stopped = Stopped(await asked(day), begun_at, returned_at)
    assert command.returncode == 0, said
    told = json.loads(said)
    assert told["under_way"] == []
    assert begun_at <= datetime.fromisoformat(told["in_force_at"]) <= datetime.fromisoformat(told["looked_at"]) <= returned_at
    assert [await sender.wait() for sender in senders] == [0, 0]
    return stopped


async def test_after_the_command_returned_no_request_reaches_the_bank_and_each_that_did_is_booked(
    open_day, database_url: str, owner_url: str, tmp_path: Path
) -> None:
    numbers = range(1, LOANS + 1)
    async with open_day([loan(number) for number in numbers], [client(number) for number in numbers]) as day:
        stopped = await stop_two_senders(day, database_url, owner_url, tmp_path / "none", after=20)
        assert 20 <= stopped.asked < LOANS
        assert await asked(day) == stopped.asked == len(await day.payments())
        assert Counter((await day.states()).values()) == {"accepted": stopped.asked, "held": LOANS - stopped.asked}
        await day.hear("b2c_result")
        assert Counter((await day.states()).values()) == {"paid": stopped.asked, "held": LOANS - stopped.asked}
        assert await day.balance("b2c_float") == -sum(payment["amount_cents"] for payment in await day.payments())
        assert day.ledger_findings() == []


@pytest.mark.campaign
@pytest.mark.parametrize("after", range(20, 50, 6))
async def test_the_last_request_comes_within_two_seconds(
    open_day, database_url: str, owner_url: str, tmp_path: Path, after: int
) -> None:
    numbers = range(1, LOANS + 1)
    async with open_day([loan(number) for number in numbers], [client(number) for number in numbers]) as day:
        stopped = await stop_two_senders(day, database_url, owner_url, tmp_path / "none", after=after)
        answered_at = max(datetime.fromisoformat(payment["at"]) for payment in await day.payments())
        last = answered_at - timedelta(milliseconds=LATENCY_MS) - stopped.begun_at
        back = stopped.returned_at - stopped.begun_at
        print(f"the last of {stopped.asked} requests after {last.total_seconds():.2f} s, back after {back.total_seconds():.2f} s")  # noqa: T201
        assert last <= timedelta(seconds=2)
