"""Sealing of credentials, phones, names and raw bodies, and the keyed hashes they are looked up by (DESIGN.md section 9).

A sealed value is AES-256-GCM under the active master key, with the key's id in front, so that keys can be rotated, and bound
to the row and field it belongs to (`bound_to`), so that a sealed value copied into another row does not open there.
"""

import base64
import binascii
import hmac
import os
import secrets as randomness
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault_core.errors import ConfigurationError, SealBroken

_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_KEY_ID = 32
_TOKEN_HEX_DIGITS = 40


class Sealer:
    """Seals and opens values under a ring of master keys.

    The first key of the ring seals; all of them open. The last (oldest) key also derives the look-up hashes and the callback
    tokens, which must stay the same while keys rotate. Immutable; safe to share between tasks. Its repr shows key ids only.
    """

    def __init__(self, ring: list[tuple[str, bytes]]) -> None:
        if not ring:
            raise ConfigurationError("the master key ring is empty")
        for key_id, key in ring:
            if not key_id or len(key_id) > _MAX_KEY_ID or not key_id.isascii() or len(key) != _KEY_BYTES:
                raise ConfigurationError(f"master key {key_id!r} is not an id of 1-32 ASCII characters with 32 bytes of key")
        self._active_id = ring[0][0]
        self._ciphers = {key_id: AESGCM(key) for key_id, key in ring}
        self._head = bytes([1, len(self._active_id)]) + self._active_id.encode()
        oldest = ring[-1][1]
        self._lookup_key = _derive(oldest, b"payment-vault lookup v1")
        self._token_key = _derive(oldest, b"payment-vault callback token v1")

    def __repr__(self) -> str:
        return f"Sealer(keys={sorted(self._ciphers)}, active={self._active_id})"

    def seal(self, value: bytes | str, *, bound_to: str) -> bytes:
        """The sealed form of `value`, which opens only with the same `bound_to`. A new nonce each time."""
        plain = value.encode() if isinstance(value, str) else value
        nonce, head = os.urandom(_NONCE_BYTES), self._head
        return head + nonce + self._ciphers[self._active_id].encrypt(nonce, plain, head + bound_to.encode())

    def open(self, sealed: bytes, *, bound_to: str) -> bytes:
        """The value that `seal` was given. Raises SealBroken if the key is unknown, the bytes or the binding are others."""
        sealed = bytes(sealed)
        if len(sealed) < 2 or sealed[0] != 1:  # noqa: PLR2004 - version and length bytes
            raise SealBroken(f"the sealed value of {bound_to} is damaged")
        head_end = 2 + sealed[1]
        head, nonce, body = (
            sealed[:head_end],
            sealed[head_end : head_end + _NONCE_BYTES],
            sealed[head_end + _NONCE_BYTES :],
        )
        key_id = head[2:].decode("ascii", "replace")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealBroken(
                f"{bound_to} is sealed with master key {key_id!r}, which is not in the ring ({', '.join(self._ciphers)}): "
                "bring that key back (VAULT_MASTER_KEY or the master key file)"
            )
        try:
            return cipher.decrypt(nonce, body, head + bound_to.encode())
        except (InvalidTag, ValueError) as error:
            raise SealBroken(
                f"{bound_to} does not open with master key {key_id!r}: another key under the same id, or a moved or damaged row"
            ) from error

    def open_text(self, sealed: bytes, *, bound_to: str) -> str:
        """The same, as text."""
        return self.open(sealed, bound_to=bound_to).decode()

    def lookup_hash(self, value: str, *, purpose: str) -> bytes:
        """The keyed hash (32 bytes) by which a sealed value is found again. Equal values of one purpose hash equal."""
        return _mac(self._lookup_key, f"{purpose}\0{value}".encode())

    def callback_token(self, subject: str) -> str:
        """The unguessable path token of `subject` (partner, purpose, generation): 40 hex digits.

        Hex on purpose: Daraja refuses callback URLs that hold words such as cmd, sql, exe or query anywhere in the path
        (reference/daraja.md section 8), and none can be spelt with hex digits.
        """
        return _mac(self._token_key, subject.encode()).hex()[:_TOKEN_HEX_DIGITS]

    def token_hash(self, token: str) -> bytes:
        """What is stored of a callback token."""
        return self.lookup_hash(token, purpose="callback token")


def parse_master_key(text: str) -> Sealer:
    """A Sealer from `id:base64[,id:base64...]`, newest first. Raises ConfigurationError, without the key in the message."""
    ring: list[tuple[str, bytes]] = []
    for position, part in enumerate(text.strip().split(","), 1):
        key_id, separator, encoded = part.strip().partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise ConfigurationError(f"master key number {position} is not base64: expected id:base64-of-32-bytes") from error
        if not separator:
            raise ConfigurationError(f"master key number {position} has no id: expected id:base64-of-32-bytes")
        ring.append((key_id, key))
    return Sealer(ring)


def new_master_key() -> str:
    """A fresh master key in the form that `parse_master_key` reads."""
    return f"k{randomness.token_hex(3)}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"


def read_master_key_file(path: Path) -> Sealer:
    """A Sealer from a file that only its owner can read.

    Raises ConfigurationError if the file is missing or others can read it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"the master key file {path} is missing. Without it sealed credentials cannot be opened: "
            "restore it from your backup, or set VAULT_MASTER_KEY"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"the master key file {path} can be read by others: run chmod 600 on it")
    return parse_master_key(path.read_text(encoding="ascii"))


def _derive(key: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(key)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
