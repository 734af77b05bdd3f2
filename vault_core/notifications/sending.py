"""The outbox handler that sends messages: attempts on disk first, then the gateway, then what it answered.

A text is charged once, on the gateway's acceptance, and never sent again when the gateway may have it (DESIGN.md section 7).
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import stamina
import structlog
from sqlalchemy.exc import DataError, IntegrityError, OperationalError

from vault_core.clients.sms_gateway import SmsAck, SmsOut
from vault_core.database import in_transaction
from vault_core.errors import PermanentError, VaultError
from vault_core.notifications.attempts import Attempt, Try, record_tries, write_attempts
from vault_core.notifications.verdicts import verdict_on
from vault_core.outbox.apart import work_apart
from vault_core.outbox.calls import Call
from vault_core.outcome import Outcome, Refusal, Refused, Unknown
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

# Also the most that a process that dies can leave Unknown, so it is kept small.
IN_FLIGHT = 20


async def send_messages(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    """Sends the messages that the claimed `calls` (kind 'message.send') are about, at most 20 at once, and records every result.

    Safe to repeat: a settled message is not sent again, and one that an earlier, unfinished try may have sent becomes Unknown
    with a case. A message that fails for a reason nobody foresaw is raised when the others are done (vault_core/outbox/apart.py).
    """
    await work_apart(calls, IN_FLIGHT, partial(_send_all, runtime, connections))


async def _send_all(runtime: Runtime, connections: Connections, calls: Sequence[Call]) -> None:
    attempts = await in_transaction(runtime.engine, partial(write_attempts, runtime=runtime, calls=calls))
    outcomes = await asyncio.gather(*(_send(connections, attempt) for attempt in attempts))
    tries = [
        Try.of(attempt, verdict_on(outcome, last_try=attempt.call.last_try))
        for attempt, outcome in zip(attempts, outcomes, strict=True)
    ]
    await _record(runtime, tries)


async def _send(connections: Connections, attempt: Attempt) -> Outcome[SmsAck]:
    try:
        partner = await connections.partner(attempt.partner_id)
        gateway = await connections.sms(attempt.partner_id)
    except VaultError as error:  # nothing was sent: a partner's broken credentials hold back its own texts only
        return Refused(type(error).__name__, str(error), Refusal.RETRY_LATER)
    message = SmsOut(reference=attempt.reference, phone=attempt.phone, text=attempt.text, sender=partner.sms_sender)
    try:
        return await gateway.send(message)
    except Exception as error:  # the text may be out: whatever broke, only Unknown is true, and the row keeps the cause
        log.exception("the SMS gateway client failed", message_id=str(attempt.message_id))
        return Unknown(f"{type(error).__name__} in the gateway client")


async def _record(runtime: Runtime, tries: Sequence[Try]) -> None:
    """Records all together; if one of them cannot be recorded, each by itself. That one turns Unknown when it is claimed again.

    A database that is away is waited for, for a minute: an answer that is lost makes its message Unknown.
    """
    if not tries:
        return
    try:
        async for retry in stamina.retry_context(on=OperationalError, attempts=None, timeout=60.0, wait_max=5.0):
            with retry:
                await in_transaction(runtime.engine, partial(record_tries, runtime=runtime, tries=tries))
    except (PermanentError, IntegrityError, DataError):
        if len(tries) == 1:
            log.exception("an SMS answer could not be recorded", message_id=str(tries[0].message_id))
            return
        for one in tries:
            await _record(runtime, [one])
