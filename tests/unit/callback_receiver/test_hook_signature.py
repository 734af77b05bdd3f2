"""Signed web hooks: what is taken and what is not."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callback_receiver.hook_signature import WINDOW, find_fault

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SECRET = b"5f2a" * 16
BODY = b'{"entityName":"LOAN","actionName":"APPROVE"}'


def signed(timestamp: bytes, body: bytes = BODY, secret: bytes = SECRET) -> bytes:
    return b"sha256=" + hmac.new(secret, timestamp + b"." + body, hashlib.sha256).hexdigest().encode()


def at(moment: datetime) -> bytes:
    return str(int(moment.timestamp())).encode()


@pytest.mark.parametrize("late", [timedelta(0), WINDOW, -WINDOW])
def test_a_body_signed_within_the_window_is_taken(late: timedelta) -> None:
    stamp = at(NOW + late)
    assert find_fault(SECRET, timestamp=stamp, signature=signed(stamp), body=BODY, now=NOW) is None
    upper = signed(stamp).upper().replace(b"SHA256", b"sha256")
    assert find_fault(SECRET, timestamp=stamp, signature=upper, body=BODY, now=NOW) is None


@pytest.mark.parametrize("late", [WINDOW + timedelta(seconds=1), -WINDOW - timedelta(seconds=1), timedelta(days=400)])
def test_a_signature_from_outside_the_window_is_stale(late: timedelta) -> None:
    stamp = at(NOW + late)
    assert find_fault(SECRET, timestamp=stamp, signature=signed(stamp), body=BODY, now=NOW) == "stale_signature"


def test_what_carries_no_signature_or_no_time_is_unsigned() -> None:
    stamp = at(NOW)
    assert find_fault(SECRET, timestamp=None, signature=signed(stamp), body=BODY, now=NOW) == "unsigned"
    assert find_fault(SECRET, timestamp=stamp, signature=None, body=BODY, now=NOW) == "unsigned"


@pytest.mark.parametrize(
    "signature",
    [b"", b"sha256=", signed(at(NOW))[7:], b"sha1=" + b"0" * 40, signed(at(NOW), secret=b"another"), signed(at(NOW), body=b"{}")],
)
def test_another_signature_is_wrong(signature: bytes) -> None:
    assert find_fault(SECRET, timestamp=at(NOW), signature=signature, body=BODY, now=NOW) == "wrong_signature"


def test_the_time_is_signed_with_the_body() -> None:
    old = at(NOW - timedelta(days=1))
    assert find_fault(SECRET, timestamp=at(NOW), signature=signed(old), body=BODY, now=NOW) == "wrong_signature"


@pytest.mark.parametrize("stamp", [b"", b"now", b"1e9", b"-5", b" 12", b"9" * 12, "٣".encode()])
def test_a_time_that_is_no_number_of_seconds_is_wrong_even_when_signed(stamp: bytes) -> None:
    assert find_fault(SECRET, timestamp=stamp, signature=signed(stamp), body=BODY, now=NOW) == "wrong_signature"


@given(st.binary(max_size=40), st.integers(0, 39), st.integers(1, 255))
def test_no_changed_byte_of_a_body_passes(body: bytes, place: int, change: int) -> None:
    other = bytearray(body or b"x")
    other[place % len(other)] ^= change
    stamp = at(NOW)
    signature = signed(stamp, body or b"x")
    assert find_fault(SECRET, timestamp=stamp, signature=signature, body=bytes(other), now=NOW) == "wrong_signature"
