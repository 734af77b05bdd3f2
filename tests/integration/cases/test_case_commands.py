"""`vault cases` as a person runs it: what is open, whose work it is, how it ends, and the words of what is refused."""

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.integration.cases.test_closing_cases import LARGE, opened
from vault_cli import cases
from vault_core.cases.case_story import short_id
from vault_core.money import Money

Command = Callable[..., Awaitable[Result]]
CLOSE = ("--reason", "an officer moved it", "--evidence", "utility statement of today, line 7")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Command:
    monkeypatch.setenv("VAULT_DATABASE_URL", database_url)
    monkeypatch.setenv("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9")
    monkeypatch.setenv("VAULT_MASTER_KEY", f"test:{base64.b64encode(bytes(32)).decode()}")
    monkeypatch.setenv("COLUMNS", "250")

    async def run(*arguments: str, login: str = "asha") -> Result:
        monkeypatch.setattr(cases, "actor", lambda: f"ops:{login}")
        return await asyncio.to_thread(CliRunner().invoke, cases.app, list(arguments))

    return run


async def test_the_list_tells_age_and_owner_and_show_how_the_case_ends(command: Command, runtime, lender) -> None:
    case = short_id(await opened(runtime, lender))
    assert (await command("take", case)).stdout.strip().endswith("is ops:asha's work")
    assert (await command("take", case, "--for", "ops:barasa")).exit_code == 0
    listed = await command()
    assert re.search(rf"^{case}  \S+ \S+ \(\d+[dh] \d+[hm]\)  alpha  float_gap  KES 50,000.00  short code 600100  ops:barasa$",
                     listed.stdout, re.MULTILINE)  # fmt: skip
    assert "1 open, " in listed.stdout
    assert "no open case" in (await command("--owner", "none")).stdout
    (one,) = json.loads((await command("list", "--kind", "float_gap", "--owner", "ops:barasa", "--json")).stdout)
    assert one["age_hours"] >= 0
    shown = (await command("show", case)).stdout
    assert f"vault cases close {case}" in shown


async def test_a_case_is_closed_and_what_closes_otherwise_is_refused_with_the_way(command: Command, runtime, lender) -> None:
    case = short_id(await opened(runtime, lender))
    assert (await command("close", case, *CLOSE)).stdout.strip().endswith("is closed")
    told = json.loads((await command("show", case, "--json")).stdout)
    assert (told["ends"], told["to_do"], told["closings"][0]["decided_by"]) == ("by_person", None, "ops:asha")
    other = short_id(await opened(runtime, lender, "payout_unresolved"))
    refused = await command("close", other, *CLOSE)
    assert (refused.exit_code, "vault disbursements resolve" in refused.output) == (4, True)
    assert (await command("close", "nonsense", *CLOSE)).exit_code == 2


async def test_two_logins_close_a_large_one_and_a_rejected_one_stays(command: Command, runtime, lender) -> None:
    case = short_id(await opened(runtime, lender, amount=LARGE + Money(1)))
    assert f"vault cases approve {case}" in (await command("close", case, *CLOSE)).stdout
    assert (await command("approve", case)).exit_code == 4
    assert (await command("reject", case, "--reason", "another day's line", login="barasa")).stdout.strip().endswith("stays open")
    await command("close", case, *CLOSE)
    assert "approved by ops:barasa" in (await command("approve", case, login="barasa")).stdout
    assert "rejected by ops:barasa: another day's line" in (await command("show", case)).stdout
