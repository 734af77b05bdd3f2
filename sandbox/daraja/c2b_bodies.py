"""The bodies of a C2B validation and confirmation, in each shape that has been seen (samples c2b_*)."""

import hashlib
from typing import Any

import orjson

from sandbox.clock import eat
from sandbox.daraja.books import Payment
from sandbox.daraja.wire import amount_number, amount_text

SHAPES = ("v2", "v1", "legacy", "numbers")


def body_of(payment: Payment, third_party_id: str, *, asked: bool) -> bytes:
    """The body that tells `payment`; `asked`: in the question before it, which knows no balance.

    v2 masks the phone, and in production its confirmation has no MiddleName and LastName. v1 hashes the phone. The legacy one
    has it in clear, and an empty type. `numbers` is v2 with numbers and nulls instead of texts.
    """
    body: dict[str, Any] = {
        "TransactionType": "" if payment.shape == "legacy" else "Pay Bill",
        "TransID": payment.receipt,
        "TransTime": eat(payment.at, "%Y%m%d%H%M%S"),
        "TransAmount": amount_text(payment.amount_cents),
        "BusinessShortCode": payment.short_code,
        "BillRefNumber": payment.bill_reference,
        "InvoiceNumber": "",
        "OrgAccountBalance": "" if asked else amount_text(payment.utility_after_cents),
        "ThirdPartyTransID": third_party_id,
        "MSISDN": _msisdn(payment),
        "FirstName": payment.payer_name.split()[0],
    }
    if payment.shape == "numbers":
        return orjson.dumps(_with_numbers(payment, body))
    if payment.shape != "v2":
        first, *others = payment.payer_name.split()
        body |= {"FirstName": first, "MiddleName": "", "LastName": " ".join(others)}
    elif asked:
        body |= {"MiddleName": "", "LastName": ""}
    return orjson.dumps(body)


def _msisdn(payment: Payment) -> str:
    if payment.shape == "v1":
        return hashlib.sha256(payment.phone.encode()).hexdigest()
    return payment.phone if payment.shape == "legacy" else f"{payment.phone[:4]} ***** {payment.phone[-3:]}"


def _with_numbers(payment: Payment, body: dict[str, Any]) -> dict[str, Any]:
    """Everything that can be a number is one; a reference with leading zeros cannot, for they would be lost."""
    balance, reference = body["OrgAccountBalance"], payment.bill_reference
    numbers: dict[str, Any] = {
        "TransTime": int(body["TransTime"]),
        "TransAmount": amount_number(payment.amount_cents),
        "BusinessShortCode": int(payment.short_code),
        "InvoiceNumber": None,
        "OrgAccountBalance": amount_number(payment.utility_after_cents) if balance else None,
        "ThirdPartyTransID": body["ThirdPartyTransID"] or None,
        "FirstName": None,
    }
    if reference.isdecimal() and not reference.startswith("0"):
        numbers["BillRefNumber"] = int(reference)
    return body | numbers
