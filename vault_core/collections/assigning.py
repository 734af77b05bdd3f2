"""A person says which account a payment is for, or that it must go from the one it was posted to, or back to the payer."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.aliases import add_alias, require_free
from vault_core.collections.deciding import alone_up_to, audit, checked_reason, propose, why_not_approved, why_not_decided
from vault_core.collections.decision_rows import (
    Decision,
    DecisionKind,
    Proposal,
    decide,
    lapse_due,
    read_decision,
    waiting_decision,
)
from vault_core.collections.entered_by_hand import find_entries, stands_elsewhere
from vault_core.collections.finding import find_collection
from vault_core.collections.intended_posting import Target, intend_assigned
from vault_core.collections.matching import compact
from vault_core.collections.named_account import NamedAccount, read_account, read_named, why_not_taken
from vault_core.collections.overpayment import Overpayment
from vault_core.collections.pending import PendingCollection
from vault_core.collections.reversal_rows import write_request
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput
from vault_core.money import Money
from vault_core.outbox.calls import MIFOS_TOPIC, NewCall, write_calls
from vault_core.partners.collection_settings import CollectionSettings, load_collection_settings
from vault_core.partners.connections import Connections
from vault_core.partners.person_limits import load_assign_limit
from vault_core.runtime import Runtime

UNDO_CALL = "collection.undo"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants of the payment `receipt`. `short_code`: where the receipt alone does not tell which payment.

    `account`: as a person writes it ("loan:000000012"). `post_all`: the loan takes all of it, whatever is owed. `remember`: what
    the payer typed names this account from now on.
    """

    receipt: str
    reason: str
    account: str | None = None
    short_code: str | None = None
    post_all: bool = False
    remember: bool = False


async def assign(runtime: Runtime, connections: Connections, wish: Wish, *, actor: str) -> Decision:
    """Has a payment posted to the account that the person names, at once or when a second person agrees.

    For a payment in suspense, or one of which Mifos X certainly has nothing, or a part. The account is read live. Raises
    InvalidInput, NotFound and Conflict with what to do instead, and what Mifos X raises. Audited.
    """
    return await _decide_on_account(runtime, connections, "assign", wish, actor)


async def move(runtime: Runtime, connections: Connections, wish: Wish, *, actor: str) -> Decision:
    """Has a posting undone in Mifos X and the money posted to the account named, or kept in suspense without one.

    At once or when a second person agrees. Where Mifos X refuses to undo it, nothing moves and a case opens (undoing.py).
    Raises as `assign`. Audited.
    """
    return await _decide_on_account(runtime, connections, "move", wish, actor)


async def reverse(runtime: Runtime, wish: Wish, *, actor: str) -> Decision:
    """Proposes that M-Pesa give a payment in suspense back to its payer; a second person must agree, whatever the amount.

    Raises InvalidInput, NotFound, Conflict. Audited.
    """
    reason = checked_reason(wish.reason)

    async def work(connection: AsyncConnection) -> Decision:
        one = await find_collection(connection, runtime, wish.receipt, short_code=wish.short_code, lock=True)
        return await propose(
            connection, runtime, one, Proposal("reverse", None, one.amount, reason, second_person=True), actor=actor
        )

    return await in_transaction(runtime.engine, work)


async def approve(
    runtime: Runtime, connections: Connections, receipt: str, *, actor: str, short_code: str | None = None
) -> Decision:
    """Carries out what somebody else proposed about the payment. Its account is read live once more. Audited.

    Raises NotFound, and Conflict when the proposer asks, it has lapsed, or the payment or the account changed meanwhile.
    """
    async with runtime.engine.connect() as connection:
        one = await find_collection(connection, runtime, receipt, short_code=short_code)
        proposed = await waiting_decision(connection, one)
        settings = await _settings(connection, one)
    if proposed.target is not None:
        named = await read_account(await connections.mifos(one.partner_id), proposed.target.kind, proposed.target.id)
        _require_taken(one, named, proposed.amount, settings, post_all=proposed.post_all)
    if proposed.kind != "move":
        account = None if proposed.target is None else (proposed.target.kind, proposed.target.id)
        await _require_nowhere_else(runtime, connections, one, account)

    async def work(connection: AsyncConnection) -> Decision:
        locked = await find_collection(connection, runtime, receipt, short_code=short_code, lock=True)
        decision = await waiting_decision(connection, locked, lock=True)
        refused = why_not_approved(decision, actor, runtime.clock.now()) or why_not_decided(decision.kind, locked)
        if decision.id != proposed.id:
            refused = "something else was proposed meanwhile: look at it first"
        if refused is not None:
            raise Conflict(f"payment {locked.receipt}: {refused}")
        await decide(connection, runtime, decision.id, "approved", actor)
        await audit(connection, runtime, decision, "approved", actor, decision.reason)
        await _carry_out(connection, runtime, locked, decision, None if decision.target is None else named.target, actor)
        return await read_decision(connection, decision.id)

    return await in_transaction(runtime.engine, work)


async def reject(runtime: Runtime, receipt: str, *, reason: str, actor: str, short_code: str | None = None) -> Decision:
    """Ends what was proposed about the payment; its proposer may withdraw it so. Raises InvalidInput, NotFound. Audited."""
    reason = checked_reason(reason)

    async def work(connection: AsyncConnection) -> Decision:
        one = await find_collection(connection, runtime, receipt, short_code=short_code, lock=True)
        decision = await waiting_decision(connection, one, lock=True)
        await decide(connection, runtime, decision.id, "rejected", actor, reason)
        await audit(connection, runtime, decision, "rejected", actor, reason)
        return await read_decision(connection, decision.id)

    return await in_transaction(runtime.engine, work)


async def lapse_decisions(runtime: Runtime) -> int:
    """Ends the proposals that nobody decided on in time, and returns how many. Audited."""

    async def work(connection: AsyncConnection) -> int:
        lapsed = await lapse_due(connection, runtime)
        for decision in lapsed:
            await audit(connection, runtime, decision, "lapsed", "system:collections", "nobody decided on it in time")
        return len(lapsed)

    return await in_transaction(runtime.engine, work)


async def _decide_on_account(runtime: Runtime, connections: Connections, kind: DecisionKind, wish: Wish, actor: str) -> Decision:
    reason = checked_reason(wish.reason)
    async with runtime.engine.connect() as connection:
        seen = await find_collection(connection, runtime, wish.receipt, short_code=wish.short_code)
        settings, limit = await _settings(connection, seen), await load_assign_limit(connection)
    refused = why_not_decided(kind, seen)
    if refused is not None:
        raise Conflict(f"payment {seen.receipt}: {refused}")
    if wish.remember and not compact(seen.bill_reference):
        raise InvalidInput(f"payment {seen.receipt} came without a reference, so there is none to remember: leave out --remember")
    amount = seen.unposted if kind == "assign" else seen.amount
    target = None
    if wish.account is not None:
        named = await read_named(await connections.mifos(seen.partner_id), wish.account)
        _require_taken(seen, named, amount, settings, post_all=wish.post_all)
        target = named.target
        if kind == "assign":
            await _require_nowhere_else(runtime, connections, seen, (target.kind, target.id))
    second = amount > alone_up_to(settings, runtime.pace, limit)
    proposal = Proposal(kind, target, amount, reason, second, wish.post_all, wish.remember)

    async def work(connection: AsyncConnection) -> Decision:
        one = await find_collection(connection, runtime, wish.receipt, short_code=wish.short_code, lock=True)
        if wish.remember and target is not None:
            await require_free(connection, one.partner_id, one.bill_reference, target)
        decision = await propose(connection, runtime, one, proposal, actor=actor)
        if not second:
            await _carry_out(connection, runtime, one, decision, target, actor)
        return await read_decision(connection, decision.id)

    return await in_transaction(runtime.engine, work)


async def _carry_out(
    connection: AsyncConnection, runtime: Runtime, one: PendingCollection, decision: Decision, target: Target | None, actor: str
) -> None:
    """Begins what was agreed on, in the caller's transaction: rows and calls only, no word to the outside."""
    match decision.kind:
        case "reverse":
            await write_request(connection, runtime, one, decision)
        case "move":
            await write_calls(connection, runtime.clock, runtime.new_id, [_undo_call(one, decision.id)])
        case "assign":
            assert target is not None  # noqa: S101 - an assignment has one, by the table
            await intend_assigned(connection, runtime, one, target, post_all=decision.post_all)
    if decision.remember and target is not None:
        said_by = decision.proposed_by
        agreed_by = None if actor == said_by else actor
        await add_alias(connection, runtime, one.partner_id, one.bill_reference, target, actor=said_by, agreed_by=agreed_by)


def _undo_call(one: PendingCollection, decision_id: UUID) -> NewCall:
    return NewCall(one.partner_id, MIFOS_TOPIC, UNDO_CALL, decision_id, ordering_key=f"{one.partner_id}:{one.id}")


async def _settings(connection: AsyncConnection, one: PendingCollection) -> CollectionSettings:
    return (await load_collection_settings(connection, [one.partner_id]))[one.partner_id]


def _require_taken(
    one: PendingCollection, named: NamedAccount, amount: Money, settings: CollectionSettings, *, post_all: bool
) -> None:
    refused = why_not_taken(named, amount, Overpayment(settings.overpayment), post_all=post_all)
    if refused is not None:
        raise Conflict(f"payment {one.receipt}: {refused}")


async def _require_nowhere_else(
    runtime: Runtime, connections: Connections, one: PendingCollection, account: tuple[str, int] | None
) -> None:
    """A payment that somebody entered by hand on another account is not posted to this one too, nor given back beside it."""
    if not one.entered:
        return
    entries = (await find_entries(runtime, [one])).get(one.id, ())
    found = await stands_elsewhere(await connections.mifos(one.partner_id), entries, account)
    if found is not None:
        raise Conflict(
            f"payment {one.receipt}: {found.words}: assign it to that account, where it is found and not posted again, or undo "
            "that transaction there first"
        )
