"""The charges of a day: every line that left a wallet, and the ledger transaction that took it."""

from datetime import date

import pandas as pd
from sqlalchemy import Connection, text

from vault_core.clock import day_bounds
from vault_core.reconciliation.frames import to_frame
from vault_core.reconciliation.report_columns import CHARGES
from vault_core.wallets.tariffs import NO_END

_LINES = text(
    """
    SELECT partners.name AS partner, l.charged_at, l.subject_kind AS subject,
           coalesce(d.receipt, c.receipt, l.subject_id::text) AS reference, l.line, l.amount_cents,
           tariffs.provider || ' ' || tariffs.product || ' ' || tariffs.valid_from AS tariff,
           b.from_cents AS band_from_cents, nullif(b.to_cents, :no_end) AS band_to_cents, l.system_fee_id::text AS system_fee,
           coalesce(b.confirmed, true) AS tariff_confirmed, l.transaction_id::text AS ledger_transaction
    FROM charge_lines l
    JOIN partners ON partners.id = l.partner_id
    LEFT JOIN disbursements d ON l.subject_kind = 'disbursement' AND d.id = l.subject_id
    LEFT JOIN collections c ON l.subject_kind = 'collection' AND c.id = l.subject_id
    LEFT JOIN tariff_bands b ON b.id = l.tariff_band_id
    LEFT JOIN tariffs ON tariffs.id = b.tariff_id
    WHERE l.charged_at >= :start AND l.charged_at < :end AND l.amount_cents > 0
    ORDER BY partners.name, l.charged_at, l.id
    """
)

# The other side of the same money, from the ledger alone: what the fee accounts took in the day. `charges` and `sms` are booked
# in the transaction that sets charged_at, so both sides fall on the same day.
_TAKEN = text(
    """
    SELECT coalesce(sum(e.amount_cents), 0)::bigint FROM ledger_transactions t
    JOIN ledger_entries e ON e.transaction_id = t.id
    JOIN ledger_accounts a ON a.id = e.account_id AND a.code = 'wallet'
    WHERE t.kind IN ('charges', 'sms') AND t.booked_at >= :start AND t.booked_at < :end
    """
)


def read_charges(connection: Connection, day: date) -> pd.DataFrame:
    """The charges taken on `day` (Nairobi): one row a line, in the columns CHARGES."""
    start, end = day_bounds(day)
    raw = pd.read_sql_query(
        _LINES, connection, params={"start": start, "end": end, "no_end": NO_END.cents}, dtype_backend="pyarrow"
    )
    return to_frame(raw, CHARGES)


def wallet_charges_cents(connection: Connection, day: date) -> int:
    """What the ledger took from all wallets for charges on `day`, in cents: the control total of the report."""
    start, end = day_bounds(day)
    return int(connection.execute(_TAKEN, {"start": start, "end": end}).scalar_one())
