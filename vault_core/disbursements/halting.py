"""Stopping a partner's queue when M-Pesa refuses it for a cause that every next payout would meet."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.notifications.partner_texts import PartnerText, tell_partners
from vault_core.partners.partner import load_partners
from vault_core.partners.states import HALTED_CASE, halt_partner, halted_subject
from vault_core.runtime import Runtime

SIGNS_TO_STOP = 2
_NEVER = datetime(2007, 1, 1, tzinfo=UTC)  # M-Pesa began


@dataclass(frozen=True, slots=True)
class Fault:
    """A sign: an instruction of the partner, to be sent by `send_by`, was refused for a cause that is not its own.

    `why` says what and what to do.
    """

    partner_id: UUID
    why: str
    send_by: datetime


_IN_TURN = text("SELECT id FROM partners WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")
_RESUMED = text(
    """
    SELECT p.id, max(l.at) AS at FROM partners p JOIN audit_log l ON l.subject = p.name AND l.act = 'partner.resumed'
    WHERE p.id = ANY(:ids) GROUP BY p.id
    """
)
_SIGNS = text(
    """
    SELECT a.partner_id, sum(a.faults)::integer AS signs FROM disbursement_attempts a
    JOIN unnest(CAST(:ids AS uuid[]), CAST(:resumed AS timestamptz[])) AS since(id, at) ON since.id = a.partner_id
    WHERE a.faults > 0 AND a.send_by - CAST(:send_within AS interval) > since.at
          AND a.written_at > coalesce((SELECT max(s.written_at) FROM disbursement_attempts s
                                       WHERE s.partner_id = a.partner_id AND s.state = 'paid'), '-infinity')
    GROUP BY a.partner_id
    """
)


async def stop_for_faults(connection: AsyncConnection, runtime: Runtime, faults: Sequence[Fault]) -> set[UUID]:
    """The partners whose queue stands after `faults`, which the caller writes (`disbursement_attempts.faults`) after this call.

    One sign may be a passing fault of M-Pesa; at the second one since the partner's last payout the queue is stopped, with a case
    and one text to its people, for repeated credential faults lock the initiator (reference/daraja.md section 3.1). What was
    claimed before a person resumed the partner is no sign any more: its late result tells of the cause that was removed.
    """
    if not faults:
        return set()
    ids = sorted({fault.partner_id for fault in faults})
    await connection.execute(_IN_TURN, {"ids": ids})  # two that meet one sign each must not both count one
    send_within = timedelta(seconds=runtime.pace.send_within)
    resumed = dict.fromkeys(ids, _NEVER) | {row.id: row.at for row in await connection.execute(_RESUMED, {"ids": ids})}
    new = Counter(fault.partner_id for fault in faults if fault.send_by - send_within > resumed[fault.partner_id])
    since = {"ids": ids, "resumed": [resumed[partner_id] for partner_id in ids], "send_within": send_within}
    before = {row.partner_id: row.signs for row in await connection.execute(_SIGNS, since)}
    reasons = {fault.partner_id: fault.why for fault in faults}
    enough = {partner_id for partner_id, signs in new.items() if signs + before.get(partner_id, 0) >= SIGNS_TO_STOP}
    partners = await load_partners(connection, ids)
    await _halt(connection, runtime, {partner_id: reasons[partner_id] for partner_id in enough})
    return enough | {partner_id for partner_id in ids if not partners[partner_id].is_active}


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
