"""Equal monthly instalments on the declining balance, and how payments are spread over them."""

import calendar
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal


@dataclass(frozen=True, slots=True)
class Instalment:
    """What is due at the end of one month."""

    number: int
    from_day: date
    due_day: date
    principal_cents: int
    interest_cents: int


@dataclass(frozen=True, slots=True)
class Portions:
    """How one payment, or all of them on one instalment, was spent."""

    principal_cents: int = 0
    interest_cents: int = 0
    over_cents: int = 0


def schedule(principal_cents: int, months: int, monthly_rate_bp: int, start: date) -> list[Instalment]:
    """The instalments of a loan paid out on `start`."""
    rate = Decimal(monthly_rate_bp) / 10000
    payment = _payment_cents(principal_cents, months, rate)
    rows, balance, from_day = [], principal_cents, start
    for number in range(1, months + 1):
        interest = _round(balance * rate)
        principal = balance if number == months else min(balance, payment - interest)
        due_day = _months_later(start, number)
        rows.append(Instalment(number, from_day, due_day, principal, interest))
        balance, from_day = balance - principal, due_day
    return rows


def spread(rows: list[Instalment], payments_cents: list[int]) -> tuple[list[Portions], list[Portions]]:
    """Payments in order on the oldest instalment first, interest before principal: (by payment, by instalment)."""
    open_interest = [row.interest_cents for row in rows]
    open_principal = [row.principal_cents for row in rows]
    by_payment = []
    for cents in payments_cents:
        interest_paid = principal_paid = 0
        rest = cents
        for place in range(len(rows)):
            interest = min(rest, open_interest[place])
            principal = min(rest - interest, open_principal[place])
            open_interest[place] -= interest
            open_principal[place] -= principal
            interest_paid, principal_paid, rest = (
                interest_paid + interest,
                principal_paid + principal,
                rest - interest - principal,
            )
        by_payment.append(Portions(principal_paid, interest_paid, rest))
    by_row = [
        Portions(row.principal_cents - open_principal[place], row.interest_cents - open_interest[place])
        for place, row in enumerate(rows)
    ]
    return by_payment, by_row


def _payment_cents(principal_cents: int, months: int, rate: Decimal) -> int:
    if rate == 0:
        return _round(Decimal(principal_cents) / months)
    growth = (1 + rate) ** months
    return _round(principal_cents * rate * growth / (growth - 1))


def _round(cents: Decimal) -> int:
    return int(cents.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.month - 1 + months, 12)
    return date(day.year + year, month + 1, min(day.day, calendar.monthrange(day.year + year, month + 1)[1]))
