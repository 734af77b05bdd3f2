"""Stopping a partner's queue when M-Pesa refuses it for a cause that every next payout would meet."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.partners.partner import load_partners
from vault_core.partners.states import halt_partner
from vault_core.runtime import Runtime

HALTED_CASE = "partner_halted"


async def halt_partners(connection: AsyncConnection, runtime: Runtime, reasons: Mapping[UUID, str]) -> None:
    """Halts the partners that are active, with the reason, and opens a case for each. Repeats do nothing.

    Repeated credential faults lock the initiator (reference/daraja.md section 3.1), so the first one stops the queue.
    """
    if not reasons:
        return
    partners = await load_partners(connection, list(reasons))
    cases = []
    for partner_id in sorted(reasons):
        reason, name = reasons[partner_id], partners[partner_id].name
        if await halt_partner(connection, runtime, partner_id, reason=reason, actor="system:disbursements"):
            evidence = {"why": reason, "do": f"remove the cause, then `vault partner resume {name}`"}
            cases.append(NewCase(HALTED_CASE, f"partner {name}", partner_id, evidence=evidence))
    await open_cases(connection, runtime.clock, runtime.new_id, cases)
