"""The fields of a price list file, whatever its form: how each is read, and what is wrong with a value that is not right.

A reader takes what TOML or CSV gave (CSV: text) and raises InvalidInput with what is wrong and what to write.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.wallets.fee_parts import BASIS_POINTS, ROUNDINGS
from vault_core.wallets.tariffs import SHILLING

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PERCENT = re.compile(r"\d{1,3}(\.\d{1,2})?")
_LONGEST_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as it was written, and its line (the first is 1)."""

    value: Any
    line: int


@dataclass(slots=True)
class WrittenBand:
    """One band as it was written: the line it begins on and its fields."""

    line: int
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass(slots=True)
class WrittenTariff:
    """A price list as it was written, nothing checked but the form. `faults` are those of the form, each with its line."""

    head: dict[str, Cell] = field(default_factory=dict)
    bands: list[WrittenBand] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Field:
    """One field: how to read it, an example in TOML, whether it must be there (else `default`)."""

    read: Callable[[Any], Any]
    example: str
    required: bool = True
    default: Any = None


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidInput("is not a name; write small letters, digits and _, a letter first")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _LONGEST_TEXT:
        raise InvalidInput(f"is not a line of text of 1 to {_LONGEST_TEXT} characters")
    return value.strip()


def _day(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise InvalidInput("is not a day; write it as year-month-day")


def _decimal_text(value: Any) -> str:
    # A TOML float comes as Decimal; in a spreadsheet or another reader it would have become binary.
    if isinstance(value, bool | float | Decimal):
        raise InvalidInput("is not exact; write a whole number, or decimal text in quotes")
    if not isinstance(value, str | int):
        raise InvalidInput("is not an amount; write a whole number, or decimal text in quotes")
    return str(value).strip()


def _amount(value: Any) -> Money:
    text = _decimal_text(value)
    try:
        money = Money.parse(text)
    except InvalidInput:
        raise InvalidInput("is not an amount in shillings with at most two decimals and no separators") from None
    if money.cents < 0:
        raise InvalidInput("is negative; no fee or amount is")
    return money


def _percent(value: Any) -> int:
    text = _decimal_text(value)
    basis_points = Decimal(text) * 100 if _PERCENT.fullmatch(text) else None
    if basis_points is None or basis_points > BASIS_POINTS:
        raise InvalidInput("is not a percentage from 0 to 100 with at most two decimals")
    return int(basis_points)


def _flag(value: Any) -> bool:
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise InvalidInput("is neither true nor false")


def _step(value: Any) -> Money:
    if value == "shillings":
        return SHILLING
    if value == "cents":
        return Money(1)
    raise InvalidInput('is neither "shillings" (bands begin a shilling after the one before) nor "cents"')


def _rounding(value: Any) -> str:
    if value not in ROUNDINGS:
        raise InvalidInput(f"is not a rounding; write one of {', '.join(ROUNDINGS)}")
    return str(value)


HEAD: Mapping[str, Field] = {
    "provider": Field(_name, '"safaricom"'),
    "product": Field(_name, '"b2c"'),
    "valid_from": Field(_day, "2023-08-01"),
    "valid_to": Field(_day, "2027-01-01", required=False),
    "source": Field(_text, '"Safaricom form b2c_tariff_form_august_2023.pdf"'),
    "note": Field(_text, '"..."', required=False, default=""),
    "amounts": Field(_step, '"shillings"'),
    "excise_percent": Field(_percent, '"15"'),
    "excise_included": Field(_flag, "true"),
    "rounding": Field(_rounding, '"half_up_cent"'),
}
BAND: Mapping[str, Field] = {
    "from": Field(_amount, '"101"'),
    "to": Field(_amount, '"1500"'),
    "fee": Field(_amount, '"5"', required=False),
    "customer_fee": Field(_amount, '"0"', required=False, default=Money(0)),
    "percent": Field(_percent, '"15"', required=False),
    "confirmed": Field(_flag, "true", required=False, default=True),
    "note": Field(_text, '"..."', required=False, default=""),
}
