"""Signed web hooks, for partners whose side can sign: Mifos X itself cannot, a gateway or plug-in before it can.

The scheme is the usual one of web hooks: X-Vault-Timestamp holds the time of sending in Unix seconds, X-Vault-Signature holds
"sha256=" and the hexadecimal HMAC-SHA256, under the partner's secret, of the timestamp, a full stop and the raw body.
"""

import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Literal

SIGNATURE = b"x-vault-signature"
TIMESTAMP = b"x-vault-timestamp"
WINDOW = timedelta(minutes=5)  # how far the timestamp may lie from our clock, either way

Fault = Literal["unsigned", "stale_signature", "wrong_signature"]

_SECONDS = re.compile(rb"[0-9]{1,11}")
_SIGNED = re.compile(rb"sha256=([0-9a-f]{64})")


def find_fault(secret: bytes, *, timestamp: bytes | None, signature: bytes | None, body: bytes, now: datetime) -> Fault | None:
    """What is wrong with a delivery that must be signed with `secret`; None if nothing is.

    `timestamp` and `signature` are the two headers as sent, None where missing. Within the window a repeat passes: it is a hint,
    and leads to the same reading of the same loan.
    """
    if timestamp is None or signature is None:
        return "unsigned"
    signed = _SIGNED.fullmatch(signature.strip().lower())
    expected = hmac.new(secret, timestamp + b"." + body, hashlib.sha256).hexdigest().encode()
    if signed is None or not hmac.compare_digest(signed[1], expected):
        return "wrong_signature"
    if _SECONDS.fullmatch(timestamp) is None:
        return "wrong_signature"
    sent_at = datetime.fromtimestamp(int(timestamp), UTC)
    return "stale_signature" if abs(now - sent_at) > WINDOW else None
