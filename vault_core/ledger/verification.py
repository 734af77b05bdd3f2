"""The ledger's proof: every invariant recomputed from the rows, in one snapshot, trusting no guard and no stored sum.

The whole proof reads every transaction, entry and hold. A proof from a seal on takes the history up to that seal as given and
reads what came after it: see `prove_ledger` for what is then not looked at.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event

from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.database import open_sync_engine
from vault_core.finding import Finding
from vault_core.ledger.verification_accounts import AccountsCheck
from vault_core.ledger.verification_closings import check_closings, load_closings
from vault_core.ledger.verification_holds import HoldsCheck
from vault_core.ledger.verification_seals import (
    LOWEST_WRITE,
    SealHead,
    check_chain,
    check_lag,
    check_published,
    seal_head,
    trusted_write,
)
from vault_core.ledger.verification_transactions import PIECE_TRANSACTIONS, TransactionsCheck
from vault_core.ledger.verification_work import Findings, Progress, Snapshot, default_connections, open_snapshot

_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM ledger_transactions WHERE written_by >= :start) AS transactions,
           (SELECT count(*) FROM ledger_seals) AS seals, (SELECT count(*) FROM ledger_holds) AS holds,
           (SELECT coalesce(sum(version), 0)::bigint FROM ledger_accounts) AS entries
    """
)


@dataclass(frozen=True, slots=True)
class LedgerSize:
    """How many rows of each there are."""

    transactions: int
    entries: int
    seals: int


@dataclass(frozen=True, slots=True)
class ProofScope:
    """What a proof looks at.

    `from_seal`: take history up to this seal as given. `published`: seals as they were published outside the database.
    `now` (aware): tell when sealing has fallen behind at that time.
    """

    from_seal: int | None = None
    published: Sequence[SealHead] = ()
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerProof:
    """What was read, how long it took, and what is wrong: nothing, if `findings` is empty."""

    findings: Sequence[Finding]
    from_seal: int | None
    head: SealHead | None  # the newest seal at the time
    transactions: int
    entries: int
    took: timedelta = field(compare=False)


def prove_ledger(
    engine: Engine,
    scope: ProofScope | None = None,
    *,
    connections: int | None = None,
    progress: Progress | None = None,
    stop: Event | None = None,
) -> LedgerProof:
    """Proves the ledger as it stands at one instant. Locks nothing, changes nothing; at most FINDINGS_A_CHECK findings a check.

    From a seal on, these are taken as given: the sums, keys, partners, reversals and seals of what that seal covers, the balance
    each account had before its first entry written since, captures by transactions before it, the closings' balances, and that no
    row from before it is gone. Checked all the same: the seals after it, every transaction written since, each account that moved
    from there to its own balance, the last entry of every other account, all that is held, and the trial balance. That the seal
    itself is the right one shows when it is among `published`.

    `connections` read side by side (default: the cores of this machine). `progress` is called from one thread. Raises NotFound
    for an unknown seal, CancelledError when `stop` is set.
    """
    scope = scope or ProofScope()
    began = time.monotonic()
    with open_snapshot(engine, connections or default_connections(), stop or Event()) as snapshot:
        findings = Findings()
        transactions, entries = _prove(snapshot, scope, findings, progress or _quiet)
        head = seal_head(snapshot.connection)
    took = timedelta(seconds=time.monotonic() - began)
    return LedgerProof(findings.all(), scope.from_seal, head, transactions, entries, took)


async def prove_ledger_async(
    engine: AsyncEngine, scope: ProofScope | None = None, *, connections: int | None = None, progress: Progress | None = None
) -> LedgerProof:
    """The same beside an event loop; a cancelled call ends its reads. `progress` is called from another thread."""
    reader = open_sync_engine(engine.url.render_as_string(hide_password=False))
    stop = Event()
    try:
        return await asyncio.to_thread(prove_ledger, reader, scope, connections=connections, progress=progress, stop=stop)
    finally:
        stop.set()
        reader.dispose()


def verify_ledger(engine: Engine, *, now: datetime | None = None) -> list[Finding]:
    """What is wrong with the ledger by the whole proof: empty if nothing is. With `now` (aware) it tells of late sealing too."""
    return list(prove_ledger(engine, ProofScope(now=now)).findings)


async def verify_ledger_async(engine: AsyncEngine, *, now: datetime | None = None) -> list[Finding]:
    """The same, for callers in an event loop."""
    return list((await prove_ledger_async(engine, ProofScope(now=now))).findings)


def ledger_size(connection: Connection) -> LedgerSize:
    """How much there is to verify."""
    row = connection.execute(_COUNTS, {"start": LOWEST_WRITE}).one()
    return LedgerSize(row.transactions, row.entries, row.seals)


def _prove(snapshot: Snapshot, scope: ProofScope, findings: Findings, progress: Progress) -> tuple[int, int]:
    connection = snapshot.connection
    start = LOWEST_WRITE if scope.from_seal is None else trusted_write(connection, scope.from_seal)
    counts = connection.execute(_COUNTS, {"start": start}).one()
    if counts.transactions <= PIECE_TRANSACTIONS:
        snapshot.read_alone()
    seals = check_chain(connection, scope.from_seal, findings)
    findings.add(*check_published(connection, scope.published))
    closings = load_closings(connection)
    transactions = TransactionsCheck(snapshot, start, seals, closings, findings)
    transactions.run(progress, counts.transactions)
    accounts = AccountsCheck(snapshot, closings, findings)
    if scope.from_seal is None:
        transactions.check_completeness(counts.transactions)
        accounts.run(progress, counts.entries)
        findings.add(*check_closings(connection, closings, transactions.periods, accounts.moved))
    else:
        accounts.run_since(start, progress, counts.entries)
    accounts.check_trial_balance()
    HoldsCheck(snapshot, None if scope.from_seal is None else start, findings).run(progress, counts.holds)
    if scope.now is not None:
        findings.add(*check_lag(connection, scope.now))
    return transactions.seen, accounts.seen


def _quiet(check: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
