"""The proof that what left wallets for charges is exactly what their charge lines say, account by account."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from vault_core.finding import Finding
from vault_core.money import Money

# Both sides summed once by transaction and kind of line; the ledger's by the accounts that the lines are booked on.
_DIFFERING = text(
    """
    WITH booked AS (
        SELECT e.transaction_id, CASE a.code WHEN 'fees:mpesa' THEN 'mpesa_fee' WHEN 'fees:system' THEN 'system_fee'
                                             WHEN 'fees:sms' THEN 'sms' ELSE 'excise' END AS line, -sum(e.amount_cents) AS cents
        FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
        JOIN ledger_transactions t ON t.id = e.transaction_id AND t.kind IN ('charges', 'sms')
        WHERE a.code IN ('fees:mpesa', 'fees:system', 'fees:sms', 'tax:excise') GROUP BY 1, 2
    ), said AS (
        SELECT transaction_id, line, sum(amount_cents) AS cents FROM charge_lines
        WHERE transaction_id IS NOT NULL AND amount_cents > 0 GROUP BY 1, 2
    )
    SELECT transaction_id, line, coalesce(booked.cents, 0)::bigint AS booked, coalesce(said.cents, 0)::bigint AS said
    FROM booked FULL JOIN said USING (transaction_id, line)
    WHERE booked.cents IS DISTINCT FROM said.cents ORDER BY transaction_id, line LIMIT 100
    """
)
_UNTAKEN = text(
    """
    SELECT subject_kind, subject_id, line, amount_cents FROM charge_lines
    WHERE charged_at IS NOT NULL AND amount_cents > 0 AND transaction_id IS NULL ORDER BY id LIMIT 100
    """
)


async def charges_findings(engine: AsyncEngine) -> list[Finding]:
    """What does not add up, at most a hundred of each kind; empty when the proof holds. For `vault verify`."""
    async with engine.connect() as connection:
        differing = (await connection.execute(_DIFFERING)).all()
        untaken = (await connection.execute(_UNTAKEN)).all()
    findings = [
        Finding(
            "charges_are_their_lines",
            f"transaction {row.transaction_id}",
            f"{Money(row.booked)} booked for {row.line}, {Money(row.said)} in its charge lines",
        )
        for row in differing
    ]
    return findings + [
        Finding(
            "charged_lines_are_booked",
            f"{row.subject_kind} {row.subject_id}",
            f"{row.line} {Money(row.amount_cents)} is in no transaction",
        )
        for row in untaken
    ]
