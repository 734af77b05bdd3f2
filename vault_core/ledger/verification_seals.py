"""The chain of seals: each follows the one before it, and the newest can be compared with what was published elsewhere.

What the seals say of the transactions is checked with the transactions (verification_transactions.py).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from sqlalchemy import Connection, text

from vault_core.errors import InvalidInput, NotFound
from vault_core.finding import Finding
from vault_core.ledger.verification_work import Findings

SEAL_LAG = timedelta(minutes=15)  # an older unsealed transaction is a finding once sealing has begun
LOWEST_WRITE, HIGHEST_WRITE = -(2**63), 2**63 - 1
_CHAIN_BYTES = 32

_SEALS = text(
    """
    SELECT s.number, s.from_write, s.upto_write, s.transactions, s.first_transaction, s.last_transaction, s.digest, s.chain,
           s.format,
           s.from_write = lag(s.upto_write, 1, 0::bigint) OVER chain
               AND s.number = lag(s.number, 1, 0::bigint) OVER chain + 1 AS follows,
           s.chain = ledger_chain(lag(s.chain, 1, ''::bytea) OVER chain, s.number, s.from_write, s.upto_write, s.transactions,
                                  s.digest) AS chain_holds
    FROM ledger_seals s WHERE s.number >= :from_number WINDOW chain AS (ORDER BY s.number) ORDER BY s.number
    """
)
_HEAD = text("SELECT number, chain FROM ledger_seals ORDER BY number DESC LIMIT 1")
_ONE = text("SELECT number, chain, upto_write FROM ledger_seals WHERE number = :number")
_UNSEALED = text(
    """
    SELECT count(*) AS transactions, min(booked_at) AS oldest, (SELECT max(sealed_at) FROM ledger_seals) AS last_sealed
    FROM ledger_transactions WHERE written_by >= (SELECT coalesce(max(upto_write), 0) FROM ledger_seals)
    """
)


@dataclass(frozen=True, slots=True)
class SealHead:
    """A seal's number and chain hash: all of the history before it hangs on these 32 bytes. Written NUMBER:HEX."""

    number: int
    chain: bytes

    def __str__(self) -> str:
        return f"{self.number}:{self.chain.hex()}"

    @classmethod
    def parse(cls, written: str) -> Self:
        """Raises InvalidInput for anything but a number from 1, a colon and 64 hexadecimal digits."""
        if not re.fullmatch(r"[1-9][0-9]{0,17}:[0-9a-fA-F]{64}", written.strip()):
            raise InvalidInput(f"{written!r} is no seal: expected NUMBER:HEX as `vault verify --print-head` prints it")
        number, _, chain = written.strip().partition(":")
        return cls(int(number), bytes.fromhex(chain))


@dataclass(frozen=True, slots=True)
class Seal:
    """What one seal says of the transactions it covers. `format` is what its digest is of (ledger_digest)."""

    number: int
    from_write: int
    upto_write: int
    transactions: int
    first_transaction: str
    last_transaction: str
    digest: bytes
    format: int

    @property
    def where(self) -> str:
        """As findings name it."""
        return f"seal {self.number}"


def seal_head(connection: Connection) -> SealHead | None:
    """The newest seal; None when nothing is sealed yet."""
    row = connection.execute(_HEAD).one_or_none()
    return None if row is None else SealHead(row.number, bytes(row.chain))


def trusted_write(connection: Connection, from_seal: int) -> int:
    """Where what seal `from_seal` does not cover begins. Raises NotFound when there is no such seal."""
    row = connection.execute(_ONE, {"number": from_seal}).one_or_none()
    if row is None:
        raise NotFound(f"there is no seal {from_seal} to verify from")
    upto: int = row.upto_write
    return upto


def check_chain(connection: Connection, from_seal: int | None, findings: Findings) -> list[Seal]:
    """The seals after `from_seal` (None: all), in order. What is wrong with their chain is added to `findings`."""
    seals = []
    for row in connection.execute(_SEALS, {"from_number": from_seal or 0}):
        if row.number == from_seal:
            continue
        digest = bytes(row.digest)
        seal = Seal(
            row.number,
            row.from_write,
            row.upto_write,
            row.transactions,
            str(row.first_transaction),
            str(row.last_transaction),
            digest,
            row.format,
        )
        if not row.follows:
            what = "it does not follow the seal before it: a seal is missing or was moved"
            findings.add(Finding("seals_chain", seal.where, what))
        if not row.chain_holds:
            what = "its chain hash is not that of the seal before it and its own figures"
            findings.add(Finding("seals_chain", seal.where, what))
        seals.append(seal)
    return seals


def check_published(connection: Connection, published: Sequence[SealHead]) -> Iterator[Finding]:
    """Compares seals with what was published of them: a chain that was rewritten from its start holds in itself, but not here."""
    for head in published:
        row = connection.execute(_ONE, {"number": head.number}).one_or_none()
        if row is None:
            yield Finding("seals_published", f"seal {head.number}", "it was published and is not there: sealed history is gone")
        elif bytes(row.chain) != head.chain:
            what = f"its chain hash is {bytes(row.chain).hex()}, published was {head.chain.hex()}: history was rewritten"
            yield Finding("seals_published", f"seal {head.number}", what)


def check_lag(connection: Connection, now: datetime) -> Iterator[Finding]:
    """Whether sealing has fallen behind at `now` (aware)."""
    row = connection.execute(_UNSEALED).one()
    if row.last_sealed is not None and row.transactions and now - row.oldest > SEAL_LAG:
        yield Finding(
            "seals_lag",
            f"{row.transactions} transactions",
            f"unsealed since {row.oldest:%Y-%m-%d %H:%M:%S} UTC: the sealer is down, or a database transaction is left open",
        )


def groups_of(seals: Sequence[Seal], most: int) -> Iterator[Sequence[Seal]]:
    """Runs of seals of at least `most` transactions each, but for the last."""
    group: list[Seal] = []
    transactions = 0
    for seal in seals:
        group.append(seal)
        transactions += seal.transactions
        if transactions >= most:
            yield group
            group, transactions = [], 0
    if group:
        yield group


def cuts_of(seals: Sequence[Seal], start: int) -> list[int]:
    """The bounds of `seals` from `start` on, never falling, so that every transaction lies in one range whatever seals say."""
    cuts = [start]
    for seal in seals:
        cuts.append(max(cuts[-1], seal.upto_write))
    return cuts
