"""The small things every Daraja message is made of: error envelopes, ids, amounts, field checks."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from sandbox.asgi import Answer, json_answer
from sandbox.chance import draw
from sandbox.clock import SandboxClock, eat
from sandbox.daraja.books import MpesaBooks

_PHONE = re.compile(r"254[17]\d{8}")
_FORBIDDEN_IN_URLS = ("m-pesa", "mpesa", "safaricom", "exe", "cmd", "sql", "query")  # exec holds exe


def error(books: MpesaBooks, status: int, code: str, text: str) -> Answer:
    """The error envelope."""
    number = books.serial()
    return json_answer({"requestId": f"1c5b-4ba8-815c-{number:012d}", "errorCode": code, "errorMessage": text}, status)


def invalid(books: MpesaBooks, name: str) -> Answer:
    """The refusal of one field."""
    return error(books, 400, "400.002.02", f"Bad Request - Invalid {name}")


def conversation_id(books: MpesaBooks, clock: SandboxClock, of: object) -> str:
    """The gateway's own id of request `of`."""
    return f"AG_{eat(clock.now(), '%Y%m%d')}_2010{draw(books.seed, 'conversation', of):016x}"


def accepted(conversation: str, originator: str) -> Answer:
    """The acknowledgement of an asynchronous request: queued, not done."""
    return json_answer(
        {
            "ConversationID": conversation,
            "OriginatorConversationID": originator,
            "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        }
    )


def amount_number(cents: int) -> orjson.Fragment:
    """An amount as results carry it: 10 and 10.5 and 5970.0 are all met; balances have a decimal point."""
    return orjson.Fragment(f"{cents // 100}.{cents % 100:02d}".removesuffix("0") if cents >= 0 else f"-{_positive(-cents)}")


def _positive(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}".removesuffix("0")


def amount_text(cents: int) -> str:
    """An amount as C2B bodies carry it: "1.00"."""
    return f"{cents // 100}.{cents % 100:02d}"


def parameter(key: str, value: Any = None) -> dict[str, Any]:
    """One result parameter; without a value the key stands alone, as M-Pesa writes it."""
    return {"Key": key} if value is None else {"Key": key, "Value": value}


def text_of(body: Mapping[str, Any], name: str) -> str:
    """The field as text: the gateway takes numbers for strings. Empty when absent or of another kind."""
    value = body.get(name)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def is_phone(text: str) -> bool:
    """Whether `text` is a subscriber number in the form B2C wants."""
    return _PHONE.fullmatch(text) is not None


def is_callback_url(text: str) -> bool:
    """Whether the portal's rules let `text` be a callback URL: http(s), and none of its forbidden words anywhere."""
    return text.startswith(("http://", "https://")) and not any(word in text.lower() for word in _FORBIDDEN_IN_URLS)
