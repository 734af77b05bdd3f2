"""What `vault partner show` tells of the float."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from vault_cli.float_view import float_lines
from vault_core.disbursements.float_description import FloatDescription
from vault_core.disbursements.float_rules import Float, FloatReport
from vault_core.money import ZERO, Money

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
TOLD = Float(FloatReport(AT, Money.shillings(5_000), AT), Money.shillings(1_000), Money.shillings(200), None)
CALM = FloatDescription(TOLD, None, None, None, 0, ZERO)


def test_a_float_that_suffices_is_one_line_in_nairobi_time() -> None:
    told, left = "float: M-Pesa told KES 5,000.00 on 2026-11-24 12:00", "KES 3,800.00 expected to be left"
    assert float_lines(CALM) == [f"{told}; {left} (after KES 1,000.00 for payouts under way)"]
    assert CALM.to_json()["expected_cents"] == 380_000


def test_without_a_balance_it_says_so() -> None:
    unknown = replace(CALM, float=Float(None, ZERO, ZERO, None))
    assert float_lines(unknown) == ["float: M-Pesa has told no balance yet"]
    assert unknown.to_json()["expected_cents"] is None


def test_a_shortage_says_what_waits_why_it_stopped_and_what_m_pesa_was_asked() -> None:
    short = replace(
        CALM,
        float=replace(TOLD, refused_at=AT + timedelta(minutes=1)),
        short_since=AT,
        asked_at=AT,
        waiting=2,
        waiting_for=Money.shillings(9_000),
    )
    lines = " ".join(float_lines(short))
    for words in ("refused a payout for float on 2026-11-24 12:01", "2 payouts wait for float: KES 9,000.00", "no answer yet"):
        assert words in lines
    assert short.to_json()["paused_since"] == "2026-11-24T09:01:00+00:00"
