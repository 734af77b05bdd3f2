"""The three-way reconciliation of a day: our ledger, the money rail's own evidence, and Mifos X, joined by M-Pesa receipt.

Passes and break types follow reference/bank_sms_ledger.md section 7. Each leg is read from what it is evidence of: the ledger
from its entries, the rail from `rail_lines` (results, confirmations, status answers), Mifos X from `core_lines` (read back).
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from vault_core.clock import day_bounds
from vault_core.reconciliation.frames import to_frame
from vault_core.reconciliation.report_columns import RECONCILIATION

MATCHED = "matched"
OUTCOMES = (
    MATCHED,
    "missing_in_ledger",
    "missing_on_rail",
    "amount_differs_on_rail",
    "duplicate_in_core",
    "in_suspense",
    "not_booked_as_posted",
    "not_posted_yet",
    "missing_in_core",
    "amount_differs_in_core",
)
IN_TRANSIT_HOURS = 2  # money younger than this may still be on its way to Mifos X without anybody having to look

_LEGS = text(
    """
    WITH ledger AS (
        SELECT t.partner_id, CASE t.kind WHEN 'disbursement_paid' THEN 'disbursement' WHEN 'collection_reversed' THEN 'reversal'
                             ELSE 'collection' END AS flow,
               t.reference AS receipt, min(t.effective_at) AS happened_at,
               abs(sum(e.amount_cents))::bigint AS cents
        FROM ledger_transactions t
        JOIN ledger_entries e ON e.transaction_id = t.id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.code IN ('b2c_float', 'c2b_float')
        WHERE t.kind IN ('disbursement_paid', 'collection', 'collection_reversed')
          AND t.effective_at >= :start AND t.effective_at < :end
          AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = t.id)
        GROUP BY 1, 2, 3
    ), rail AS (
        SELECT partner_id, CASE rail WHEN 'mpesa_b2c' THEN 'disbursement' WHEN 'mpesa_reversal' THEN 'reversal'
                           ELSE 'collection' END AS flow, receipt,
               min(happened_at) AS happened_at, sum(amount_cents)::bigint AS cents
        FROM rail_lines WHERE happened_at >= :start AND happened_at < :end GROUP BY 1, 2, 3
    ), made_good AS (
        SELECT t.partner_id, 'disbursement' AS flow, t.reference AS receipt, sum(e.amount_cents)::bigint AS cents
        FROM ledger_transactions t
        JOIN ledger_entries e ON e.transaction_id = t.id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.code = 'b2c_float'
        WHERE t.kind = 'disbursement_difference' AND t.effective_at >= :start
          AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = t.id)
        GROUP BY 1, 2, 3
    ), core_of_day AS (
        SELECT DISTINCT partner_id, CASE kind WHEN 'disburse' THEN 'disbursement' ELSE 'collection' END AS flow, receipt
        FROM core_lines WHERE transaction_date = :day AND NOT reversed AND receipt IS NOT NULL
    ), keys AS (
        SELECT partner_id, flow, receipt FROM ledger UNION SELECT partner_id, flow, receipt FROM rail
        UNION
        -- A receipt in Mifos X that another day's rail line explains belongs to that day.
        SELECT c.* FROM core_of_day c WHERE NOT EXISTS (
            SELECT FROM rail_lines r WHERE r.partner_id = c.partner_id AND r.receipt = c.receipt
              AND NOT (r.happened_at >= :start AND r.happened_at < :end))
    ), core AS (
        SELECT k.partner_id, k.flow, k.receipt, sum(c.amount_cents)::bigint AS cents, count(*) AS lines
        FROM keys k JOIN core_lines c ON c.partner_id = k.partner_id AND c.receipt = k.receipt AND NOT c.reversed
             AND (c.kind = 'disburse') = (k.flow = 'disbursement')
        GROUP BY 1, 2, 3
    ), due AS (
        SELECT k.partner_id, k.flow, k.receipt, abs(sum(e.amount_cents))::bigint AS cents
        FROM keys k
        JOIN core_postings p ON p.partner_id = k.partner_id AND p.receipt = k.receipt
             AND (p.kind = 'disburse') = (k.flow = 'disbursement')
        JOIN ledger_keys lk ON lk.scope = p.partner_id AND lk.key = 'posted:' || p.external_id
             AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = lk.transaction_id)
        JOIN ledger_entries e ON e.transaction_id = lk.transaction_id
        JOIN ledger_accounts a ON a.id = e.account_id AND a.code IN ('loan_book', 'savings_book')
        GROUP BY 1, 2, 3
    )
    SELECT partners.name AS partner, k.flow, k.receipt,
           coalesce(d.id, c.id)::text AS reference, coalesce(d.loan_account_no, c.account_no) AS account,
           coalesce(rail.happened_at, ledger.happened_at) AS happened_at,
           ledger.cents AS ledger_cents, rail.cents AS rail_cents, made_good.cents AS made_good_cents,
           due.cents AS core_due_cents, core.cents AS core_cents,
           coalesce(core.lines, 0) AS core_lines, coalesce(c.in_suspense, false) AS in_suspense,
           greatest(1, (SELECT count(*) FROM core_postings p WHERE p.subject_id = c.id AND p.state = 'posted')) AS core_lines_due,
           k.flow = 'reversal' OR coalesce(c.state = 'reversed', false) AS given_back,
           EXISTS (SELECT FROM cases WHERE closed_at IS NULL AND cases.partner_id = k.partner_id
                   AND string_to_array(cases.subject, ' ') && ARRAY[k.receipt, coalesce(d.id, c.id)::text]) AS case_open
    FROM keys k
    JOIN partners ON partners.id = k.partner_id
    LEFT JOIN ledger USING (partner_id, flow, receipt)
    LEFT JOIN rail USING (partner_id, flow, receipt)
    LEFT JOIN made_good USING (partner_id, flow, receipt)
    LEFT JOIN core USING (partner_id, flow, receipt)
    LEFT JOIN due USING (partner_id, flow, receipt)
    LEFT JOIN disbursements d ON k.flow = 'disbursement' AND d.partner_id = k.partner_id AND d.receipt = k.receipt
    LEFT JOIN collections c ON k.flow = 'collection' AND c.partner_id = k.partner_id AND c.receipt = k.receipt
    ORDER BY 1, 2, 3
    """
)


# What a sound reconciliation must add up to, from the ledger's own account movements: rows and cents, per day.
_CONTROL = text(
    """
    SELECT count(DISTINCT (t.partner_id, t.kind, t.reference)) AS receipts, coalesce(sum(abs(e.amount_cents)), 0)::bigint AS cents
    FROM ledger_accounts a
    JOIN ledger_entries e ON e.account_id = a.id
    JOIN ledger_transactions t ON t.id = e.transaction_id
    WHERE a.code IN ('b2c_float', 'c2b_float') AND t.kind IN ('disbursement_paid', 'collection', 'collection_reversed')
      AND t.effective_at >= :start AND t.effective_at < :end
      AND NOT EXISTS (SELECT FROM ledger_reversals r WHERE r.original = t.id)
    """
)


@dataclass(frozen=True, slots=True)
class Control:
    """What the ledger says of a day by itself: receipts and their sum in cents."""

    receipts: int
    cents: int


@dataclass(frozen=True, slots=True)
class Legs:
    """What each side says of one receipt, in cents; None where it says nothing.

    `core_lines_due`: how many postings it was shared between. `given_back`: it is a reversal, or a payment that was reversed, and
    Mifos X must have nothing of it.
    """

    ledger: int | None
    rail: int | None
    core_due: int | None
    core: int | None
    core_lines: int
    in_suspense: bool
    core_lines_due: int = 1
    given_back: bool = False


def judge(legs: Legs) -> tuple[str, int]:
    """The outcome of one receipt and the money (cents) its break is about; ('matched', 0) when all three agree.

    Breaks are tried in the order in which money can be wrong: what moved first, then what was booked, then what was posted.
    """
    if legs.ledger is None:
        return "missing_in_ledger", legs.rail if legs.rail is not None else legs.core or 0
    if legs.rail is None:
        return "missing_on_rail", legs.ledger
    if legs.ledger != legs.rail:
        return "amount_differs_on_rail", abs(legs.ledger - legs.rail)
    if legs.given_back and legs.core is None:
        return MATCHED, 0
    if legs.core_lines > legs.core_lines_due:
        return "duplicate_in_core", (legs.core or 0) - (legs.core_due or legs.ledger)
    if legs.in_suspense and legs.core is None:
        return "in_suspense", legs.ledger
    if legs.core_due is None:
        return ("not_booked_as_posted", legs.core) if legs.core is not None else ("not_posted_yet", legs.ledger)
    if legs.core is None:
        return "missing_in_core", legs.core_due
    if legs.core != legs.core_due:
        return "amount_differs_in_core", abs(legs.core - legs.core_due)
    return MATCHED, 0


def read_reconciliation(connection: Connection, day: date, *, now: datetime) -> pd.DataFrame:
    """The reconciliation of `day` (Nairobi): one row a receipt, in the columns RECONCILIATION, by partner, flow and receipt."""
    start, end = day_bounds(day)
    raw = pd.read_sql_query(_LEGS, connection, params={"start": start, "end": end, "day": day}, dtype_backend="pyarrow")
    verdicts = [
        judge(Legs(_cents(row.ledger_cents), _cents(row.rail_cents), _cents(row.core_due_cents), _cents(row.core_cents),
                   _cents(row.core_lines) or 0, bool(row.in_suspense), _cents(row.core_lines_due) or 1, bool(row.given_back)))
        for row in raw.itertuples()
    ]  # fmt: skip
    raw["outcome"] = [outcome for outcome, _ in verdicts]
    raw["difference_cents"] = [difference for _, difference in verdicts]
    raw["age_hours"] = [
        0 if outcome == MATCHED or pd.isna(moment) else int((now - moment).total_seconds() // 3600)
        for (outcome, _), moment in zip(verdicts, raw["happened_at"], strict=True)
    ]
    return to_frame(raw, RECONCILIATION)


def mark_explained(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with a column `explained`: matched, or covered by an open case, or still within the time that posting may take."""
    young = (frame["outcome"] == "not_posted_yet") & (frame["age_hours"] < IN_TRANSIT_HOURS)
    explained = (frame["outcome"] == MATCHED) | frame["case_open"] | young
    return frame.assign(explained=explained)


def read_control(connection: Connection, day: date) -> Control:
    """The ledger's own count and sum of M-Pesa money on `day`: what the report's ledger column must add up to."""
    start, end = day_bounds(day)
    row = connection.execute(_CONTROL, {"start": start, "end": end}).one()
    return Control(receipts=row.receipts, cents=row.cents)


def _cents(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
