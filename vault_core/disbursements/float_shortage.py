"""A short float: what it holds back, and since when. What follows is `float_watch.py`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import NAIROBI
from vault_core.disbursements.candidates import Candidate
from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.disbursements.float_reports import paused_since, read_float
from vault_core.disbursements.float_rules import Float, covered, in_turn
from vault_core.money import ZERO, Money
from vault_core.partners.partner import Partner
from vault_core.runtime import Runtime

# The question about the balance is due at once when a shortage begins.
_BEGIN = text(
    """
    INSERT INTO b2c_floats AS f (partner_id, short_since, refused_at, query_at)
    SELECT short.partner_id, :now, short.refused_at, :now
    FROM unnest(CAST(:partners AS uuid[]), CAST(:refused AS timestamptz[])) AS short(partner_id, refused_at)
    ORDER BY short.partner_id
    ON CONFLICT (partner_id) DO UPDATE SET
        short_since = coalesce(f.short_since, excluded.short_since),
        refused_at = greatest(f.refused_at, excluded.refused_at),
        query_at = CASE WHEN f.short_since IS NULL OR excluded.refused_at IS NOT NULL THEN excluded.query_at ELSE f.query_at END,
        probe_id = CASE WHEN excluded.refused_at IS NULL THEN f.probe_id END
    """
)


async def note_refusals(connection: AsyncConnection, runtime: Runtime, refused: Mapping[UUID, datetime]) -> None:
    """M-Pesa refused a payout of these partners because the float is short, at these moments: nothing of theirs goes on."""
    if refused:
        partners = list(refused)
        values = {"partners": partners, "refused": [refused[partner_id] for partner_id in partners], "now": runtime.clock.now()}
        await connection.execute(_BEGIN, values)


async def why_paused(connection: AsyncConnection, partner: Partner) -> Held | None:
    """Why nothing of the partner goes although there may be float: M-Pesa refused a payout for it and told no balance since."""
    since = await paused_since(connection, partner)
    return None if since is None else _refused(partner, since)


async def keep_what_is_covered(
    connection: AsyncConnection, runtime: Runtime, partner: Partner, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], list[tuple[UUID, Held]]]:
    """Those of the candidates that the expected float covers, in their turn, and why the others are held.

    For the claim, which has taken the partner's turn: what it writes is counted by the next one. A shortage begins with the first
    one held. What may be with M-Pesa already is counted as drawn, so its resend needs nothing more.
    """
    if not candidates:
        return [], []
    found = await read_float(connection, partner.id)
    free = [one for one in candidates if _is_counted(one) or one.id == found.probe_id]
    asking = in_turn([one for one in candidates if one not in free], runtime.pace.first_served)
    served, left = ([], None) if found.is_paused else covered(asking, found.expected)
    going = {one.id for one in (*free, *served)}
    held = [(one.id, _why(partner, found, one, left)) for one in asking if one.id not in going]
    if held:
        now = runtime.clock.now()
        await connection.execute(_BEGIN, {"partners": [partner.id], "refused": [None], "now": now})
    return [one for one in candidates if one.id in going], held


def _is_counted(candidate: Candidate) -> bool:
    return candidate.open_instruction is not None and candidate.open_instruction.maybe_seen


def _why(partner: Partner, found: Float, candidate: Candidate, left: Money | None) -> Held:
    if left is None or found.report is None:
        return _refused(partner, found.refused_at)
    open_ones = f", less {found.drawing} for payouts under way" if found.drawing else ""
    reason = (
        f"{max(left, ZERO)} is left for it on short code {partner.b2c_short_code} (M-Pesa told {found.report.utility} "
        f"{_nairobi(found.report.at)}{open_ones}): {candidate.payout - max(left, ZERO)} missing, buy float"
    )
    return Held(HeldFor.FLOAT_SHORT, reason)


def _refused(partner: Partner, since: datetime | None) -> Held:
    when = "" if since is None else f" {_nairobi(since)}"
    return Held(
        HeldFor.FLOAT_SHORT,
        f"M-Pesa refused a payout{when} because the utility account of short code {partner.b2c_short_code} is short, and has "
        "told no balance since: buy float",
    )


def _nairobi(moment: datetime) -> str:
    return f"{moment.astimezone(NAIROBI):%Y-%m-%d %H:%M}"
