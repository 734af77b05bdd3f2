"""What a person may do about a payout: the two laws over every standing, and the words of each refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.person_rules import Plan, plan_cancel, plan_hold, plan_release, plan_retry
from vault_core.disbursements.resolution_rules import SeenPaid, SeenUnpaid, Statement, needs_second_person, stated
from vault_core.disbursements.standing import InstructionFacts, Standing
from vault_core.disbursements.states import MOVES, AttemptState, State
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import Money

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
CALL = timedelta(minutes=1)
INSTRUCTION = InstructionFacts(
    id=UUID(int=1), number=1, originator_conversation_id="o", state=AttemptState.ACCEPTED, amount=Money.shillings(15_000),
    written_at=NOW - timedelta(hours=2), send_by=NOW - timedelta(hours=1), maybe_seen=False, result_at=None, result_code=None,
    result_text=None, receipt=None, queries=6, query_at=None,
)  # fmt: skip
STANDING = Standing(
    id=UUID(int=2), partner_id=UUID(int=3), partner="alpha", partner_state="active", loan_id=1, loan_account_no="000000001",
    state=State.NEEDS_REVIEW, held_for=None, reason=None, payout=Money.shillings(15_000), due_at=NOW, receipt=None, hold_id=None,
    instructions=(INSTRUCTION,), proposed_by=None,
)  # fmt: skip

instructions = st.builds(
    replace,
    st.just(INSTRUCTION),
    state=st.sampled_from(AttemptState),
    maybe_seen=st.booleans(),
    result_code=st.sampled_from([None, "1", "4", "8", "2040", "2001", "NOT_PAID", "17", "no such code"]),
    result_at=st.sampled_from([None, NOW, NOW - timedelta(days=1)]),
    receipt=st.sampled_from([None, "UKO1234567"]),
)
standings = st.builds(
    replace,
    st.just(STANDING),
    state=st.sampled_from(State),
    held_for=st.none() | st.sampled_from(HeldFor),
    instructions=st.lists(instructions, max_size=3)
    .filter(lambda ones: sum(one.is_open for one in ones) <= 1)  # as the database has it
    .map(lambda ones: tuple(replace(one, number=place + 1, id=UUID(int=place + 10)) for place, one in enumerate(ones))),
    proposed_by=st.sampled_from([None, "ops:asha"]),
)


def plan(act: str, standing: Standing) -> Plan | None:
    rules = {
        "retry": lambda: plan_retry(standing, NOW),
        "hold": lambda: plan_hold(standing),
        "cancel": lambda: plan_cancel(standing),
        "release": lambda: plan_release(standing),
    }
    try:
        return rules[act]()
    except Conflict:
        return None


@given(standing=standings, act=st.sampled_from(["retry", "cancel", "release"]))
def test_nobody_sends_or_calls_off_what_may_have_moved_money_or_did(standing: Standing, act: str) -> None:
    may_have = any(one.may_have_moved_money for one in standing.instructions)
    did = any(one.state is AttemptState.PAID or one.receipt for one in standing.instructions if not one.is_open)
    if may_have or did or standing.proposed_by is not None:
        made = plan(act, standing)
        assert made is None or (act == "release" and not did and only_the_same_again(standing, made))


def only_the_same_again(standing: Standing, made: Plan) -> bool:
    instruction = standing.open_instruction
    assert instruction is not None
    waited = (standing.state, standing.held_for, instruction.state) == (State.HELD, HeldFor.BY_PERSON, AttemptState.REFUSED)
    return waited and standing.proposed_by is None and (made.state, made.ends) == (State.READY, None)


@given(standing=standings, act=st.sampled_from(["retry", "hold", "cancel", "release"]))
def test_every_plan_is_a_move_that_the_table_of_states_allows(standing: Standing, act: str) -> None:
    made = plan(act, standing)
    if made is not None:
        assert made.state in MOVES[standing.state]
        assert (made.state is State.HELD) is (made.held_for is not None)


@given(standing=standings)
def test_what_a_person_holds_or_cancelled_is_only_released(standing: Standing) -> None:
    if standing.state is State.HELD and standing.held_for in {HeldFor.BY_PERSON, HeldFor.CANCELLED}:
        assert plan("retry", standing) is None


@given(standing=standings)
def test_only_needs_review_may_be_called_unpaid_and_what_is_booked_as_paid_says_that_it_is_overturned(standing: Standing) -> None:
    try:
        found = stated(standing, SeenUnpaid(), NOW, CALL)
    except Conflict:
        return
    assert (found.overturns is not None) is (found.instruction.state is AttemptState.PAID)
    never_arrived = standing.held_for is HeldFor.BY_PERSON and found.instruction.state is AttemptState.REFUSED
    over = found.instruction.state in {AttemptState.FAILED, AttemptState.PAID}
    assert standing.state is State.NEEDS_REVIEW or over or never_arrived


@given(standing=standings)
def test_a_second_payment_of_a_loan_is_never_stated(standing: Standing) -> None:
    for one in standing.instructions:
        others = [other for other in standing.instructions if other.id != one.id]
        try:
            found = stated(standing, SeenPaid("UKO1234567"), NOW, CALL, number=one.number)
        except (Conflict, InvalidInput):
            continue
        if found.instruction.state is AttemptState.FAILED:
            assert all(other.state is AttemptState.FAILED for other in others)


@pytest.mark.parametrize(
    ("seen", "complaint"),
    [
        (SeenPaid("UKO1234567", at=NOW + timedelta(hours=1)), "cannot be"),
        (SeenPaid("UKO1234567", at=NOW - timedelta(days=1)), "cannot be"),
        (SeenPaid("UKO 1234567"), "no M-Pesa receipt"),
    ],
)
def test_a_receipt_or_a_time_that_cannot_be_is_refused(seen: SeenPaid, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        stated(STANDING, seen, NOW, CALL)


def test_the_limit_itself_is_still_one_persons() -> None:
    limit = Money.shillings(50_000)
    paid = Statement(INSTRUCTION, ("UKO1234567", limit, NOW))
    assert not needs_second_person(paid, limit)
    assert needs_second_person(replace(paid, paid=("UKO1234567", limit + Money(1), NOW)), limit)
    assert needs_second_person(replace(paid, overturns="failed with 2006"), limit)


@pytest.mark.parametrize("state", [AttemptState.WRITTEN, AttemptState.UNKNOWN, AttemptState.ACCEPTED])
def test_what_may_be_on_its_way_this_moment_is_not_called_unpaid(state: AttemptState) -> None:
    sending = replace(INSTRUCTION, state=state, maybe_seen=True, send_by=NOW - CALL + timedelta(seconds=1))
    with pytest.raises(Conflict, match="on its way"):
        stated(replace(STANDING, instructions=(sending,)), SeenUnpaid(), NOW, CALL)
    over = replace(sending, send_by=NOW - CALL)
    assert stated(replace(STANDING, instructions=(over,)), SeenUnpaid(), NOW, CALL).paid is None
