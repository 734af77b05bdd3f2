"""Looking again at what waits: held loans whose cause may have gone, failed and refused payouts whose time has come."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import MifosClient
from vault_core.clock import business_day
from vault_core.database import in_transaction
from vault_core.disbursements.candidates import product_rules
from vault_core.disbursements.eligibility import Held, HeldFor
from vault_core.disbursements.found_loans import FoundLoan, with_phones
from vault_core.disbursements.holding import hold_back, next_look
from vault_core.disbursements.lender_calendars import with_closed_days
from vault_core.disbursements.tranches import WrongState, part_of
from vault_core.errors import NotFound, Unreachable, VaultError
from vault_core.ledger.balances import balance
from vault_core.ledger.chart import AccountRef
from vault_core.money import Money
from vault_core.notifications.wallet_texts import end_shortages
from vault_core.outbox.calls import MIFOS_TOPIC
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

log = structlog.get_logger(__name__)

_MOST = 200
_READS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Waiting:
    id: UUID
    partner_id: UUID
    loan_id: int
    tranche: int


# The cause of these is not in the partner's Mifos X: reading the loan again would not tell whether it is gone.
_NOT_IN_MIFOS = """(
    'wallet_short', 'float_short', 'partner_halted', 'sending_halted', 'unresolved_payout', 'product_disabled', 'mifos_away',
    'by_person', 'cancelled'
)"""

# What these wait for is decided again where they are claimed, in one transaction with the hold; here they are only let through to
# there once the cause is gone. A partner that is not active keeps its loans, and a halt of all sending keeps everyone's.
# One that was held as it was found has no number yet: it is read first.
_LET_THROUGH = text(
    """
    UPDATE disbursements SET state = CASE WHEN phone_hash IS NULL THEN 'detected' ELSE 'ready' END,
           held_for = NULL, reason = NULL, batch_id = NULL, due_at = :now
    FROM (SELECT d.id FROM disbursements d JOIN partners p ON p.id = d.partner_id
          WHERE d.due_at <= :now AND p.state = 'active' AND NOT EXISTS (SELECT FROM payout_halts WHERE ended_at IS NULL) AND (
              d.state IN ('failed', 'refused')
              OR d.state = 'held' AND d.held_for IN ('partner_halted', 'sending_halted')
              OR d.state = 'held' AND d.held_for = 'product_disabled' AND EXISTS (
                  SELECT 1 FROM partner_products q
                  WHERE q.partner_id = d.partner_id AND q.product_id = d.product_id AND q.enabled AND q.active_in_mifos)
              OR d.state = 'held' AND d.held_for = 'unresolved_payout' AND NOT EXISTS (
                  SELECT 1 FROM disbursements o JOIN disbursement_attempts a ON a.disbursement_id = o.id
                  WHERE o.partner_id = d.partner_id AND o.phone_hash = d.phone_hash AND o.id <> d.id
                        AND o.state IN ('held', 'ready', 'sending', 'accepted', 'unknown', 'refused', 'needs_review')
                        AND a.state IN ('written', 'accepted', 'unknown', 'refused'))
                  AND NOT EXISTS (
                  SELECT 1 FROM disbursements o JOIN disbursement_attempts a ON a.disbursement_id = o.id
                  WHERE o.partner_id = d.partner_id AND o.older_loan_id = d.older_loan_id AND o.id <> d.id
                        AND o.state <> 'disbursed' AND a.state <> 'failed')
              OR d.state = 'held' AND d.held_for = 'mifos_away' AND NOT EXISTS (
                  SELECT FROM outbox_outages o WHERE o.partner_id = d.partner_id AND o.topic = :mifos))
          ORDER BY d.due_at LIMIT :most FOR UPDATE OF d SKIP LOCKED) AS due
    WHERE disbursements.id = due.id RETURNING disbursements.state
    """
)
# At once when there is money for one of them, wherever it came from; a look by the clock beside it.
_SHORT_PARTNERS = text(
    """
    SELECT DISTINCT d.partner_id FROM disbursements d JOIN partners p ON p.id = d.partner_id
    LEFT JOIN ledger_accounts a ON a.partner_id = d.partner_id AND a.code = 'wallet'
    WHERE d.state = 'held' AND d.held_for = 'wallet_short' AND p.state = 'active'
          AND (d.due_at <= :now OR d.needed_cents <= -a.balance_cents - a.held_cents) ORDER BY d.partner_id
    """
)
_SHORT = text(
    """
    SELECT id, needed_cents FROM disbursements WHERE partner_id = :partner_id AND state = 'held' AND held_for = 'wallet_short'
    ORDER BY detected_at, loan_id FOR UPDATE SKIP LOCKED
    """
)
_FUNDED = text(
    """
    UPDATE disbursements SET state = 'ready', held_for = NULL, reason = NULL, needed_cents = NULL, batch_id = NULL, due_at = :now
    WHERE id = ANY(:ids)
    """
)
# However the last one went: covered by the wallet, or taken back by a person.
_NOTHING_WAITS = text(
    """
    SELECT a.partner_id FROM wallet_alerts a WHERE a.kind = 'short' AND a.ended_at IS NULL AND NOT EXISTS (
        SELECT FROM disbursements d WHERE d.partner_id = a.partner_id AND d.state = 'held' AND d.held_for = 'wallet_short')
    """
)
_STILL_SHORT = text("UPDATE disbursements SET due_at = :due_at WHERE id = ANY(:ids)")
_READ_AGAIN = text(
    f"""
    SELECT d.id, d.partner_id, d.loan_id, d.tranche
    FROM disbursements d JOIN partners p ON p.id = d.partner_id
    WHERE d.due_at <= :now AND p.state = 'active'
          AND (d.state = 'detected' OR (d.state = 'held' AND d.held_for NOT IN {_NOT_IN_MIFOS}))
          AND NOT EXISTS (SELECT FROM outbox_outages o WHERE o.partner_id = d.partner_id AND o.topic = :mifos)
    ORDER BY d.due_at LIMIT :most
    """  # noqa: S608 - the list stands above
)
# Every worker reviews: while the loans were read, another may have sent them and had them held for another cause.
_LOCK = text(
    f"""
    SELECT id FROM disbursements
    WHERE id = ANY(:ids) AND (state = 'detected' OR (state = 'held' AND held_for NOT IN {_NOT_IN_MIFOS}))
    ORDER BY id FOR UPDATE
    """  # noqa: S608
)
_INSTRUCTED = text("SELECT disbursement_id FROM disbursement_attempts WHERE disbursement_id = ANY(:ids) AND state <> 'failed'")
_LATER = text("UPDATE disbursements SET due_at = :due_at WHERE id = ANY(:ids) AND state IN ('held', 'detected')")
_READY = text(
    """
    UPDATE disbursements SET state = 'ready', held_for = NULL, reason = NULL, batch_id = NULL, due_at = :now,
           principal_cents = ready.principal, payout_cents = ready.payout, approved_on = ready.approved_on,
           older_loan_id = ready.older_loan, payoff_cents = ready.payoff,
           phone_sealed = ready.phone, phone_hash = ready.hash
    FROM unnest(CAST(:ids AS uuid[]), CAST(:principals AS bigint[]), CAST(:payouts AS bigint[]), CAST(:older_loans AS bigint[]),
                CAST(:payoffs AS bigint[]), CAST(:approvals AS date[]), CAST(:phones AS bytea[]), CAST(:hashes AS bytea[]))
         AS ready(id, principal, payout, older_loan, payoff, approved_on, phone, hash)
    WHERE disbursements.id = ready.id
    """
)


async def release_held(runtime: Runtime) -> int:
    """Looks again at what waits for a cause in our own tables (a retry's time, wallet, other payouts, partner, product).

    Returns how many disbursements became ready. A shortage of the wallet ends here, with its alert. Asks nobody outside.
    """
    released = await in_transaction(runtime.engine, lambda connection: _let_through(connection, runtime))
    return released + await _funded(runtime)


async def _let_through(connection: AsyncConnection, runtime: Runtime) -> int:
    values = {"now": runtime.clock.now(), "most": _MOST * 10, "mifos": MIFOS_TOPIC}
    rows = await connection.execute(_LET_THROUGH, values)
    return sum(1 for row in rows if row.state == "ready")


async def _funded(runtime: Runtime) -> int:
    """Lets through, oldest first, what the wallets cover now. A shortage for which nothing waits any more is over."""

    async def work(connection: AsyncConnection) -> int:
        now = runtime.clock.now()
        released = 0
        for row in (await connection.execute(_SHORT_PARTNERS, {"now": now})).all():
            available = (await balance(connection, AccountRef(row.partner_id, "wallet"))).available
            covered, short = [], []
            for waiting in (await connection.execute(_SHORT, {"partner_id": row.partner_id})).all():
                needed = Money(waiting.needed_cents or 0)
                if needed <= available:
                    available -= needed
                    covered.append(waiting.id)
                else:
                    short.append(waiting.id)
            await connection.execute(_FUNDED, {"ids": covered, "now": now})
            later = now + next_look(HeldFor.WALLET_SHORT, runtime.pace)
            await connection.execute(_STILL_SHORT, {"ids": short, "due_at": later})
            released += len(covered)
        over = (await connection.execute(_NOTHING_WAITS)).scalars().all()
        await end_shortages(connection, runtime, over, "short")
        return released

    return await in_transaction(runtime.engine, work)


async def read_held_again(runtime: Runtime, connections: Connections) -> int:
    """Looks again at what waits for a cause in the lender's Mifos X and returns how many disbursements became ready.

    The loan and the client are read there, and what changed is taken over. The lenders side by side; one whose Mifos X is away is
    not read, or no further.
    """
    async with runtime.engine.connect() as connection:
        rows = (await connection.execute(_READ_AGAIN, {"now": runtime.clock.now(), "most": _MOST, "mifos": MIFOS_TOPIC})).all()
    by_partner: dict[UUID, list[_Waiting]] = {}
    for row in rows:
        by_partner.setdefault(row.partner_id, []).append(_Waiting(row.id, row.partner_id, row.loan_id, row.tranche))
    reads = [_of_partner(runtime, connections, partner_id, mine) for partner_id, mine in by_partner.items()]
    return sum(await asyncio.gather(*reads))


async def _of_partner(runtime: Runtime, connections: Connections, partner_id: UUID, waiting: Sequence[_Waiting]) -> int:
    try:
        client = await connections.mifos(partner_id)
    except VaultError as error:
        log.warning("held loans not looked at", partner_id=str(partner_id), cause=str(error))
        return 0
    turns, away = asyncio.Semaphore(_READS_AT_ONCE), asyncio.Event()

    async def look(item: _Waiting) -> FoundLoan | Held | None:
        async with turns:
            try:
                return None if away.is_set() else await _look(client, item)
            except Unreachable as error:
                away.set()  # each of the others would wait as long
                log.warning("held loans not looked at", partner_id=str(partner_id), cause=str(error))
                return None

    looks = await asyncio.gather(*(look(item) for item in waiting))
    seen = {item.id: found for item, found in zip(waiting, looks, strict=True) if found is not None}
    loans = {row_id: found for row_id, found in seen.items() if isinstance(found, FoundLoan)}
    seen |= zip(loans, await with_closed_days(runtime, connections, partner_id, list(loans.values())), strict=True)
    unread = [item.id for item in waiting if item.id not in seen]

    async def work(connection: AsyncConnection) -> int:
        later = runtime.clock.now() + next_look(HeldFor.NOT_APPROVED, runtime.pace)
        await connection.execute(_LATER, {"ids": unread, "due_at": later})
        return await _decide(connection, runtime, partner_id, seen)

    return await in_transaction(runtime.engine, work)


async def _look(client: MifosClient, item: _Waiting) -> FoundLoan | Held | None:
    try:
        loan = await client.loan(item.loan_id)
        if isinstance(part := part_of(loan, item.tranche), WrongState):
            return Held(HeldFor.NOT_APPROVED, part.reason)
        return (await with_phones(client, [loan], number=item.tranche))[0]
    except NotFound:
        return Held(HeldFor.NOT_APPROVED, "Mifos X no longer shows the loan to our user")
    except Unreachable:
        raise
    except VaultError as error:
        log.warning("held loan not looked at", loan_id=item.loan_id, cause=str(error))
        return None


async def _decide(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, seen: Mapping[UUID, FoundLoan | Held]) -> int:
    locked = [row.id for row in await connection.execute(_LOCK, {"ids": list(seen)})]
    instructed = {row.disbursement_id for row in await connection.execute(_INSTRUCTED, {"ids": locked})}
    found = [seen[row_id] for row_id in locked]
    rules = await product_rules(connection, partner_id, [item.loan.product_id for item in found if isinstance(item, FoundLoan)])
    today = business_day(runtime.clock.now())
    held: list[tuple[UUID, Held]] = []
    ready: list[tuple[UUID, FoundLoan, str]] = []
    for row_id, item in zip(locked, found, strict=True):
        decision = item if isinstance(item, Held) else item.decide(today, rules.get(item.loan.product_id))
        if isinstance(decision, Held):
            held.append((row_id, decision))
        elif isinstance(item, FoundLoan):
            ready.append((row_id, item, decision.phone))
    await hold_back(connection, runtime, held)
    await _make_ready(connection, runtime, [entry for entry in ready if entry[0] not in instructed])
    same_again = [row_id for row_id, _, _ in ready if row_id in instructed]
    await connection.execute(_FUNDED, {"ids": same_again, "now": runtime.clock.now()})
    return len(ready)


async def _make_ready(connection: AsyncConnection, runtime: Runtime, ready: Sequence[tuple[UUID, FoundLoan, str]]) -> None:
    if not ready:
        return
    sealer = runtime.sealer
    await connection.execute(
        _READY,
        {
            "now": runtime.clock.now(),
            "ids": [row_id for row_id, _, _ in ready],
            "principals": [item.part.principal.cents for _, item, _ in ready],
            "payouts": [item.part.payout.cents for _, item, _ in ready],
            "older_loans": [item.part.older_loan_id for _, item, _ in ready],
            "payoffs": [item.part.payoff.cents if item.part.payoff is not None else None for _, item, _ in ready],
            "approvals": [item.loan.approved_on for _, item, _ in ready],
            "phones": [sealer.seal(phone, bound_to=f"disbursements:{row_id}:phone_sealed") for row_id, _, phone in ready],
            "hashes": [sealer.lookup_hash(phone, purpose="phone") for _, _, phone in ready],
        },
    )
