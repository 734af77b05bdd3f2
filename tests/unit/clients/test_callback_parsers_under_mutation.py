"""Samples of what M-Pesa, Mifos X and its portal send, damaged in every way: a parser gives a value or the declared error.

A few thousand inputs a parser here; a million a parser is a campaign of its own:
`./vault test -m campaign tests/unit/clients/test_callback_parsers_under_mutation.py`.
"""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vault_core.clients.daraja_messages import parse_confirmation, parse_queue_timeout, parse_result
from vault_core.clients.daraja_pull import classify_pull
from vault_core.clients.daraja_stk import parse_stk_callback
from vault_core.clients.http_exchange import Answer
from vault_core.collections.payment_hints import read_payment_hook
from vault_core.collections.statement_file import read_statement
from vault_core.collections.statement_rules import read_row
from vault_core.disbursements.hook_hints import read_hook
from vault_core.errors import InvalidInput
from vault_core.money import Money
from vault_core.outcome import Accepted, Refused, Unknown

DATA = Path(__file__).parents[2] / "data"
A_MILLION = 1_000_000
HERE = 1_500

HOSTILE: list[Any] = [
    None, True, 0, -1, 10**400, 1e308, 0.1, "", " ", "0", "-0", "1e999", "NaN", "٢٦", "\u202e", "\ud800", "\x00", "a" * 5_000, "99999999999999",
    "20260230250000", "00010101000000", "2026-02-30T10:00:00Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00",
    "2547 ***** 126", "[[]]", '[[{"transactionId": 1}]]', [], {}, [[]], [None], {"Key": None}, [[[[[[[[[[[[1]]]]]]]]]]]],
]  # fmt: skip
BYTES = [
    b"",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\\u0000",
    b"\\ud800",
    b"NaN",
    b"1e99999",
    b"\n",
]


def read_result(body: bytes) -> None:
    result = parse_result(body)
    for name in (
        "receipt",
        "receiver_name",
        "receiver_phone",
        "utility_balance",
        "working_balance",
        "debit_party_fee",
        "transaction_status",
    ):
        getattr(result, name)
    assert result.amount is None or isinstance(result.amount, Money)
    assert result.completed_at is None or result.completed_at.tzinfo is not None


def read_payment(body: bytes) -> None:
    sent = parse_confirmation(body)
    assert sent.amount > Money(0)
    assert sent.receipt
    assert "\x00" not in repr(sent) + sent.bill_reference


def read_pull(body: bytes) -> None:
    for status in (200, 500):
        outcome = classify_pull(Answer(status, {}, body))
        assert isinstance(outcome, Accepted | Refused | Unknown)
        if isinstance(outcome, Accepted):
            assert all(one.amount > Money(0) and one.moments and one.receipt for one in outcome.value.payments)


def read_download(body: bytes) -> None:
    for row in read_statement(body, "600100"):
        read_row(row)


@dataclass(frozen=True)
class Parser:
    read: Callable[[bytes], object]
    samples: tuple[str, ...]


PARSERS = {
    "confirmation": Parser(read_payment, ("daraja/c2b_confirmation_*.json", "daraja/c2b_validation_v2_masked.json")),
    "result": Parser(read_result, ("daraja/b2c_result_*.json", "daraja/txstatus_result_*.json", "daraja/balance_result_*.json")),
    "queue timeout": Parser(parse_queue_timeout, ("daraja/b2c_queue_timeout_*.json",)),
    "stk callback": Parser(parse_stk_callback, ("daraja/stk_callback_*.json",)),
    "pull": Parser(read_pull, ("daraja/pull_*_response.json", "daraja/error_*.json")),
    "payment hook": Parser(lambda body: read_payment_hook({}, body), ("fineract/hook_body_*.json",)),
    "loan hook": Parser(lambda body: read_hook({}, body), ("fineract/hook_body_*.json",)),
    "statement": Parser(read_download, ("mpesa_statement.csv",)),
}


def samples(parser: Parser) -> list[bytes]:
    found = [path.read_bytes() for pattern in parser.samples for path in sorted(DATA.glob(pattern))]
    assert found
    return found


def damage(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One sample with one to four faults in it, in its bytes or in its values."""
    body = chance.choice(seeds)
    for _ in range(chance.randint(1, 4)):
        fault = chance.randrange(6)
        at, to = sorted((chance.randrange(len(body) + 1), chance.randrange(len(body) + 1)))
        if fault == 0:
            body = body[:at] + chance.choice(BYTES) + body[at + 1 :]
        elif fault == 1:
            body = body[:at] + body[min(to, at + 20) :]
        elif fault == 2:
            body = body[:at] + chance.randbytes(1) + body[at + 1 :]
        elif fault == 3:
            other = chance.choice(seeds)
            body = body[:at] + other[chance.randrange(len(other)) :]
        else:
            body = replaced(chance, body)
    return body


def replaced(chance: random.Random, body: bytes) -> bytes:
    """A value, or a key, of a JSON body is another; what is no JSON stays."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return body
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        inner = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
        places += [(node, key) for key, _ in inner]
        waiting += [value for _, value in inner]
    if places:
        node, key = chance.choice(places)
        if isinstance(node, dict) and chance.random() < 0.2:
            node[chance.choice([key.upper(), key.lower(), f" {key} ", "", "Value"])] = node.pop(key)
        else:
            node[key] = copy.deepcopy(chance.choice(HOSTILE))
    return json.dumps(tree).encode("utf-8", "surrogatepass")


def stand_up_to(name: str, inputs: int) -> None:
    chance, parser = random.Random(f"{name} {inputs}"), PARSERS[name]
    seeds, read = samples(parser), 0
    for _ in range(inputs):
        body = damage(chance, seeds)
        try:
            parser.read(body)
        except InvalidInput:
            continue
        except Exception as error:  # the finding: with the body that did it
            raise AssertionError(f"{name}: {type(error).__name__}: {error} for {body!r}") from error
        read += 1
    assert read > 0, "the damage leaves nothing to read"


@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_body_is_read_or_refused_as_declared(name):
    stand_up_to(name, HERE)


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", PARSERS)
def test_a_million_damaged_bodies_are_read_or_refused_as_declared(name):
    stand_up_to(name, A_MILLION)
