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
_KNOWN = text("SELECT EXISTS (SELECT FROM rail_lines WHERE short_code = :short_code AND receipt = :receipt)")
_STILL_ASKED = text("SELECT next_at IS NOT NULL FROM reversal_requests WHERE id = :id")


async def state_reversal(
    runtime: Runtime, receipt: str, given_back: GivenBack | None, *, evidence: str, actor: str, short_code: str | None = None
) -> str:
    """Ends a reversal by what a person saw: given back (under which receipt, when), or (None) not. Returns what that did.

    Only one that M-Pesa is not asked about any more: what it may still tell is waited for. Not by who proposed it, so that two
    people have looked before money is booked as gone. Raises InvalidInput, NotFound, Conflict. Audited.
    """
    evidence = checked_reason(evidence)

    async def work(connection: AsyncConnection) -> str:
        one = await find_collection(connection, runtime, receipt, short_code=short_code, lock=True)
        request = await lock_latest(connection, one.id)
        if request is None:
            raise Conflict(f"payment {one.receipt}: M-Pesa was never asked to give it back")
        refused = await _why_not_stated(connection, request, given_back)
        if refused is not None:
            raise Conflict(f"payment {one.receipt}: {refused}")
        decision = await read_decision(connection, request.decision_id)
        if decision.proposed_by == actor:
            raise Conflict(f"payment {one.receipt}: {actor} proposed its reversal: another login must say what became of it")
        words = f"seen by {actor}: {evidence}"
        if given_back is None:
            effect = await put_back(connection, runtime, request.id, _BY_PERSON, words, None)
        else:
            _require_possible(runtime, request, given_back)
            await _require_free(connection, request, given_back)
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


async def _why_not_stated(connection: AsyncConnection, request: ReversalRequest, given_back: GivenBack | None) -> str | None:
    """Why a person's word does not count. That one was given back after all, which had failed, can still be said."""
    if request.state == "done" or (request.state == "failed" and given_back is None):
        return f"its reversal is {request.state} already"
    asked = (await connection.execute(_STILL_ASKED, {"id": request.id})).scalar_one()
    return "M-Pesa is still asked about its reversal: `vault collections show` tells how far that is" if asked else None


def _require_possible(runtime: Runtime, request: ReversalRequest, given_back: GivenBack) -> None:
    if not _RECEIPT.fullmatch(given_back.receipt) or given_back.receipt == request.receipt:
        raise InvalidInput(f"{given_back.receipt[:20]!r} is not the receipt of a reversal: it is M-Pesa's own, not the payment's")
    if given_back.at > runtime.clock.now() + _SLACK:
        raise InvalidInput("a reversal in the future cannot have been seen")


async def _require_free(connection: AsyncConnection, request: ReversalRequest, given_back: GivenBack) -> None:
    names = {"short_code": request.short_code, "receipt": given_back.receipt}
    if (await connection.execute(_KNOWN, names)).scalar_one():
        raise InvalidInput(f"{given_back.receipt} is the receipt of something else on this pay bill: look at the portal again")


def as_given_back(receipt: str, at: datetime) -> GivenBack:
    """The same in M-Pesa's spelling."""
    return GivenBack(receipt.strip().upper(), at)
