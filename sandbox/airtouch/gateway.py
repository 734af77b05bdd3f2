"""POST (or GET) /sms/api/ and the balance. Refusals are HTTP 200 with a status_code, as this gateway does it."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sandbox.airtouch.books import SentMessage, SmsUser
from sandbox.airtouch.segments import part_count
from sandbox.asgi import Answer, BadBodyError, Dropped, Request, json_answer
from sandbox.chance import draw, fraction
from sandbox.world import World

_PHONE = re.compile(r"254[17]\d{8}")
_MESSAGE_ID_SHARE = 0.1  # message_id is often null even when the message went out


async def answer_airtouch(world: World, path: str, request: Request) -> Answer | Dropped:
    """The answer to `path` below the gateway's base URL."""
    if path.rstrip("/") == "/sms/api":
        world.calls["sms send"] += 1
        return await _send(world, request)
    if path.rstrip("/") == "/users/balance-api":
        user = _user(world, request.query)
        return user if isinstance(user, Answer) else json_answer(_balance(user))
    return Answer(404, b"Not Found", content_type="text/plain")


async def _send(world: World, request: Request) -> Answer | Dropped:
    try:
        wish = request.json_object() if request.method == "POST" else request.query
    except BadBodyError:
        return _refused("1002", "INVALID REQUEST")
    user = _user(world, wish)
    if isinstance(user, Answer):
        return user
    sender, text = str(wish.get("issn", "")), str(wish.get("text", ""))
    phones = [phone.strip() for phone in str(wish.get("msisdn", "")).split(",")]
    if sender not in user.senders:
        return _refused("1001", "INVALID SENDER ID")
    if not text or not all(_PHONE.fullmatch(phone) for phone in phones):
        return _refused("1002", "INVALID REQUEST")
    await world.pause(world.settings.sms_latency_ms)
    world.note(request)
    cost = part_count(text) * user.price_cents * len(phones)
    case = (user.user, phones[0], _mark(text))
    poor = user.balance_cents is not None and cost > user.balance_cents
    if poor or world.faults.fires("sms_refused", *case):
        return _refused("1004", "INSUFFICIENT BALANCE")
    _write_down(world, user, str(wish.get("sms_id", "")), phones, sender, text)
    if world.faults.fires("sms_timed_out_after_sending", *case):
        await world.pause(world.settings.hang_ms)
        return Dropped()
    return json_answer({"status_code": "1000", "status_desc": "SUCCESS", "message_id": _message_id(world, *case)})


def _write_down(world: World, user: SmsUser, sms_id: str, phones: list[str], sender: str, text: str) -> None:
    """A repeated sms_id is sent again: the gateway does not compare it."""
    parts, at = part_count(text), world.clock.now()
    for phone in phones:
        user.messages.append(SentMessage(sms_id, phone, sender, text, parts, at))
        if user.balance_cents is not None:
            user.balance_cents -= parts * user.price_cents


def _user(world: World, wish: Mapping[str, Any]) -> SmsUser | Answer:
    user = world.sms.users.get(str(wish.get("username", "")))
    if user is None:
        return _refused("1011", "INVALID USER")
    if str(wish.get("password", "")) != hashlib.md5(user.api_key.encode(), usedforsecurity=False).hexdigest():
        return _refused("1006", "INVALID CREDENTIALS")
    return user


def _refused(code: str, text: str) -> Answer:
    return json_answer({"status_code": code, "status_desc": text, "message_id": None})


def _balance(user: SmsUser) -> dict[str, str]:
    cents = user.balance_cents if user.balance_cents is not None else 0
    return {"status_code": "1000", "balance": f"{cents // 100}.{cents % 100:02d}", "currency": "KES"}


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _message_id(world: World, *case: str) -> str | None:
    if fraction(world.seed, "message id", *case) >= _MESSAGE_ID_SHARE:
        return None
    return str(draw(world.seed, "message id value", *case) % 10**9)
