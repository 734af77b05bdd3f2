"""Web hooks of Mifos X: each hint leads to a read of the loan; an approved one is sent, an undone one is a case, at once."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import ApprovedLoan
from vault_core.database import in_transaction
from vault_core.disbursements.found_loans import FoundLoan, insert_found, new_ones, with_phones
from vault_core.disbursements.hook_hints import LoanHint, read_hook
from vault_core.disbursements.lender_calendars import with_closed_days
from vault_core.disbursements.sealed_credentials import note_sealed
from vault_core.disbursements.sending import send_ready
from vault_core.disbursements.tranches import APPROVED, is_closed
from vault_core.disbursements.undone_disbursals import note_standing, tell_undone
from vault_core.errors import InvalidInput, NotFound, RemoteRefusal, SealBroken, TransientError
from vault_core.inbox.applying import apply_deliveries
from vault_core.inbox.delivery import Delivery
from vault_core.inbox.reading import read_deliveries
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a hook led to: a loan to take in, or in a few words why not."""

    found: FoundLoan | None
    effect: str


# What we hold for posted of the loan. What is looked at by the hour until it is posted, or undone, is looked at now.
_OURS = text(
    """
    UPDATE disbursements SET due_at = CASE WHEN state = 'needs_review' THEN CAST(:now AS timestamptz) ELSE due_at END
    WHERE partner_id = :partner_id AND loan_id = :loan_id
          AND ((state = 'needs_review' AND due_at IS NOT NULL) OR (state = 'disbursed' AND posted_at <= :read_at))
    RETURNING tranche, state
    """
)
# Only what was known to stand: Mifos X may still be at work on a call whose answer is missing, and shows nothing of it then.
_TO_BE_UNDONE = text(
    """
    UPDATE core_postings SET undo_look_at = :now
    WHERE partner_id = :partner_id AND kind = 'disburse' AND account_id = :loan_id AND undo_look_at IS NOT NULL
          AND mifos_transaction_id IS NOT NULL
    """
)


async def handle_mifos_events(runtime: Runtime, connections: Connections, ids: Sequence[UUID]) -> None:
    """Takes in the loans that stored hooks hint at, then sends the new ones.

    A hook whose Mifos X cannot be read now stays unprocessed: the sweep offers it again, and the poll finds the loan anyway. So
    does one of a lender whose credentials do not open, and people have a case.
    """
    deliveries = await read_deliveries(runtime, ids)
    turns = asyncio.Semaphore(_READS_AT_ONCE)

    async def one(delivery: Delivery) -> _Seen | None:
        async with turns:
            return await _look(runtime, connections, delivery)

    looks = await asyncio.gather(*(one(delivery) for delivery in deliveries))
    seen = {delivery.id: look for delivery, look in zip(deliveries, looks, strict=True) if look is not None}
    new: list[UUID] = []

    async def apply(connection: AsyncConnection, applied: Sequence[Delivery]) -> Mapping[UUID, str]:
        effects = {}
        for delivery in applied:
            look = seen[delivery.id]
            effects[delivery.id] = look.effect
            if look.found is not None:
                inserted = await insert_found(connection, runtime, delivery.partner_id, [look.found], "hook")
                new.extend(inserted.values())
                effects[delivery.id] = f"{look.effect}: {'taken in' if inserted else 'known already'}"
        return effects

    await apply_deliveries(runtime, list(seen), apply)
    if new:
        await send_ready(runtime, connections, new)


async def _look(runtime: Runtime, connections: Connections, delivery: Delivery) -> _Seen | None:
    try:
        hint = read_hook(delivery.headers, delivery.body)
    except InvalidInput as error:
        return _Seen(None, f"not a hook we read: {error}"[:200])
    if not isinstance(hint, LoanHint):
        return _Seen(None, f"nothing to do: {hint.why}"[:200])
    name = f"loan {hint.loan_id}"
    try:
        client = await connections.mifos(delivery.partner_id)
        read_at = runtime.clock.now()
        loan = await client.loan(hint.loan_id)
        if hint.undone and await _note_undone(runtime, delivery.partner_id, loan, read_at):
            return _Seen(None, f"{name}: what we posted was undone, a person has a case")
        if loan.status_id != APPROVED:
            return _Seen(None, f"{name} is in status {loan.status_id}, not approved")
        async with runtime.engine.begin() as connection:
            if not await new_ones(connection, runtime, delivery.partner_id, [loan], read_at=read_at):
                return _Seen(None, f"{name} is known already or its product is not enabled")
        (found,) = await with_closed_days(runtime, connections, delivery.partner_id, await with_phones(client, [loan]))
        return _Seen(found, name)
    except NotFound:
        return _Seen(None, f"{name} does not exist in Mifos X, or our user may not see it")
    except SealBroken as error:
        log.warning("hook left for later", loan=hint.loan_id, cause=str(error))
        sealed = error
        await in_transaction(runtime.engine, lambda c: note_sealed(c, runtime, delivery.partner_id, sealed))
        return None
    except TransientError as error:
        log.warning("hook left for later", loan=hint.loan_id, cause=str(error))
        return None
    except RemoteRefusal as error:
        return _Seen(None, f"{name} could not be read: {error}"[:200])


async def _note_undone(runtime: Runtime, partner_id: UUID, loan: ApprovedLoan, read_at: datetime) -> bool:
    """Whether a disbursal that we posted before the loan was read does not stand any more: then a person has a case."""

    async def work(connection: AsyncConnection) -> bool:
        now = runtime.clock.now()
        values = {"partner_id": partner_id, "loan_id": loan.id, "read_at": read_at, "now": now}
        await connection.execute(_TO_BE_UNDONE, values)
        posted = [row.tranche for row in await connection.execute(_OURS, values) if row.state == "disbursed"]
        undone = bool(posted) and not is_closed(loan) and loan.disbursals < max(posted)
        if undone:
            await tell_undone(connection, runtime, partner_id, [loan])
        elif posted and loan.status_id != APPROVED:
            await note_standing(connection, partner_id, [loan.id], read_at)
        return undone

    return await in_transaction(runtime.engine, work)
