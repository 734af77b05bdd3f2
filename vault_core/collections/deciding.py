"""What people decide about payments: to which account one goes, that it went to the wrong one, that M-Pesa gives it back.

The rules are pure. Above a limit (the partner's, or the installation's), and for money that leaves M-Pesa always, what one person
proposed waits until another one agrees. The tables themselves refuse an approval by the proposer, and one person's decision above
the limit (functions/10_postings_and_decisions.sql).
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.collections.decision_rows import Decision, DecisionKind, Proposal, decide, open_decision, write_proposal
from vault_core.collections.pending import PendingCollection
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import ZERO, Money
from vault_core.partners.collection_settings import CollectionSettings
from vault_core.runtime import Runtime
from vault_core.settings import Pace

LAPSES_AFTER = timedelta(days=7)
_DECIDABLE = {("assign", "suspense"), ("move", "posted"), ("reverse", "suspense")}
_ELSEWHERE = {
    "matching": "its account is being looked for this moment: wait for that, or see `vault collections show`",
    "posting": "it is on its way into Mifos X this moment: wait for that, or see `vault collections show`",
    "reversing": "M-Pesa was asked to give it back",
    "reversed": "M-Pesa gave it back",
}


def why_not_decided(kind: DecisionKind, one: PendingCollection) -> str | None:
    """Why nothing of `kind` can be decided about the payment as it stands; None if it can."""
    if (kind, one.state) in _DECIDABLE:
        return None
    if kind == "assign" and one.state == "needs_review":
        return _why_not_assigned(one)
    if one.state in _ELSEWHERE:
        return _ELSEWHERE[one.state]
    if one.state == "posted":
        away = "" if kind == "assign" else ", without --account"
        return f"it is posted to {one.account_words}: `vault collections move` takes it out of there{away}"
    if kind == "move":
        return "it is not in Mifos X: `vault collections assign` says which account it is for"
    return "whether it is in Mifos X is not clear: `vault collections resume` looks there again"


def _why_not_assigned(one: PendingCollection) -> str | None:
    if any(posting.state != "posted" for posting in one.postings):
        return (
            f"it may be in {one.account_words} already: Mifos X left unclear whether it posted it. "
            "`vault collections resume` looks there again"
        )
    return None if one.unposted > ZERO else "all of it is in Mifos X: `vault collections resume` books it"


def alone_up_to(settings: CollectionSettings, pace: Pace, installation: Money) -> Money:
    """Up to which amount one person may decide alone: the partner's limit, or the process's, never more than `installation`."""
    own = Money.shillings(pace.assign_alone_up_to) if settings.assign_alone_up_to is None else settings.assign_alone_up_to
    return min(own, installation)


def why_not_approved(decision: Decision, actor: str, now: datetime) -> str | None:
    """Why `actor` cannot agree to the proposal; None if they can."""
    if decision.lapses_at <= now:
        return "it has lapsed, undecided: propose it anew"
    return f"{actor} proposed it: another login must agree" if actor == decision.proposed_by else None


def checked_reason(reason: str) -> str:
    """The reason without blanks around it. Raises InvalidInput without one."""
    if not (reason := " ".join(reason.split())):
        raise InvalidInput("a reason is needed: a second person and the auditors read it")
    return reason


async def propose(
    connection: AsyncConnection, runtime: Runtime, one: PendingCollection, proposal: Proposal, *, actor: str
) -> Decision:
    """Writes the proposal about the locked payment, approved already where one person is enough. Audited.

    Raises Conflict where the payment's state forbids it or something else is decided about it already.
    """
    refused = why_not_decided(proposal.kind, one)
    standing = await open_decision(connection, one.id)
    if standing is not None and standing.state == "proposed":
        refused = (
            f"{standing.proposed_by} proposed to {standing.kind} it, which waits for a second person: approve or reject that"
        )
    elif standing is not None and refused is None:
        refused = f"it is being carried out to {standing.kind} it: `vault collections show` tells how far it is"
    if refused is not None:
        raise Conflict(f"payment {one.receipt}: {refused}")
    decision = await write_proposal(connection, runtime, one, proposal, actor=actor, lapses_at=runtime.clock.now() + LAPSES_AFTER)
    await audit(connection, runtime, decision, "proposed", actor, proposal.reason)
    if not proposal.second_person:
        await decide(connection, runtime, decision.id, "approved", actor)
    return decision


async def audit(
    connection: AsyncConnection, runtime: Runtime, decision: Decision, what: str, actor: str, reason: str | None
) -> None:
    """Writes one act about a decision into the audit trail."""
    facts: dict[str, Any] = {"decision": str(decision.id), "amount_cents": decision.amount.cents}
    if decision.target is not None:
        facts["account"] = str(decision.target)
    if what != "proposed":
        facts["proposed_by"] = decision.proposed_by
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=f"collection.{decision.kind}_{what}",
        partner_id=decision.partner_id,
        subject=f"collection {decision.short_code} {decision.receipt}",
        after=facts,
        reason=reason,
    )
