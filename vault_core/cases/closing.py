"""What people do about a case: take it, close it with evidence, approve or reject that another one closes it. Audited."""

from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_case
from vault_core.cases.case_kinds import is_closed_by_people, needs_second_person
from vault_core.cases.case_story import Case, Closing, read_case
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, NotFound
from vault_core.money import Money
from vault_core.runtime import Runtime

_LEAST_EVIDENCE = 10  # characters: "ok" is no evidence

_TAKE = text("UPDATE cases SET owner = :owner WHERE id = :id")
_PROPOSE = text(
    """
    INSERT INTO case_closings (id, case_id, reason, evidence, second_person, proposed_by, proposed_at)
    VALUES (:id, :case_id, :reason, :evidence, :second_person, :actor, :now)
    """
)
_DECIDE = text(
    """
    UPDATE case_closings SET state = :state, decided_by = :actor, decided_at = :now, decision_note = :note
    WHERE case_id = :case_id AND state = 'proposed'
    """
)


async def take_case(runtime: Runtime, case_id: UUID, owner: str | None, *, actor: str) -> Case:
    """Makes an open case `owner`'s work (None: nobody's); a repeat changes nothing. Raises NotFound, Conflict if it is closed."""

    async def work(connection: AsyncConnection) -> Case:
        case = await _open(connection, case_id)
        if case.owner != owner:
            await connection.execute(_TAKE, {"id": case_id, "owner": owner})
            await _audit(connection, runtime, case, "case.taken", actor, None, {"owner": owner}, before={"owner": case.owner})
        return await read_case(connection, case_id)

    return await in_transaction(runtime.engine, work)


async def close_by_hand(runtime: Runtime, case_id: UUID, *, reason: str, evidence: str, actor: str) -> Case:
    """Closes the case, or keeps that as a proposal for a second person where one is not enough (`case_kinds`).

    Raises InvalidInput without a reason and evidence in words, NotFound, and Conflict for a case that is closed, is proposed to
    be, or ends otherwise: by the command that settles its matter, which the message names, or by itself.
    """
    reason, evidence = _words(reason, evidence)

    async def work(connection: AsyncConnection) -> Case:
        case = await _open(connection, case_id)
        if not is_closed_by_people(case.ending):
            raise Conflict(f"{case.name} is not closed by hand: {case.ends}")
        if (waiting := case.proposed) is not None:
            raise Conflict(f"{case.name}: {waiting.proposed_by} proposed to close it: approve or reject that")
        second = needs_second_person(case.ending, case.amount, Money.shillings(runtime.pace.resolve_alone_up_to))
        now = runtime.clock.now()
        proposal = {
            "id": runtime.new_id(), "case_id": case_id, "reason": reason, "evidence": evidence, "second_person": second,
            "actor": actor, "now": now,
        }  # fmt: skip
        await connection.execute(_PROPOSE, proposal)
        if second:
            await _audit(connection, runtime, case, "case.closing_proposed", actor, reason, {"evidence": evidence})
        else:
            await _close(connection, runtime, case, Closing(reason, evidence, actor, now, "proposed", None, None, None), actor)
        return await read_case(connection, case_id)

    return await in_transaction(runtime.engine, work)


async def approve_closing(runtime: Runtime, case_id: UUID, *, actor: str) -> Case:
    """Closes a case as another person proposed it. A case that is closed by now stays as it is: the proposal is 'overtaken'.

    Raises NotFound, and Conflict for one's own proposal and for a case that ends otherwise by now.
    """

    async def work(connection: AsyncConnection) -> Case:
        case = await read_case(connection, case_id, lock=True)
        waiting = _waiting(case)
        if actor == waiting.proposed_by:
            raise Conflict(f"{actor} proposed it: another login must approve it")
        if case.closed_at is not None:
            await _decide(connection, runtime, case, "overtaken", actor, "it was closed already")
        elif not is_closed_by_people(case.ending):
            raise Conflict(f"{case.name} is not closed by hand any more: {case.ends}")
        else:
            await _close(connection, runtime, case, waiting, actor)
        return await read_case(connection, case_id)

    return await in_transaction(runtime.engine, work)


async def reject_closing(runtime: Runtime, case_id: UUID, *, actor: str, reason: str) -> Case:
    """Ends a proposal to close a case; who proposed it may withdraw it so. The case stays open. Raises NotFound, InvalidInput."""
    if not (reason := reason.strip()):
        raise InvalidInput("a reason is needed: the proposer reads it")

    async def work(connection: AsyncConnection) -> Case:
        case = await read_case(connection, case_id, lock=True)
        by = _waiting(case).proposed_by
        await _decide(connection, runtime, case, "rejected", actor, reason)
        await _audit(connection, runtime, case, "case.closing_rejected", actor, reason, {"proposed_by": by})
        return await read_case(connection, case_id)

    return await in_transaction(runtime.engine, work)


def _words(reason: str, evidence: str) -> tuple[str, str]:
    reason, evidence = reason.strip(), " ".join(evidence.split())
    if not reason:
        raise InvalidInput("a reason is needed: it stands in the case and in the audit trail")
    if len(evidence) < _LEAST_EVIDENCE:
        raise InvalidInput(
            "evidence is needed in words: where it was looked up and what was seen there (say 'M-Pesa statement of 24 Nov, line "
            "UKO1234567: returned by the client'); names and phones do not belong"
        )
    return reason, evidence


async def _open(connection: AsyncConnection, case_id: UUID) -> Case:
    case = await read_case(connection, case_id, lock=True)
    if case.closed_at is not None:
        raise Conflict(f"{case.name} is closed already: {case.resolution}")
    return case


def _waiting(case: Case) -> Closing:
    if (waiting := case.proposed) is None:
        raise NotFound(f"{case.name}: nothing waits for a second person")
    return waiting


async def _close(connection: AsyncConnection, runtime: Runtime, case: Case, waiting: Closing, actor: str) -> None:
    by = waiting.proposed_by if actor == waiting.proposed_by else f"{waiting.proposed_by}, approved by {actor}"
    words = f"closed by {by}: {waiting.reason}. Evidence: {waiting.evidence}"
    await _decide(connection, runtime, case, "applied", actor, None)
    await close_case(connection, runtime.clock, kind=case.kind, subject=case.subject, resolution=words)
    await _audit(
        connection, runtime, case, "case.closed", actor, waiting.reason,
        {"evidence": waiting.evidence, "proposed_by": waiting.proposed_by},
    )  # fmt: skip


async def _decide(connection: AsyncConnection, runtime: Runtime, case: Case, state: str, actor: str, note: str | None) -> None:
    decision = {"case_id": case.id, "state": state, "actor": actor, "now": runtime.clock.now(), "note": note}
    await connection.execute(_DECIDE, decision)


async def _audit(
    connection: AsyncConnection,
    runtime: Runtime,
    case: Case,
    act: str,
    actor: str,
    reason: str | None,
    after: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
) -> None:
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=actor,
        act=act,
        partner_id=case.partner_id,
        subject=f"case {case.id}",
        before=before,
        after={"kind": case.kind, "subject": case.subject} | after,
        reason=reason,
    )
