"""Following prompts until they end: for their money, by questions to M-Pesa, and by time (reference/daraja.md section 5)."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.daraja_stk import Fate, StkFate, StkQuestion
from vault_core.collections.stk_payment import find_payments
from vault_core.collections.stk_requests import StkRequest, lock_due_requests, lock_requests
from vault_core.collections.stk_results import UNBOOKED_CASE, settle_requests
from vault_core.collections.stk_verdict import SUCCESS, StkState, may_be_asked_about, may_be_met_by_payment, said_paid
from vault_core.database import in_transaction
from vault_core.errors import VaultError
from vault_core.outcome import Accepted
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200
_AT_ONCE = 20


async def follow_prompts(runtime: Runtime, connections: Connections) -> int:
    """Looks at every prompt that is due and returns how many were. Prompts nobody.

    Money that is booked and can be no other's ends a request; a question that M-Pesa answers with an end declines it, until money
    or the callback say otherwise; time makes it 'expired', and its money is looked for all the same.
    """

    async def look(connection: AsyncConnection) -> tuple[int, list[StkRequest]]:
        return await _look(connection, runtime)

    looked_at, asked_about = await in_transaction(runtime.engine, look)
    fates = await _ask_all(runtime, connections, asked_about)
    if fates:

        async def apply(connection: AsyncConnection) -> None:
            await _apply(connection, runtime, fates)

        await in_transaction(runtime.engine, apply)
    return looked_at


async def _look(connection: AsyncConnection, runtime: Runtime) -> tuple[int, list[StkRequest]]:
    due, now = await lock_due_requests(connection, runtime, _MOST), runtime.clock.now()
    for request in due:
        if request.state is StkState.PROMPTING:
            request.state, request.reason = StkState.UNKNOWN, "no answer was kept: the process ended before it came"
    receipts = await find_payments(connection, runtime, [one for one in due if may_be_met_by_payment(one.told(), now)])
    for request in due:
        if request.id in receipts:
            request.receipt, request.receipt_from, request.reason = receipts[request.id], "payment", None
    ask = [request for request in due if may_be_asked_about(request.told(), now)]
    for request in ask:
        request.queries += 1
    await settle_requests(connection, runtime, due)
    await _tell_unbooked(connection, runtime, due)
    return len(due), ask


async def _tell_unbooked(connection: AsyncConnection, runtime: Runtime, requests: Sequence[StkRequest]) -> None:
    """M-Pesa says paid, and no feed has told the payment in all the time a prompt may take: somebody must look."""
    missing = [request for request in requests if request.state is StkState.EXPIRED and said_paid(request.told())]
    cases = [
        NewCase(
            UNBOOKED_CASE,
            request.case_subject,
            request.partner_id,
            request.amount,
            request.facts() | {"receipt": request.callback_receipt, "said_by": _who(request)},
        )
        for request in missing
    ]
    await open_cases(connection, runtime.clock, runtime.new_id, cases)


def _who(request: StkRequest) -> str:
    return "callback" if request.callback_code == SUCCESS else "status question"


async def _ask_all(runtime: Runtime, connections: Connections, requests: Sequence[StkRequest]) -> dict[UUID, StkFate]:
    """What M-Pesa says of each; those without a word on the prompt are left out and asked about again later."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(request: StkRequest) -> StkFate | None:
        async with turns:
            return await _ask(runtime, connections, request)

    fates = await asyncio.gather(*(one(request) for request in requests))
    return {request.id: fate for request, fate in zip(requests, fates, strict=True) if fate is not None}


async def _ask(runtime: Runtime, connections: Connections, request: StkRequest) -> StkFate | None:
    try:
        daraja = await connections.daraja(request.partner_id)
        outcome = await daraja.query_prompt(
            StkQuestion(request.short_code, request.checkout_request_id or "", runtime.clock.now())
        )
    except VaultError as error:
        log.warning("question about a prompt not sent", request=str(request.id), cause=str(error))
        return None
    if not isinstance(outcome, Accepted):
        log.warning("no word on a prompt", request=str(request.id), outcome=str(outcome))
        return None
    return None if outcome.value.fate is Fate.PENDING else outcome.value


async def _apply(connection: AsyncConnection, runtime: Runtime, fates: dict[UUID, StkFate]) -> None:
    requests = await lock_requests(connection, runtime, ids=fates)
    for request in requests:
        fate = fates[request.id]
        if request.query_code == SUCCESS:
            continue
        request.query_code = SUCCESS if fate.fate is Fate.PAID else fate.code
        if fate.fate is Fate.DECLINED and request.callback_code is None and request.receipt is None:
            request.reason = f"{fate.code}: {fate.reason}"
    await settle_requests(connection, runtime, requests)
