"""Reversal of a C2B payment: asked at once, done once a receipt, told later at the ResultURL. It has no id of the sender's."""

import re
from typing import Any

import orjson

from sandbox.asgi import Answer, Dropped, Request
from sandbox.chance import draw
from sandbox.clock import eat
from sandbox.daraja.books import MpesaBooks, Payment, Reversal, ShortCode
from sandbox.daraja.oauth import opened
from sandbox.daraja.results import code_value
from sandbox.daraja.telling import Switches, tell_result
from sandbox.daraja.wire import (
    accepted,
    amount_number,
    amount_text,
    conversation_id,
    error,
    invalid,
    is_callback_url,
    parameter,
    text_of,
)
from sandbox.deliveries import Delivery
from sandbox.world import World

_AMOUNT = re.compile(r"[1-9]\d{0,8}(\.\d{1,2})?")
_JSON = {"Content-Type": "application/json"}
_OWN_TIMEOUT_URL = "https://internalsandbox.safaricom.co.ke/mpesa/reversalresults/v1/submit"
_TEXTS = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "2001": "The initiator information is invalid.",
    "R000001": "The transaction has already been reversed.",
    "R000002": "The OriginalTransactionID is invalid.",
}
_BAD_TOKEN = (404, "404.001.03", "Invalid Access Token")


async def reverse(world: World, request: Request) -> Answer | Dropped:
    """POST /mpesa/reversal/v1/request: acknowledges, and posts the result to the ResultURL later."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    wrong = _wrong_field(books, body)
    if wrong is not None:
        return invalid(books, wrong)
    world.note(request)
    receipt = text_of(body, "TransactionID")
    if world.faults.fires("reversal_spike_arrest", text_of(body, "ReceiverParty"), receipt):
        return error(books, 500, "500.003.02", "Error Occurred: Spike Arrest Violation")
    done = _give_back(world, body)
    _tell_result(world, body, done)
    if _fires(world, "reversal_answer_lost", done):
        await world.pause(world.settings.hang_ms)
        return Dropped()
    return accepted(done.conversation_id, done.originator_conversation_id)


def _wrong_field(books: MpesaBooks, body: dict[str, Any]) -> str | None:
    checks = (
        ("Initiator", text_of(body, "Initiator") != ""),
        ("SecurityCredential", text_of(body, "SecurityCredential") != ""),
        ("CommandID", text_of(body, "CommandID") == "TransactionReversal"),
        ("TransactionID", text_of(body, "TransactionID") != ""),
        ("Amount", _AMOUNT.fullmatch(text_of(body, "Amount")) is not None),
        ("ReceiverParty", text_of(body, "ReceiverParty") in books.short_codes),
        ("RecieverIdentifierType", text_of(body, "RecieverIdentifierType") == "11"),
        ("ResultURL", is_callback_url(text_of(body, "ResultURL"))),
        ("QueueTimeOutURL", is_callback_url(text_of(body, "QueueTimeOutURL"))),
        ("Remarks", 2 <= len(text_of(body, "Remarks")) <= 100),
    )
    return next((name for name, right in checks if not right), None)


def _give_back(world: World, body: dict[str, Any]) -> Reversal:
    """Carries the reversal out and writes it into the books. Money moves only with code 0."""
    books, code = world.mpesa, world.mpesa.short_codes[text_of(body, "ReceiverParty")]
    original, cents = text_of(body, "TransactionID"), _cents(text_of(body, "Amount"))
    own = f"3124-481d-b706-{draw(books.seed, 'reversal', books.serial(), original):016x}"
    result, at = _verdict(world, code, original, cents, body), world.clock.now()
    if result == "0":
        code.utility_cents -= cents
    reversal = Reversal(
        originator_conversation_id=own,
        conversation_id=conversation_id(books, world.clock, own),
        transaction_id=books.receipt(at, "reversal", code.code, original) if result == "0" else f"{original[:3]}0000000",
        original=original,
        short_code=code.code,
        amount_cents=cents,
        result_code=result,
        at=at,
        utility_after_cents=code.utility_cents,
    )
    code.reversals.append(reversal)
    books.reversals[own] = reversal
    return reversal


def _verdict(world: World, code: ShortCode, original: str, cents: int, body: dict[str, Any]) -> str:
    credential = text_of(body, "SecurityCredential")
    if text_of(body, "Initiator") != (code.initiator or text_of(body, "Initiator")):
        return "2001"
    if credential != (code.security_credential or credential):
        return "2001"
    if any(each.original == original and each.result_code == "0" for each in code.reversals):
        return "R000001"
    payment = world.mpesa.receipts.get(original)
    if not isinstance(payment, Payment) or payment.short_code != code.code or payment.amount_cents != cents:
        return "R000002"
    if cents > code.utility_cents or world.faults.fires("reversal_refused", code.code, original):
        return "1"
    return "0"


def _tell_result(world: World, body: dict[str, Any], done: Reversal) -> None:
    """Sends the result on its way, as the switches want it."""
    settings = world.settings
    delivery = Delivery(body["ResultURL"], _result(world, done), _JSON, "reversal result", settings.delivery_tries)
    if _fires(world, "reversal_result_lost", done):
        return
    notice = Delivery(body["QueueTimeOutURL"], _timeout(done), _JSON, "queue time-out", settings.delivery_tries)
    switches = Switches(
        lambda fault: _fires(world, fault, done),
        "reversal_timeout_then_result",
        "reversal_result_late",
        "reversal_result_twice",
    )
    tell_result(world, delivery, notice, switches)


def _fires(world: World, fault: str, done: Reversal) -> bool:
    """Faults of the telling are drawn for reversals that succeed, so that each means what its name says."""
    return done.result_code == "0" and world.faults.fires(fault, done.short_code, done.original)


def _outer(done: Reversal, result_type: int, code: str, text: str) -> dict[str, Any]:
    return {
        "ResultType": result_type,
        "ResultCode": code_value(code),
        "ResultDesc": text,
        "OriginatorConversationID": done.originator_conversation_id,
        "ConversationID": done.conversation_id,
    }


def _timeout(done: Reversal) -> bytes:
    return orjson.dumps({"Result": _outer(done, 1, "1", "The service request timed out.")})


def _result(world: World, done: Reversal) -> bytes:
    code = world.mpesa.short_codes[done.short_code]
    result = _outer(done, 0, done.result_code, _TEXTS[done.result_code]) | {"TransactionID": done.transaction_id}
    payment = world.mpesa.receipts.get(done.original)
    if done.result_code == "0" and isinstance(payment, Payment):
        rows = [
            parameter("DebitAccountBalance", f"Utility Account|KES|{amount_text(done.utility_after_cents)}|0.00|0.00|0.00"),
            parameter("Amount", amount_number(done.amount_cents)),
            parameter("TransCompletedTime", int(eat(done.at, "%Y%m%d%H%M%S"))),
            parameter("OriginalTransactionID", done.original),
            parameter("Charge", 0),
            parameter("CreditPartyPublicName", f"{payment.phone} - {payment.payer_name}"),
            parameter("DebitPartyPublicName", f"{code.code} - {code.name}"),
        ]
        result["ResultParameters"] = {"ResultParameter": rows}
    result["ReferenceData"] = {"ReferenceItem": parameter("QueueTimeoutURL", _OWN_TIMEOUT_URL)}
    return orjson.dumps({"Result": result})


def _cents(text: str) -> int:
    whole, _, part = text.partition(".")
    return int(whole) * 100 + int(part.ljust(2, "0") or 0)
