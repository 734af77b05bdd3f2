"""What a row of a statement means: a customer's payment, something else, or nothing that can be read. Pure."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vault_core.clients.daraja_messages import read_nairobi_time
from vault_core.clock import NAIROBI
from vault_core.collections import statement_file as columns
from vault_core.collections.statement_file import StatementRow
from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money

_RECEIPT = re.compile(r"[A-Z0-9]{8,20}")
# "Pay Bill Online", "Standing Order Pay Bill", "Pay Utility", "Pay Utility with OD via STK" (on credit), "Pay Merchant",
# "Customer Merchant Payment", "Merchant Payment Online", "Customer Buy Goods Online".
_OF_CUSTOMERS = re.compile(
    r"pay ?bill|pay utility|pay merchant|customer.*merchant payment|^merchant payment|buy ?goods", re.IGNORECASE
)
# "Business Pay Bill" and the like come from another organisation, or from another account of this one: no customer paid.
_NEVER = re.compile(
    r"revers|charge|\bfees?\b|withdraw|\bbusiness\b|organi[sz]ation|merchant to|\bb2[bc]\b|settle|transfer", re.IGNORECASE
)
_BEFORE_PAYER = re.compile(r" from | to |\bAcc\.")
_ACCOUNT = re.compile(r"\bAcc\.\s*(.+)")  # "Pay Bill from 25471****126 - JANE DOE Acc. 0012"
_TIMES = ("%Y-%m-%d %H:%M:%S", "%d-%m-%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S", "%Y-%m-%d %H:%M", "%d-%m-%Y %H:%M", "%d/%m/%Y %H:%M")
_FIRST_YEAR = 2007
_COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class StatementPayment:
    """A customer's payment as the statement has it."""

    line: int
    receipt: str
    amount: Money
    at: datetime
    balance: Money | None
    reference: str = field(repr=False)
    phone: str | None = field(repr=False)
    payer_name: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoPayment:
    """Something else on the account: `kind` in the statement's own words."""

    kind: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why. No phone and no name is in it."""

    line: int
    cause: str


def read_row(row: StatementRow) -> StatementPayment | NoPayment | BadRow:
    """What the row means. Only a completed row that pays money in, of a kind that customers make, is a payment."""
    try:
        return _read(row)
    except InvalidInput as error:
        return BadRow(row.line, str(error))


def _read(row: StatementRow) -> StatementPayment | NoPayment:
    receipt, status, details = row.text(columns.RECEIPT).upper(), row.text(columns.STATUS), row.text(columns.DETAILS)
    if not receipt and not status:  # totals, say
        return NoPayment("lines of no transaction")
    if not row.whole:
        raise InvalidInput("it has fewer cells than there are columns")
    if not _RECEIPT.fullmatch(receipt):
        raise InvalidInput(f"{receipt[:30]!r} is no receipt number")
    if not status:
        raise InvalidInput(f"{receipt} has no transaction status")
    paid_in, withdrawn = _amount(row, columns.PAID_IN, receipt), _amount(row, columns.WITHDRAWN, receipt)
    if paid_in is None and withdrawn is None:
        raise InvalidInput(f"{receipt} has neither money paid in nor withdrawn")
    if status.lower() != _COMPLETED:
        return NoPayment(f"{status.lower()[:30]} transactions")
    at = _moment(row.text(columns.COMPLETED_AT), receipt)
    kind = row.text(columns.REASON)
    named = kind or _BEFORE_PAYER.split(details, 1)[0]  # behind it stands what the payer typed, which may be "school fee"
    if paid_in is None or paid_in <= ZERO or not _OF_CUSTOMERS.search(named) or _NEVER.search(named):
        return NoPayment(kind[:60] or "of no stated kind")
    if row.text(columns.CURRENCY).upper() not in {"", "KES"}:
        raise InvalidInput(f"{receipt} is in {row.text(columns.CURRENCY)[:10]}, not KES")
    phone, name = _party(row.text(columns.PARTY))
    return StatementPayment(row.line, receipt, paid_in, at, _balance(row), _reference(row, details), phone, name)


def _reference(row: StatementRow, details: str) -> str:
    said = _ACCOUNT.search(details)
    return row.text(columns.REFERENCE) or ("" if said is None else said[1])


def _amount(row: StatementRow, column: str, receipt: str) -> Money | None:
    text = row.text(column)
    if not text:
        return None
    try:
        return Money.parse_grouped(text)
    except InvalidInput as error:
        raise InvalidInput(f"{receipt}: {column.replace('_', ' ')}: {error}") from error


def _balance(row: StatementRow) -> Money | None:
    """The balance is a help, not the payment: one that cannot be read is left out."""
    try:
        return _amount(row, columns.BALANCE, "")
    except InvalidInput:
        return None


def _moment(text: str, receipt: str) -> datetime:
    for form in _TIMES:
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=NAIROBI)
        except ValueError:
            continue
        if moment.year < _FIRST_YEAR:
            raise InvalidInput(f"{receipt}: completion time {text!r} is before M-Pesa began")
        return moment.astimezone(UTC)
    return read_nairobi_time(text, f"{receipt}: completion time")


def _party(text: str) -> tuple[str | None, str | None]:
    """Phone and name of "254722***126 - JANE DOE"; either may be missing."""
    phone, separator, name = text.partition(" - ")
    if not separator:
        phone, name = (text, "") if any(character.isdigit() for character in text) else ("", text)
    return phone.strip() or None, name.strip() or None
