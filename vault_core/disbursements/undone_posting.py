"""Posting again what was posted and then undone in Mifos X: only because a person says so.

An undone transaction keeps its external id, and the server its answer under the idempotency key (reference/fineract.md
section 11): the new posting needs both anew.
"""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.cases.case_book import close_cases
from vault_core.database import in_transaction
from vault_core.disbursements.intended_posting import POST_CALL
from vault_core.disbursements.posting import UNPOSTED
from vault_core.errors import Conflict, NotFound
from vault_core.outbox.calls import begin_anew
from vault_core.partners.connections import Connections
from vault_core.postings.posting_rows import CorePosting, read_postings
from vault_core.postings.read_back import Found, Unsure, read_back
from vault_core.runtime import Runtime

_WITH_A_PERSON = text(
    """
    SELECT d.id, d.partner_id FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE p.name = :partner AND d.receipt = :receipt AND d.state = 'needs_review'
    """
)
_TAKE_UP = text(
    "UPDATE disbursements SET state = 'posting', reason = NULL WHERE id = :id AND state = 'needs_review' RETURNING id"
)
_ANEW = text(
    """
    UPDATE core_postings SET state = 'unknown', external_id = :external_id, idempotency_key = :key, key_tries = 0,
           undone = undone || CAST(:undone AS bigint[])
    WHERE id = :id AND external_id = :former AND state <> 'posted' RETURNING id
    """
)


async def post_undone_again(
    runtime: Runtime, connections: Connections, partner: str, receipt: str, *, actor: str, reason: str
) -> str:
    """Has the disbursal with that M-Pesa receipt posted once more, after it was undone in Mifos X; returns its new external id.

    Moves no money. The loan is read first: raises Conflict unless the undone posting is all that stands in the way, NotFound if
    no payout with the receipt is with a person, and what reads raise. Audited.
    """
    async with runtime.engine.connect() as connection:
        row = (await connection.execute(_WITH_A_PERSON, {"partner": partner, "receipt": receipt})).one_or_none()
        postings = [] if row is None else await read_postings(connection, runtime, "disburse", [row.id])
    if row is None or not postings:
        raise NotFound(f"no paid disbursement of {partner} with receipt {receipt} is with a person for its posting")
    (posting,) = postings
    undone = await _undone(connections, row.partner_id, posting)
    external_id = f"{posting.external_id}-{len(posting.undone) + len(undone) + 1}"

    async def work(connection: AsyncConnection) -> None:
        taken = (await connection.execute(_TAKE_UP, {"id": row.id})).one_or_none()
        anew = {
            "id": posting.id,
            "former": posting.external_id,
            "external_id": external_id,
            "key": runtime.new_id().hex,
            "undone": list(undone),
        }
        if taken is None or (await connection.execute(_ANEW, anew)).one_or_none() is None:
            raise Conflict(f"the posting of {receipt} was taken up meanwhile: see `vault disbursements show {receipt}`")
        await begin_anew(connection, runtime.clock, POST_CALL, [row.id])
        cases = [(UNPOSTED, f"disbursement {row.id}"), ("call_given_up", f"{POST_CALL} {row.id}")]
        await close_cases(connection, runtime.clock, cases, resolution=f"posted again after it was undone, by {actor}: {reason}")
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="posting.again",
            partner_id=row.partner_id,
            subject=f"disbursement {row.id}",
            before={"external_id": posting.external_id},
            after={"external_id": external_id, "undone": list(undone)},
            reason=reason,
        )

    await in_transaction(runtime.engine, work)
    return external_id


async def _undone(connections: Connections, partner_id: UUID, posting: CorePosting) -> tuple[int, ...]:
    partner = await connections.partner(partner_id)
    seen = await read_back(await connections.mifos(partner_id), partner.mifos_capabilities, posting)
    match seen:
        case Unsure(undone=undone) if undone:
            return undone
        case Found():
            raise Conflict(f"{posting.receipt} is posted, transaction {seen.transaction.id}: its case closes by itself")
        case Unsure():
            raise Conflict(f"{posting.receipt} was not undone; {seen.cause}")
        case _:
            raise Conflict(f"{posting.receipt} was never posted: `vault disbursements resume` posts it")
