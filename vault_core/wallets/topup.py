"""Money that a partner has paid in ahead, recorded on the evidence of a bank line: by one person up to a limit, by two above."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Leg, Posting, post
from vault_core.money import Money
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_proposals import Wanted, propose
from vault_core.wallets.adjustments import Adjustment
from vault_core.wallets.wallet import Wallet, load_wallet

_LONGEST_REFERENCE = 64
_LARGEST_CENTS = 10**13  # a hundred billion shillings: beyond it somebody has typed a phone number

_LOCK_PARTNER = text("SELECT id FROM partners WHERE id = :id FOR NO KEY UPDATE")
_FORMER = text(
    """
    SELECT t.id, -sum(e.amount_cents)::bigint AS cents,
           (SELECT reversal FROM ledger_reversals WHERE original = t.id) AS reversal
    FROM ledger_keys k JOIN ledger_transactions t ON t.id = k.transaction_id
    JOIN ledger_entries e ON e.transaction_id = t.id JOIN ledger_accounts a ON a.id = e.account_id AND a.code = 'wallet'
    WHERE k.scope = :partner_id AND k.key = :key GROUP BY t.id
    """
)


@dataclass(frozen=True, slots=True)
class TopUp:
    """A recorded top-up. `repeated` says that the same reference and amount had been recorded before: nothing was added."""

    transaction_id: UUID
    wallet: Wallet
    repeated: bool


async def record_topup(
    runtime: Runtime, partner_id: UUID, amount: Money, reference: str, actor: str, reason: str
) -> TopUp | Adjustment:
    """Credits the wallet with `amount` (positive), once a `reference` and partner, and writes the act to the audit trail.

    Above `Pace.top_up_alone_up_to` it is only proposed, as the adjustment that is returned: a second person's approval posts it.
    Raises InvalidInput for an amount that is not positive or an empty reference or reason, NotFound for an unknown partner, and
    Conflict when the reference was recorded with another amount, has been reversed since, or waits for a second person.
    """
    reference, reason = _checked(amount, reference, reason)
    alone_up_to = Money.shillings(runtime.pace.top_up_alone_up_to)

    async def work(connection: AsyncConnection) -> TopUp | Adjustment:
        former = await recorded_topup(connection, partner_id, amount, reference)
        if former is not None:
            return TopUp(former, await load_wallet(connection, partner_id), repeated=True)
        if amount > alone_up_to:
            return await propose(connection, runtime, Wanted(partner_id, "topup", amount, reference, reason), actor)
        before = await load_wallet(connection, partner_id)
        (transaction_id,) = await post(
            connection, runtime, [topup_posting(partner_id, amount, reference, reason, runtime.clock.now())]
        )
        after = await load_wallet(connection, partner_id)
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="wallet.topped_up",
            subject=f"wallet {after.partner}",
            partner_id=partner_id,
            before={"posted_cents": before.posted.cents},
            after={"posted_cents": after.posted.cents, "reference": reference, "transaction": str(transaction_id)},
            reason=reason,
        )
        return TopUp(transaction_id, after, repeated=False)

    return await in_transaction(runtime.engine, work)


async def recorded_topup(connection: AsyncConnection, partner_id: UUID, amount: Money, reference: str) -> UUID | None:
    """The transaction that `reference` is recorded by; None if it is not yet. Others who record for the partner wait meanwhile.

    Raises NotFound for an unknown partner, Conflict when it is recorded with another amount or has been reversed since.
    """
    # The partner's row is the queue: two people who type the same reference at once come here one after the other.
    if (await connection.execute(_LOCK_PARTNER, {"id": partner_id})).one_or_none() is None:
        raise NotFound(f"there is no partner {partner_id}")
    found = await connection.execute(_FORMER, {"partner_id": partner_id, "key": _key(reference)})
    former = found.one_or_none()
    if former is None:
        return None
    if former.cents != amount.cents:
        raise Conflict(f"top-up {reference} is recorded with {Money(former.cents)}, not {amount}: use the bank's own reference")
    if former.reversal is not None:
        raise Conflict(
            f"top-up {reference} was recorded and undone by {former.reversal}: if the money is there after all, "
            "`vault wallet adjust` puts it right, with a second person"
        )
    transaction_id: UUID = former.id
    return transaction_id


def topup_posting(partner_id: UUID, amount: Money, reference: str, reason: str, now: datetime) -> Posting:
    """What a top-up is in the ledger: the house's bank account to the wallet, effective `now`."""
    return Posting(
        partner_id=partner_id,
        kind="topup",
        key=_key(reference),
        reference=reference,
        effective_at=now,
        legs=(
            Leg(AccountRef(None, "bank:settlement"), amount.cents),
            Leg(AccountRef(partner_id, "wallet"), -amount.cents),
        ),
        description=reason,
    )


def _checked(amount: Money, reference: str, reason: str) -> tuple[str, str]:
    """Reference and reason without blanks around them."""
    reference, reason = reference.strip(), reason.strip()
    if not 0 < amount.cents <= _LARGEST_CENTS:
        raise InvalidInput(f"a top-up of {amount} is not a positive amount that a bank transfer could carry")
    if not reference or len(reference) > _LONGEST_REFERENCE or not reference.isprintable():
        raise InvalidInput(f"a top-up needs the bank's reference: 1-{_LONGEST_REFERENCE} printable characters")
    if not reason:
        raise InvalidInput("a top-up needs a reason, for the audit trail")
    return reference, reason


def _key(reference: str) -> str:
    return f"topup:{reference}"
