"""Result codes, backoff, states, and what evidence does to an instruction."""

import random
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from vault_core.clients.daraja_messages import MpesaResult
from vault_core.disbursements.evidence import (
    Ask,
    Asked,
    NeverArrived,
    NoLongerKnown,
    SaysFailed,
    SaysNothing,
    SaysPaid,
    read_result,
    read_status_answer,
)
from vault_core.disbursements.payout_backoff import next_payout_try
from vault_core.disbursements.result_classes import ResultClass, is_listed, meaning_of
from vault_core.disbursements.states import MOVES, AttemptState, State, may_move, require_move
from vault_core.disbursements.verdicts import (
    Await,
    Contradict,
    Fail,
    GiveToPerson,
    Instruction,
    Pay,
    Repeat,
    SendSameAgain,
    judge,
)
from vault_core.errors import Conflict
from vault_core.money import Money
from vault_core.settings import Pace

NOW = datetime(2026, 11, 24, 9, tzinfo=UTC)
SETTLE = timedelta(seconds=60)


def message(code: str, **changes) -> MpesaResult:
    values = {
        "result_type": 0, "code": code, "text": "text", "originator_conversation_id": "o", "conversation_id": "c",
        "transaction_id": "UKO0000001", "parameters": {}, "reference_items": {},
    } | changes  # fmt: skip
    return MpesaResult(**values)


PAID = {"TransactionAmount": "15000.00", "TransactionReceipt": "UKO1234567"}


@pytest.mark.parametrize(
    ("code", "result_class"),
    [
        ("0", ResultClass.PAID), ("1", ResultClass.RETRY_LATER), ("2", ResultClass.TERMINAL), ("3", ResultClass.TERMINAL),
        ("4", ResultClass.RETRY_NEXT_DAY), ("8", ResultClass.RETRY_LATER), ("7", ResultClass.TERMINAL), ("14", ResultClass.TERMINAL),
        ("11", ResultClass.HALT), ("15", ResultClass.UNKNOWN), ("17", ResultClass.UNKNOWN), ("18", ResultClass.HALT),
        ("19", ResultClass.UNKNOWN), ("21", ResultClass.HALT), ("24", ResultClass.TERMINAL), ("26", ResultClass.UNKNOWN),
        ("2001", ResultClass.HALT), ("2006", ResultClass.HALT), ("2028", ResultClass.HALT), ("2029", ResultClass.UNKNOWN),
        ("2040", ResultClass.TERMINAL), ("8006", ResultClass.HALT), ("SFC_IC0003", ResultClass.TERMINAL),
        ("sfc_ic0003", ResultClass.TERMINAL), ("TP40153", ResultClass.HALT), ("100000000", ResultClass.UNKNOWN),
        ("100000011", ResultClass.UNKNOWN),
    ],
)  # fmt: skip
def test_listed_codes_have_the_class_of_the_reference(code: str, result_class: ResultClass) -> None:
    assert meaning_of(code).result_class is result_class
    assert is_listed(code)


@pytest.mark.parametrize("code", ["", "2032", "2033", "100000012", "-1", "00", "0.0", "9999"])
def test_an_unlisted_code_is_unknown(code: str) -> None:
    assert meaning_of(code).result_class is ResultClass.UNKNOWN
    assert not is_listed(code)


def test_a_success_with_receipt_and_amount_says_paid() -> None:
    said = read_result(message("0", parameters=PAID))
    assert isinstance(said, SaysPaid)
    assert (said.receipt, said.amount) == ("UKO1234567", Money.shillings(15_000))


@pytest.mark.parametrize("missing", PAID)
def test_a_success_without_receipt_or_amount_says_nothing_and_alarms(missing: str) -> None:
    said = read_result(message("0", parameters={key: value for key, value in PAID.items() if key != missing}))
    assert isinstance(said, SaysNothing)
    assert said.alarm


def test_a_transaction_id_alone_is_no_proof_of_payment() -> None:
    assert isinstance(read_result(message("1", transaction_id="PJ71VRERKR")), SaysFailed)


def test_a_result_that_announces_another_says_nothing_whatever_its_code() -> None:
    for code in ("0", "1", "2001"):
        said = read_result(message(code, result_type=1, parameters=PAID))
        assert isinstance(said, SaysNothing)
        assert not said.alarm


def test_an_ambiguous_code_is_asked_about_and_only_an_unlisted_one_alarms() -> None:
    assert read_result(message("17")) == SaysNothing("17", "text", alarm=False)
    assert read_result(message("4711")) == SaysNothing("4711", "text", alarm=True)


def asked(age: timedelta, *, first: timedelta | None = None) -> Asked:
    return Asked(NOW - (first or age), NOW - age, NOW)


@pytest.mark.parametrize(
    ("status", "kind"),
    [("Completed", SaysPaid), ("completed", SaysPaid), ("Cancelled", SaysFailed), ("Declined", SaysFailed), ("Expired", SaysFailed),
     ("Failed", SaysFailed), ("Initiated", SaysNothing), ("Pending Authorized", SaysNothing), ("", SaysNothing)],
)  # fmt: skip
def test_the_status_in_an_answer_decides(status: str, kind: type) -> None:
    parameters = {"TransactionStatus": status, "ReceiptNo": "UKO1234567", "Amount": "15000"}
    assert isinstance(read_status_answer(message("0", parameters=parameters), asked(timedelta(hours=1)), settle=SETTLE), kind)


@pytest.mark.parametrize("code", ["25", "2001", "2032", "1", "17"])
def test_a_question_that_failed_says_nothing_and_changes_no_plan(code: str) -> None:
    said = read_status_answer(message(code), asked(timedelta(hours=1)), settle=SETTLE)
    assert isinstance(said, SaysNothing)
    assert said.ask is None


def test_nothing_under_the_id_counts_only_between_a_minute_and_two_days() -> None:
    young = read_status_answer(message("2033"), asked(timedelta(seconds=59)), settle=SETTLE)
    assert isinstance(young, SaysNothing)
    assert young.ask is Ask.LATER
    assert isinstance(read_status_answer(message("2033"), asked(timedelta(seconds=60)), settle=SETTLE), NeverArrived)
    assert isinstance(read_status_answer(message("2033"), asked(timedelta(hours=47)), settle=SETTLE), NeverArrived)
    assert isinstance(read_status_answer(message("2033"), asked(timedelta(hours=48)), settle=SETTLE), NoLongerKnown)


def test_the_age_for_an_old_id_counts_from_its_first_sending() -> None:
    said = read_status_answer(message("2033"), asked(timedelta(hours=1), first=timedelta(hours=50)), settle=SETTLE)
    assert isinstance(said, NoLongerKnown)


def test_a_question_asked_before_the_last_sending_proves_nothing() -> None:
    said = read_status_answer(message("2033"), Asked(NOW - timedelta(hours=1), NOW + timedelta(minutes=1), NOW), settle=SETTLE)
    assert isinstance(said, SaysNothing)


OPEN = (AttemptState.WRITTEN, AttemptState.ACCEPTED, AttemptState.REFUSED, AttemptState.UNKNOWN)


def instruction(state: AttemptState, *, acknowledged: bool = False) -> Instruction:
    receipt = "UKO1234567" if state is AttemptState.PAID else None
    code = "8" if state is AttemptState.FAILED else None
    return Instruction(state, Money.shillings(15_000), receipt, code, acknowledged)


SAID_PAID = SaysPaid("0", "ok", "UKO1234567", Money.shillings(15_000))
SAID_FAILED = SaysFailed("8", "too much", ResultClass.RETRY_LATER)


@pytest.mark.parametrize("state", OPEN)
def test_a_terminal_word_settles_whatever_is_open(state: AttemptState) -> None:
    assert judge(instruction(state), SAID_PAID) == Pay(SAID_PAID, differs=False)
    assert judge(instruction(state), SAID_FAILED) == Fail(SAID_FAILED)


def test_another_amount_is_paid_and_marked() -> None:
    other = SaysPaid("0", "ok", "UKO1234567", Money(1_499_999))
    assert judge(instruction(AttemptState.ACCEPTED), other) == Pay(other, differs=True)


def test_the_same_word_again_is_a_repeat() -> None:
    assert judge(instruction(AttemptState.PAID), SAID_PAID) == Repeat()
    assert judge(instruction(AttemptState.FAILED), SAID_FAILED) == Repeat()


def test_the_first_terminal_word_stands_against_another() -> None:
    second = SaysPaid("0", "ok", "UKO7654321", Money.shillings(15_000))
    for state, said in ((AttemptState.PAID, SAID_FAILED), (AttemptState.PAID, second), (AttemptState.FAILED, SAID_PAID)):
        assert isinstance(judge(instruction(state), said), Contradict)


@pytest.mark.parametrize("said", [SaysNothing("17", ""), NeverArrived("2033", ""), NoLongerKnown("2033", "")])
def test_no_verdict_changes_a_verdict(said) -> None:
    for state in (AttemptState.PAID, AttemptState.FAILED):
        assert judge(instruction(state), said) == Repeat()


def test_what_never_arrived_goes_again_only_if_mpesa_never_took_it() -> None:
    never = NeverArrived("2033", "")
    assert isinstance(judge(instruction(AttemptState.UNKNOWN), never), SendSameAgain)
    assert isinstance(judge(instruction(AttemptState.ACCEPTED, acknowledged=True), never), Fail)


def test_an_id_too_old_to_prove_anything_goes_to_a_person() -> None:
    assert isinstance(judge(instruction(AttemptState.UNKNOWN), NoLongerKnown("2033", "")), GiveToPerson)
    assert isinstance(judge(instruction(AttemptState.UNKNOWN), SaysNothing("17", "")), Await)


def test_retries_double_with_jitter_and_end() -> None:
    pace, chance = Pace(payout_retry_base=100, payout_retry_tries=4), random.Random(1)
    for tries in (1, 2, 3):
        for _ in range(50):
            at = next_payout_try(NOW, tries, ResultClass.RETRY_LATER, pace, chance)
            assert at is not None
            assert 50 * 2 ** (tries - 1) <= (at - NOW).total_seconds() <= 100 * 2 ** (tries - 1)
    assert next_payout_try(NOW, 4, ResultClass.RETRY_LATER, pace, chance) is None


def test_a_limit_of_the_day_waits_for_the_next_morning_in_nairobi() -> None:
    late = datetime(2026, 11, 24, 22, tzinfo=UTC)  # one in the morning of the 25th there
    at = next_payout_try(late, 1, ResultClass.RETRY_NEXT_DAY, Pace(), random.Random(1))
    assert at is not None
    assert datetime(2026, 11, 26, 3, tzinfo=UTC) <= at <= datetime(2026, 11, 26, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize("result_class", [ResultClass.TERMINAL, ResultClass.HALT, ResultClass.UNKNOWN, ResultClass.PAID])
def test_no_other_class_is_retried(result_class: ResultClass) -> None:
    assert next_payout_try(NOW, 1, result_class, Pace(), random.Random(1)) is None


def test_every_state_has_its_moves_and_from_the_end_only_people_take_a_payout() -> None:
    assert set(MOVES) == set(State)
    assert MOVES[State.DISBURSED] == {State.NEEDS_REVIEW}


def test_a_move_outside_the_table_is_refused() -> None:
    for before, after in product(State, State):
        if may_move(before, after):
            require_move(before, after, "loan 1")
        else:
            with pytest.raises(Conflict, match=r"loan 1 is .* and cannot become"):
                require_move(before, after, "loan 1")


@pytest.mark.parametrize(
    ("before", "after"),
    [(State.PAID, State.FAILED), (State.PAID, State.READY), (State.POSTING, State.SENDING), (State.FAILED, State.SENDING),
     (State.HELD, State.SENDING), (State.DETECTED, State.PAID), (State.ACCEPTED, State.READY), (State.DISBURSED, State.READY)],
)  # fmt: skip
def test_nothing_goes_back_after_money_moved_or_leaps_over_a_check(before: State, after: State) -> None:
    assert not may_move(before, after)
