"""What a payout waits for, what to do, and when it counts as stuck."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.next_step import Circumstances, next_step
from vault_core.disbursements.states import State
from vault_core.settings import Pace

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
FRESH = Circumstances(
    state=State.READY, held_for=None, reason=None, partner="alpha", since=NOW, due_at=NOW, doubtful=False, paid=False, for_good=False,
    paid_otherwise=False, said_paid_late=None, proposed_by=None, halted=False,
)  # fmt: skip


def step(**changes):
    return next_step(NOW, replace(FRESH, **changes), Pace())


@pytest.mark.parametrize("state", [state for state in State if state not in {State.NEEDS_REVIEW, State.HELD}])
def test_what_moves_by_itself_is_stuck_only_when_it_has_not_moved_for_too_long(state: State) -> None:
    assert not step(state=state).stuck
    long_ago = NOW - timedelta(hours=3)
    assert step(state=state, since=long_ago, due_at=long_ago).stuck is (state is not State.DISBURSED)


def test_a_retry_that_lies_ahead_is_not_stuck() -> None:
    assert not step(state=State.FAILED, since=NOW - timedelta(hours=8), due_at=NOW + timedelta(hours=1)).stuck


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"doubtful": True}, "resolve --paid RECEIPT"),
        ({"said_paid_late": "UKO1234567"}, "resolve --paid UKO1234567"),
        ({"paid": True}, "disbursements resume"),
        ({}, "`retry`"),
        ({"for_good": True}, "`release`"),
        ({"proposed_by": "ops:asha"}, "`approve`"),
    ],
)
def test_what_is_with_a_person_is_stuck_and_names_the_command(changes: dict, words: str) -> None:
    found = step(state=State.NEEDS_REVIEW, **changes)
    assert found.stuck
    assert words in found.words


@pytest.mark.parametrize("held_for", list(HeldFor))
def test_every_cause_of_holding_has_words_and_only_those_at_rest_are_never_stuck(held_for: HeldFor) -> None:
    found = step(state=State.HELD, held_for=held_for, since=NOW - timedelta(days=2))
    assert found.words
    assert found.stuck is (held_for not in {HeldFor.CANCELLED, HeldFor.TRANCHE_NOT_DUE, HeldFor.NOT_DUE})


def test_what_waits_for_the_lenders_next_working_day_says_so_and_is_not_stuck_until_that_day() -> None:
    long_ago = NOW - timedelta(hours=8)
    closed = step(state=State.POSTING, since=long_ago, posted_from=date(2026, 11, 25))
    assert not closed.stuck
    assert "25 Nov 2026" in closed.words
    assert step(state=State.POSTING, since=long_ago, posted_from=date(2026, 11, 24)).stuck


def test_a_posting_to_a_server_that_is_away_says_since_when() -> None:
    found = step(state=State.PAID, since=NOW - timedelta(hours=1), away_since=NOW - timedelta(minutes=50))
    assert found.stuck
    assert "away since 11:10" in found.words


def test_during_a_halt_what_is_ready_says_that_it_waits_for_its_end() -> None:
    assert "vault halt --end" in step(halted=True).words


def test_a_payout_of_another_amount_is_not_sent_to_resume_which_would_not_take_it_up() -> None:
    found = step(state=State.NEEDS_REVIEW, paid=True, paid_otherwise=True)
    assert ("resolve" in found.words, "resume" in found.words, found.stuck) == (True, False, True)
