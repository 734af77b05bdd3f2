"""What M-Pesa says about its fee for a payout, kept for the tariff audit: a result's charges-paid balance, or a stated fee."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.daraja_messages import MpesaResult
from vault_core.money import Money

SaidBy = Literal["result", "status_answer"]


@dataclass(frozen=True, slots=True)
class FeeReading:
    """One message about one paid payout. A result has the balance after it, a status answer the fee itself."""

    attempt_id: UUID
    said_by: SaidBy
    receipt: str
    amount: Money
    paid_at: datetime
    charges_balance: Money | None
    fee: Money | None
    event_id: UUID


def read_fee(said: MpesaResult, attempt_id: UUID, event_id: UUID, said_by: SaidBy) -> FeeReading | None:
    """What the message says about the fee; None if it says nothing, or not of a payout that was paid."""
    balance = said.charges_paid_balance if said_by == "result" else None
    fee = said.debit_party_fee if said_by == "status_answer" else None
    if said.code != "0" or (balance is None and fee is None) or (fee is not None and fee < Money(0)):
        return None
    if said_by == "status_answer" and (said.transaction_status or "").strip().lower() != "completed":
        return None
    if not said.receipt or said.amount is None or said.completed_at is None or not said.amount:
        return None
    return FeeReading(attempt_id, said_by, said.receipt, said.amount, said.completed_at, balance, fee, event_id)


# Only what the settled payout says too, its receipt and amount, is kept: a message that contradicts it has a case of its own.
_KEEP = text(
    """
    INSERT INTO mpesa_fee_readings (attempt_id, said_by, partner_id, short_code, receipt, amount_cents, paid_at,
                                    charges_balance_cents, fee_cents, event_id)
    SELECT a.id, said.said_by, a.partner_id, p.b2c_short_code, said.receipt, said.amount, said.paid_at, said.balance, said.fee,
           said.event_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:said_by AS text[]), CAST(:receipts AS text[]), CAST(:amounts AS bigint[]),
                CAST(:moments AS timestamptz[]), CAST(:balances AS bigint[]), CAST(:fees AS bigint[]), CAST(:events AS uuid[]))
         AS said(id, said_by, receipt, amount, paid_at, balance, fee, event_id)
    JOIN disbursement_attempts a
         ON a.id = said.id AND a.state = 'paid' AND a.receipt = said.receipt AND a.amount_cents = said.amount
    JOIN partners p ON p.id = a.partner_id
    ON CONFLICT (attempt_id, said_by) DO NOTHING
    """
)


async def keep_fee_readings(connection: AsyncConnection, readings: Sequence[FeeReading]) -> None:
    """Keeps each, once a payout and kind of message. Call after the evidence was applied."""
    if not readings:
        return
    await connection.execute(
        _KEEP,
        {
            "ids": [one.attempt_id for one in readings],
            "said_by": [one.said_by for one in readings],
            "receipts": [one.receipt for one in readings],
            "amounts": [one.amount.cents for one in readings],
            "moments": [one.paid_at for one in readings],
            "balances": [None if one.charges_balance is None else one.charges_balance.cents for one in readings],
            "fees": [None if one.fee is None else one.fee.cents for one in readings],
            "events": [one.event_id for one in readings],
        },
    )
