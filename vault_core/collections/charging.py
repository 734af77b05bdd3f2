"""Charges of collections: priced when the money is booked, and taken from the wallet in the same transaction.

The service is rendered by then, so the wallet may go below zero; nothing is held. The receipt's text is charged by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clock import business_day
from vault_core.errors import ConfigurationError
from vault_core.ledger.posting import Posting
from vault_core.money import Money
from vault_core.partners.partner import load_partners
from vault_core.partners.system_fees import load_system_fees
from vault_core.runtime import Runtime
from vault_core.wallets.charges import ChargeLine, charge_legs, load_tariffs, quote_collection

NOT_CHARGED = "collection_not_charged"


@dataclass(frozen=True, slots=True)
class ToCharge:
    """A collection that is being booked."""

    collection_id: UUID
    partner_id: UUID
    short_code: str
    receipt: str
    amount: Money
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class CollectionCharge:
    """A collection's charge lines, those of zero with them. `posting` None: nothing is due."""

    of: ToCharge
    lines: tuple[ChargeLine, ...]

    @property
    def posting(self) -> Posting | None:
        """What takes the lines from the wallet, once a collection."""
        legs = charge_legs(self.of.partner_id, self.lines)
        if not legs:
            return None
        return Posting(
            partner_id=self.of.partner_id,
            kind="charges",
            key=f"charges:{self.of.collection_id}",
            reference=self.of.receipt,
            effective_at=self.of.happened_at,
            legs=legs,
            description=f"charges of payment {self.of.receipt}",
        )


_WRITE = text(
    """
    INSERT INTO charge_lines (id, partner_id, subject_kind, subject_id, line, amount_cents, tariff_band_id, system_fee_id,
                              charged_at, transaction_id)
    SELECT line.id, line.partner_id, 'collection', line.subject_id, line.name, line.amount, line.band, line.fee,
           coalesce(t.booked_at, :now), t.id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partners AS uuid[]), CAST(:subjects AS uuid[]), CAST(:names AS text[]),
                CAST(:amounts AS bigint[]), CAST(:bands AS bigint[]), CAST(:fees AS uuid[]), CAST(:transactions AS uuid[]))
         AS line(id, partner_id, subject_id, name, amount, band, fee, transaction_id)
    LEFT JOIN ledger_transactions t ON t.id = line.transaction_id AND t.id = ANY(:transactions)
    ON CONFLICT (subject_kind, subject_id, round, line) DO NOTHING
    """
)


async def price_collections(connection: AsyncConnection, runtime: Runtime, booked: Sequence[ToCharge]) -> list[CollectionCharge]:
    """The charges of each, by its partner's terms and the prices of the day it happened on (in Nairobi).

    Money is booked whatever the price lists say: what none covers is left uncharged, with a case `collection_not_charged`.
    """
    if not booked:
        return []
    ids = sorted({one.partner_id for one in booked})
    partners, fees, tariffs = (
        await load_partners(connection, ids),
        await load_system_fees(connection, ids),
        await load_tariffs(connection),
    )
    charges: list[CollectionCharge] = []
    unpriced: list[NewCase] = []
    for one in booked:
        day = business_day(one.happened_at)
        try:
            quoted = quote_collection(tariffs, partners[one.partner_id], fees[one.partner_id], one.amount, day)
        except ConfigurationError as error:
            unpriced.append(_unpriced(one, error))
        else:
            charges.append(CollectionCharge(one, quoted.lines))
    await open_cases(connection, runtime.clock, runtime.new_id, unpriced)
    return charges


async def write_collection_charges(
    connection: AsyncConnection, runtime: Runtime, charges: Sequence[tuple[CollectionCharge, UUID | None]]
) -> None:
    """Writes the lines of each charge with the ledger transaction that took it (None: nothing was due). Repeats do nothing."""
    rows = [(charge.of, transaction, line) for charge, transaction in charges for line in charge.lines]
    if not rows:
        return
    await connection.execute(
        _WRITE,
        {
            "now": runtime.clock.now(),
            "ids": [runtime.new_id() for _ in rows],
            "partners": [of.partner_id for of, _, _ in rows],
            "subjects": [of.collection_id for of, _, _ in rows],
            "names": [line.line for _, _, line in rows],
            "amounts": [line.amount.cents for _, _, line in rows],
            "bands": [line.tariff_band_id for _, _, line in rows],
            "fees": [line.system_fee_id for _, _, line in rows],
            "transactions": [transaction for _, transaction, _ in rows],
        },
    )


def _unpriced(one: ToCharge, error: ConfigurationError) -> NewCase:
    return NewCase(
        kind=NOT_CHARGED,
        subject=f"{one.short_code} {one.receipt}",
        partner_id=one.partner_id,
        amount=one.amount,
        evidence={"collection": str(one.collection_id), "happened_at": one.happened_at.isoformat(), "reason": str(error)},
    )
