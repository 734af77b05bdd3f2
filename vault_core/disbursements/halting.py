"""Stopping a partner's queue when M-Pesa refuses it for a cause that every next payout would meet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.partners.partner import load_partners
from vault_core.partners.states import HALTED_CASE, halt_partner, halted_subject
from vault_core.runtime import Runtime

SIGNS_TO_STOP = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """A sign: an instruction of the partner was refused for a cause that is not its own. `why` says what and what to do."""

    partner_id: UUID
    why: str


_IN_TURN = text("SELECT id FROM partners WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_SIGNS = text(
    """
    SELECT a.partner_id, sum(a.faults)::integer AS signs FROM disbursement_attempts a
    WHERE a.partner_id = ANY(:ids) AND a.faults > 0
          AND a.written_at > coalesce((SELECT max(s.written_at) FROM disbursement_attempts s
                                       WHERE s.partner_id = a.partner_id AND s.state = 'paid'), '-infinity')
    GROUP BY a.partner_id
    """
)


async def stop_for_faults(connection: AsyncConnection, runtime: Runtime, faults: Sequence[Fault]) -> set[UUID]:
    """The partners whose queue stands after `faults`, which the caller writes (`disbursement_attempts.faults`) after this call.

    One sign may be a passing fault of M-Pesa; at the second one since the partner's last payout the queue is stopped, with a case
    and one text to its people, for repeated credential faults lock the initiator (reference/daraja.md section 3.1).
    """
    if not faults:
        return set()
    new = Counter(fault.partner_id for fault in faults)
    await connection.execute(_IN_TURN, {"ids": list(new)})  # two that meet one sign each must not both count one
    before = {row.partner_id: row.signs for row in await connection.execute(_SIGNS, {"ids": list(new)})}
    reasons = {fault.partner_id: fault.why for fault in faults}
    enough = {partner_id for partner_id, signs in new.items() if signs + before.get(partner_id, 0) >= SIGNS_TO_STOP}
    partners = await load_partners(connection, list(new))
    await _halt(connection, runtime, {partner_id: reasons[partner_id] for partner_id in enough})
    return enough | {partner_id for partner_id in new if not partners[partner_id].is_active}


async def _halt(connection: AsyncConnection, runtime: Runtime, reasons: Mapping[UUID, str]) -> None:
    partners = await load_partners(connection, list(reasons))
    cases, texts = [], []
    for partner_id in sorted(reasons):
        reason, partner = reasons[partner_id], partners[partner_id]
        if await halt_partner(connection, runtime, partner_id, reason=reason, actor="system:disbursements"):
            evidence = {"why": reason, "do": f"remove the cause, then `vault partner resume {partner.name}`"}
            cases.append(NewCase(HALTED_CASE, halted_subject(partner.name), partner_id, evidence=evidence))
            fact = f"halted:{partner_id}:{runtime.clock.now().isoformat()}"
            texts.append(PartnerText(partner, fact, "payouts_stopped", {"reason": reason}))
    await open_cases(connection, runtime.clock, runtime.new_id, cases)
    await tell_partners(connection, runtime, texts)
