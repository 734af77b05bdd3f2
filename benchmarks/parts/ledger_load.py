"""Fills a migrated database's ledger by COPY with valid history: what a posting benchmark starts from and a proof reads.

Each transaction has two legs and is one of three kinds in turn: a top-up, a paid disbursement, its charges. Balances, versions,
keys and body hashes are those that the product would have written, every guard stays on, and the product's own sealer seals the
rows while more are loaded, so that `vault verify` finds nothing wrong.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from vault_core.database import open_owner_engine
from vault_core.ledger.chart import CHART
from vault_core.ledger.sealing import SEAL_TRANSACTIONS
from vault_core.partitions import CUT, partitions_around

_BATCH = 100_000  # transactions that are generated and committed at once
_WRITTEN_TOGETHER = 20  # transactions that count as written by one database transaction
_LEGS = 2
_LEAST_CENTS, _MOST_CENTS = 1_00, 50_000_00
_POSTGRES_EPOCH_US = 946_684_800_000_000
# (kind, account debited, account credited); in each, the account that sorts first is named by its place for the body hash.
_KINDS = (
    ("topup", "bank:settlement", "wallet"),
    ("disbursement_paid", "disbursed_unposted", "b2c_float"),
    ("charges", "wallet", "fees:mpesa"),
)
_CODES = sorted({code for _, debited, credited in _KINDS for code in (debited, credited)})

_TABLES = (
    "ledger_keys (scope, key, body_hash, transaction_id)",
    "ledger_entries (transaction_id, leg, account_id, amount_cents, balance_before_cents, balance_after_cents, account_version)",
    "ledger_transactions (id, partner_id, kind, reference, key, effective_at, booked_at, written_by)",
)
_Fact = tuple[str, int, int, int, int, int]  # id, number, kind, partner, cents, time in µs

_ADD_PARTNERS = text(
    """
    INSERT INTO partners (id, name, display_name, mifos_url, mifos_tenant, mifos_user, mpesa_url, mpesa_initiator, b2c_short_code,
        c2b_short_code, sms_url, sms_user, sms_sender, next_poll_at, created_at)
    SELECT uuidv7(), 'load-' || n, 'Load ' || n, 'http://127.0.0.1:9', 't', 'm', 'http://127.0.0.1:9', 'i', 'lb' || n, 'lc' || n,
        'http://127.0.0.1:9', 's', 's', 'infinity', now()
    FROM generate_series(1, :partners) AS n WHERE NOT EXISTS (SELECT FROM partners WHERE name = 'load-' || n)
    """
)
_ADD_ACCOUNTS = text(
    """
    INSERT INTO ledger_accounts (partner_id, code, shard, normal_side)
    SELECT p.id, c.code, s.shard, c.normal_side FROM ledger_chart c CROSS JOIN generate_series(0, c.shards - 1) AS s(shard)
    LEFT JOIN partners p ON NOT c.house AND p.name ~ '^load-[0-9]+$'
    WHERE c.code = ANY (:codes) AND (c.house OR p.id IS NOT NULL) ON CONFLICT DO NOTHING
    """
)
_ACCOUNTS = text(
    """
    SELECT a.id, a.code, a.shard, a.balance_cents, a.version, p.id AS partner_id
    FROM ledger_accounts a LEFT JOIN partners p ON p.id = a.partner_id
    WHERE a.code = ANY (:codes) AND (a.partner_id IS NULL OR p.name ~ '^load-[0-9]+$') ORDER BY p.id, a.id
    """
)
_FIRST_WRITE = text(
    """
    SELECT greatest(coalesce((SELECT max(written_by) + 1 FROM ledger_transactions), 1),
                    coalesce((SELECT max(upto_write) FROM ledger_seals), 0)) AS first
    """
)
# Far enough ahead that nothing written later, by the product either, comes before what is loaded.
_TAKE_WRITES = text("UPDATE ledger_write_base SET base = :last + 1 - pg_current_xact_id()::text::bigint")
_SET_ACCOUNTS = text(
    """
    UPDATE ledger_accounts a SET balance_cents = v.balance, version = v.version
    FROM unnest(CAST(:ids AS bigint[]), CAST(:balances AS bigint[]), CAST(:versions AS bigint[])) AS v(id, balance, version)
    WHERE a.id = v.id
    """
)
_SEAL = text("SELECT ledger_seal(now(), :most)")


@dataclass(frozen=True, slots=True)
class Load:
    """What was loaded and how long it took: sealing goes on beside loading, and `seconds` ends when both have."""

    transactions: int
    entries: int
    seals: int
    seconds: float

    @property
    def entries_per_second(self) -> float:
        """Entries loaded and sealed a second."""
        return self.entries / self.seconds


def load_ledger(
    database_url: str,
    entries: int,
    *,
    partners: int = 50,
    months: int = 6,
    until: datetime | None = None,
    seal: bool = True,
    seed: int = 1,
) -> Load:
    """Adds about `entries` entries (two a transaction) of `partners` partners, spread over the `months` before `until` (now).

    `database_url` is the owner's; the database is migrated and nothing else writes to its ledger meanwhile. Loading into a ledger
    that has entries already goes on from its balances. Vacuums and analyses the ledger at the end, as autovacuum would have long
    since.
    """
    until = until or datetime.now(UTC)
    transactions = max(entries // _LEGS, 1)
    owner = open_owner_engine(database_url)
    started = time.perf_counter()
    with (
        ThreadPoolExecutor(max_workers=1) as sealer,
        ThreadPoolExecutor(max_workers=len(_TABLES)) as copiers,
        ExitStack() as stack,
    ):
        connections = [stack.enter_context(owner.connect()) for _ in _TABLES]
        book = _prepare(connections[0], transactions, partners, until - timedelta(days=30 * months), until, seed)
        sealing: list[Future[int]] = []
        for first in range(0, transactions, _BATCH):
            rows = book.batch(first, min(_BATCH, transactions - first))
            list(copiers.map(_copy, connections, _TABLES, rows))
            connections[0].execute(_SET_ACCOUNTS, book.accounts())
            for connection in connections:  # the transactions last: what the sealer sees of them, it sees with its entries
                connection.commit()
            if seal:
                sealing.append(sealer.submit(_seal_all, database_url))
        seals = sum(done.result() for done in sealing)
    seconds = time.perf_counter() - started
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            text("VACUUM (ANALYZE) ledger_transactions, ledger_entries, ledger_keys, ledger_accounts, ledger_seals")
        )
    owner.dispose()
    return Load(transactions, transactions * _LEGS, seals, seconds)


class _Book:
    """The accounts as loaded so far, and the maker of the rows of one batch after another."""

    def __init__(
        self, accounts: list[Any], transactions: int, first_write: int, start: datetime, end: datetime, seed: int
    ) -> None:
        self._chance = np.random.default_rng(seed)
        self._ids = np.array([row.id for row in accounts])
        self._balances = np.array([row.balance_cents for row in accounts])
        self._versions = np.array([row.version for row in accounts])
        self._partners = sorted({row.partner_id for row in accounts if row.partner_id is not None})
        self._first_write = first_write
        self._start_us = int(start.timestamp()) * 1_000_000
        self._step_us = (int(end.timestamp()) * 1_000_000 - self._start_us) // transactions
        # slots[kind][side] lists, by partner, the place in `accounts` of what is debited (0) and credited (1).
        self._slots = [
            [np.array([_place(accounts, code, partner, n) for n, partner in enumerate(self._partners)]) for code in codes]
            for _, *codes in _KINDS
        ]

    def batch(self, first: int, count: int) -> tuple[Iterator[str], Iterator[str], Iterator[str]]:
        """The lines of transactions `first` to before `first + count`, in the order of _TABLES."""
        numbers = np.arange(first, first + count)
        kinds = numbers % len(_KINDS)
        partners = self._chance.integers(0, len(self._partners), count)
        cents = self._chance.integers(_LEAST_CENTS, _MOST_CENTS, count)
        at_us = self._start_us + numbers * self._step_us
        slots = np.empty(count * _LEGS, dtype=np.int64)
        for kind, (debited, credited) in enumerate(self._slots):
            mine = np.flatnonzero(kinds == kind)
            slots[mine * _LEGS] = debited[partners[mine]]
            slots[mine * _LEGS + 1] = credited[partners[mine]]
        amounts = np.repeat(cents, _LEGS) * np.tile([1, -1], count)
        befores, versions = self._run_up(slots, amounts)
        ids = [
            f"{(at // 1000) << 16 | 0x7000 | n & 0xFFF:016x}{0x8000 << 48 | self._first_write + n:016x}"
            for at, n in zip(at_us.tolist(), numbers.tolist(), strict=True)
        ]
        facts = list(zip(ids, numbers.tolist(), kinds.tolist(), partners.tolist(), cents.tolist(), at_us.tolist(), strict=True))
        entries = zip(self._ids[slots].tolist(), amounts.tolist(), befores.tolist(), versions.tolist(), strict=True)
        return self._keys(facts), self._entries(ids, entries), self._transactions(facts)

    def accounts(self) -> dict[str, list[int]]:
        """Where the accounts stand after the last batch."""
        return {"ids": self._ids.tolist(), "balances": self._balances.tolist(), "versions": self._versions.tolist()}

    def _run_up(self, slots: Any, amounts: Any) -> tuple[Any, Any]:
        """The balance before each entry, and its version; the accounts go on to what is after the last."""
        order = np.argsort(slots, kind="stable")
        sorted_slots, sorted_amounts = slots[order], amounts[order]
        starts = np.flatnonzero(np.r_[True, sorted_slots[1:] != sorted_slots[:-1]])
        counts = np.diff(np.r_[starts, len(order)])
        passed = np.cumsum(sorted_amounts) - sorted_amounts
        befores, versions = np.empty_like(amounts), np.empty_like(amounts)
        befores[order] = passed - np.repeat(passed[starts], counts) + self._balances[sorted_slots]
        versions[order] = np.arange(len(order)) - np.repeat(starts, counts) + 1 + self._versions[sorted_slots]
        np.add.at(self._balances, slots, amounts)
        np.add.at(self._versions, slots, 1)
        return befores, versions

    def _keys(self, facts: list[_Fact]) -> Iterator[str]:
        for id_, n, kind, partner, cents, at in facts:
            body = sha256(_body(kind, f"L{n}", at, cents)).hexdigest()
            yield f"{self._partners[partner]}\tload:{self._first_write}:{n}\t\\\\x{body}\t{id_}\n"

    def _entries(self, ids: list[str], entries: Iterable[tuple[int, int, int, int]]) -> Iterator[str]:
        for n, (account, amount, before, version) in enumerate(entries):
            yield f"{ids[n // _LEGS]}\t{n % _LEGS + 1}\t{account}\t{amount}\t{before}\t{before + amount}\t{version}\n"

    def _transactions(self, facts: list[_Fact]) -> Iterator[str]:
        for id_, n, kind, partner, _, at in facts:
            moment = f"{datetime.fromtimestamp(at // 1_000_000, UTC):%Y-%m-%d %H:%M:%S}.{at % 1_000_000:06d}+00"
            write = self._first_write + n // _WRITTEN_TOGETHER
            yield (
                f"{id_}\t{self._partners[partner]}\t{_KINDS[kind][0]}\tL{n}\tload:{self._first_write}:{n}\t{moment}\t{moment}\t{write}\n"
            )


def _prepare(connection: Connection, transactions: int, partners: int, start: datetime, end: datetime, seed: int) -> _Book:
    connection.execute(text("SET TIME ZONE 'UTC'"))
    connection.execute(_ADD_PARTNERS, {"partners": partners})
    connection.execute(_ADD_ACCOUNTS, {"codes": _CODES})
    moment = start
    while moment < end + timedelta(days=31):
        for partition in partitions_around(moment):
            if partition.parent.startswith("ledger_"):
                connection.execute(CUT, partition.arguments())
        moment += timedelta(days=28)
    first_write: int = connection.execute(_FIRST_WRITE).scalar_one()
    connection.execute(_TAKE_WRITES, {"last": first_write + transactions // _WRITTEN_TOGETHER + 1})
    accounts = list(connection.execute(_ACCOUNTS, {"codes": _CODES}))
    connection.commit()
    return _Book(accounts, transactions, first_write, start, end, seed)


def _place(accounts: list[Any], code: str, partner_id: object, n: int) -> int:
    house = CHART[code].house
    mine = [i for i, row in enumerate(accounts) if row.code == code and (house or row.partner_id == partner_id)]
    return mine[n % len(mine)]


def _body(kind: int, reference: str, at_us: int, cents: int) -> bytes:
    """What ledger_body_hash hashes (vault_core/ledger/functions/10_hashing.sql)."""
    name, debited, credited = _KINDS[kind]
    legs = sorted([(debited, cents), (credited, -cents)])
    return (
        _text(name)
        + _text(reference)
        + (at_us - _POSTGRES_EPOCH_US).to_bytes(8, signed=True)
        + bytes(16)
        + b"".join(_text(code) + amount.to_bytes(8, signed=True) for code, amount in legs)
    )


def _text(value: str) -> bytes:
    return len(value).to_bytes(4) + value.encode()


def _copy(connection: Connection, columns: str, lines: Iterator[str]) -> None:
    connection.begin()  # SQLAlchemy would otherwise not know of what is done past it
    with connection.connection.cursor() as cursor, cursor.copy(f"COPY {columns} FROM STDIN") as copy:  # type: ignore[attr-defined]
        block: list[str] = []
        for line in lines:
            block.append(line)
            if len(block) == 2_000:
                copy.write("".join(block))
                block.clear()
        copy.write("".join(block))


def _seal_all(database_url: str) -> int:
    """Seals whatever can be sealed, as the product does, and returns how many seals that made."""
    owner = open_owner_engine(database_url)
    seals = 0
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(_SEAL, {"most": SEAL_TRANSACTIONS}).scalar_one():
            seals += 1
    owner.dispose()
    return seals
