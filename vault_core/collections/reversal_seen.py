"""What a person saw in the M-Pesa portal of a reversal whose result never came."""

import re
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.collections.deciding import checked_reason
from vault_core.collections.decision_rows import read_decision
from vault_core.collections.finding import find_collection
from vault_core.collections.reversal_rows import ReversalRequest, lock_latest
from vault_core.collections.reversal_settling import GivenBack, book_given_back, put_back
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.runtime import Runtime

_RECEIPT = re.compile(r"[A-Z0-9]{8,20}")
_SLACK = timedelta(minutes=5)  # between M-Pesa's clock and ours
_BY_PERSON = "BY_PERSON"
_OPEN_TO_A_WORD = text("SELECT next_at IS NULL AND state NOT IN ('done', 'failed') FROM reversal_requests WHERE id = :id")


async def state_reversal(
    runtime: Runtime, receipt: str, given_back: GivenBack | None, *, evidence: str, actor: str, short_code: str | None = None
) -> str:
    """Ends a reversal by what a person saw: given back (under which receipt, when), or (None) not. Returns what that did.

    Only one that is with a person: what M-Pesa may still tell is waited for. Not by who proposed it, so that two people have
    looked before money is booked as gone. Raises InvalidInput, NotFound, Conflict. Audited.
    """
    evidence = checked_reason(evidence)

    async def work(connection: AsyncConnection) -> str:
        one = await find_collection(connection, runtime, receipt, short_code=short_code, lock=True)
        request = await lock_latest(connection, one.id)
        if request is None:
            raise Conflict(f"payment {one.receipt}: M-Pesa was never asked to give it back")
        if not (await connection.execute(_OPEN_TO_A_WORD, {"id": request.id})).scalar_one():
            over = request.state in ("done", "failed")
            raise Conflict(
                f"payment {one.receipt}: its reversal is {request.state}" + ("" if over else "; M-Pesa is still asked about it")
            )
        decision = await read_decision(connection, request.decision_id)
        if decision.proposed_by == actor:
            raise Conflict(f"payment {one.receipt}: {actor} proposed its reversal: another login must say what became of it")
        words = f"seen by {actor}: {evidence}"
        if given_back is None:
            effect = await put_back(connection, runtime, request.id, _BY_PERSON, words, None)
        else:
            _require_possible(runtime, request, given_back)
            effect = await book_given_back(
                connection, runtime, request.id, given_back, code=_BY_PERSON, words=words, event_id=request.id
            )
        await record_act(
            connection,
            runtime.clock,
            runtime.new_id,
            actor=actor,
            act="collection.reversal_seen",
            partner_id=one.partner_id,
            subject=f"collection {one.subject}",
            after={"reversal_receipt": None if given_back is None else given_back.receipt, "effect": effect},
            reason=evidence,
        )
        return effect

    return await in_transaction(runtime.engine, work)


def _require_possible(runtime: Runtime, request: ReversalRequest, given_back: GivenBack) -> None:
    if not _RECEIPT.fullmatch(given_back.receipt) or given_back.receipt == request.receipt:
        raise InvalidInput(f"{given_back.receipt[:20]!r} is not the receipt of a reversal: it is M-Pesa's own, not the payment's")
    if given_back.at > runtime.clock.now() + _SLACK:
        raise InvalidInput("a reversal in the future cannot have been seen")


def as_given_back(receipt: str, at: datetime) -> GivenBack:
    """The same in M-Pesa's spelling."""
    return GivenBack(receipt.strip().upper(), at)
