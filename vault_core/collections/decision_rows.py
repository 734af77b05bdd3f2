"""The rows of what people decided about payments: proposed once, agreed to or not, carried out (functions/10_...sql)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.intended_posting import Target
from vault_core.collections.pending import PendingCollection
from vault_core.errors import NotFound
from vault_core.money import Money
from vault_core.runtime import Runtime

DecisionKind = Literal["assign", "move", "reverse"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about one payment. `effect`: what carrying it out did; None: that is not over.

    States: 'proposed' (waits for a second person), 'approved' (is being carried out), 'done', 'failed', 'rejected', 'lapsed'.
    """

    id: UUID
    partner_id: UUID
    partner: str
    collection_id: UUID
    short_code: str
    receipt: str
    kind: DecisionKind
    target: Target | None
    post_all: bool
    remember: bool
    amount: Money
    reason: str
    second_person: bool
    proposed_by: str
    proposed_at: datetime
    lapses_at: datetime
    state: str
    decided_by: str | None
    decided_at: datetime | None
    effect: str | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be written down as decided."""

    kind: DecisionKind
    target: Target | None
    amount: Money
    reason: str
    second_person: bool
    post_all: bool = False
    remember: bool = False


_WRITE = text(
    """
    INSERT INTO collection_decisions (id, partner_id, collection_id, kind, account_kind, account_id, account_no, client_id,
                                      post_all, remember, amount_cents, reason, second_person, proposed_by, proposed_at,
                                      lapses_at)
    VALUES (:id, :partner_id, :collection_id, :kind, :account_kind, :account_id, :account_no, :client_id, :post_all, :remember,
            :amount, :reason, :second_person, :actor, :now, :lapses_at)
    """
)
# Two people may sit at two machines, whose clocks differ.
_DECIDE = text(
    """
    UPDATE collection_decisions SET state = :state, decided_by = :actor, decided_at = greatest(:now, proposed_at),
           decision_note = :note WHERE id = :id
    """
)
_END = text(
    """
    UPDATE collection_decisions d SET state = :state, ended_at = :now, effect = told.effect
    FROM unnest(CAST(:collections AS uuid[]), CAST(:effects AS text[])) AS told(collection_id, effect)
    WHERE d.collection_id = told.collection_id AND d.state = 'approved'
    """
)
_COLUMNS = """
    SELECT d.*, p.name AS partner, c.short_code, c.receipt
    FROM collection_decisions d JOIN partners p ON p.id = d.partner_id JOIN collections c ON c.id = d.collection_id
"""
_BY_IDS = text(f"{_COLUMNS} WHERE d.id = ANY(:ids) ORDER BY d.id")
_OPEN_OF = text(f"{_COLUMNS} WHERE d.collection_id = :collection_id AND d.state IN ('proposed', 'approved')")
_LOCK_OPEN = text("SELECT FROM collection_decisions WHERE collection_id = :collection_id AND state = 'proposed' FOR UPDATE")
_WAITING = text(
    f"""
    {_COLUMNS} WHERE d.state = 'proposed' AND (CAST(:partner AS text) IS NULL OR p.name = :partner) ORDER BY d.proposed_at, d.id
    """
)
_LAPSE = text(
    """
    UPDATE collection_decisions d SET state = 'lapsed', decided_at = :now
    FROM (SELECT id FROM collection_decisions WHERE state = 'proposed' AND lapses_at <= :now
          ORDER BY lapses_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE d.id = due.id RETURNING d.id
    """
)


async def write_proposal(
    connection: AsyncConnection,
    runtime: Runtime,
    collection: PendingCollection,
    proposal: Proposal,
    *,
    actor: str,
    lapses_at: datetime,
) -> Decision:
    """Writes what `actor` proposes about the locked collection."""
    decision_id, target = runtime.new_id(), proposal.target
    await connection.execute(
        _WRITE,
        {
            "id": decision_id,
            "partner_id": collection.partner_id,
            "collection_id": collection.id,
            "kind": proposal.kind,
            "account_kind": None if target is None else target.kind,
            "account_id": None if target is None else target.id,
            "account_no": None if target is None else target.account_no,
            "client_id": None if target is None else target.client_id,
            "post_all": proposal.post_all,
            "remember": proposal.remember,
            "amount": proposal.amount.cents,
            "reason": proposal.reason,
            "second_person": proposal.second_person,
            "actor": actor,
            "now": runtime.clock.now(),
            "lapses_at": lapses_at,
        },
    )
    return await read_decision(connection, decision_id)


async def decide(
    connection: AsyncConnection, runtime: Runtime, decision_id: UUID, state: str, actor: str, note: str | None = None
) -> None:
    """Has a proposal approved, or rejected with a note. The table refuses an approval by its proposer where two are needed."""
    values = {"id": decision_id, "state": state, "actor": actor, "now": runtime.clock.now(), "note": note}
    await connection.execute(_DECIDE, values)


async def end_decisions(
    connection: AsyncConnection, runtime: Runtime, effects: Mapping[UUID, str], state: Literal["done", "failed"]
) -> None:
    """Ends what is being carried out about these collections (effect by collection); those without it are left alone."""
    if not effects:
        return
    cut = [effect[:500] for effect in effects.values()]
    values = {"state": state, "now": runtime.clock.now(), "collections": list(effects), "effects": cut}
    await connection.execute(_END, values)


async def lapse_due(connection: AsyncConnection, runtime: Runtime, most: int = 200) -> list[Decision]:
    """Ends the proposals whose time is over, and returns them."""
    rows = await connection.execute(_LAPSE, {"now": runtime.clock.now(), "most": most})
    return await read_decisions(connection, [row.id for row in rows])


async def read_decisions(connection: AsyncConnection, ids: Sequence[UUID]) -> list[Decision]:
    """Those of `ids` that exist."""
    return [_decision(row) for row in await connection.execute(_BY_IDS, {"ids": list(ids)})]


async def read_decision(connection: AsyncConnection, decision_id: UUID) -> Decision:
    """One that exists."""
    (decision,) = await read_decisions(connection, [decision_id])
    return decision


async def open_decision(connection: AsyncConnection, collection_id: UUID) -> Decision | None:
    """What is proposed about the collection, or is being carried out."""
    row = (await connection.execute(_OPEN_OF, {"collection_id": collection_id})).one_or_none()
    return None if row is None else _decision(row)


async def waiting_decision(connection: AsyncConnection, collection: PendingCollection, *, lock: bool = False) -> Decision:
    """The proposal about the collection that waits for a second person. Raises NotFound.

    `lock`: until the caller's transaction ends it does not lapse.
    """
    if lock:
        await connection.execute(_LOCK_OPEN, {"collection_id": collection.id})
    found = await open_decision(connection, collection.id)
    if found is None or found.state != "proposed":
        raise NotFound(
            f"payment {collection.receipt}: nothing waits for a second person; `vault collections proposals` lists what does"
        )
    return found


async def list_waiting(connection: AsyncConnection, partner: str | None = None) -> list[Decision]:
    """What waits for a second person, oldest first; of one partner if named."""
    return [_decision(row) for row in await connection.execute(_WAITING, {"partner": partner})]


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        id=row.id,
        partner_id=row.partner_id,
        partner=row.partner,
        collection_id=row.collection_id,
        short_code=row.short_code,
        receipt=row.receipt,
        kind=row.kind,
        target=None if row.account_kind is None else Target(row.account_kind, row.account_id, row.account_no, row.client_id),
        post_all=row.post_all,
        remember=row.remember,
        amount=Money(row.amount_cents),
        reason=row.reason,
        second_person=row.second_person,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        lapses_at=row.lapses_at,
        state=row.state,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        effect=row.effect,
    )
