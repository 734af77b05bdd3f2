"""The rows of reversals that M-Pesa was asked for: written before anything is sent, ended by the first verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.decision_rows import Decision
from vault_core.collections.pending import PendingCollection
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class ReversalRequest:
    """One request to M-Pesa to give a payment back. States as in the table (revision 0027)."""

    id: UUID
    partner_id: UUID
    collection_id: UUID
    decision_id: UUID
    short_code: str
    receipt: str
    amount: Money
    state: str
    sends: int
    questions: int
    originator_conversation_id: str | None
    reversal_receipt: str | None

    @property
    def subject(self) -> str:
        """The payment's name in cases."""
        return f"{self.short_code} {self.receipt}"


_WRITE = text(
    """
    INSERT INTO reversal_requests (id, partner_id, collection_id, decision_id, short_code, receipt, amount_cents, written_at,
                                   next_at)
    VALUES (:id, :partner_id, :collection_id, :decision_id, :short_code, :receipt, :amount, :now, :now)
    """
)
_REVERSING = text("UPDATE collections SET state = 'reversing', reason = NULL WHERE id = :id AND state = 'suspense'")
_COLUMNS = """
    id, partner_id, collection_id, decision_id, short_code, receipt, amount_cents, state, sends, questions,
    originator_conversation_id, reversal_receipt
"""
_DUE = text(
    f"""
    SELECT {_COLUMNS} FROM reversal_requests WHERE next_at <= :now ORDER BY next_at LIMIT :most FOR UPDATE SKIP LOCKED
    """  # noqa: S608 - the columns stand above
)
_LOCKED = text(f"SELECT {_COLUMNS} FROM reversal_requests WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")  # noqa: S608
_LATEST = text(
    f"SELECT {_COLUMNS} FROM reversal_requests WHERE collection_id = :id ORDER BY written_at DESC, id DESC LIMIT 1 FOR UPDATE"  # noqa: S608
)


async def write_request(connection: AsyncConnection, runtime: Runtime, one: PendingCollection, decision: Decision) -> None:
    """Writes the request for the locked payment, due to be sent now; the payment is `reversing` from here on."""
    await connection.execute(_REVERSING, {"id": one.id})
    await connection.execute(
        _WRITE,
        {
            "id": runtime.new_id(),
            "partner_id": one.partner_id,
            "collection_id": one.id,
            "decision_id": decision.id,
            "short_code": one.short_code,
            "receipt": one.receipt,
            "amount": one.amount.cents,
            "now": runtime.clock.now(),
        },
    )


async def lock_due(connection: AsyncConnection, now: datetime, most: int) -> list[ReversalRequest]:
    """Those that are due to be sent, or asked about, and that no other process has at hand."""
    return [_request(row) for row in await connection.execute(_DUE, {"now": now, "most": most})]


async def lock_requests(connection: AsyncConnection, ids: Sequence[UUID]) -> Mapping[UUID, ReversalRequest]:
    """Those of `ids`, locked for the caller's transaction."""
    return {row.id: _request(row) for row in await connection.execute(_LOCKED, {"ids": list(ids)})}


async def lock_latest(connection: AsyncConnection, collection_id: UUID) -> ReversalRequest | None:
    """The latest request about the payment, locked for the caller's transaction."""
    row = (await connection.execute(_LATEST, {"id": collection_id})).one_or_none()
    return None if row is None else _request(row)


def _request(row: Row[Any]) -> ReversalRequest:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    return ReversalRequest(amount=Money(values.pop("amount_cents")), **values)
