"""The bodies of the API as JSON Schema (OpenAPI 3.1)."""

from typing import Any

from vault_core.clients.daraja_stk import LONGEST_DESCRIPTION, LONGEST_REFERENCE
from vault_core.collections.stk_verdict import StkState
from vault_core.disbursements.eligibility import HeldFor
from vault_core.disbursements.states import State

_TEXT = {"type": "string"}
_TEXT_OR_NOTHING = {"type": ["string", "null"]}
_MOMENT = {"type": "string", "format": "date-time"}
_MOMENT_OR_NOTHING = {"type": ["string", "null"], "format": "date-time"}
_DAY = {"type": "string", "format": "date"}
_ID = {"type": "string", "format": "uuid"}
_SHILLINGS = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{2}$", "description": "Shillings with two decimals."}
_CURRENCY = {"const": "KES"}
_MASKED = {"type": ["string", "null"], "description": "Masked: the last three digits alone."}


def _object(what: str, /, **fields: Any) -> dict[str, Any]:
    """An object that has all of `fields` and no others."""
    return {
        "type": "object",
        "description": what,
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "StkWish": _object(
        "Who is to be asked for what.",
        phone={
            "type": "string",
            "description": "A Kenyan mobile number: 07.., 01.., 2547.. or +2541..",
            "examples": ["0712345678"],
        },
        amount={
            "description": "Whole shillings, 1 to 250,000.",
            "oneOf": [{"type": "string", "pattern": r"^[0-9]{1,6}(\.0{1,2})?$"}, {"type": "number"}],
            "examples": ["500"],
        },
        account_reference={
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_REFERENCE,
            "description": "The loan's or savings account's number: what the payment is matched by.",
            "examples": ["000000012"],
        },
        description={
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_DESCRIPTION,
            "default": "payment",
            "description": "What the phone shows.",
        },
    )
    | {"required": ["phone", "amount", "account_reference"]},
    "StkRequest": _object(
        "A request to pay.",
        id=_ID,
        state={
            "enum": [state.value for state in StkState],
            "description": "`prompting`: being sent. `prompted`: the customer is asked. `refused`: M-Pesa did not take it and "
            "nobody was asked. `unknown`: it may have reached the phone. `paid`: the money is booked under `receipt`. "
            "`declined`: not paid, `reason` says why. `expired`: no end was told in time, which does not mean not paid.",
        },
        reason=_TEXT_OR_NOTHING | {"description": "M-Pesa's code and words."},
        phone=_TEXT | {"description": "Masked: the last three digits alone."},
        amount=_SHILLINGS,
        currency=_CURRENCY,
        account_reference=_TEXT,
        description=_TEXT,
        asked_at=_MOMENT,
        ended_at=_MOMENT_OR_NOTHING,
        receipt=_TEXT_OR_NOTHING | {"description": "M-Pesa's receipt of the payment."},
    ),
    "PaymentPage": _object(
        "Payments of a day.",
        date=_DAY,
        payments={"type": "array", "items": {"$ref": "#/components/schemas/Payment"}},
        next_cursor=_TEXT_OR_NOTHING | {"description": "Of the next page; null on the last."},
    ),
    "Payment": _object(
        "A payment that came in.",
        receipt=_TEXT,
        amount=_SHILLINGS,
        currency=_CURRENCY,
        happened_at=_MOMENT,
        state=_TEXT
        | {
            "description": "`matching`, `posting`: on its way. `posted`: in Mifos X. `suspense`: no account was found yet. "
            "`needs_review`: with a person. `reversing`, `reversed`: given back to the payer.",
        },
        told_by={"enum": ["c2b", "stk", "pull", "statement"], "description": "Who told of it first."},
        reference=_TEXT | {"description": "What the payer typed, masked."},
        phone=_MASKED,
        account={"oneOf": [{"$ref": "#/components/schemas/Account"}, {"type": "null"}]},
        posted_at=_MOMENT_OR_NOTHING,
        stk_request_id={"type": ["string", "null"], "format": "uuid", "description": "The request to pay that it answered."},
    ),
    "Account": _object("An account in Mifos X.", kind={"enum": ["loan", "savings"]}, account_no=_TEXT),
    "Wallet": _object(
        "What was paid in ahead for our services.",
        posted=_SHILLINGS,
        held=_SHILLINGS,
        available=_SHILLINGS,
        low_balance=_SHILLINGS | {"description": "Under it you are texted; 0.00: never."},
        low_since=_MOMENT_OR_NOTHING,
        short_since=_MOMENT_OR_NOTHING | {"description": "Since when payouts wait for money."},
        currency=_CURRENCY,
    ),
    "WalletPage": _object(
        "Movements of the wallet.",
        **{"from": _DAY, "to": _DAY},
        transactions={"type": "array", "items": {"$ref": "#/components/schemas/WalletTransaction"}},
        next_cursor=_TEXT_OR_NOTHING | {"description": "Of the next page; null on the last."},
    ),
    "WalletTransaction": _object(
        "One movement: `amount` in, or out if below zero.",
        id=_ID,
        at=_MOMENT | {"description": "When it happened."},
        booked_at=_MOMENT,
        what=_TEXT,
        reference=_TEXT,
        amount=_SHILLINGS,
        balance_after=_SHILLINGS,
        currency=_CURRENCY,
        fees={"type": "array", "items": {"$ref": "#/components/schemas/FeeLine"}},
    ),
    "FeeLine": _object("A part of a charge.", line=_TEXT, amount=_SHILLINGS),
    "Disbursement": _object(
        "A loan, or a tranche of one, that is paid out.",
        id=_ID,
        loan_id={"type": "integer"},
        loan_account_no=_TEXT,
        tranche={"type": "integer"},
        payout=_SHILLINGS | {"description": "What the client is sent."},
        principal=_SHILLINGS,
        currency=_CURRENCY,
        state={"enum": [state.value for state in State]},
        held_for={"enum": [*(reason.value for reason in HeldFor), None]},
        phone=_MASKED,
        receipt=_TEXT_OR_NOTHING,
        detected_at=_MOMENT,
        paid_at=_MOMENT_OR_NOTHING,
        posted_at=_MOMENT_OR_NOTHING,
    ),
    "Problem": {
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "properties": {
            "type": {"type": "string", "pattern": "^urn:payment-vault:problem:[a-z-]+$"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Fault"}},
        },
        "required": ["type", "title", "status", "detail"],
    },
    "Fault": _object("One thing wrong.", where=_TEXT | {"description": "#/field of the body, or a parameter."}, what=_TEXT),
}
