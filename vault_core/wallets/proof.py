"""The proof that wallets were put right only by what two people agreed on, and by its very amount."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.finding import Finding
from vault_core.money import Money

# Read from the account's own entries and from the approvals: neither grows with the ledger.
_UNAPPROVED = text(
    """
    SELECT DISTINCT e.transaction_id FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
    WHERE a.code = 'adjustments'
          AND NOT EXISTS (SELECT FROM wallet_adjustments w WHERE w.transaction_id = e.transaction_id AND w.state = 'approved')
    ORDER BY e.transaction_id LIMIT 100
    """
)
_OTHER_AMOUNT = text(
    """
    SELECT w.id, w.amount_cents, coalesce(posted.cents, 0)::bigint AS posted_cents FROM wallet_adjustments w
    LEFT JOIN LATERAL (
        SELECT -sum(e.amount_cents) AS cents FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
        WHERE e.transaction_id = w.transaction_id AND a.code = 'wallet' AND a.partner_id = w.partner_id) AS posted ON true
    WHERE w.state = 'approved' AND w.amount_cents IS DISTINCT FROM posted.cents ORDER BY w.id LIMIT 100
    """
)


async def adjustment_findings(engine: AsyncEngine) -> list[Finding]:
    """What does not add up, at most a hundred of each kind; empty when the proof holds. For `vault verify`."""
    async with engine.connect() as connection:
        unapproved = (await connection.execute(_UNAPPROVED)).scalars().all()
        differing = (await connection.execute(_OTHER_AMOUNT)).all()
    findings = [
        Finding("adjustment_was_approved", f"transaction {transaction}", "stands on account adjustments without an approval")
        for transaction in unapproved
    ]
    return findings + [
        Finding(
            "adjustment_moves_its_amount",
            f"adjustment {row.id}",
            f"{Money(row.amount_cents)} was approved, {Money(row.posted_cents)} posted",
        )
        for row in differing
    ]
