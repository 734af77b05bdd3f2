"""The proofs of the ledger that were made: kept for good, one a day at the least."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.database import in_transaction
from vault_core.ledger.verification import LedgerProof, ProofScope, prove_ledger_async
from vault_core.ledger.verification_seals import SealHead
from vault_core.runtime import Runtime

PROVE_EVERY = timedelta(hours=24)
BY_SCHEDULE = "schedule"
BROKEN_CASE = "ledger_broken"
_EVIDENCE_FINDINGS = 20  # that a case shows; `vault verify` tells them all
_PROVING = 7_266_331_005  # any constant: one scheduled proof at a time on a database

_RECORD = text(
    """
    INSERT INTO ledger_proofs (id, proved_at, proved_by, from_seal, head_seal, head_chain, transactions, entries, findings,
        first_finding, took)
    VALUES (:id, :now, :by, :from_seal, :head_seal, :head_chain, :transactions, :entries, :findings, :first_finding, :took)
    """
)
_HISTORY = text(
    """
    SELECT proved_at, proved_by, from_seal, head_seal, head_chain, transactions, entries, findings, first_finding, took
    FROM ledger_proofs ORDER BY proved_at DESC, id DESC LIMIT :most
    """
)
_LAST_WHOLE = text("SELECT max(proved_at) FROM ledger_proofs WHERE from_seal IS NULL")
_TAKE_TURN = text("SELECT pg_try_advisory_lock(:key)")
_END_TURN = text("SELECT pg_advisory_unlock(:key)")


@dataclass(frozen=True, slots=True)
class PastProof:
    """A proof as it was recorded. `from_seal` None: of the whole ledger."""

    proved_at: datetime
    proved_by: str
    from_seal: int | None
    head: SealHead | None
    transactions: int
    entries: int
    findings: int
    first_finding: str | None
    took: timedelta


async def record_proof(connection: AsyncConnection, runtime: Runtime, proof: LedgerProof, actor: str) -> None:
    """Keeps `proof` in the caller's transaction; it can be neither changed nor deleted."""
    values = {
        "id": runtime.new_id(),
        "now": runtime.clock.now(),
        "by": actor,
        "from_seal": proof.from_seal,
        "head_seal": None if proof.head is None else proof.head.number,
        "head_chain": None if proof.head is None else proof.head.chain,
        "transactions": proof.transactions,
        "entries": proof.entries,
        "findings": len(proof.findings),
        "first_finding": str(proof.findings[0]) if proof.findings else None,
        "took": proof.took,
    }
    await connection.execute(_RECORD, values)


async def past_proofs(connection: AsyncConnection, *, most: int = 30) -> list[PastProof]:
    """The last `most` proofs, newest first."""
    return [
        PastProof(
            row.proved_at,
            row.proved_by,
            row.from_seal,
            None if row.head_seal is None else SealHead(row.head_seal, bytes(row.head_chain)),
            row.transactions,
            row.entries,
            row.findings,
            row.first_finding,
            row.took,
        )
        for row in await connection.execute(_HISTORY, {"most": most})
    ]


async def prove_due(runtime: Runtime) -> int:
    """Proves the whole ledger and records it if that was last done a day ago; returns how many proofs that made: one or none.

    Reads on one connection, so that a big ledger's proof leaves the rest of the server to the payments. Faults open a case.
    Callers at once: one works, the others have nothing to do.
    """
    async with runtime.engine.connect() as turn:
        await turn.execution_options(isolation_level="AUTOCOMMIT")
        if not (await turn.execute(_TAKE_TURN, {"key": _PROVING})).scalar_one():
            return 0
        try:
            last: datetime | None = (await turn.execute(_LAST_WHOLE)).scalar_one()
            if last is not None and runtime.clock.now() < last + PROVE_EVERY:
                return 0
            proof = await prove_ledger_async(runtime.engine, ProofScope(now=runtime.clock.now()), connections=1)
            await in_transaction(runtime.engine, lambda connection: _keep(connection, runtime, proof))
        finally:
            await turn.execute(_END_TURN, {"key": _PROVING})
    return 1


async def _keep(connection: AsyncConnection, runtime: Runtime, proof: LedgerProof) -> None:
    await record_proof(connection, runtime, proof, BY_SCHEDULE)
    if proof.findings:
        evidence = {"findings": [str(finding) for finding in proof.findings[:_EVIDENCE_FINDINGS]]}
        case = NewCase(BROKEN_CASE, "ledger", None, evidence=evidence)
        await open_cases(connection, runtime.clock, runtime.new_id, [case])
