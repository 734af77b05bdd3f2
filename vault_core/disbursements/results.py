"""B2C results and queue time-outs, as M-Pesa posts them to us."""

from collections.abc import Mapping, Sequence
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.daraja_messages import MpesaResult, QueueTimeout, parse_queue_timeout, parse_result
from vault_core.disbursements.attempts import AttemptIndex, lock_attempts
from vault_core.disbursements.evidence import SaysNothing, read_result
from vault_core.disbursements.fee_readings import FeeReading, keep_fee_readings, read_fee
from vault_core.disbursements.settlement import Finding, settle
from vault_core.inbox.applying import Effects, apply_deliveries, read_each
from vault_core.inbox.delivery import Delivery
from vault_core.partners.callback_urls import own_id_in
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

UNKNOWN_RESULT = "result_without_payout"


async def handle_b2c_results(runtime: Runtime, _connections: Connections, ids: Sequence[UUID]) -> None:
    """Applies stored B2C results, set-wise, each exactly once.

    Matched by originator conversation id, then conversation id, then our reference in the path. One that matches nothing opens a
    case with what it says. A body that is no result becomes an exception of the inbox.
    """
    await apply_deliveries(runtime, ids, partial(_apply_results, runtime))


async def handle_b2c_timeouts(runtime: Runtime, _connections: Connections, ids: Sequence[UUID]) -> None:
    """Applies stored queue time-outs: no verdict, whatever the body says; the payout is asked about soon."""
    await apply_deliveries(runtime, ids, partial(_apply_timeouts, runtime))


async def _apply_results(runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Effects:
    read, bad = read_each(deliveries, lambda delivery: (delivery, parse_result(delivery.body)))
    return {**bad, **await _apply(runtime, connection, list(read.values()))}


async def _apply_timeouts(runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Mapping[UUID, str]:
    return await _apply(runtime, connection, [(delivery, parse_queue_timeout(delivery.body)) for delivery in deliveries])


async def _apply(
    runtime: Runtime, connection: AsyncConnection, read: Sequence[tuple[Delivery, MpesaResult | QueueTimeout]]
) -> Mapping[UUID, str]:
    index = AttemptIndex(
        await lock_attempts(
            connection,
            ids=[found for delivery, _ in read if (found := own_id_in(delivery.path_reference))],
            originators=[said.originator_conversation_id for _, said in read if said.originator_conversation_id],
            conversations=[said.conversation_id for _, said in read if said.conversation_id],
        )
    )
    findings: list[Finding] = []
    effects: dict[UUID, str] = {}
    fees: list[FeeReading] = []
    strays: list[NewCase] = []
    for delivery, said in read:
        attempt = index.find(
            delivery.partner_id,
            originator=said.originator_conversation_id,
            conversation=said.conversation_id,
            attempt_id=own_id_in(delivery.path_reference),
        )
        if attempt is None:
            effects[delivery.id] = "matches no payout: a case"
            strays.append(_stray(delivery, said))
            continue
        evidence = read_result(said) if isinstance(said, MpesaResult) else SaysNothing("timeout", "timed out in M-Pesa's queue")
        if isinstance(said, MpesaResult) and (fee := read_fee(said, attempt.id, delivery.id, "result")) is not None:
            fees.append(fee)
        findings.append(Finding(attempt, evidence, delivery.id, delivery.received_at, said.conversation_id))
    done = await settle(connection, runtime, findings)
    await keep_fee_readings(connection, fees)
    effects.update({finding.event_id: effect for finding, effect in zip(findings, done, strict=True)})
    await open_cases(connection, runtime.clock, runtime.new_id, strays)
    return effects


def _stray(delivery: Delivery, said: MpesaResult | QueueTimeout) -> NewCase:
    name = said.originator_conversation_id or said.conversation_id
    result = said if isinstance(said, MpesaResult) else None
    return NewCase(
        kind=UNKNOWN_RESULT,
        subject=f"result {name}" if name else f"delivery {delivery.id}",
        partner_id=delivery.partner_id,
        amount=result.amount if result else None,
        evidence={
            "event_id": str(delivery.id),
            "path_reference": delivery.path_reference,
            **({"code": result.code, "text": result.text[:500], "receipt": result.receipt} if result else {}),
        },
    )
