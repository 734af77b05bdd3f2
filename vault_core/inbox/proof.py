"""The inbox's proof: what was acknowledged is on its way to an effect, or has had one, or waits for a person."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from vault_core.finding import Finding

STALE_AFTER = timedelta(minutes=15)

_COUNTS = text(
    """
    SELECT count(*) AS deliveries,
           count(*) FILTER (WHERE state = 'stored') AS waiting,
           count(*) FILTER (WHERE state = 'processed') AS processed,
           count(*) FILTER (WHERE state = 'exception') AS exceptions,
           count(*) FILTER (WHERE state = 'stored' AND received_at < :stale_before) AS stale,
           min(received_at) FILTER (WHERE state = 'stored') AS oldest,
           count(*) FILTER (WHERE state = 'processed' AND coalesce(effect, '') = '') AS without_effect,
           count(*) FILTER (WHERE state = 'exception' AND coalesce(cause, '') = '') AS without_cause
    FROM inbound_events
    """
)


@dataclass(frozen=True, slots=True)
class InboxProof:
    """Deliveries by state. Exceptions are shown and counted: a person must see them, but nothing of them is lost."""

    deliveries: int
    waiting: int
    processed: int
    exceptions: int
    findings: tuple[Finding, ...]


def prove_inbox(connection: Connection, *, now: datetime, stale_after: timedelta = STALE_AFTER) -> InboxProof:
    """The proof at `now` (aware). A delivery stored for longer than `stale_after` without an outcome is a finding."""
    row = connection.execute(_COUNTS, {"stale_before": now - stale_after}).one()

    def findings() -> Iterator[Finding]:
        if row.stale:
            yield Finding(
                "inbox_processed",
                f"{row.stale} deliveries",
                f"stored and unprocessed since {row.oldest:%Y-%m-%d %H:%M:%S} UTC: are the stream workers running?",
            )
        if row.without_effect:
            yield Finding("inbox_effects", f"{row.without_effect} deliveries", "processed without a stated effect")
        if row.without_cause:
            yield Finding("inbox_causes", f"{row.without_cause} deliveries", "set aside without a stated cause")

    return InboxProof(row.deliveries, row.waiting, row.processed, row.exceptions, tuple(findings()))
