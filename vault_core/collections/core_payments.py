"""Payments made or corrected inside Mifos X: ours are recognised, others recorded, and a correction of ours is a case."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, open_cases
from vault_core.clients.mifos_values import LoanTransaction
from vault_core.collections.core_accounts import Account, SeenAccount, read_accounts
from vault_core.collections.payment_hints import PaymentHint, read_payment_hook
from vault_core.errors import InvalidInput
from vault_core.inbox.applying import apply_deliveries
from vault_core.inbox.delivery import Delivery
from vault_core.inbox.reading import read_deliveries
from vault_core.notifications.messages import NewMessage, write_messages
from vault_core.partners.connections import Connections
from vault_core.partners.partner import load_partners
from vault_core.runtime import Runtime

CORRECTED_CASE = "posted_payment_undone"
BY_HAND_CASE = "payment_entered_by_hand"
_UNDER_WAY = ("intended", "unknown")

# What we have posted to these accounts, or are about to; `ours_undone`: a person has had it undone by us.
_POSTINGS = text(
    """
    SELECT p.partner_id, CASE p.kind WHEN 'deposit' THEN 'savings' ELSE 'loan' END AS account_kind, p.account_id, p.external_id,
           p.receipt, p.amount_cents, p.mifos_transaction_id, p.state, c.short_code,
           EXISTS (SELECT FROM collection_decisions d WHERE d.collection_id = c.id AND d.state = 'approved') AS ours_undone
    FROM core_postings p JOIN collections c ON c.id = p.subject_id
    WHERE p.kind IN ('repayment', 'deposit') AND (p.partner_id, p.account_id) IN (
        SELECT * FROM unnest(CAST(:partners AS uuid[]), CAST(:account_ids AS bigint[])))
    """
)
_COLLECTIONS = text(
    """
    SELECT partner_id, short_code, receipt, state FROM collections
    WHERE (partner_id, receipt) IN (SELECT * FROM unnest(CAST(:partners AS uuid[]), CAST(:receipts AS text[])))
    """
)
_RECORD = text(
    """
    INSERT INTO core_payments (id, partner_id, account_kind, account_id, transaction_id, amount_cents, happened_on, receipt,
                               seen_at, event_id)
    VALUES (:id, :partner_id, :account_kind, :account_id, :transaction_id, :cents, :day, :receipt, :now, :event_id)
    ON CONFLICT (partner_id, account_kind, account_id, transaction_id) DO NOTHING RETURNING id
    """
)
_UNDONE = text(
    """
    UPDATE core_payments SET undone_at = :now
    WHERE partner_id = :partner_id AND account_kind = :account_kind AND account_id = :account_id AND undone_at IS NULL
          AND transaction_id = ANY(:transactions)
    RETURNING transaction_id
    """
)
_WHO_TEXTS = text("SELECT id FROM partners WHERE id = ANY(:partners) AND text_core_payments")


@dataclass(frozen=True, slots=True)
class _Hinted:
    delivery: Delivery
    hint: PaymentHint

    @property
    def account(self) -> Account:
        return (self.delivery.partner_id, self.hint.account_kind, self.hint.account_id)


async def handle_payment_hooks(runtime: Runtime, connections: Connections, ids: Sequence[UUID]) -> list[UUID]:
    """Applies those of the stored hooks `ids` that are about payments and returns the others.

    A hook whose Mifos X cannot be read now stays unprocessed: the sweep offers it again.
    """
    hinted = [found for delivery in await read_deliveries(runtime, ids) if (found := _hinted(delivery)) is not None]
    if not hinted:
        return list(ids)
    async with runtime.engine.connect() as connection:
        postings = await _postings(connection, [one.account for one in hinted])
        texting = set((await connection.execute(_WHO_TEXTS, {"partners": [one.delivery.partner_id for one in hinted]})).scalars())
    to_read = {one.account for one in hinted if one.hint.corrected or not _is_ours(one.hint, postings[one.account])}
    seen = await read_accounts(connections, sorted(to_read), texting)
    ready = {one.delivery.id: one for one in hinted if one.account not in to_read or seen[one.account] is not None}
    await apply_deliveries(runtime, list(ready), partial(_apply, runtime, ready, seen))
    about_payments = {one.delivery.id for one in hinted}
    return [event_id for event_id in ids if event_id not in about_payments]


def _hinted(delivery: Delivery) -> _Hinted | None:
    try:
        hint = read_payment_hook(delivery.headers, delivery.body)
    except InvalidInput:
        return None
    return None if hint is None else _Hinted(delivery, hint)


async def _postings(connection: AsyncConnection, accounts: Iterable[Account]) -> defaultdict[Account, list[Row[Any]]]:
    wanted = sorted(set(accounts))
    values = {"partners": [partner for partner, _, _ in wanted], "account_ids": [account_id for _, _, account_id in wanted]}
    found: defaultdict[Account, list[Row[Any]]] = defaultdict(list)
    for row in await connection.execute(_POSTINGS, values):
        found[row.partner_id, row.account_kind, row.account_id].append(row)
    return found


def _is_ours(hint: PaymentHint, postings: Sequence[Row[Any]]) -> bool:
    """Whether the hook names a posting of ours. Forged, it could only hide itself."""
    return _ours(postings, hint.transaction_id, hint.external_id, hint.receipt) is not None


def _ours(postings: Sequence[Row[Any]], transaction_id: int, external_id: str | None, receipt: str | None) -> Row[Any] | None:
    """The posting of ours that a transaction is.

    By its receipt only while the answer to our call is not written down: later the same receipt is somebody's second entry of it.
    """
    return next(
        (
            row
            for row in postings
            if row.mifos_transaction_id == transaction_id
            or (external_id is not None and row.external_id == external_id)
            or (external_id is None and row.receipt == receipt and row.state in _UNDER_WAY)
        ),
        None,
    )


async def _apply(
    runtime: Runtime,
    ready: Mapping[UUID, _Hinted],
    seen: Mapping[Account, SeenAccount | str | None],
    connection: AsyncConnection,
    deliveries: Sequence[Delivery],
) -> Mapping[UUID, str]:
    postings = await _postings(connection, [ready[delivery.id].account for delivery in deliveries])
    effects = {}
    for delivery in deliveries:
        hinted = ready[delivery.id]
        look = seen.get(hinted.account)
        if isinstance(look, str):
            effects[delivery.id] = look
        elif look is None:
            effects[delivery.id] = "a payment that we posted"
        else:
            effects[delivery.id] = await _follow(connection, runtime, hinted, look, postings[hinted.account])
    return effects


async def _follow(
    connection: AsyncConnection, runtime: Runtime, hinted: _Hinted, look: SeenAccount, postings: Sequence[Row[Any]]
) -> str:
    """What the account shows after the hook: corrections of ours and of recorded ones, and the payment itself."""
    undone = [one for one in look.payments.values() if one.reversed]
    ours_undone = [
        (posting, one)
        for one in undone
        if (posting := _ours(postings, one.id, one.external_id, one.receipt)) is not None
        and posting.state == "posted"
        and posting.mifos_transaction_id == one.id
        and not posting.ours_undone
    ]
    await open_cases(
        connection, runtime.clock, runtime.new_id, [_undone_case(hinted, look, posting, one) for posting, one in ours_undone]
    )
    key = dict(zip(("partner_id", "account_kind", "account_id"), hinted.account, strict=True))
    values = {"now": runtime.clock.now(), "transactions": [one.id for one in undone]}
    foreign_undone = (await connection.execute(_UNDONE, key | values)).all()
    made = look.payments.get(hinted.hint.transaction_id)
    told = []
    if ours_undone:
        told.append(f"undone there, a case is open: {', '.join(posting.receipt for posting, _ in ours_undone)}")
    if foreign_undone:
        told.append(f"{len(foreign_undone)} recorded payment(s) undone")
    if made is not None and not made.reversed:
        posting = _ours(postings, made.id, made.external_id, made.receipt)
        told.append("a payment that we posted" if posting is not None else await _record(connection, runtime, hinted, look, made))
    return "; ".join(told) or "nothing to do: the account shows no payment by it"


async def _record(
    connection: AsyncConnection, runtime: Runtime, hinted: _Hinted, look: SeenAccount, made: LoanTransaction
) -> str:
    partner_id, kind, account_id = hinted.account
    recorded = await connection.execute(
        _RECORD,
        {
            "id": runtime.new_id(),
            "partner_id": partner_id,
            "account_kind": kind,
            "account_id": account_id,
            "transaction_id": made.id,
            "cents": made.amount.cents,
            "day": made.on,
            "receipt": made.receipt,
            "now": runtime.clock.now(),
            "event_id": hinted.delivery.id,
        },
    )
    if recorded.one_or_none() is None:
        return "a payment that is recorded already"
    what = {"partners": [partner_id], "receipts": [made.receipt or ""]}
    waiting = (await connection.execute(_COLLECTIONS, what)).first()
    if waiting is not None:
        await open_cases(connection, runtime.clock, runtime.new_id, [_by_hand_case(hinted, look, made, waiting)])
        return f"entered by hand with the receipt {made.receipt}, which we have: a case is open"
    if look.phone is None:
        return "recorded: not ours"
    partner = (await load_partners(connection, [partner_id]))[partner_id]
    message = NewMessage(
        partner=partner,
        business_key=f"core_payment:{partner_id}:{kind}:{account_id}:{made.id}",
        template="payment_received",
        phone=look.phone,
        values={
            "amount": str(made.amount),
            "kind": kind,
            "account": look.account_no,
            "receipt": made.receipt or str(made.id),
            "balance": str(look.balance),
        },
    )
    await write_messages(connection, runtime, [message])
    return "recorded: not ours; the client is texted"


def _undone_case(hinted: _Hinted, look: SeenAccount, posting: Row[Any], undone: LoanTransaction) -> NewCase:
    return NewCase(
        kind=CORRECTED_CASE,
        subject=f"{posting.short_code} {posting.receipt}",
        partner_id=hinted.delivery.partner_id,
        amount=undone.amount,
        evidence={
            "account": f"{hinted.hint.account_kind} {look.account_no}",
            "transaction": undone.id,
            "do": "somebody undid it in Mifos X, and the money is still ours to place: find out why, then move the payment to "
            "the right account, or enter it there again",
        },
    )


def _by_hand_case(hinted: _Hinted, look: SeenAccount, made: LoanTransaction, waiting: Row[Any]) -> NewCase:
    return NewCase(
        kind=BY_HAND_CASE,
        subject=f"{waiting.short_code} {waiting.receipt}",
        partner_id=hinted.delivery.partner_id,
        amount=made.amount,
        evidence={
            "account": f"{hinted.hint.account_kind} {look.account_no}",
            "transaction": made.id,
            "state_here": waiting.state,
            "do": "somebody entered this receipt in Mifos X by hand, and we have the payment too: posted by us as well, it would "
            "count twice. Undo the one there; or, while ours is in suspense, assign it to that account, where it is found",
        },
    )
