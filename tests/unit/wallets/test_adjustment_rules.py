from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.wallets.adjustments import Adjustment, checked_words, why_not_approved, why_not_decided, why_not_reversed

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
PROPOSED = Adjustment(
    id=UUID(int=1),
    partner_id=UUID(int=2),
    partner="alpha",
    kind="correction",
    amount=Money(-500_00),
    original=None,
    reference="TICKET-7",
    reason="charged twice",
    proposed_by="ops:jane",
    proposed_at=NOW,
    lapses_at=NOW + timedelta(days=7),
    hold_id=UUID(int=3),
    state="proposed",
    decided_by=None,
    decided_at=None,
    decision_note=None,
    transaction_id=None,
)


def test_another_person_approves() -> None:
    assert why_not_approved(PROPOSED, "ops:otieno", NOW) is None


def test_who_proposed_it_does_not_approve_it_and_is_told_who_may() -> None:
    assert why_not_approved(PROPOSED, "ops:jane", NOW) == "ops:jane proposed it: another login must approve it"
    assert why_not_decided(PROPOSED, NOW) is None  # but may withdraw it


@pytest.mark.parametrize("state", ["approved", "rejected"])
def test_what_is_decided_stays_so(state) -> None:
    decided = replace(PROPOSED, state=state, decided_by="ops:otieno", decided_at=NOW)
    assert why_not_approved(decided, "ops:njeri", NOW) == f"it was {state} by ops:otieno"
    assert why_not_decided(decided, NOW) == f"it was {state} by ops:otieno"


def test_what_nobody_decides_on_lapses_on_time_whether_or_not_the_clock_has_said_so() -> None:
    before, after = PROPOSED.lapses_at - timedelta(microseconds=1), PROPOSED.lapses_at
    assert why_not_approved(PROPOSED, "ops:otieno", before) is None
    assert "it lapsed on 2026-12-01, undecided" in str(why_not_approved(PROPOSED, "ops:otieno", after))
    assert why_not_decided(replace(PROPOSED, state="lapsed"), before)


@pytest.mark.parametrize("kind", ["topup", "charges", "sms", "correction"])
def test_what_only_moved_money_between_us_and_a_wallet_may_be_undone(kind: str) -> None:
    assert why_not_reversed(kind, None) is None


@pytest.mark.parametrize("kind", ["disbursement_paid", "disbursement_posted", "collection", "something_new"])
def test_what_tells_of_another_system_is_not_undone_here(kind: str) -> None:
    assert f"{kind} tells what M-Pesa or Mifos X did" in str(why_not_reversed(kind, None))


def test_a_reversal_is_not_reversed() -> None:
    assert "a reversal itself" in str(why_not_reversed("reversal", UUID(int=9)))


@pytest.mark.parametrize("cents", [0, 10**13 + 1, -(10**13) - 1])
def test_an_amount_of_nothing_or_beyond_reason_is_refused(cents: int) -> None:
    with pytest.raises(InvalidInput, match="not an amount to put a wallet right by"):
        checked_words(Money(cents), "R", "why")


@pytest.mark.parametrize("reference", ["", "  ", "x" * 65, "a\nb"])
def test_a_reference_is_needed(reference: str) -> None:
    with pytest.raises(InvalidInput, match="reference"):
        checked_words(Money(1), reference, "why")


def test_a_reason_is_needed() -> None:
    with pytest.raises(InvalidInput, match="reason"):
        checked_words(Money(1), "R", "  ")


def test_blanks_around_words_do_not_count() -> None:
    assert checked_words(Money(-1), " R 1 ", " why ") == ("R 1", "why")
