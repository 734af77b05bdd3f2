"""Which payment a web hook of Mifos X hints at: made, or corrected. A hint only: the account is read before anything follows.

Hooks are unsigned, unordered and sent for failed commands too (reference/fineract.md sections 7 and 11), so only a body that
names a resource in its response counts. Header names differ between servers (X-Fineract-*, X-Mifos-*). The oldest (1.4) send the
response alone, and say in the headers what it is about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vault_core.clients.json_reading import read_json_object, text_of, whole_number

AccountKind = Literal["loan", "savings"]

_MADE: Mapping[tuple[str, str], AccountKind] = {("LOAN", "REPAYMENT"): "loan", ("SAVINGSACCOUNT", "DEPOSIT"): "savings"}
_CORRECTED: Mapping[tuple[str, str], AccountKind] = {
    ("LOAN", "ADJUST"): "loan",
    ("SAVINGSACCOUNT", "UNDOTRANSACTION"): "savings",
    ("SAVINGSACCOUNT", "ADJUSTTRANSACTION"): "savings",
}
_LARGEST_ID = 2**63 - 1
_ACCOUNT_KEY: Mapping[AccountKind, str] = {"loan": "loanId", "savings": "savingsId"}


@dataclass(frozen=True, slots=True)
class PaymentHint:
    """On this account a payment was perhaps made or corrected. `external_id` and `receipt` are what the hook says of it."""

    account_kind: AccountKind
    account_id: int
    transaction_id: int
    corrected: bool
    external_id: str | None
    receipt: str | None


def read_payment_hook(headers: Mapping[str, str], body: bytes) -> PaymentHint | None:
    """The payment that the hook hints at; None for a hook about something else, or about a command that did not succeed.

    Raises InvalidInput for a body that is not a JSON object.
    """
    sent = read_json_object(body, "the Mifos X hook")
    names = {name.lower(): value for name, value in headers.items()}
    event = (_word(sent, names, "entity"), _word(sent, names, "action"))
    kind = _MADE.get(event) or _CORRECTED.get(event)
    response, request = sent.get("response", sent), sent.get("request")
    if kind is None or not isinstance(response, dict):
        return None
    account_id, transaction_id = (_identifier(response.get(key)) for key in (_ACCOUNT_KEY[kind], "resourceId"))
    if account_id is None or transaction_id is None:
        return None
    asked = request if isinstance(request, dict) else {}
    return PaymentHint(
        account_kind=kind,
        account_id=account_id,
        transaction_id=transaction_id,
        corrected=event in _CORRECTED,
        external_id=text_of(response.get("resourceExternalId")) or text_of(asked.get("externalId")) or None,
        receipt=text_of(asked.get("receiptNumber")) or None,
    )


def _identifier(value: Any) -> int | None:
    number = whole_number(value)
    return number if number is not None and 0 < number <= _LARGEST_ID else None


def _word(sent: Mapping[str, Any], headers: Mapping[str, str], what: str) -> str:
    said = sent.get(f"{what}Name") or headers.get(f"x-fineract-{what}") or headers.get(f"x-mifos-{what}")
    return said.strip().upper() if isinstance(said, str) else ""
