"""Transaction status: asked at once, answered later at the ResultURL."""

from typing import Any

import orjson

from sandbox.asgi import Answer, Request, json_answer
from sandbox.chance import draw
from sandbox.clock import eat
from sandbox.daraja.books import Payment, Payout, Reversal, ShortCode
from sandbox.daraja.oauth import opened
from sandbox.daraja.wire import (
    accepted,
    amount_number,
    amount_text,
    conversation_id,
    invalid,
    is_callback_url,
    parameter,
    text_of,
)
from sandbox.deliveries import Delivery
from sandbox.world import World

_UNKNOWN_CONVERSATION = (2033, "The transaction receipt number cannot be found by the specified OriginatorConversationID.")
_UNKNOWN_RECEIPT = (2032, "The transaction receipt number does not exist.")
_WRONG_INITIATOR = (2001, "The initiator information is invalid.")
_STAMP = "%Y%m%d%H%M%S"
_BAD_TOKEN = (400, "400.003.01", "Invalid Access Token")


async def ask(world: World, request: Request) -> Answer:
    """POST /mpesa/transactionstatus/v1/query, by TransactionID or OriginalConversationID (exactly one)."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    receipt, original = text_of(body, "TransactionID"), text_of(body, "OriginalConversationID")
    if "TransactionID" in body and not receipt and original:
        # Seen live: an empty TransactionID beside the other id is taken, answered with nothing, and never followed by a result.
        empty = dict.fromkeys(("OriginatorConversationID", "ConversationID", "ResponseCode", "ResponseDescription"), "")
        return json_answer(empty)
    wrong = _wrong_field(world, body)
    if wrong is not None:
        return invalid(books, wrong)
    own = f"2b6d-4a11-9d0e-{draw(books.seed, 'status', books.serial(), world.clock.now()):016x}"
    conversation = conversation_id(books, world.clock, own)
    result = {"OriginatorConversationID": own, "ConversationID": conversation}
    finding = _find(world, body)
    reply = _reply(world, body, finding, result)
    unit = finding.phone if isinstance(finding, Payout | Payment) else original or receipt
    if world.faults.fires("status_result_lost", text_of(body, "PartyA"), unit):
        world.note(request)
    else:
        settings = world.settings
        world.deliveries.post_later(
            Delivery(body["ResultURL"], reply, {"Content-Type": "application/json"}, "status result", settings.delivery_tries),
            settings.result_delay_ms,
            lasting=False,
        )
    return accepted(conversation, own)


def _wrong_field(world: World, body: dict[str, Any]) -> str | None:
    checks = (
        ("Initiator", text_of(body, "Initiator") != ""),
        ("SecurityCredential", text_of(body, "SecurityCredential") != ""),
        ("CommandID", text_of(body, "CommandID") == "TransactionStatusQuery"),
        ("OriginalConversationID", text_of(body, "TransactionID") != "" or text_of(body, "OriginalConversationID") != ""),
        ("PartyA", text_of(body, "PartyA") in world.mpesa.short_codes),
        ("IdentifierType", text_of(body, "IdentifierType") == "4"),
        ("ResultURL", is_callback_url(text_of(body, "ResultURL"))),
        ("QueueTimeOutURL", is_callback_url(text_of(body, "QueueTimeOutURL"))),
        ("Remarks", 0 < len(text_of(body, "Remarks")) <= 100),
        ("Occasion", isinstance(body.get("Occasion", ""), str) and len(body.get("Occasion", "")) <= 100),
    )
    return next((name for name, right in checks if not right), None)


def _find(world: World, body: dict[str, Any]) -> Payout | Payment | Reversal | tuple[int, str]:
    books, party = world.mpesa, text_of(body, "PartyA")
    code = books.short_codes[party]
    credential = text_of(body, "SecurityCredential")
    if text_of(body, "Initiator") != (code.initiator or text_of(body, "Initiator")):
        return _WRONG_INITIATOR
    if credential != (code.security_credential or credential):
        return _WRONG_INITIATOR
    receipt = text_of(body, "TransactionID")
    if receipt:
        found: Payout | Payment | None = books.receipts.get(receipt)
        return found if found is not None and found.short_code == party else _UNKNOWN_RECEIPT
    original = text_of(body, "OriginalConversationID")
    done = books.seen.get(original) or books.reversals.get(original)
    return done if done is not None and done.short_code == party else _UNKNOWN_CONVERSATION


def _reply(
    world: World, body: dict[str, Any], finding: Payout | Payment | Reversal | tuple[int, str], ids: dict[str, str]
) -> bytes:
    at = world.clock.now()
    code, text = (0, "The service request is processed successfully.")
    if isinstance(finding, tuple):
        code, text = finding
    result: dict[str, Any] = {"ResultType": 0, "ResultCode": code, "ResultDesc": text, **ids}
    result["TransactionID"] = world.mpesa.receipt(at, "status")[:3] + "0000000"
    if not isinstance(finding, tuple):
        short_code = world.mpesa.short_codes[finding.short_code]
        if isinstance(finding, Payout):
            rows = _payout_rows(finding, short_code)
        else:
            rows = _payment_rows(finding, short_code) if isinstance(finding, Payment) else _reversal_rows(finding)
        result["ResultParameters"] = {"ResultParameter": rows}
    result["ReferenceData"] = {"ReferenceItem": parameter("Occasion", body.get("Occasion") or None)}
    return orjson.dumps({"Result": result})


def _payout_rows(payout: Payout, code: ShortCode) -> list[dict[str, Any]]:
    stamp = int(eat(payout.at, _STAMP))
    done = payout.result_code == "0"
    return [
        parameter("DebitPartyName", f"{code.code} - {code.name}".ljust(50)),
        parameter("CreditPartyName", f"{payout.phone} - {payout.receiver_name}"),
        parameter("OriginatorConversationID", payout.originator_conversation_id),
        parameter("InitiatedTime", stamp),
        parameter("DebitPartyCharges", f"Fee For B2C Payment|KES|{amount_text(payout.fee_cents)}" if payout.fee_cents else None),
        parameter("DebitAccountType", "Utility Account"),
        parameter("TransactionReason"),
        parameter("ReasonType", "Business Payment to Customer via API"),
        parameter("TransactionStatus", "Completed" if done else "Declined"),
        parameter("FinalisedTime", stamp),
        parameter("Amount", amount_number(payout.amount_cents)),
        parameter("ConversationID", payout.conversation_id),
        parameter("ReceiptNo", payout.transaction_id),
    ]


def _reversal_rows(reversal: Reversal) -> list[dict[str, Any]]:
    stamp = int(eat(reversal.at, _STAMP))
    return [
        parameter("OriginatorConversationID", reversal.originator_conversation_id),
        parameter("InitiatedTime", stamp),
        parameter("ReasonType", "Transaction Reversal via API"),
        parameter("TransactionStatus", "Completed" if reversal.result_code == "0" else "Declined"),
        parameter("FinalisedTime", stamp),
        parameter("Amount", amount_number(reversal.amount_cents)),
        parameter("ConversationID", reversal.conversation_id),
        parameter("ReceiptNo", reversal.transaction_id),
    ]


def _payment_rows(payment: Payment, code: ShortCode) -> list[dict[str, Any]]:
    stamp = int(eat(payment.at, _STAMP))
    return [
        parameter("DebitPartyName", f"{payment.phone} - {payment.payer_name}"),
        parameter("CreditPartyName", f"{code.code} - {code.name}".ljust(50)),
        parameter("InitiatedTime", stamp),
        parameter("CreditPartyCharges", f"Pay Bill Charge|KES|{amount_text(payment.fee_cents)}" if payment.fee_cents else None),
        parameter("DebitAccountType", "MMF Account For Customer"),
        parameter("TransactionReason"),
        parameter("ReasonType", "Pay Bill Online"),
        parameter("TransactionStatus", "Completed"),
        parameter("FinalisedTime", stamp),
        parameter("Amount", amount_number(payment.amount_cents)),
        parameter("ReceiptNo", payment.receipt),
    ]
