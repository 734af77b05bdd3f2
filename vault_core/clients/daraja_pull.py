"""Pull Transactions: the C2B payments of a pay bill in the last 48 hours, for what was not confirmed (reference/daraja.md 6.4).

Pure: bodies, and what answers mean. The interface is poorly documented and answers in many shapes: keys in several spellings,
rows in a list of lists, "none" as an empty list, as code 1001 or as HTTP 500. A time may say UTC and be East Africa Time.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from vault_core.clients.daraja_answers import ALL_ZERO, classify_error, said_in, without_secrets
from vault_core.clients.daraja_messages import read_nairobi_time
from vault_core.clients.http_exchange import Answer
from vault_core.clients.json_reading import read_json, text_of
from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.money import ZERO, Money
from vault_core.outcome import Accepted, Outcome, Refused, Unknown

REACHES_BACK = timedelta(hours=48)
PULL_REGISTER_PATH = "/pulltransactions/v1/register"
PULL_QUERY_PATH = "/pulltransactions/v1/query"

_FOUND, _NONE = "1000", "1001"
_OK = 200
_RECEIPT = re.compile(r"[A-Za-z0-9]{6,30}")
_ISO = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:\.\d{1,9})?\s*(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_NO_NAMES = frozenset({"", "MPESA", "M-PESA", "NULL", "N/A"})
_FIRST_YEAR = 2007
_DEEPEST = 8  # lists in lists; two are documented
_REASON_LENGTH = 120


@dataclass(frozen=True, slots=True)
class PullQuestion:
    """Asks for the payments between two moments, from row `offset` on."""

    short_code: str
    start: datetime
    end: datetime
    offset: int = 0


@dataclass(frozen=True, slots=True)
class PulledPayment:
    """One payment as a row tells it. `moments`: what its time may mean, the likelier reading first; one if it is certain."""

    receipt: str
    amount: Money
    moments: tuple[datetime, ...]
    bill_reference: str = field(repr=False)
    phone: str | None = field(repr=False)
    payer_name: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PullPage:
    """One page. `unreadable` says for each row that holds no payment we can read which it is and why."""

    payments: tuple[PulledPayment, ...]
    unreadable: tuple[str, ...]

    @property
    def row_count(self) -> int:
        """All rows: what the next offset is counted by."""
        return len(self.payments) + len(self.unreadable)


@dataclass(frozen=True, slots=True)
class PullAnswer:
    """What came back: the bytes, to be kept before use, and what they mean. Without an answer there are none."""

    outcome: Outcome[PullPage]
    status: int | None = None
    body: bytes | None = field(default=None, repr=False)


def pull_registration_body(short_code: str, nominated_number: str, callback_url: str) -> dict[str, str]:
    """Switches pulling on for a short code; `nominated_number` is the one its owner registered with M-Pesa."""
    return {"ShortCode": short_code, "RequestType": "Pull", "NominatedNumber": nominated_number, "CallBackURL": callback_url}


def pull_body(question: PullQuestion) -> dict[str, str]:
    """The question, its times as East Africa Time to the second, the end rounded up."""
    end = question.end if not question.end.microsecond else question.end + timedelta(seconds=1)
    return {
        "ShortCode": question.short_code,
        "StartDate": _written(question.start),
        "EndDate": _written(end),
        "OffSetValue": str(question.offset),
    }


def classify_pull_registration(answer: Answer) -> Outcome[None]:
    """The outcome of a registration. One that was made before stands, and counts as made."""
    told = _told(answer)
    said = said_in(told.envelope)
    texts = f"{said.text} {told.text('responsedescription', 'responsemessage')}".lower()
    if "already" in texts or (answer.status == _OK and (told.code in (_FOUND, _NONE) or ALL_ZERO.fullmatch(told.code))):
        return Accepted(None)
    if answer.status == _OK:
        return Unknown(f"HTTP 200 with response code {told.code[:20]!r}")
    return classify_error(answer.status, said)


def classify_pull(answer: Answer) -> Outcome[PullPage]:
    """The page, or that M-Pesa refused or gave no clear answer. Rows count whatever code stands beside them."""
    told = _told(answer)
    page = _page(told.rows)
    if page.row_count:
        return Accepted(page)
    said = said_in(told.envelope)
    texts = f"{said.text} {told.text('responsemessage', 'responsedescription')}".lower()
    if told.code == _NONE or "no transaction" in texts:
        return Accepted(page)
    if answer.status == _OK:
        empty = told.is_bare_list or (told.has_rows and (told.code == _FOUND or ALL_ZERO.fullmatch(told.code)))
        return Accepted(page) if empty else Unknown(f"HTTP 200 with response code {told.code[:20]!r} and no rows")
    return classify_error(answer.status, said)


@dataclass(frozen=True, slots=True)
class _Told:
    """A body with its keys in one spelling: small letters and digits only."""

    envelope: Mapping[str, Any]
    keys: Mapping[str, Any]
    rows: Any
    is_bare_list: bool = False

    @property
    def code(self) -> str:
        return self.text("responsecode", "responsestatus")

    @property
    def has_rows(self) -> bool:
        return "response" in self.keys

    def text(self, *names: str) -> str:
        return next((text for name in names if (text := text_of(self.keys.get(name)))), "")


def _told(answer: Answer) -> _Told:
    try:
        body = read_json(answer.body, "the answer to a pull")
    except InvalidInput:
        body = None
    if isinstance(body, list):
        return _Told({}, {}, body, is_bare_list=True)
    if not isinstance(body, dict):
        return _Told({}, {}, None)
    keys = _one_spelling(body)
    rows = keys.get("response")
    if isinstance(rows, str):  # "[[]]"
        try:
            rows = read_json(rows.encode(), "the rows of a pull")
        except InvalidInput:
            rows = None
    return _Told(body, keys, rows)


def _one_spelling(row: Mapping[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for key, value in row.items():
        name = re.sub(r"[^a-z0-9]", "", key.lower())
        keys[name] = value if keys.get(name) is None else keys[name]
    return keys


def _page(rows: Any) -> PullPage:
    payments, unreadable = [], []
    for number, row in enumerate(_flat(rows), start=1):
        try:
            payments.append(_payment(row))
        except InvalidInput as error:
            unreadable.append(f"row {number}: {error}"[:_REASON_LENGTH])
    return PullPage(tuple(payments), tuple(unreadable))


def _flat(rows: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(rows, list) and depth < _DEEPEST:
        for row in rows:
            yield from _flat(row, depth + 1)
    elif rows not in (None, {}, ""):
        yield rows


def _payment(row: Any) -> PulledPayment:
    if not isinstance(row, dict):
        raise InvalidInput(f"a {type(row).__name__} where a transaction is expected")
    keys = _one_spelling(row)

    def text(*names: str) -> str:
        return next((found for name in names if (found := text_of(keys.get(name)))), "")

    receipt = text("transactionid", "transid", "mpesareceiptnumber")
    if not _RECEIPT.fullmatch(receipt):
        raise InvalidInput(f"transactionId {receipt[:30]!r} is no receipt")
    kind = text("transactiontype")
    if "revers" in kind.lower():
        raise InvalidInput(f"{receipt} is a {kind[:40]}, not a payment")
    try:
        amount = Money.parse_grouped(text("amount", "transamount"))
    except InvalidInput as error:
        raise InvalidInput(f"{receipt}: {error}") from error
    if amount <= ZERO:
        raise InvalidInput(f"{receipt} is for {amount}, which is no payment")
    name = " ".join(text("sender", "firstname").split())
    return PulledPayment(
        receipt=receipt.upper(),  # M-Pesa's are in capitals; a documented sample is not
        amount=amount,
        moments=_moments(text("trxdate", "transtime", "transactiondate"), receipt),
        bill_reference=text("billreference", "billrefnumber"),
        phone=text("msisdn", "phonenumber") or None,
        payer_name=None if name.upper() in _NO_NAMES else name,
    )


def _moments(text: str, receipt: str) -> tuple[datetime, ...]:
    """What a time may mean, in UTC. Without a zone it is East Africa Time; one that says UTC may be that, too."""
    match = _ISO.fullmatch(text)
    if match is None:
        return (read_nairobi_time(text, f"trxDate of {receipt}"),)
    day, clock, zone = match.groups()
    try:
        here = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NAIROBI).astimezone(UTC)
        if here.year < _FIRST_YEAR:
            raise InvalidInput(f"trxDate of {receipt} is {text[:30]!r}, before M-Pesa began")
        if zone is None:
            return (here,)
        as_written = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone == 'Z' else zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"trxDate of {receipt} is {text[:30]!r}, not a moment of the calendar") from error
    return (here,) if here == as_written else (here, as_written)


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M:%S}"


def in_words(outcome: Outcome[PullPage]) -> str:
    """The outcome as it is kept."""
    match outcome:
        case Accepted():
            return "accepted"
        case Refused(code=code, reason=reason):
            return f"refused {code}: {without_secrets(reason)}"[:500]
        case Unknown(cause=cause):
            return f"unknown: {without_secrets(cause)}"[:500]
