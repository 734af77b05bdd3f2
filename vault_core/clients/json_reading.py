"""Strict reading of JSON from outside: numbers as int or Decimal, no NaN, no text that PostgreSQL could not keep."""

import json
from decimal import Decimal
from typing import Any, NoReturn

from vault_core.errors import InvalidInput

_PLAIN_EXPONENT = 30  # beyond it a number is nobody's amount, and writing it out would fill memory


def read_json(body: bytes, what: str) -> Any:
    """The value in `body` (UTF-8). Raises InvalidInput, naming `what`, for everything that is not plain JSON."""
    try:
        value = _DECODER.decode(body.decode("utf-8-sig"))
        if b"\\u" in body:  # plain UTF-8 cannot hold them, and strict JSON takes no bare control character
            _refuse_unkeepable(value)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidInput(f"{what} is not readable JSON: {type(error).__name__}: {str(error)[:120]}") from error
    return value


def read_json_object(body: bytes, what: str) -> dict[str, Any]:
    """As `read_json`, for a body that must be an object."""
    value = read_json(body, what)
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is JSON, but a {type(value).__name__} where an object is expected")
    return value


def text_of(value: Any) -> str | None:
    """A scalar as stripped text ("300", "10.50", "true"), None for null, objects and lists."""
    if type(value) is str:  # almost always
        return value.strip()
    if value is None or isinstance(value, dict | list):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        plain = isinstance(exponent, int) and abs(exponent) <= _PLAIN_EXPONENT
        return format(value, "f") if plain else str(value)
    return str(value).strip()


def whole_number(value: Any) -> int | None:
    """A whole number sent as 26, "26" or 26.0; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = text_of(value)
    if text is None or not text.isascii():
        return None
    head, _, tail = text.partition(".")
    return int(head) if head.isdigit() and len(head) <= _PLAIN_EXPONENT and not tail.strip("0") else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)


def _refuse_unkeepable(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("text with a NUL character")
        value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_unkeepable(key)
            _refuse_unkeepable(inner)
    elif isinstance(value, list):
        for inner in value:
            _refuse_unkeepable(inner)
