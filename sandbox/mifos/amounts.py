"""Amounts between Fineract's JSON and whole cents."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import orjson


def number(cents: int) -> orjson.Fragment:
    """An amount as the server writes it: a JSON number with six decimals."""
    sign, cents = ("-", -cents) if cents < 0 else ("", cents)
    return orjson.Fragment(f"{sign}{cents // 100}.{cents % 100:02d}0000")


def plain(value: Any) -> int | orjson.Fragment:
    """A number of a request as `changes` and hooks give it back: 15000, or 1.005."""
    decimal = Decimal(str(value))
    return int(decimal) if decimal == decimal.to_integral_value() else orjson.Fragment(format(decimal, "f"))


def decimal_of(value: Any) -> Decimal | None:
    """A JSON number or a text that holds one ("12.50" is taken), else None."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        decimal = Decimal(str(value).replace(",", ""))
    except InvalidOperation:
        return None
    return decimal if decimal.is_finite() else None


def cents_of(value: Decimal) -> int:
    """Whole cents. The server rounds half even: 1.005 is booked as 1.00."""
    return int((value * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
