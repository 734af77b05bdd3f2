"""What people do about cases, on a real database: taken, closed with evidence, above a limit by two, and on record."""

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from vault_core.cases.case_book import NewCase, close_case, list_open_cases, open_cases
from vault_core.cases.case_story import find_case, read_case, short_id
from vault_core.cases.closing import approve_closing, close_by_hand, reject_closing, take_case
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

EVIDENCE = "utility statement of today, line 7: moved to the working account"
SMALL, LARGE = Money.shillings(50_000), Money.shillings(50_001)


async def opened(runtime: Runtime, lender: Partner, kind: str = "float_gap", amount: Money | None = SMALL) -> UUID:
    async with runtime.engine.begin() as connection:
        case = NewCase(kind, "short code 600100", lender.id, amount)
        await open_cases(connection, runtime.clock, runtime.new_id, [case])
        return (await list_open_cases(connection))[-1].id


async def close(runtime: Runtime, case_id: UUID, who: str = "ops:asha", evidence: str = EVIDENCE):
    return await close_by_hand(runtime, case_id, reason="an officer moved float", evidence=evidence, actor=who)


async def acts(runtime: Runtime) -> list[tuple[str, str, str]]:
    async with runtime.engine.connect() as connection:
        rows = await connection.execute(text("SELECT act, actor, subject FROM audit_log WHERE act LIKE 'case.%' ORDER BY at, id"))
        return [tuple(row) for row in rows]


async def test_a_case_is_closed_by_a_person_with_evidence_which_stands_in_it_and_in_the_audit_trail(runtime, lender) -> None:
    case_id = await opened(runtime, lender)
    closed = await close(runtime, case_id)
    assert closed.closed_at == runtime.clock.now()
    assert closed.resolution == f"closed by ops:asha: an officer moved float. Evidence: {EVIDENCE}"
    assert await acts(runtime) == [("case.closed", "ops:asha", f"case {case_id}")]
    with pytest.raises(Conflict, match="closed already"):
        await close(runtime, case_id)
    assert await opened(runtime, lender) != case_id  # the same may happen again


@pytest.mark.parametrize("evidence", ["", "ok", "   seen   "])
async def test_without_evidence_nothing_is_closed(runtime, lender, evidence: str) -> None:
    case_id = await opened(runtime, lender)
    with pytest.raises(InvalidInput, match="evidence is needed"):
        await close(runtime, case_id, evidence=evidence)


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("payout_unresolved", "vault disbursements resolve"),
        ("disbursement_unposted", "vault disbursements resume alpha"),
        ("unmatched_payment", "vault collections assign"),
        ("float_short", "closes when nothing waits"),
    ],
)
async def test_what_its_own_command_settles_is_not_closed_by_hand_and_the_command_is_named(runtime, lender, kind, way) -> None:
    case_id = await opened(runtime, lender, kind)
    with pytest.raises(Conflict, match=way):
        await close(runtime, case_id)
    assert await acts(runtime) == []


async def test_a_case_of_a_halt_that_is_over_is_closed_by_a_person(runtime, lender) -> None:
    case_id = await opened(runtime, lender, "partner_halted", None)
    for state in ("halted", "active"):
        async with runtime.engine.begin() as connection:
            await connection.execute(text("UPDATE partners SET state = :state"), {"state": state})
        if state == "halted":
            with pytest.raises(Conflict, match="vault partner resume"):
                await close(runtime, case_id)
    assert (await close(runtime, case_id)).closed_at is not None


async def test_above_the_limit_another_person_must_approve(runtime, lender) -> None:
    case_id = await opened(runtime, lender, amount=LARGE)
    assert (await close(runtime, case_id)).closed_at is None
    with pytest.raises(Conflict, match="another login"):
        await approve_closing(runtime, case_id, actor="ops:asha")
    with pytest.raises(Conflict, match="approve or reject"):
        await close(runtime, case_id, "ops:barasa")
    closed = await approve_closing(runtime, case_id, actor="ops:barasa")
    assert closed.resolution is not None
    assert closed.resolution.startswith("closed by ops:asha, approved by ops:barasa: ")
    with pytest.raises(NotFound):
        await approve_closing(runtime, case_id, actor="ops:barasa")
    assert sorted(act for act, *_ in await acts(runtime)) == ["case.closed", "case.closing_proposed"]


async def test_the_table_itself_refuses_the_proposer_and_a_second_decision(runtime, lender) -> None:
    case_id = await opened(runtime, lender, amount=LARGE)
    await close(runtime, case_id)
    decide = "UPDATE case_closings SET state = 'applied', decided_at = proposed_at, decided_by = "
    for statement, complaint in (
        (f"{decide} 'ops:asha'", "second_person"),
        ("UPDATE case_closings SET second_person = false", "permission denied"),
        ("DELETE FROM case_closings", "permission denied"),
    ):
        with pytest.raises(DBAPIError, match=complaint):
            async with runtime.engine.begin() as connection:
                await connection.execute(text(statement))
    await approve_closing(runtime, case_id, actor="ops:barasa")
    with pytest.raises(DBAPIError, match="already"):
        async with runtime.engine.begin() as connection:
            await connection.execute(text(f"{decide} 'ops:juma'"))


async def test_a_rejected_proposal_leaves_the_case_open_and_another_may_follow(runtime, lender) -> None:
    case_id = await opened(runtime, lender, amount=LARGE)
    await close(runtime, case_id)
    with pytest.raises(InvalidInput):
        await reject_closing(runtime, case_id, actor="ops:barasa", reason=" ")
    case = await reject_closing(runtime, case_id, actor="ops:barasa", reason="that line is of another day")
    assert (case.closed_at, case.closings[0].state) == (None, "rejected")
    await close(runtime, case_id)


async def test_a_case_that_ends_by_itself_before_the_second_person_stays_as_it_ended(runtime, lender) -> None:
    case_id = await opened(runtime, lender, amount=LARGE)
    await close(runtime, case_id)
    async with runtime.engine.begin() as connection:
        await close_case(connection, runtime.clock, kind="float_gap", subject="short code 600100", resolution="explained")
    case = await approve_closing(runtime, case_id, actor="ops:barasa")
    assert (case.resolution, case.closings[0].state) == ("explained", "overtaken")


async def test_a_case_is_taken_given_away_and_left_and_each_is_on_record(runtime, lender) -> None:
    case_id = await opened(runtime, lender)
    for owner in ("ops:asha", "ops:asha", "ops:barasa", None):
        assert (await take_case(runtime, case_id, owner, actor="ops:asha")).owner == owner
    assert len(await acts(runtime)) == 3  # taking it twice is once
    await close(runtime, case_id)
    with pytest.raises(Conflict, match="closed already"):
        await take_case(runtime, case_id, "ops:asha", actor="ops:asha")


async def test_a_case_is_found_by_its_id_or_the_end_of_it(runtime, lender) -> None:
    case_id = await opened(runtime, lender)
    async with runtime.engine.connect() as connection:
        for which in (str(case_id), case_id.hex, short_id(case_id), short_id(case_id).upper()):
            assert await find_case(connection, which) == case_id
        for which, error in (
            ("1234567", InvalidInput),
            ("payout_failed", InvalidInput),
            ("%_______", InvalidInput),
            ("0" * 8, NotFound),
        ):
            with pytest.raises(error):
                await find_case(connection, which)
        assert (await read_case(connection, case_id)).partner == "alpha"
