"""The messages of a day: what was told to whom, how it went, in how many parts, and what it cost."""

from datetime import date
from uuid import UUID

import pandas as pd
from sqlalchemy import Connection, text

from vault_core.clock import day_bounds
from vault_core.notifications.messages import phone_binding
from vault_core.reconciliation.frames import to_frame
from vault_core.reconciliation.report_columns import SMS
from vault_core.secrets import Sealer

_MESSAGES = text(
    """
    SELECT partners.name AS partner, m.id::text AS message, m.template, m.phone_sealed, m.created_at AS written_at, m.state,
           (SELECT count(*) FROM message_attempts a WHERE a.message_id = m.id) AS attempts, m.parts, m.price_cents,
           coalesce((SELECT sum(l.amount_cents) FROM charge_lines l WHERE l.subject_kind = 'message' AND l.subject_id = m.id
                     AND l.charged_at IS NOT NULL), 0)::bigint AS charged_cents,
           m.reason
    FROM messages m JOIN partners ON partners.id = m.partner_id
    WHERE m.created_at >= :start AND m.created_at < :end
    ORDER BY partners.name, m.created_at, m.id
    """
)


def read_messages(connection: Connection, day: date, sealer: Sealer) -> pd.DataFrame:
    """The messages written on `day` (Nairobi): one row a message, in the columns SMS, phones in clear."""
    start, end = day_bounds(day)
    rows = connection.execute(_MESSAGES, {"start": start, "end": end}).mappings().all()
    opened = [
        {**row, "phone": sealer.open_text(row["phone_sealed"], bound_to=phone_binding(UUID(row["message"])))} for row in rows
    ]
    raw = pd.DataFrame(opened, columns=[column.name for column in SMS])
    return to_frame(raw, SMS)


def count_messages(connection: Connection, day: date) -> int:
    """How many messages were written on `day`: what the report's rows must number."""
    start, end = day_bounds(day)
    query = text("SELECT count(*) FROM messages WHERE created_at >= :start AND created_at < :end")
    return int(connection.execute(query, {"start": start, "end": end}).scalar_one())
