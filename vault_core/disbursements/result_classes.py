"""What a B2C result code says about the money, and what to do next (reference/daraja.md section 3.1).

Codes are text: some are not numbers. A code that is not in the table is Unknown: held, asked about, shown to a person.
"""

from dataclasses import dataclass
from enum import StrEnum


class ResultClass(StrEnum):
    """The classes of result codes."""

    PAID = "paid"
    RETRY_LATER = "retry_later"  # not paid; a new instruction later
    RETRY_NEXT_DAY = "retry_next_day"  # not paid; a new instruction on the next day
    TERMINAL = "terminal"  # not paid, and will not be as things stand
    HALT = "halt"  # not paid, and nor would be any other of this partner
    UNKNOWN = "unknown"  # says nothing certain about the money


@dataclass(frozen=True, slots=True)
class Meaning:
    """The class of a code and what to tell people: what it is and what to do."""

    result_class: ResultClass
    words: str


INSUFFICIENT_FLOAT = "1"
NOT_PAID = "NOT_PAID"  # ours: a person looked it up

_RECIPIENT = "M-Pesa does not know the recipient or cannot pay them: correct the client's number in Mifos X"
_CREDENTIAL = "M-Pesa refuses the initiator's name, password or role: correct it in the M-Pesa portal, then resume the partner"
_ACCOUNT = "M-Pesa says the short code may not pay: ask Safaricom business care, then resume the partner"
_REQUEST = "M-Pesa calls the request malformed: a fault of this installation, tell its support"
_AMBIGUOUS = "M-Pesa's answer leaves open whether it paid: its status is being asked for"

_TABLE: dict[str, Meaning] = {
    "0": Meaning(ResultClass.PAID, "paid"),
    INSUFFICIENT_FLOAT: Meaning(ResultClass.RETRY_LATER, "the utility account of the B2C short code is short: buy float"),
    NOT_PAID: Meaning(ResultClass.RETRY_LATER, "it was looked up in the M-Pesa portal and is not paid"),
    "2": Meaning(ResultClass.TERMINAL, "below the least amount that M-Pesa pays"),
    "3": Meaning(ResultClass.TERMINAL, "above the largest amount that M-Pesa pays at once"),
    "4": Meaning(ResultClass.RETRY_NEXT_DAY, "the recipient's M-Pesa limit for the day is reached"),
    "8": Meaning(ResultClass.RETRY_LATER, "the recipient's M-Pesa balance would be too high"),
    "11": Meaning(ResultClass.HALT, _ACCOUNT),
    "2006": Meaning(ResultClass.HALT, _ACCOUNT),
    "2028": Meaning(ResultClass.HALT, _ACCOUNT),
    **dict.fromkeys(("7", "14", "2040", "2051", "2202", "SFC_IC0003"), Meaning(ResultClass.TERMINAL, _RECIPIENT)),
    **dict.fromkeys(("2007", "2043"), Meaning(ResultClass.TERMINAL, "M-Pesa's own check refused the payment")),
    **dict.fromkeys(("18", "20", "21", "22", "2001", "8006", "TP40153"), Meaning(ResultClass.HALT, _CREDENTIAL)),
    **dict.fromkeys(("24", "25", "29"), Meaning(ResultClass.TERMINAL, _REQUEST)),
    **dict.fromkeys(("15", "17", "19", "26", "2029"), Meaning(ResultClass.UNKNOWN, _AMBIGUOUS)),
    **{str(100_000_000 + number): Meaning(ResultClass.UNKNOWN, _AMBIGUOUS) for number in range(12)},
}

_UNLISTED = Meaning(ResultClass.UNKNOWN, "a result code that is in no list: its status is being asked for")


def meaning_of(code: str) -> Meaning:
    """The meaning of a B2C result code; Unknown for any that is not listed."""
    return _TABLE.get(code.strip().upper(), _UNLISTED)


def refused_for_good(code: str | None) -> bool:
    """Whether another try would meet the same refusal as long as nobody mends its cause."""
    return code is not None and meaning_of(code).result_class in {ResultClass.TERMINAL, ResultClass.HALT}


def is_listed(code: str) -> bool:
    """Whether the code is in the table. One that is not should alarm a person."""
    return code.strip().upper() in _TABLE
