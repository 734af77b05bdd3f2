"""C2B: registering the URLs, and a customer's payment with its validation and confirmation."""

from dataclasses import replace
from typing import Any

import orjson

from sandbox.asgi import Answer, BadBodyError, Request, json_answer
from sandbox.daraja.books import Payment, ShortCode
from sandbox.daraja.c2b_bodies import SHAPES, body_of
from sandbox.daraja.fees import c2b_fee
from sandbox.daraja.oauth import opened
from sandbox.daraja.wire import error, invalid, is_callback_url, is_phone, text_of
from sandbox.deliveries import Delivery
from sandbox.world import World

_BAD_TOKEN = (401, "401.003.01", "Error Occurred - Invalid Access Token")


async def register_urls(world: World, request: Request) -> Answer:
    """POST /mpesa/c2b/v2/registerurl. Once only, as in production, unless the short code may register again."""
    books = world.mpesa
    body = opened(world, request, _BAD_TOKEN)
    if isinstance(body, Answer):
        return body
    checks = (
        ("ShortCode", text_of(body, "ShortCode") in books.short_codes),
        ("ResponseType", body.get("ResponseType") in ("Completed", "Cancelled")),
        ("ConfirmationURL", is_callback_url(text_of(body, "ConfirmationURL"))),
        ("ValidationURL", is_callback_url(text_of(body, "ValidationURL"))),
    )
    for name, right in checks:
        if not right:
            return invalid(books, name)
    code = books.short_codes[text_of(body, "ShortCode")]
    world.note(request)
    if code.confirmation_url is not None and not code.register_again:
        return error(books, 500, "500.003.1001", "Urls are already registered.")
    code.confirmation_url, code.validation_url = body["ConfirmationURL"], body["ValidationURL"]
    code.response_type = body["ResponseType"]
    answer = {"OriginatorCoversationID": f"7619-{books.serial():08d}-1", "ResponseCode": "0", "ResponseDescription": "success"}
    return json_answer(answer)


async def customer_pays(world: World, wish: Any, request: Request) -> dict[str, Any]:
    """A customer pays a bill (`request` asks for this payment alone). Returns the receipt, or why it was not taken.

    Raises BadBodyError.
    """
    code, phone, cents, reference, shape = _wish(world, wish)
    payment = replace(new_payment(world, code, phone, cents, reference), shape=shape)
    third_party_id = ""
    if code.external_validation and code.validation_url:
        seconds = world.settings.validation_ms / 1000
        answer = await world.deliveries.exchange(code.validation_url, body_of(payment, "", asked=True), seconds)
        verdict, third_party_id = _verdict(answer, code)
        if verdict != "0":
            return {"taken": False, "result_code": verdict}
        payment = replace(payment, utility_after_cents=code.utility_cents + cents)
    world.note(request)
    take(world, code, payment, third_party_id)
    return {"taken": True, "receipt": payment.receipt}


def new_payment(world: World, code: ShortCode, phone: str, cents: int, reference: str) -> Payment:
    """A payment to `code` as it would be booked now."""
    books, at = world.mpesa, world.clock.now()
    fee = c2b_fee(cents, code.c2b_bouquet)
    return Payment(
        books.receipt(at, "c2b", code.code, phone, cents, reference),
        code.code,
        phone,
        books.customer(phone).name,
        cents,
        reference,
        at,
        code.utility_cents + cents,
        fee_cents=fee.business_cents,
        customer_fee_cents=fee.customer_cents,
    )


def take(world: World, code: ShortCode, payment: Payment, third_party_id: str = "") -> None:
    """Books `payment`, and tells its confirmation if the pay bill has URLs for it."""
    code.utility_cents += payment.amount_cents
    code.charges_cents -= payment.fee_cents
    code.payments.append(payment)
    world.mpesa.receipts[payment.receipt] = payment
    _tell_confirmation(world, code, payment, third_party_id)


def _wish(world: World, wish: Any) -> tuple[ShortCode, str, int, str, str]:
    if not isinstance(wish, dict):
        raise BadBodyError(f"a payment is an object, got {wish!r}")
    code = world.mpesa.short_codes.get(str(wish.get("short_code")))
    phone, cents, reference = str(wish.get("phone")), wish.get("amount_cents"), str(wish.get("bill_reference", ""))
    if code is None:
        raise BadBodyError(f"no short code {wish.get('short_code')!r}")
    shape = str(wish.get("shape", "v2"))
    if shape not in SHAPES:
        raise BadBodyError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}")
    if not is_phone(phone) and not (shape == "legacy" and phone.isdecimal()):
        raise BadBodyError(f"phone must look like 2547XXXXXXXX, got {phone!r}")
    if not isinstance(cents, int) or cents < 100:
        raise BadBodyError(f"amount_cents must be a whole number of at least 100, got {cents!r}")
    return code, phone, cents, reference, shape


def _verdict(answer: bytes | None, code: ShortCode) -> tuple[str, str]:
    """The validation's word and third party id; silence is decided by the ResponseType."""
    fallback = "0" if code.response_type == "Completed" else "C2B00016"
    if answer is None:
        return fallback, ""
    try:
        body = orjson.loads(answer)
        return str(body["ResultCode"]), str(body.get("ThirdPartyTransID") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return fallback, ""


def _tell_confirmation(world: World, code: ShortCode, payment: Payment, third_party_id: str) -> None:
    if code.confirmation_url is None:
        return  # no URL registered: the payment completes in silence
    settings = world.settings
    delivery = Delivery(
        code.confirmation_url,
        body_of(payment, third_party_id, asked=False),
        {"Content-Type": "application/json"},
        "c2b confirmation",
        settings.delivery_tries,
        settings.delivery_retry_ms,
    )
    case = (code.code, f"{payment.phone}", f"{payment.amount_cents}:{payment.bill_reference}")
    if world.faults.fires("c2b_confirmation_lost", *case):
        return
    delay = settings.late_ms if world.faults.fires("c2b_confirmation_late", *case) else 0
    world.deliveries.post_later(delivery, delay)
    if world.faults.fires("c2b_confirmation_twice", *case):
        world.deliveries.post_later(delivery, delay + settings.result_delay_ms)
