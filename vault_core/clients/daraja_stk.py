"""STK push: the prompt to pay on a customer's phone, the question about it, and the callback (reference/daraja.md section 5).

Pure: bodies, and what answers and callbacks mean. A prompt has no id of ours at M-Pesa, so a second request is a second prompt:
an answer that is not a documented refusal is Unknown, and only the callback, whose URL is ours, tells more.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from vault_core.clients.daraja_answers import ALL_ZERO, classify_error, read_envelope, said_in, without_secrets
from vault_core.clients.daraja_messages import read_nairobi_time
from vault_core.clients.http_exchange import Answer
from vault_core.clients.json_reading import read_json_object, text_of
from vault_core.clock import NAIROBI
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.outcome import Accepted, Outcome, Refusal, Refused, Unknown
from vault_core.phones import mask_phone, normalise_phone

SUBSCRIBER_BUSY = "subscriber_busy"

LEAST, MOST = Money.shillings(1), Money.shillings(250_000)
LONGEST_REFERENCE = 12
LONGEST_DESCRIPTION = 13
_PLAIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ./_-]*[A-Za-z0-9])?")
_PHONE = re.compile(r"254[17][0-9]{8}")
_LONGEST_ID = 100
_OK, _TOO_MANY = 200, 429
# One code for a busy phone, a wrong passkey, a prompt that still runs and an id nobody knows: the text decides.
_MANY_MEANINGS = "500.001.1001"
_ENDS = frozenset({"1", "17", "1001", "1019", "1025", "1032", "1037", "2001", "2028", "8006", "9999", "SFC_IC0003"})


@dataclass(frozen=True, slots=True)
class StkPrompt:
    """One prompt to pay. Raises InvalidInput for what M-Pesa would refuse or cut, naming the field."""

    short_code: str
    amount: Money
    phone: str = field(repr=False)
    account_reference: str = field(repr=False)
    description: str
    callback_url: str
    at: datetime

    def __post_init__(self) -> None:
        check_prompt(self.amount, self.phone, self.account_reference, self.description)


@dataclass(frozen=True, slots=True)
class StkAck:
    """M-Pesa has taken the prompt. It says nothing about payment."""

    merchant_request_id: str
    checkout_request_id: str


@dataclass(frozen=True, slots=True)
class StkQuestion:
    """Asks what became of the prompt with this id."""

    short_code: str
    checkout_request_id: str
    at: datetime


class Fate(StrEnum):
    """What the answer to a question says of a prompt."""

    PENDING = "pending"  # no end yet, or an answer that is no verdict
    PAID = "paid"  # without amount and receipt: nothing to book
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class StkFate:
    """The answer to a question. `code` is M-Pesa's, `reason` its words."""

    fate: Fate
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class StkCallback:
    """What the callback says. On success each value is None where its item, or the item's Value, is missing.

    The account reference is not among them: the request knows it.
    """

    code: str
    text: str = field(repr=False)
    merchant_request_id: str | None
    checkout_request_id: str | None
    amount: Money | None
    receipt: str | None
    at: datetime | None
    phone: str | None = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the customer paid."""
        return self.code == "0"


def check_prompt(amount: Money, phone: str, account_reference: str, description: str) -> None:
    """Raises InvalidInput, one sentence a fault, for what M-Pesa would refuse, cut or let fail in silence (section 5)."""
    if not amount.is_whole_shillings or not LEAST <= amount <= MOST:
        raise InvalidInput(f"amount: {amount}, but a prompt is for whole shillings from {LEAST} to {MOST}")
    if not _PHONE.fullmatch(phone):
        raise InvalidInput(f"phone: {mask_phone(phone)} is not 12 digits, 2547.. or 2541..")
    for name, given, longest in (
        ("account_reference", account_reference, LONGEST_REFERENCE),
        ("description", description, LONGEST_DESCRIPTION),
    ):
        if len(given) > longest or not _PLAIN.fullmatch(given):
            raise InvalidInput(
                f"{name}: 1 to {longest} letters, digits, spaces, dots, slashes and dashes, with a letter or digit at both ends"
            )


def prompt_body(passkey: str, prompt: StkPrompt) -> dict[str, str]:
    """The request, every value as text. The time stands in the password and beside it, in East Africa Time."""
    timestamp = _timestamp(prompt.at)
    return {
        "BusinessShortCode": prompt.short_code,
        "Password": _password(prompt.short_code, passkey, timestamp),
        "Timestamp": timestamp,
        "TransactionType": "CustomerPayBillOnline",
        "Amount": prompt.amount.whole_shillings_text(),
        "PartyA": prompt.phone,
        "PartyB": prompt.short_code,
        "PhoneNumber": prompt.phone,
        "CallBackURL": prompt.callback_url,
        "AccountReference": prompt.account_reference,
        "TransactionDesc": prompt.description,
    }


def question_body(passkey: str, question: StkQuestion) -> dict[str, str]:
    """The question about a prompt."""
    timestamp = _timestamp(question.at)
    return {
        "BusinessShortCode": question.short_code,
        "Password": _password(question.short_code, passkey, timestamp),
        "Timestamp": timestamp,
        "CheckoutRequestID": question.checkout_request_id,
    }


def classify_prompt(answer: Answer) -> Outcome[StkAck]:
    """What the answer to a prompt says. Refused means that no prompt was made."""
    body = read_envelope(answer)
    if body is None and answer.status != _TOO_MANY:
        return Unknown(f"HTTP {answer.status} without a JSON object")
    if body is not None and answer.status == _OK:
        return _read_ack(body)
    said = said_in(body or {})
    if said.code == _MANY_MEANINGS:
        if "unable to lock subscriber" in said.lowered:
            return Refused(
                SUBSCRIBER_BUSY, "another prompt is open on this phone: wait one to three minutes", Refusal.RETRY_LATER
            )
        if _is_setting(said.lowered):
            return Refused(said.code, without_secrets(said.text), Refusal.HALT)
    return classify_error(answer.status, said)


def classify_fate(answer: Answer) -> Outcome[StkFate]:
    """What the answer to a question says. Only a listed code is an end; Refused and Unknown are no word on the prompt."""
    body = read_envelope(answer)
    if body is None:
        return Unknown(f"HTTP {answer.status} without a JSON object")
    if answer.status != _OK:
        said = said_in(body)
        if said.code != _MANY_MEANINGS:
            return classify_error(answer.status, said)
        if _is_setting(said.lowered):
            return Refused(said.code, without_secrets(said.text), Refusal.HALT)
        return Accepted(StkFate(Fate.PENDING, said.code, without_secrets(said.text)))
    code, words = text_of(body.get("ResultCode")) or "", without_secrets(text_of(body.get("ResultDesc")) or "")
    if not code:
        return Unknown("HTTP 200 without a ResultCode")
    if ALL_ZERO.fullmatch(code):
        return Accepted(StkFate(Fate.PAID, "0", words))
    return Accepted(StkFate(Fate.DECLINED if code in _ENDS else Fate.PENDING, code[:40], words))


def parse_stk_callback(body: bytes) -> StkCallback:
    """Reads what comes to a CallBackURL. Raises InvalidInput; a success whose amount is no amount is invalid too.

    An unreadable time or phone is left out rather than the payment.
    """
    outer = read_json_object(body, "the STK callback").get("Body")
    said = outer.get("stkCallback") if isinstance(outer, dict) else None
    if not isinstance(said, dict):
        raise InvalidInput("the STK callback has no object Body.stkCallback")
    code = text_of(said.get("ResultCode"))
    if not code:
        raise InvalidInput("the STK callback has no ResultCode")
    items = _items(said.get("CallbackMetadata"))
    receipt = _identifier(items, "MpesaReceiptNumber")
    return StkCallback(
        code="0" if ALL_ZERO.fullmatch(code) else code[:40],
        text=without_secrets(text_of(said.get("ResultDesc")) or ""),
        merchant_request_id=_identifier(said, "MerchantRequestID"),
        checkout_request_id=_identifier(said, "CheckoutRequestID"),
        amount=_amount(items.get("Amount")),
        receipt=None if receipt is None else receipt.upper(),  # as in all other feeds
        at=_moment(items.get("TransactionDate")),
        phone=_phone(items.get("PhoneNumber")),
    )


def _read_ack(body: Mapping[str, Any]) -> Outcome[StkAck]:
    code, words = text_of(body.get("ResponseCode")) or "", text_of(body.get("ResponseDescription")) or ""
    checkout = text_of(body.get("CheckoutRequestID")) or ""
    if code and not ALL_ZERO.fullmatch(code):
        return Refused(code[:40], without_secrets(words), Refusal.TERMINAL)
    if not code or not 0 < len(checkout) <= _LONGEST_ID:
        return Unknown("HTTP 200 without ResponseCode or CheckoutRequestID")
    return Accepted(StkAck((text_of(body.get("MerchantRequestID")) or "")[:_LONGEST_ID], checkout))


def _is_setting(lowered: str) -> bool:
    return "merchant does not exist" in lowered or "wrong credentials" in lowered


def _items(metadata: Any) -> dict[str, str]:
    """The items by name; one without a Value, as Balance is sent, is not there."""
    rows = metadata.get("Item") if isinstance(metadata, dict) else None
    found: dict[str, str] = {}
    for row in rows if isinstance(rows, list) else [rows]:
        if isinstance(row, dict) and (name := text_of(row.get("Name"))) and (value := text_of(row.get("Value"))):
            found.setdefault(name, value)
    return found


def _identifier(source: Mapping[str, Any], key: str) -> str | None:
    value = text_of(source.get(key)) or None
    if value is not None and len(value) > _LONGEST_ID:
        raise InvalidInput(f"{key} has {len(value)} characters, more than any id of M-Pesa")
    return value


def _amount(text: str | None) -> Money | None:
    if text is None:
        return None
    try:
        amount = Money.parse(text)
    except InvalidInput as error:
        raise InvalidInput(f"Amount of the STK callback: {error}") from error
    if amount <= Money(0):
        raise InvalidInput(f"the STK callback is for {amount}, which is no payment")
    return amount


def _moment(text: str | None) -> datetime | None:
    try:
        return read_nairobi_time(text, "TransactionDate of the STK callback") if text else None
    except InvalidInput:
        return None


def _phone(text: str | None) -> str | None:
    try:
        return normalise_phone(text) if text else None
    except InvalidInput:
        return None


def _timestamp(at: datetime) -> str:
    return f"{at.astimezone(NAIROBI):%Y%m%d%H%M%S}"


def _password(short_code: str, passkey: str, timestamp: str) -> str:
    return base64.b64encode(f"{short_code}{passkey}{timestamp}".encode()).decode()
