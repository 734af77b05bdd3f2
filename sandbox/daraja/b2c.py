"""B2C v3: the gateway's checks and answers. What becomes of the money is core.py's affair."""

import re
from dataclasses import replace
from typing import Any

from sandbox.asgi import Answer, BadBodyError, Dropped, Request
from sandbox.daraja.books import MpesaBooks, Payout, ShortCode
from sandbox.daraja.core import Instruction, pay_out, result_text
from sandbox.daraja.oauth import app_of, kill_token
from sandbox.daraja.results import queue_timeout_body, result_body, told_as
from sandbox.daraja.telling import Switches, tell_result
from sandbox.daraja.wire import accepted, conversation_id, error, invalid, is_callback_url, is_phone, text_of
from sandbox.deliveries import Delivery
from sandbox.pages import blocked_page, soap_fault
from sandbox.world import World

_GATEWAY_FAULTS = ("html_answer", "empty_answer", "spike_arrest", "oauth_token_dies")
_COMMANDS = ("SalaryPayment", "BusinessPayment", "PromotionPayment")
_CONTRADICTION = "2040"
_AMOUNT = re.compile(r"[1-9]\d{0,8}")
_JSON = {"Content-Type": "application/json"}


async def pay(world: World, request: Request) -> Answer | Dropped:
    """POST /mpesa/b2c/v3/paymentrequest: acknowledges, and posts the result to the ResultURL later."""
    books = world.mpesa
    app = app_of(world, request)
    if app is None:
        token = request.headers.get("authorization", "").partition(" ")[2]
        return error(books, 401, "401.002.01", f"Error Occurred - Invalid Access Token - {token}")
    try:
        body = request.json_object()
    except BadBodyError:
        return error(books, 400, "400.002.05", "Invalid Request Payload")
    wrong = _wrong_field(books, body)
    if wrong is None and app.short_codes and text_of(body, "PartyA") not in app.short_codes:
        wrong = "PartyA"
    if wrong is not None:
        return invalid(books, wrong)
    refusal = _gateway_fault(world, request, body)
    if refusal is not None:
        return refusal
    await world.pause(world.settings.b2c_latency_ms)
    originator = text_of(body, "OriginatorConversationID")
    if originator in books.seen:
        return _duplicate(books)
    world.note(request)
    order = _instruction(world, body)
    if world.faults.fires("never_processed", order.code.code, order.phone, text_of(body, "Amount")):
        return accepted(order.conversation_id, originator)
    payout = pay_out(world, order)
    await _tell_result(world, body, payout, order.code)
    return await _answer(world, payout)


def _wrong_field(books: MpesaBooks, body: dict[str, Any]) -> str | None:
    """The name of the first field the gateway does not take."""
    remarks, occasion = text_of(body, "Remarks"), body.get("Occassion", body.get("Occasion", ""))
    checks = (
        ("OriginatorConversationID", 0 < len(text_of(body, "OriginatorConversationID").strip()) <= 64),
        ("InitiatorName", text_of(body, "InitiatorName") != ""),
        ("SecurityCredential", text_of(body, "SecurityCredential") != ""),
        ("CommandID", text_of(body, "CommandID") in _COMMANDS),
        ("Amount", _AMOUNT.fullmatch(text_of(body, "Amount")) is not None),
        ("PartyA", text_of(body, "PartyA") in books.short_codes),
        ("PartyB", is_phone(text_of(body, "PartyB"))),
        ("Remarks", 2 <= len(remarks) <= 100 and not set(remarks) & set("@#&")),
        ("QueueTimeOutURL", is_callback_url(text_of(body, "QueueTimeOutURL"))),
        ("ResultURL", is_callback_url(text_of(body, "ResultURL"))),
        ("Occassion", isinstance(occasion, str) and len(occasion) <= 100),
    )
    return next((name for name, right in checks if not right), None)


def _gateway_fault(world: World, request: Request, body: dict[str, Any]) -> Answer | None:
    """What the gateway says instead of passing the request on, when a switch wants it to. Nothing is done then."""
    case = (text_of(body, "PartyA"), text_of(body, "PartyB"), text_of(body, "Amount"))
    fired = next((name for name in _GATEWAY_FAULTS if world.faults.fires(name, *case)), None)
    if fired is not None:
        world.note(request)
    if fired == "html_answer":
        return blocked_page()
    if fired == "empty_answer":
        return Answer(200, b"")
    if fired == "spike_arrest":
        return error(world.mpesa, 500, "500.003.02", "Error Occurred: Spike Arrest Violation")
    if fired == "oauth_token_dies":
        kill_token(world, request)
        return error(world.mpesa, 401, "401.002.01", "Error Occurred - Invalid Access Token")
    return None


def _duplicate(books: MpesaBooks) -> Answer:
    return error(books, 500, "500.002.1001", "Duplicate OriginatorConversationID.")


def _instruction(world: World, body: dict[str, Any]) -> Instruction:
    return Instruction(
        originator_conversation_id=text_of(body, "OriginatorConversationID"),
        conversation_id=conversation_id(world.mpesa, world.clock, text_of(body, "OriginatorConversationID")),
        code=world.mpesa.short_codes[text_of(body, "PartyA")],
        initiator=text_of(body, "InitiatorName"),
        credential=text_of(body, "SecurityCredential"),
        phone=text_of(body, "PartyB"),
        amount_cents=int(text_of(body, "Amount")) * 100,
        occasion=body.get("Occassion", body.get("Occasion", "")),
    )


async def _tell_result(world: World, body: dict[str, Any], payout: Payout, code: ShortCode) -> None:
    """Sends the result on its way, as the switches want it."""
    settings = world.settings
    told = result_body(payout, code, told_as(lambda fault: _fires(world, fault, payout)))
    delivery = Delivery(body["ResultURL"], told, _JSON, "b2c result", settings.delivery_tries, settings.delivery_retry_ms)
    if _fires(world, "result_lost", payout):
        return
    if _fires(world, "result_before_answer", payout):
        await world.deliveries.post_now(delivery)
        return
    notice = Delivery(body["QueueTimeOutURL"], queue_timeout_body(payout), _JSON, "queue time-out", settings.delivery_tries)
    switches = Switches(lambda fault: _fires(world, fault, payout), "queue_timeout_then_result", "result_late", "result_twice")
    delay = tell_result(world, delivery, notice, switches)
    if _fires(world, "result_contradicted", payout):
        other = replace(payout, result_code=_CONTRADICTION, result_text=result_text(_CONTRADICTION))
        world.deliveries.post_later(replace(delivery, body=result_body(other, code)), delay + settings.late_ms)


async def _answer(world: World, payout: Payout) -> Answer | Dropped:
    if _fires(world, "answer_lost_after_paying", payout):
        await world.pause(world.settings.hang_ms)
        return Dropped()
    if _fires(world, "soap_answer", payout):
        return soap_fault()
    if _fires(world, "duplicate_answer", payout):
        return _duplicate(world.mpesa)
    return accepted(payout.conversation_id, payout.originator_conversation_id)


def _fires(world: World, fault: str, payout: Payout) -> bool:
    """Faults of the telling are drawn for payments that succeed, so that each means what its name says."""
    return payout.result_code == "0" and world.faults.fires(fault, payout.short_code, payout.phone, str(payout.amount_cents))
