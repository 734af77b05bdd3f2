"""Proposing that a wallet be put right. Nothing is posted by it; see adjustments.py."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InsufficientFunds, NotFound
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.holds import HoldRequest, Short, place_holds
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.adjustments import (
    LAPSES_AFTER,
    Adjustment,
    AdjustmentKind,
    checked_words,
    load_adjustment,
    why_not_reversed,
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants done to a wallet: it gains `amount`, or loses by a negative one."""

    partner_id: UUID
    kind: AdjustmentKind
    amount: Money
    reference: str
    reason: str
    original: UUID | None = None


_LOCK_PARTNER = text("SELECT name FROM partners WHERE id = :id FOR NO KEY UPDATE")
_FORMER = text(
    """
    SELECT id, state, proposed_by FROM wallet_adjustments
    WHERE partner_id = :partner_id AND state IN ('proposed', 'approved')
          AND (reference = :reference OR original_transaction = CAST(:original AS uuid))
    """
)
_INSERT = text(
    """
    INSERT INTO wallet_adjustments (id, partner_id, kind, amount_cents, original_transaction, reference, reason, proposed_by,
                                    proposed_at, lapses_at, hold_id)
    VALUES (:id, :partner_id, :kind, :cents, :original, :reference, :reason, :actor, :now, :lapses_at, :hold_id)
    """
)
_ORIGINAL = text(
    """
    SELECT t.partner_id, t.kind, t.reverses, r.reversal,
           (SELECT coalesce(sum(e.amount_cents), 0)::bigint FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
            WHERE e.transaction_id = t.id AND a.code = 'wallet') AS taken_cents
    FROM ledger_transactions t LEFT JOIN ledger_reversals r ON r.original = t.id WHERE t.id = :id
    """
)


async def propose_correction(
    runtime: Runtime, partner_id: UUID, amount: Money, reference: str, *, reason: str, actor: str
) -> Adjustment:
    """Proposes that the wallet gain `amount` (lose it, if negative) against the house's account `adjustments`. Audited.

    A negative one holds its amount until it is decided or lapses. Raises InvalidInput for an amount of nothing or an empty
    reference or reason, NotFound for an unknown partner, Conflict for a reference that is in use, and InsufficientFunds when the
    wallet does not have it.
    """
    reference, reason = checked_words(amount, reference, reason)
    wanted = Wanted(partner_id, "correction", amount, reference, reason)
    return await in_transaction(runtime.engine, lambda connection: propose(connection, runtime, wanted, actor))


async def propose_reversal(runtime: Runtime, transaction_id: UUID, *, reason: str, actor: str) -> Adjustment:
    """Proposes that a ledger transaction be undone to the cent, account by account. Audited; its reference names the original.

    A top-up's reversal holds the amount as a negative correction does. Raises as `propose_correction`, NotFound for an unknown
    transaction, and Conflict for one that is reversed already, is proposed to be, or is not for a person to undo.
    """

    async def work(connection: AsyncConnection) -> Adjustment:
        row = (await connection.execute(_ORIGINAL, {"id": transaction_id})).one_or_none()
        if row is None:
            raise NotFound(f"there is no ledger transaction {transaction_id} to reverse")
        refused = why_not_reversed(row.kind, row.reverses)
        if refused is not None:
            raise Conflict(f"transaction {transaction_id} cannot be reversed: {refused}")
        if row.reversal is not None:
            raise Conflict(f"transaction {transaction_id} is reversed already, by {row.reversal}")
        amount = Money(row.taken_cents)
        reference, why = checked_words(amount, f"reversal of {transaction_id}", reason)
        wanted = Wanted(row.partner_id, "reversal", amount, reference, why, transaction_id)
        return await propose(connection, runtime, wanted, actor)

    return await in_transaction(runtime.engine, work)


async def propose(connection: AsyncConnection, runtime: Runtime, wanted: Wanted, actor: str) -> Adjustment:
    """Keeps what `actor` wants until somebody decides on it. Audited. Raises as `propose_correction` for what cannot be kept."""
    # The partner's row is the queue: two people who type the same reference at once come here one after the other.
    partner = (await connection.execute(_LOCK_PARTNER, {"id": wanted.partner_id})).one_or_none()
    if partner is None:
        raise NotFound(f"there is no partner {wanted.partner_id}")
    same = {"partner_id": wanted.partner_id, "reference": wanted.reference, "original": wanted.original}
    former = (await connection.execute(_FORMER, same)).first()
    if former is not None:
        raise Conflict(f"{wanted.reference} is in use: {former.proposed_by} proposed adjustment {former.id}, {former.state}")
    adjustment_id = runtime.new_id()
    now = runtime.clock.now()
    lapses_at = now + LAPSES_AFTER
    hold_id = await _hold(connection, runtime, wanted, f"adjustment:{adjustment_id}", lapses_at)
    await connection.execute(
        _INSERT,
        {
            "id": adjustment_id,
            "kind": wanted.kind,
            "cents": wanted.amount.cents,
            "reason": wanted.reason,
            "actor": actor,
            "now": now,
            "lapses_at": lapses_at,
            "hold_id": hold_id,
            **same,
        },
    )
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act="wallet.adjustment_proposed",
        subject=f"wallet {partner.name}",
        partner_id=wanted.partner_id,
        after={
            "adjustment": str(adjustment_id),
            "kind": wanted.kind,
            "amount_cents": wanted.amount.cents,
            "reference": wanted.reference,
            "original": None if wanted.original is None else str(wanted.original),
        },
        reason=wanted.reason,
    )
    return await load_adjustment(connection, adjustment_id)


async def _hold(connection: AsyncConnection, runtime: Runtime, wanted: Wanted, key: str, expires_at: datetime) -> UUID | None:
    if wanted.amount.cents > 0:
        return None
    request = HoldRequest(AccountRef(wanted.partner_id, "wallet"), wanted.partner_id, key, -wanted.amount, expires_at)
    held = (await place_holds(connection, runtime, [request]))[key]
    if isinstance(held, Short):
        raise InsufficientFunds(f"the wallet has {held.available} available, and {held.needed} would be taken from it")
    return held
