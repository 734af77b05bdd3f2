"""Money that a partner has paid in ahead, recorded by a person on the evidence of a bank line."""

from dataclasses import dataclass
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


async def record_topup(runtime: Runtime, partner_id: UUID, amount: Money, reference: str, actor: str, reason: str) -> TopUp:
    """Credits the wallet with `amount` (positive), once a `reference` and partner, and writes the act to the audit trail.

    Raises InvalidInput for an amount that is not positive or an empty reference or reason, NotFound for an unknown partner, and
    Conflict when the reference was recorded with another amount, or has been reversed since.
    """
    reference, reason = reference.strip(), reason.strip()
    if not 0 < amount.cents <= _LARGEST_CENTS:
        raise InvalidInput(f"a top-up of {amount} is not a positive amount that a bank transfer could carry")
    if not reference or len(reference) > _LONGEST_REFERENCE or not reference.isprintable():
        raise InvalidInput(f"a top-up needs the bank's reference: 1-{_LONGEST_REFERENCE} printable characters")
    if not reason:
        raise InvalidInput("a top-up needs a reason, for the audit trail")
    key = f"topup:{reference}"

    async def work(connection: AsyncConnection) -> TopUp:
        # The partner's row is the queue: two people who type the same reference at once come here one after the other.
        if (await connection.execute(_LOCK_PARTNER, {"id": partner_id})).one_or_none() is None:
            raise NotFound(f"there is no partner {partner_id}")
        former = (await connection.execute(_FORMER, {"partner_id": partner_id, "key": key})).one_or_none()
        if former is not None:
            if former.cents != amount.cents:
                raise Conflict(
                    f"top-up {reference} is recorded with {Money(former.cents)}, not {amount}: use the bank's own reference"
                )
            if former.reversal is not None:
                raise Conflict(
                    f"top-up {reference} was recorded and undone by {former.reversal}: if the money is there after all, "
                    "`vault wallet adjust` puts it right, with a second person"
                )
            return TopUp(former.id, await load_wallet(connection, partner_id), repeated=True)
        before = await load_wallet(connection, partner_id)
        (transaction_id,) = await post(
            connection,
            runtime,
            [
                Posting(
                    partner_id=partner_id,
                    kind="topup",
                    key=key,
                    reference=reference,
                    effective_at=runtime.clock.now(),
                    legs=(
                        Leg(AccountRef(None, "bank:settlement"), amount.cents),
                        Leg(AccountRef(partner_id, "wallet"), -amount.cents),
                    ),
                    description=reason,
                )
            ],
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
