"""Money in whole cents of Kenya shillings.

Amounts reach us as 10, 1.0, "300", "168.00" (reference/daraja.md section 10): they are read as decimal text and kept as an
integer. Floats are refused rather than rounded, because a binary float has already lost what it was.
"""

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import total_ordering

from vault_core.errors import InvalidInput

_DECIMAL_TEXT = re.compile(r"-?\d{1,15}(\.\d{1,6})?")
_THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d*)?")


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An amount in integer cents. Adds and subtracts with Money, multiplies with int, compares; never a float."""

    cents: int

    def __post_init__(self) -> None:
        if type(self.cents) is not int:
            raise InvalidInput(f"money is whole cents, not {self.cents!r}: parse decimal text with Money.parse")

    @classmethod
    def parse(cls, value: str | int | Decimal) -> "Money":
        """Reads shillings, as decimal text or a number without binary rounding, into Money.

        Raises InvalidInput for floats, text that is not a plain decimal number, and fractions of a cent.
        """
        if isinstance(value, bool | float):
            raise InvalidInput(f"amount {value!r} is a {type(value).__name__}: read JSON numbers as Decimal")
        text = str(value).strip()
        if not _DECIMAL_TEXT.fullmatch(text):
            raise InvalidInput(f"amount {text[:40]!r} is not a plain decimal number of shillings")
        try:
            cents = Decimal(text) * 100
        except InvalidOperation as error:
            raise InvalidInput(f"amount {text[:40]!r} is not a number") from error
        if cents != cents.to_integral_value():
            raise InvalidInput(f"amount {text!r} has a fraction of a cent")
        return cls(int(cents))

    @classmethod
    def parse_grouped(cls, text: str) -> "Money":
        """As `parse`, of text that may have commas between thousands ("1,500.00").

        Raises InvalidInput for any other comma: dropped, it would make "15,00" of a spreadsheet in another language 1,500.
        """
        if "," in text and not _THOUSANDS.fullmatch(text.strip()):
            raise InvalidInput(f"amount {text[:40]!r} has a comma that stands between no thousands")
        return cls.parse(text.replace(",", ""))

    @classmethod
    def shillings(cls, whole: int) -> "Money":
        """Money of a whole number of shillings."""
        return cls(whole * 100)

    @property
    def is_whole_shillings(self) -> bool:
        """Whether M-Pesa B2C could pay this exactly: it takes whole shillings only (reference/daraja.md section 2.1)."""
        return self.cents % 100 == 0

    def as_decimal(self) -> Decimal:
        """Shillings as a Decimal with two places."""
        return Decimal(self.cents).scaleb(-2)

    def whole_shillings_text(self) -> str:
        """The amount as M-Pesa wants it ("1500"). Raises InvalidInput if there are cents: a payout is never rounded."""
        if not self.is_whole_shillings:
            raise InvalidInput(f"{self} has cents; M-Pesa pays whole shillings and a payout is never rounded")
        return str(self.cents // 100)

    def __add__(self, other: "Money") -> "Money":
        return Money(self.cents + other.cents)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.cents - other.cents)

    def __mul__(self, times: int) -> "Money":
        return Money(self.cents * times)

    def __neg__(self) -> "Money":
        return Money(-self.cents)

    def __lt__(self, other: "Money") -> bool:
        return self.cents < other.cents

    def __bool__(self) -> bool:
        return self.cents != 0

    def __str__(self) -> str:
        return f"KES {self.as_decimal():,.2f}"


ZERO = Money(0)
