"""C2B confirmations: M-Pesa's word that a customer paid into a partner's pay bill (reference/daraja.md section 4)."""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.daraja_messages import C2BConfirmation, parse_confirmation
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.errors import Conflict
from vault_core.inbox.applying import Effects, apply_deliveries, read_each
from vault_core.inbox.delivery import Delivery
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner, load_partners
from vault_core.runtime import Runtime


class ForeignShortCode(Conflict):
    """A confirmation came on the callback of a partner that does not own its short code: a wrong registration, or forged."""

    def __init__(self, delivery: Delivery, confirmation: C2BConfirmation, partner: Partner | None) -> None:
        owner = "an unknown partner" if partner is None else partner.name
        super().__init__(f"receipt {confirmation.receipt} is of short code {confirmation.short_code}, which is not {owner}'s")
        self.case = NewCase(
            kind="foreign_short_code",
            subject=f"delivery {delivery.id}",
            partner_id=None if partner is None else partner.id,
            amount=confirmation.amount,
            evidence={"receipt": confirmation.receipt, "short_code": confirmation.short_code, "source_ip": delivery.source_ip},
        )


async def handle_confirmations(runtime: Runtime, connections: Connections, ids: Sequence[UUID]) -> None:  # noqa: ARG001 - the signature of every stream handler
    """Books the stored confirmations `ids`: each receipt once, the batch in one transaction, one bad body set aside alone.

    A body that cannot be read becomes an exception of the inbox; so does one whose short code is not its partner's, with a case.
    Raises only what is worth trying again (the database).
    """
    await apply_deliveries(runtime, ids, partial(_book, runtime))


async def _book(runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Effects:
    partners = await load_partners(connection, sorted({delivery.partner_id for delivery in deliveries}))
    payments, bad = read_each(deliveries, lambda delivery: _payment(delivery, partners.get(delivery.partner_id)))
    bookings = await book_payments(connection, runtime, list(payments.values()))
    foreign = [error.case for error in bad.values() if isinstance(error, ForeignShortCode)]
    await open_cases(connection, runtime.clock, runtime.new_id, foreign)
    booked = {
        event_id: f"{booking} {payment.receipt}" for (event_id, payment), booking in zip(payments.items(), bookings, strict=True)
    }
    return {**bad, **booked}


def _payment(delivery: Delivery, partner: Partner | None) -> IncomingPayment:
    confirmation = parse_confirmation(delivery.body)
    if partner is None or partner.c2b_short_code != confirmation.short_code:
        raise ForeignShortCode(delivery, confirmation, partner)
    return IncomingPayment(
        partner_id=partner.id,
        short_code=confirmation.short_code,
        receipt=confirmation.receipt,
        amount=confirmation.amount,
        happened_at=confirmation.at,
        source="c2b",
        event_id=delivery.id,
        org_balance=confirmation.org_balance,
        bill_reference=confirmation.bill_reference,
        payer_phone=confirmation.phone_text or confirmation.phone_hash_sha256,
        payer_name=confirmation.payer_name,
    )
