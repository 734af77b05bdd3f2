"""Stopping a partner's queue when M-Pesa refuses it for a cause that every next payout would meet."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import NewCase, open_cases
from vault_core.runtime import Runtime

HALTED_CASE = "partner_halted"

_HALT = text(
    """
    UPDATE partners SET state = 'halted', state_reason = halt.reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS halt(id, reason)
    WHERE partners.id = halt.id AND partners.state = 'active' RETURNING partners.id, partners.name, halt.reason
    """
)


async def halt_partners(connection: AsyncConnection, runtime: Runtime, reasons: Mapping[UUID, str]) -> None:
    """Halts the partners that are active, with the reason; opens a case and writes the audit trail for each. Repeats do nothing.

    Repeated credential faults lock the initiator (reference/daraja.md section 3.1), so the first one stops the queue.
    """
    if not reasons:
        return
    halted = (
        await connection.execute(_HALT, {"ids": sorted(reasons), "reasons": [reasons[partner] for partner in sorted(reasons)]})
    ).all()
    for row in halted:
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor="system:disbursements",
            act="partner.halted",
            subject=f"partner {row.name}",
            partner_id=row.id,
            before={"state": "active"},
            after={"state": "halted"},
            reason=row.reason,
        )
    await open_cases(
        connection,
        runtime.clock,
        runtime.new_id,
        [
            NewCase(
                kind=HALTED_CASE,
                subject=f"partner {row.name}",
                partner_id=row.id,
                evidence={"why": row.reason, "do": f"remove the cause, then `vault partner resume {row.name}`"},
            )
            for row in halted
        ],
    )
