"""The kill in the middle of the demo's day, with postings that a test puts there; and how fast they were."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from local_stack.demo.live_lender import LiveLender
from local_stack.demo.live_office import LiveMifos
from local_stack.demo.live_plan import plan_live
from vault_core.clock import business_day
from vault_core.errors import PermanentError

_ADD = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mifos_payment_type_id, mifos_capabilities,
        mpesa_url, mpesa_initiator, b2c_short_code, c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at,
        created_at)
    VALUES (:id, 'live', 'Live', 'http://127.0.0.1:9', 'default', 'mifos', 3, '{}', 'http://127.0.0.1:9', 'api', '600300', '700300',
        'http://127.0.0.1:9', 'sim', 'LENDER', :now, :now)
    """
)
_POSTING = text(
    """
    INSERT INTO core_postings (id, partner_id, kind, subject_id, account_id, external_id, idempotency_key, receipt, amount_cents,
        transaction_date, created_at)
    VALUES (:id, :partner, 'disburse', :subject, :account, :text, :text, :text, 100000, :day, :now)
    """
)
_POST = text(
    "UPDATE core_postings SET state = 'posted', mifos_transaction_id = account_id, tries = :tries, called_at = :called, posted_at = :now "
    "WHERE id = :id"
)
_CALL = text("UPDATE core_postings SET state = 'unknown', tries = 1, called_at = :now, lease_until = :until WHERE id = :id")


class ScriptedOffice:
    """An office that keeps what it was told to approve."""

    def __init__(self) -> None:
        self.approved: list = []

    async def approve(self, loans, _day) -> None:
        self.approved += loans


class Rig:
    """A lender of four loans, and levers for how far their postings are."""

    def __init__(self, runtime, command: str | None) -> None:
        self.runtime = runtime
        self.office = ScriptedOffice()
        server = LiveMifos("http://127.0.0.1:9", "default", "mifos", "secret", 4, command)
        self.lender = LiveLender(server, plan_live(1, 7, 4), self.office, business_day(runtime.clock.now()))
        self.postings: list[UUID] = []

    async def fill(self) -> None:
        now, partner = self.runtime.clock.now(), self.runtime.new_id()
        async with self.runtime.engine.begin() as connection:
            await connection.execute(_ADD, {"id": partner, "now": now})
            for account in range(1, 5):
                posting = self.runtime.new_id()
                row = {"id": posting, "partner": partner, "subject": self.runtime.new_id(), "account": account}
                await connection.execute(_POSTING, {**row, "text": posting.hex, "day": self.lender.day, "now": now})
                self.postings.append(posting)

    async def post(self, *places: int, tries: int = 1, seconds: float = 1.0) -> None:
        now = self.runtime.clock.now()
        async with self.runtime.engine.begin() as connection:
            for place in places:
                row = {"id": self.postings[place], "now": now, "called": now - timedelta(seconds=seconds), "tries": tries}
                await connection.execute(_POST, row)

    async def call(self, place: int) -> None:
        now = self.runtime.clock.now()
        async with self.runtime.engine.begin() as connection:
            await connection.execute(_CALL, {"id": self.postings[place], "now": now, "until": now + timedelta(seconds=60)})


async def rig(runtime, command: str | None) -> Rig:
    made = Rig(runtime, command)
    await made.fill()
    return made


async def test_the_server_is_killed_once_when_half_is_posted_and_a_call_is_under_way(runtime, tmp_path) -> None:
    made = await rig(runtime, f"echo killed >> {tmp_path / 'told'}")
    await made.post(0)
    killing = asyncio.create_task(made.lender.be_killed(runtime))
    await made.call(3)
    await made.post(1)
    await killing
    assert (tmp_path / "told").read_text() == "killed\n"
    assert (made.lender.kill.posted, made.lender.kill.under_way) == (2, 1)


async def test_without_a_command_nothing_is_killed(runtime) -> None:
    made = await rig(runtime, None)
    await made.lender.be_killed(runtime)
    assert made.lender.kill is None


@pytest.mark.parametrize("command", ["echo it is broken; exit 7", "echo it is broken >&2; false"])
async def test_a_command_that_fails_ends_the_day_with_its_words(runtime, command) -> None:
    made = await rig(runtime, command)
    await made.post(0, 1, 2, 3)
    with pytest.raises(PermanentError, match="it is broken"):
        await made.lender.be_killed(runtime)


async def test_officers_approve_nothing_while_their_server_is_down(runtime, tmp_path) -> None:
    down, up = tmp_path / "down", tmp_path / "up"
    made = await rig(runtime, f"touch {down}; while [ ! -e {up} ]; do sleep 0.02; done")
    await made.post(0, 1, 2, 3)
    killing = asyncio.create_task(made.lender.be_killed(runtime))
    while not down.exists():  # noqa: ASYNC110 - a file that a shell makes
        await asyncio.sleep(0.01)
    approving = asyncio.create_task(made.lender.approve(made.lender.planned.approved[:1]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert made.office.approved == []
    up.touch()
    await asyncio.gather(killing, approving)
    assert made.office.approved == made.lender.planned.approved[:1]


async def test_the_rate_is_of_all_postings_from_the_first_call_to_the_last_answer(runtime) -> None:
    made = await rig(runtime, None)
    assert (await made.lender.span(runtime)).per_second == 0
    await made.post(0, 1, seconds=8.0)
    await made.post(2, tries=3, seconds=2.0)
    span = await made.lender.span(runtime)
    assert (span.postings, span.calls_again, span.seconds, span.per_second) == (3, 2, 8.0, 3 / 8)
