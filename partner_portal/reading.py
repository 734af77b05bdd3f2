"""Strict reading of requests: what is not documented is refused, and every fault of a body is told at once."""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from starlette.requests import ClientDisconnect, Request

from partner_portal.problems import Fault, Problem, invalid
from vault_core.clients.json_reading import read_json_object
from vault_core.errors import InvalidInput
from vault_core.money import Money

_PAGE = 50
_FAULTS = 20  # told at once
_JSON = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of payments goes on: after this one."""

    at: datetime
    id: UUID


async def read_object(request: Request, cap: int) -> dict[str, Any]:
    """The body, a JSON object of at most `cap` bytes. Raises Problem (400, 413, 415)."""
    if not _JSON.fullmatch(request.headers.get("content-type", "")):
        raise Problem(415, "not-json", "send the body as application/json")
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > cap:
                raise Problem(413, "too-large", f"a body of more than {cap} bytes", headers={"Connection": "close"})
    except ClientDisconnect:
        raise invalid("the body ended early") from None
    try:
        return read_json_object(bytes(body), "the body")
    except InvalidInput as error:
        raise invalid(str(error)) from error


def only(body: Mapping[str, Any], needed: Mapping[str, type], optional: Mapping[str, type]) -> dict[str, Any]:
    """The fields of `body`, each of its type. Raises Problem naming every one that is missing, unknown or of another type."""
    known = {**needed, **optional}
    faults = [Fault(f"#/{name[:50]}", f"unknown; there are: {', '.join(known)}") for name in body if name not in known]
    faults += [Fault(f"#/{name}", "missing") for name in needed if name not in body]
    fields: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in body:
            continue
        try:
            fields[name] = _amount(body[name]) if kind is Money else _text(body[name])
        except InvalidInput as error:
            faults.append(Fault(f"#/{name}", str(error)))
    if faults:
        raise invalid("the body is not what this operation takes", *faults[:_FAULTS])
    return fields


def read_query(request: Request, known: frozenset[str]) -> dict[str, str]:
    """The query's parameters. Raises Problem for unknown and repeated ones."""
    faults = [
        Fault(name[:50], f"unknown; there are: {', '.join(sorted(known)) or 'none'}")
        for name in request.query_params
        if name not in known
    ]
    faults += [Fault(name, "given twice") for name in known if len(request.query_params.getlist(name)) > 1]
    if faults:
        raise invalid("the query is not what this operation takes", *faults[:_FAULTS])
    return dict(request.query_params)


def read_day(name: str, given: str | None, default: date) -> date:
    """A calendar day of this century, 2026-11-24."""
    if given is None:
        return default
    try:
        if re.fullmatch(r"20\d{2}-\d{2}-\d{2}", given, re.ASCII):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise invalid(f"{name} is a day like 2026-11-24", Fault(name, "no day of the calendar"))


def read_limit(given: str | None, most: int) -> int:
    """How many rows a page holds."""
    if given is None:
        return min(_PAGE, most)
    wanted = int(given) if re.fullmatch(r"[0-9]{1,6}", given, re.ASCII) else 0
    if not 1 <= wanted <= most:
        raise invalid(f"limit is a whole number from 1 to {most}", Fault("limit", "out of range"))
    return wanted


def read_id(given: str) -> UUID:
    """An id in a path. What is none names nothing: 404."""
    try:
        return UUID(given)
    except ValueError:
        raise Problem(404, "not-found", "no id of this API looks like that") from None


def write_place(place: Place) -> str:
    """A cursor. Opaque to callers."""
    return base64.urlsafe_b64encode(json.dumps([place.at.isoformat(), place.id.hex]).encode()).decode().rstrip("=")


def read_place(given: str | None) -> Place | None:
    """The place that a cursor names. Raises Problem for one that was not given out."""
    if given is None:
        return None
    try:
        at, number = json.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
        place = Place(datetime.fromisoformat(at), UUID(hex=number))
    except (binascii.Error, ValueError, TypeError, AttributeError):
        place = None
    if place is None or place.at.tzinfo is None:
        raise invalid("cursor is what `next_cursor` of the page before said", Fault("cursor", "not one of ours"))
    return place


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput("a text is wanted")
    return value


def _amount(value: Any) -> Money:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise InvalidInput('shillings are wanted, as "500", "500.00" or 500')
    return Money.parse(value)
