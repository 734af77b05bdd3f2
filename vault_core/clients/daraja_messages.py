"""What M-Pesa posts to us: results of payouts and status questions, queue time-outs, customer payments.

Pure parsers of raw bodies. They take every variant seen (reference/daraja.md sections 3, 4.3, 6.1) and raise InvalidInput,
saying what is wrong where, for the rest; no other exception leaves them. A parsed message is not yet a true one: callbacks
are unsigned.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from vault_core.clients.json_reading import read_json_object, text_of, whole_number
from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.phones import normalise_phone

_SUCCESS = "0"
_DOTTED = re.compile(r"\d{2}\.\d{2}\.\d{4} \d{2}:\d{2}:\d{2}", re.ASCII)
_COMPACT = re.compile(r"\d{14}", re.ASCII)
_FIRST_YEAR = 2007  # M-Pesa began
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SHORT_CODE = re.compile(r"\d{3,10}", re.ASCII)
_LONGEST_ID = 100


@dataclass(frozen=True, slots=True)
class MpesaResult:
    """A result body. `code` is text ("0", "2001", "SFC_IC0003"); for a status question it is the question's own verdict.

    `parameters` and `reference_items` have their keys without spaces (2017 bodies spell them with) and "" where the value is
    missing; the first of two values under one key counts. `transaction_id` proves nothing: failed payouts carry one too.
    """

    result_type: int | None
    code: str
    text: str = field(repr=False)
    originator_conversation_id: str | None
    conversation_id: str | None
    transaction_id: str | None
    parameters: Mapping[str, str] = field(repr=False)
    reference_items: Mapping[str, str] = field(repr=False)

    @property
    def amount(self) -> Money | None:
        """What moved. Raises InvalidInput when it is there and is not an amount."""
        text = self._first("TransactionAmount", "Amount")
        return Money.parse(text) if text else None

    @property
    def receipt(self) -> str | None:
        """The M-Pesa receipt."""
        return self._first("TransactionReceipt", "ReceiptNo")

    @property
    def receiver_name(self) -> str | None:
        """The name of who got the money, without the number before it."""
        party = self._first("ReceiverPartyPublicName", "CreditPartyName")
        return (party.partition(" - ")[2].strip() or None) if party else None

    @property
    def receiver_phone(self) -> str | None:
        """The number of who got the money in the one written form, when it is there in clear."""
        party = self._first("ReceiverPartyPublicName", "CreditPartyName")
        return _phone_in(party.partition(" - ")[0].strip()) if party else None

    @property
    def completed_at(self) -> datetime | None:
        """When it was done, in UTC. Raises InvalidInput when it is there and is not a time."""
        text = self._first("TransactionCompletedDateTime", "FinalisedTime", "FinalizedTime")
        return read_nairobi_time(text, "the time of completion") if text else None

    @property
    def utility_balance(self) -> Money | None:
        """The balance of our Utility account after it: a free signal of the float; None when it is not there or not readable."""
        return _amount_or_none(self._first("B2CUtilityAccountAvailableFunds"))

    @property
    def working_balance(self) -> Money | None:
        """The balance of our Working account after it, from which B2C does not pay; None as above."""
        return _amount_or_none(self._first("B2CWorkingAccountAvailableFunds"))

    @property
    def charges_paid_balance(self) -> Money | None:
        """What M-Pesa's charges have accrued to, as a negative balance of an account of their own; None as above."""
        return _amount_or_none(self._first("B2CChargesPaidAccountAvailableFunds"))

    @property
    def debit_party_fee(self) -> Money | None:
        """What M-Pesa took from us, as a status answer names it ("Fee For B2C Payment|KES|22.40"); None when it names nothing."""
        return _fee_in(self._first("DebitPartyCharges") or "")

    @property
    def transaction_status(self) -> str | None:
        """The payout's fate in the answer to a status question: Completed, Cancelled, Declined, Expired, Initiated ..."""
        return self._first("TransactionStatus")

    @property
    def payment_originator_conversation_id(self) -> str | None:
        """Our id of the payment that a status question was about."""
        return self._first("OriginatorConversationID")

    @property
    def payment_conversation_id(self) -> str | None:
        """M-Pesa's id of the payment that a status question was about."""
        return self._first("ConversationID")

    def _first(self, *keys: str) -> str | None:
        return next((self.parameters[key] for key in keys if self.parameters.get(key)), None)


@dataclass(frozen=True, slots=True)
class QueueTimeout:
    """A queue time-out notice: never a verdict. Its ids are None when the body, which nobody documents, does not hold them."""

    originator_conversation_id: str | None
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class C2BConfirmation:
    """A payment by a customer. `receipt` (TransID) is unique over pay bill and STK push.

    `phone_text` is the number as sent, in clear or masked ("2547 ***** 797"); `phone_hash_sha256` (lower case) comes instead
    of it from version 1. `bill_reference` is what the customer typed, trimmed, and may be empty.
    """

    receipt: str
    at: datetime
    amount: Money
    short_code: str
    bill_reference: str
    phone_text: str | None = field(repr=False)
    phone_hash_sha256: str | None
    payer_name: str | None = field(repr=False)
    org_balance: Money | None
    transaction_type: str

    @property
    def phone(self) -> str | None:
        """The payer's number in the one written form, when it was sent in clear."""
        return _phone_in(self.phone_text) if self.phone_text else None


def parse_result(body: bytes) -> MpesaResult:
    """Reads what comes to a ResultURL. Raises InvalidInput; a success whose amount or time cannot be read is invalid too."""
    result = read_json_object(body, "the M-Pesa result").get("Result")
    if not isinstance(result, dict):
        raise InvalidInput("the M-Pesa result has no object Result")
    code = text_of(result.get("ResultCode"))
    if not code:
        raise InvalidInput("the M-Pesa result has no Result.ResultCode")
    parsed = MpesaResult(
        result_type=whole_number(result.get("ResultType")),
        code=code,
        text=text_of(result.get("ResultDesc")) or "",
        originator_conversation_id=_identifier(result, "OriginatorConversationID"),
        conversation_id=_identifier(result, "ConversationID"),
        transaction_id=_identifier(result, "TransactionID"),
        parameters=_pairs(result.get("ResultParameters"), "ResultParameter"),
        reference_items=_pairs(result.get("ReferenceData"), "ReferenceItem"),
    )
    if code == _SUCCESS:
        for prove in (lambda: parsed.amount, lambda: parsed.completed_at):
            prove()
    return parsed


def parse_queue_timeout(body: bytes) -> QueueTimeout:
    """Reads what comes to a QueueTimeOutURL. Never raises: its arrival at our path is all that is certain."""
    try:
        outer = read_json_object(body, "the queue time-out")
    except InvalidInput:
        return QueueTimeout(None, None)
    result = outer.get("Result")
    source = result if isinstance(result, dict) else outer
    ids = [text_of(source.get(key)) or None for key in ("OriginatorConversationID", "ConversationID")]
    return QueueTimeout(*(value if value is None or len(value) <= _LONGEST_ID else None for value in ids))


def parse_confirmation(body: bytes) -> C2BConfirmation:
    """Reads a C2B confirmation (a validation has the same shape). Raises InvalidInput."""
    sent = read_json_object(body, "the C2B confirmation")
    receipt = _identifier(sent, "TransID")
    if receipt is None:
        raise InvalidInput("the C2B confirmation has no TransID")
    short_code = text_of(sent.get("BusinessShortCode")) or ""
    if not _SHORT_CODE.fullmatch(short_code):
        raise InvalidInput(f"C2B confirmation {receipt}: BusinessShortCode {short_code[:20]!r} is not a short code")
    amount = _payment_amount(sent, receipt)
    msisdn = text_of(sent.get("MSISDN")) or None
    hashed = msisdn is not None and _SHA256.fullmatch(msisdn) is not None
    names = (text_of(sent.get(key)) for key in ("FirstName", "MiddleName", "LastName"))
    return C2BConfirmation(
        receipt=receipt.upper(),  # as pulls and statements are read: one payment has one name in all feeds
        at=read_nairobi_time(text_of(sent.get("TransTime")) or "", f"TransTime of C2B confirmation {receipt}"),
        amount=amount,
        short_code=short_code,
        bill_reference=text_of(sent.get("BillRefNumber")) or "",
        phone_text=None if hashed else msisdn,
        phone_hash_sha256=msisdn.lower() if msisdn and hashed else None,
        payer_name=" ".join(name for name in names if name) or None,
        org_balance=_amount_or_none(text_of(sent.get("OrgAccountBalance"))),
        transaction_type=text_of(sent.get("TransactionType")) or "",
    )


def read_nairobi_time(text: str, what: str) -> datetime:
    """A time without a zone, `dd.MM.yyyy HH:mm:ss` or `yyyyMMddHHmmss`, which is East Africa Time, in UTC."""
    if _DOTTED.fullmatch(text):
        parts = text[6:10], text[3:5], text[:2], text[11:13], text[14:16], text[17:]
    elif _COMPACT.fullmatch(text):
        parts = text[:4], text[4:6], text[6:8], text[8:10], text[10:12], text[12:]
    else:
        raise InvalidInput(f"{what} is {text[:30]!r}, neither dd.MM.yyyy HH:mm:ss nor yyyyMMddHHmmss")
    year, month, day, hour, minute, second = map(int, parts)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=NAIROBI)
    except ValueError as error:
        raise InvalidInput(f"{what} is {text[:30]!r}, not a moment of the calendar") from error
    if moment.year < _FIRST_YEAR:
        raise InvalidInput(f"{what} is {text[:30]!r}, before M-Pesa began")
    return moment.astimezone(UTC)


def _payment_amount(sent: Mapping[str, Any], receipt: str) -> Money:
    try:
        amount = Money.parse(text_of(sent.get("TransAmount")) or "")
    except InvalidInput as error:
        raise InvalidInput(f"TransAmount of C2B confirmation {receipt}: {error}") from error
    if amount <= Money(0):
        raise InvalidInput(f"C2B confirmation {receipt} is for {amount}, which is no payment")
    return amount


def _pairs(container: Any, item: str) -> dict[str, str]:
    """The keys and values of a list of pairs, of a single pair that stands without a list, or of nothing."""
    rows = container.get(item) if isinstance(container, dict) else None
    pairs: dict[str, str] = {}
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, dict) and (key := text_of(row.get("Key"))):
            name = re.sub(r"\s+", "", key)
            pairs[name] = pairs.get(name) or text_of(row.get("Value")) or ""
    return pairs


def _identifier(source: Mapping[str, Any], key: str) -> str | None:
    value = text_of(source.get(key)) or None
    if value is not None and len(value) > _LONGEST_ID:
        raise InvalidInput(f"{key} has {len(value)} characters, more than any id of M-Pesa")
    return value


def _amount_or_none(text: str | None) -> Money | None:
    try:
        return Money.parse(text) if text else None
    except InvalidInput:
        return None


def _fee_in(text: str) -> Money | None:
    """The sum of charges `name|KES|amount`, joined by `&` as M-Pesa joins accounts; None if any of them is something else."""
    fee = Money(0)
    for charge in text.split("&"):
        _, _, priced = charge.partition("|")
        currency, _, amount = priced.partition("|")
        part = _amount_or_none(amount.strip()) if currency.strip() == "KES" else None
        if part is None:
            return None
        fee += part
    return fee


def _phone_in(text: str) -> str | None:
    try:
        return normalise_phone(text)
    except InvalidInput:
        return None
