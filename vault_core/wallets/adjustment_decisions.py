"""Deciding on what was proposed for a wallet: approved by a second person and posted, rejected, or lapsed with time."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import Capture, capture_holds, release_holds
from vault_core.ledger.posting import Leg, Posting, post, reversal_of
from vault_core.runtime import Runtime
from vault_core.wallets.adjustments import Adjustment, load_adjustment, why_not_approved, why_not_decided
from vault_core.wallets.topup import recorded_topup, topup_posting
from vault_core.wallets.wallet import load_wallet

_MOST = 200

_DECIDE = text(
    """
    UPDATE wallet_adjustments SET state = :state, decided_by = :actor, decided_at = :now, decision_note = :note,
           transaction_id = :transaction_id
    WHERE id = :id
    """
)
_LAPSE = text(
    """
    UPDATE wallet_adjustments w SET state = 'lapsed', decided_at = :now
    FROM (SELECT id FROM wallet_adjustments WHERE state = 'proposed' AND lapses_at <= :now
          ORDER BY lapses_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due, partners p
    WHERE w.id = due.id AND p.id = w.partner_id RETURNING w.id, w.partner_id, p.name, w.reference
    """
)


async def approve_adjustment(runtime: Runtime, adjustment_id: UUID, *, actor: str) -> Adjustment:
    """Posts what was proposed, effective now, in one transaction with the approval and its line in the audit trail.

    Raises NotFound, and Conflict when it is decided or has lapsed, or when `actor` is who proposed it.
    """

    async def work(connection: AsyncConnection) -> Adjustment:
        proposed = await load_adjustment(connection, adjustment_id, lock=True)
        now = runtime.clock.now()
        refused = why_not_approved(proposed, actor, now)
        if refused is not None:
            raise Conflict(f"adjustment {adjustment_id} cannot be approved: {refused}")
        before = await load_wallet(connection, proposed.partner_id)
        transaction_id = await _post(connection, runtime, proposed, now)
        await _decide(connection, runtime, proposed, "approved", actor, transaction_id=transaction_id)
        after = await load_wallet(connection, proposed.partner_id)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="wallet.adjustment_approved",
            subject=f"wallet {proposed.partner}",
            partner_id=proposed.partner_id,
            before={"posted_cents": before.posted.cents},
            after={
                "posted_cents": after.posted.cents,
                "adjustment": str(adjustment_id),
                "reference": proposed.reference,
                "proposed_by": proposed.proposed_by,
                "transaction": str(transaction_id),
            },
            reason=proposed.reason,
        )
        return await load_adjustment(connection, adjustment_id)

    return await in_transaction(runtime.engine, work)


async def reject_adjustment(runtime: Runtime, adjustment_id: UUID, *, reason: str, actor: str) -> Adjustment:
    """Ends the proposal without posting it and gives back what it held; who proposed it may withdraw it so. Audited.

    Raises InvalidInput without a reason, NotFound, and Conflict when it is decided or has lapsed.
    """
    reason = reason.strip()
    if not reason:
        raise InvalidInput("a rejection needs a reason: who proposed it and the auditors read it")

    async def work(connection: AsyncConnection) -> Adjustment:
        proposed = await load_adjustment(connection, adjustment_id, lock=True)
        refused = why_not_decided(proposed, runtime.clock.now())
        if refused is not None:
            raise Conflict(f"adjustment {adjustment_id} cannot be rejected: {refused}")
        await _decide(connection, runtime, proposed, "rejected", actor, note=reason)
        await release_holds(connection, runtime, [proposed.hold_id] if proposed.hold_id is not None else [])
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="wallet.adjustment_rejected",
            subject=f"wallet {proposed.partner}",
            partner_id=proposed.partner_id,
            after={"adjustment": str(adjustment_id), "reference": proposed.reference, "proposed_by": proposed.proposed_by},
            reason=reason,
        )
        return await load_adjustment(connection, adjustment_id)

    return await in_transaction(runtime.engine, work)


async def lapse_adjustments(runtime: Runtime) -> int:
    """Ends the proposals whose time is over, and returns how many. Audited. What they held expires by the ledger's own clock."""

    async def work(connection: AsyncConnection) -> int:
        lapsed = (await connection.execute(_LAPSE, {"now": runtime.clock.now(), "most": _MOST})).all()
        for row in lapsed:
            await record_act(
                connection,
                runtime.clock,
                runtime.new_id,
                actor="system:wallets",
                act="wallet.adjustment_lapsed",
                subject=f"wallet {row.name}",
                partner_id=row.partner_id,
                after={"adjustment": str(row.id), "reference": row.reference},
                reason="nobody decided on it in time",
            )
        return len(lapsed)

    return await in_transaction(runtime.engine, work)


async def _post(connection: AsyncConnection, runtime: Runtime, proposed: Adjustment, now: datetime) -> UUID:
    if proposed.kind == "topup":
        return await _top_up(connection, runtime, proposed, now)
    posting = (
        _correction(proposed, now)
        if proposed.original is None
        else await reversal_of(connection, proposed.original, key=proposed.key, effective_at=now, why=proposed.reason)
    )
    if proposed.hold_id is None:
        (transaction_id,) = await post(connection, runtime, [posting])
    else:
        (transaction_id,) = await capture_holds(connection, runtime, [Capture(proposed.hold_id, posting)])
    return transaction_id


async def _top_up(connection: AsyncConnection, runtime: Runtime, proposed: Adjustment, now: datetime) -> UUID:
    former = await recorded_topup(connection, proposed.partner_id, proposed.amount, proposed.reference)
    if former is not None:
        raise Conflict(f"top-up {proposed.reference} is recorded already, by {former}: reject this proposal")
    posting = topup_posting(proposed.partner_id, proposed.amount, proposed.reference, proposed.reason, now)
    (transaction_id,) = await post(connection, runtime, [posting])
    return transaction_id


def _correction(proposed: Adjustment, now: datetime) -> Posting:
    return Posting(
        partner_id=proposed.partner_id,
        kind="correction",
        key=proposed.key,
        reference=proposed.reference,
        effective_at=now,
        legs=(
            Leg(AccountRef(None, "adjustments"), proposed.amount.cents),
            Leg(AccountRef(proposed.partner_id, "wallet"), -proposed.amount.cents),
        ),
        description=proposed.reason,
        carried=False,
    )


async def _decide(
    connection: AsyncConnection,
    runtime: Runtime,
    proposed: Adjustment,
    state: str,
    actor: str,
    *,
    note: str | None = None,
    transaction_id: UUID | None = None,
) -> None:
    await connection.execute(
        _DECIDE,
        {
            "id": proposed.id,
            "state": state,
            "actor": actor,
            "now": runtime.clock.now(),
            "note": note,
            "transaction_id": transaction_id,
        },
    )
