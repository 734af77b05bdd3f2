"""One ledger transaction with all that is known of it: its legs, its links, the seal that covers it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import NotFound
from vault_core.ledger.chart import AccountRef
from vault_core.money import ZERO, Money


@dataclass(frozen=True, slots=True)
class BookedLeg:
    """One entry: exactly one of debit and credit is not zero. `row` and `version` are its place in the account's own chain."""

    leg: int
    account: AccountRef
    debit: Money
    credit: Money
    row: int
    version: int


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal that covers a transaction: changing the transaction would break it."""

    number: int
    sealed_at: datetime
    chain: str


@dataclass(frozen=True, slots=True)
class BookedTransaction:
    """A transaction as it stands. `seal` is None until it is sealed, `carried_from` unless its own period was closed."""

    id: UUID
    partner_id: UUID | None
    kind: str
    reference: str
    key: str
    description: str
    effective_at: datetime
    booked_at: datetime
    carried_from: datetime | None
    reverses: UUID | None
    reversed_by: UUID | None
    seal: Seal | None
    legs: tuple[BookedLeg, ...]


_TRANSACTION = text(
    """
    SELECT t.*, r.reversal, s.number, s.sealed_at, encode(s.chain, 'hex') AS chain
    FROM ledger_transactions t
    LEFT JOIN ledger_reversals r ON r.original = t.id
    LEFT JOIN ledger_seals s ON s.from_write <= t.written_by AND s.upto_write > t.written_by
    WHERE t.id = :id
    """
)
_LEGS = text(
    """
    SELECT e.leg, a.partner_id, a.code, e.amount_cents, e.account_id, e.account_version
    FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id WHERE e.transaction_id = :id ORDER BY e.leg
    """
)


async def load_transaction(connection: AsyncConnection, transaction_id: UUID) -> BookedTransaction:
    """The transaction of that id. Raises NotFound."""
    row = (await connection.execute(_TRANSACTION, {"id": transaction_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no ledger transaction {transaction_id}: statements and `vault ledger export` list the ids")
    legs = await connection.execute(_LEGS, {"id": transaction_id})
    return BookedTransaction(
        id=row.id,
        partner_id=row.partner_id,
        kind=row.kind,
        reference=row.reference,
        key=row.key,
        description=row.description,
        effective_at=row.effective_at,
        booked_at=row.booked_at,
        carried_from=row.carried_from,
        reverses=row.reverses,
        reversed_by=row.reversal,
        seal=None if row.number is None else Seal(row.number, row.sealed_at, row.chain),
        legs=tuple(
            BookedLeg(
                leg=leg.leg,
                account=AccountRef(leg.partner_id, leg.code),
                debit=max(Money(leg.amount_cents), ZERO),
                credit=max(Money(-leg.amount_cents), ZERO),
                row=leg.account_id,
                version=leg.account_version,
            )
            for leg in legs
        ),
    )
