"""Account balance: asked at once, answered later at the ResultURL; and the float that somebody moves by hand."""

from typing import Any

import orjson

from sandbox.asgi import Answer, BadBodyError, Request, json_answer
from sandbox.chance import draw
from sandbox.clock import eat
from sandbox.daraja.books import ShortCode
from sandbox.daraja.oauth import opened
from sandbox.daraja.wire import accepted, amount_text, conversation_id, invalid, is_callback_url, parameter, text_of
from sandbox.deliveries import Delivery
from sandbox.world import World

_WRONG_INITIATOR = (2001, "The initiator information is invalid.")
_FAILED = (8006, "The security credential is locked.")
_DONE = (0, "The service request is processed successfully.")
_OWN_TIMEOUT_URL = "http://internalapi.safaricom.co.ke/mpesa/abresults/v1/submit"
_BAD_TOKEN = (401, "401.002.01", "Error Occurred - Invalid Access Token")


async def ask(world: World, request: Request) -> Answer:
    """POST /mpesa/accountbalance/v1/query. The balances are those of the moment of asking."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    wrong = _wrong_field(world, body)
    if wrong is not None:
        return invalid(books, wrong)
    code = books.short_codes[text_of(body, "PartyA")]
    own = f"9f31-4c77-8e02-{draw(books.seed, 'balance', books.serial(), world.clock.now()):016x}"
    conversation = conversation_id(books, world.clock, own)
    failed = _credential_fault(code, body) or (_FAILED if _fires(world, "balance_failed", code) else None)
    reply = _reply(world, code, failed, {"OriginatorConversationID": own, "ConversationID": conversation})
    if _fires(world, "balance_result_lost", code):
        world.note(request)
    else:
        settings = world.settings
        delay = settings.result_delay_ms + (settings.late_ms if _fires(world, "balance_result_late", code) else 0)
        world.deliveries.post_later(
            Delivery(body["ResultURL"], reply, {"Content-Type": "application/json"}, "balance result", settings.delivery_tries),
            delay,
            lasting=False,
        )
    return accepted(conversation, own)


def move_float(world: World, request: Request) -> Answer:
    """POST /control/float {"short_code", "utility_cents"}: float is bought (or, below zero, taken away) in the portal.

    With "of_payouts": true it is money of payouts that their receivers sent back.
    """
    wish = request.json_object()
    code, cents = world.mpesa.short_codes.get(str(wish.get("short_code"))), wish.get("utility_cents")
    if code is None:
        raise BadBodyError(f"no short code {wish.get('short_code')!r}")
    if not isinstance(cents, int) or isinstance(cents, bool):
        raise BadBodyError(f"utility_cents must be a whole number, got {cents!r}")
    world.note(request)
    code.utility_cents += cents
    code.came_back_cents += cents if wish.get("of_payouts") is True else 0
    return json_answer({"utility_cents": code.utility_cents})


def _fires(world: World, fault: str, code: ShortCode) -> bool:
    return world.faults.fires(fault, code.code, f"balance:{code.code}", str(world.mpesa.serial()))


def _wrong_field(world: World, body: dict[str, Any]) -> str | None:
    checks = (
        ("Initiator", text_of(body, "Initiator") != ""),
        ("SecurityCredential", text_of(body, "SecurityCredential") != ""),
        ("CommandID", text_of(body, "CommandID") == "AccountBalance"),
        ("PartyA", text_of(body, "PartyA") in world.mpesa.short_codes),
        ("IdentifierType", text_of(body, "IdentifierType") == "4"),
        ("ResultURL", is_callback_url(text_of(body, "ResultURL"))),
        ("QueueTimeOutURL", is_callback_url(text_of(body, "QueueTimeOutURL"))),
        ("Remarks", 0 < len(text_of(body, "Remarks")) <= 100),
    )
    return next((name for name, right in checks if not right), None)


def _credential_fault(code: ShortCode, body: dict[str, Any]) -> tuple[int, str] | None:
    initiator, credential = text_of(body, "Initiator"), text_of(body, "SecurityCredential")
    right = initiator == (code.initiator or initiator) and credential == (code.security_credential or credential)
    return None if right else _WRONG_INITIATOR


def _reply(world: World, code: ShortCode, failed: tuple[int, str] | None, ids: dict[str, str]) -> bytes:
    at = world.clock.now()
    number, text = failed or _DONE
    result: dict[str, Any] = {"ResultType": 0, "ResultCode": number, "ResultDesc": text, **ids}
    result["TransactionID"] = world.mpesa.receipt(at, "balance")[:3] + "0000000"
    completed = parameter("BOCompletedTime", int(eat(at, "%Y%m%d%H%M%S")))
    if failed is None:
        rows = [parameter("AccountBalance", _accounts(code)), completed]
    else:  # a failed one carries parameters, too
        rows = [parameter("ActionType", "AccountBalance"), parameter("ErrorMsg", text), completed]
    result["ResultParameters"] = {"ResultParameter": rows}
    result["ReferenceData"] = {"ReferenceItem": parameter("QueueTimeoutURL", _OWN_TIMEOUT_URL)}
    return orjson.dumps({"Result": result})


def _accounts(code: ShortCode) -> str:
    balances = (
        ("Working Account", code.working_cents),
        ("Float Account", 0),
        ("Utility Account", code.utility_cents),
        ("Charges Paid Account", code.charges_cents),
        ("Organization Settlement Account", 0),
    )
    return "&".join(f"{name}|KES|{_text(cents)}|{_text(cents)}|0.00|0.00" for name, cents in balances)


def _text(cents: int) -> str:
    return amount_text(cents) if cents >= 0 else f"-{amount_text(-cents)}"
