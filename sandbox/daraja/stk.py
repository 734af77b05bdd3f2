"""STK push: the prompt on a customer's phone, the callback about it, and the question. It has no id of the sender's.

A prompt's fate is settled when it is made, and its money moves then; it is told `result_delay_ms` later.
"""

import base64
import re
from datetime import timedelta
from typing import Any

import orjson

from sandbox.asgi import Answer, Dropped, Request, json_answer
from sandbox.chance import draw
from sandbox.clock import eat
from sandbox.daraja.books import Prompt, ShortCode
from sandbox.daraja.c2b import new_payment, take
from sandbox.daraja.oauth import opened
from sandbox.daraja.results import code_value
from sandbox.daraja.wire import amount_number, error, invalid, is_callback_url, is_phone, text_of
from sandbox.deliveries import Delivery
from sandbox.world import World

_AMOUNT = re.compile(r"[1-9]\d{0,5}")
_MOST_SHILLINGS = 250_000
_TOO_SOON = timedelta(minutes=2)  # the same amount from the same customer: a rule of M-Pesa's
_FAULTS = {"stk_insufficient": "1", "stk_cancelled": "1032", "stk_no_answer": "1037", "stk_wrong_pin": "2001"}
_TEXTS = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "17": "Rule limited.",
    "1019": "Transaction has expired",
    "1032": "Request cancelled by user",
    "1037": "DS timeout user cannot be reached.",
    "2001": "The initiator information is invalid.",
}
_TEXTS_ASKED = {"1037": "No response from user.", "1032": "Request Cancelled by user."}
_MANY_MEANINGS = "500.001.1001"
_BAD_TOKEN = (404, "404.001.03", "Invalid Access Token")


async def prompt(world: World, request: Request) -> Answer | Dropped:
    """POST /mpesa/stkpush/v1/processrequest: acknowledges, and posts what the customer did to the CallBackURL later."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    wrong = _wrong_field(world, body)
    if wrong is not None:
        return invalid(books, wrong)
    code = books.short_codes[text_of(body, "BusinessShortCode")]
    if not _password_is_right(code, body):
        return error(books, 500, _MANY_MEANINGS, "Wrong credentials")
    phone, now = text_of(body, "PhoneNumber"), world.clock.now()
    if any(open_one.phone == phone and now < open_one.settles_at for open_one in books.prompts.values()):
        text = "Unable to lock subscriber, a transaction is already in process for the current subscriber"
        return error(books, 500, _MANY_MEANINGS, text)
    world.note(request)
    made = _make(world, code, body)
    if made.result_code == "0":
        payment = new_payment(world, code, phone, made.amount_cents, made.account_reference)
        made.receipt = payment.receipt
        take(world, code, payment)
    _tell(world, body, made)
    if _fires(world, "stk_answer_lost", made):
        await world.pause(world.settings.hang_ms)
        return Dropped()
    return json_answer(
        {
            "MerchantRequestID": made.merchant_request_id,
            "CheckoutRequestID": made.checkout_request_id,
            "ResponseCode": "0",
            "ResponseDescription": "Success. Request accepted for processing",
            "CustomerMessage": "Success. Request accepted for processing",
        }
    )


async def ask(world: World, request: Request) -> Answer:
    """POST /mpesa/stkpushquery/v1/query: answered at once, without amount and receipt; before its end in odd ways."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    code = books.short_codes.get(text_of(body, "BusinessShortCode"))
    if code is None or not _password_is_right(code, body):
        return error(books, 500, _MANY_MEANINGS, "Wrong credentials")
    made = books.prompts.get(text_of(body, "CheckoutRequestID"))
    if made is None or made.short_code != code.code:
        return error(books, 500, _MANY_MEANINGS, "The transaction does not Exist")
    made.questions += 1
    if world.clock.now() < made.settles_at:
        return _pending(world, made)
    if made.result_code == "0" and _fires(world, "stk_query_wrong", made):
        return _fate(made, "1037", _TEXTS_ASKED["1037"])
    return _fate(made, made.result_code, _TEXTS_ASKED.get(made.result_code, _text(made.result_code)))


def _wrong_field(world: World, body: dict[str, Any]) -> str | None:
    amount = text_of(body, "Amount")
    checks = (
        ("BusinessShortCode", text_of(body, "BusinessShortCode") in world.mpesa.short_codes),
        ("Timestamp", re.fullmatch(r"\d{14}", text_of(body, "Timestamp")) is not None),
        ("TransactionType", text_of(body, "TransactionType") == "CustomerPayBillOnline"),
        ("Amount", _AMOUNT.fullmatch(amount) is not None and int(amount) <= _MOST_SHILLINGS),
        ("PartyA", is_phone(text_of(body, "PartyA"))),
        ("PartyB", text_of(body, "PartyB") == text_of(body, "BusinessShortCode")),
        ("PhoneNumber", text_of(body, "PhoneNumber") == text_of(body, "PartyA")),
        ("CallBackURL", is_callback_url(text_of(body, "CallBackURL"))),
        ("AccountReference", 0 < len(text_of(body, "AccountReference")) <= 12),
        ("TransactionDesc", 0 < len(text_of(body, "TransactionDesc")) <= 13),
    )
    return next((name for name, right in checks if not right), None)


def _password_is_right(code: ShortCode, body: dict[str, Any]) -> bool:
    if code.passkey is None:
        return text_of(body, "Password") != ""
    plain = f"{code.code}{code.passkey}{text_of(body, 'Timestamp')}"
    return text_of(body, "Password") == base64.b64encode(plain.encode()).decode()


def _make(world: World, code: ShortCode, body: dict[str, Any]) -> Prompt:
    """The prompt with its fate, in the books."""
    books, now, number = world.mpesa, world.clock.now(), world.mpesa.serial()
    phone, cents = text_of(body, "PhoneNumber"), int(text_of(body, "Amount")) * 100
    made = Prompt(
        checkout_request_id=f"ws_CO_{eat(now, '%d%m%Y%H%M%S')}{number:05d}{phone}",
        merchant_request_id=f"2654-4b64-97ff-{draw(books.seed, 'merchant', phone, number):016x}",
        short_code=code.code,
        phone=phone,
        amount_cents=cents,
        account_reference=text_of(body, "AccountReference"),
        at=now,
        settles_at=now + timedelta(milliseconds=world.settings.result_delay_ms),
        result_code=books.customer(phone).stk_result,
    )
    if made.result_code == "0":
        made.result_code = _fault(world, made) or ("17" if _too_soon(world, made) else "0")
    books.prompts[made.checkout_request_id] = made
    return made


def _fault(world: World, made: Prompt) -> str | None:
    return next((code for name, code in _FAULTS.items() if _fires(world, name, made)), None)


def _too_soon(world: World, made: Prompt) -> bool:
    return any(
        (one.phone, one.amount_cents, one.short_code, one.result_code) == (made.phone, made.amount_cents, made.short_code, "0")
        and made.at - one.at < _TOO_SOON
        for one in world.mpesa.prompts.values()
    )


def _tell(world: World, body: dict[str, Any], made: Prompt) -> None:
    if _fires(world, "stk_callback_lost", made):
        return
    settings = world.settings
    bare = made.result_code == "0" and _fires(world, "stk_callback_without_receipt", made)
    delivery = Delivery(
        body["CallBackURL"],
        _callback(world, made, bare=bare),
        {"Content-Type": "application/json"},
        "stk callback",
        settings.delivery_tries,
        settings.delivery_retry_ms,
    )
    delay = settings.result_delay_ms + (settings.late_ms if _fires(world, "stk_callback_late", made) else 0)
    world.deliveries.post_later(delivery, delay)
    if _fires(world, "stk_callback_twice", made):
        world.deliveries.post_later(delivery, delay + settings.result_delay_ms)


def _callback(world: World, made: Prompt, *, bare: bool) -> bytes:
    """The callback: items on success only, the balance without a value, numbers where the live service sends numbers."""
    said: dict[str, Any] = {
        "MerchantRequestID": made.merchant_request_id,
        "CheckoutRequestID": made.checkout_request_id,
        "ResultCode": code_value(made.result_code),
        "ResultDesc": _text(made.result_code),
    }
    if made.result_code == "0":
        items: list[dict[str, Any]] = [{"Name": "Amount", "Value": amount_number(made.amount_cents)}]
        if not bare:
            items.append({"Name": "MpesaReceiptNumber", "Value": made.receipt})
        items += [
            {"Name": "Balance"},
            {"Name": "TransactionDate", "Value": int(eat(world.clock.now(), "%Y%m%d%H%M%S"))},
            {"Name": "PhoneNumber", "Value": int(made.phone)},
        ]
        said["CallbackMetadata"] = {"Item": items}
    return orjson.dumps({"Body": {"stkCallback": said}})


def _pending(world: World, made: Prompt) -> Answer:
    """Four ways of saying that it is not over, none of them documented."""
    books, turn = world.mpesa, made.questions % 4
    if turn == 1:
        return _fate(made, "4999", "The transaction is still under processing")
    texts = {2: "The transaction is being processed", 3: "", 0: "The transaction does not Exist"}
    return error(books, 500, _MANY_MEANINGS, texts[turn])


def _fate(made: Prompt, code: str, text: str) -> Answer:
    return json_answer(
        {
            "ResponseCode": "0",
            "ResponseDescription": "The service request has been accepted successfully",
            "MerchantRequestID": made.merchant_request_id,
            "CheckoutRequestID": made.checkout_request_id,
            "ResultCode": code,
            "ResultDesc": text,
        }
    )


def _text(code: str) -> str:
    return _TEXTS.get(code, f"Failed with code {code}.")


def _fires(world: World, fault: str, made: Prompt) -> bool:
    return world.faults.fires(fault, made.short_code, made.phone, f"{made.amount_cents}:{made.account_reference}")
