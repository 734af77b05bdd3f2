"""Callbacks of STK push: they close requests and book their money, each exactly once (reference/daraja.md section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_book import NewCase, close_cases, open_cases
from vault_core.clients.daraja_stk import StkCallback, parse_stk_callback
from vault_core.collections.booking import IncomingPayment, book_payments
from vault_core.collections.stk_requests import StkRequest, lock_requests, mask_checkout, write_requests
from vault_core.collections.stk_verdict import SUCCESS, StkState, judge, next_look
from vault_core.inbox.applying import Effects, apply_deliveries, read_each
from vault_core.inbox.delivery import Delivery
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime

UNKNOWN_CASE = "unknown_stk_callback"
AMOUNT_CASE = "stk_amount_differs"
CONTRADICTION_CASE = "stk_contradiction"
UNBOOKED_CASE = "stk_paid_unbooked"

_ENDS = {StkState.PAID, StkState.DECLINED, StkState.EXPIRED}


@dataclass(slots=True)
class _Batch:
    """What a batch of callbacks comes to."""

    requests: list[StkRequest]
    payments: list[tuple[UUID, IncomingPayment]] = field(default_factory=list)  # with the delivery that tells it
    cases: list[NewCase] = field(default_factory=list)
    effects: dict[UUID, str] = field(default_factory=dict)

    def find(self, delivery: Delivery, said: StkCallback) -> StkRequest | None:
        """The partner's request by M-Pesa's id, else by ours in the URL, unless that one is known under another id of theirs."""
        own = [request for request in self.requests if request.partner_id == delivery.partner_id]
        checkout = said.checkout_request_id
        by_id = next((one for one in own if checkout is not None and one.checkout_request_id == checkout), None)
        ours = _our_reference(delivery)
        by_url = next((one for one in own if one.id == ours), None)
        if by_id is None and by_url is not None and (checkout is None or by_url.checkout_request_id is None):
            return by_url
        return by_id


async def handle_stk_results(runtime: Runtime, _connections: Connections, ids: Sequence[UUID]) -> None:
    """Applies the stored callbacks `ids`, each once, a batch in one transaction, one bad body set aside alone.

    A callback of no request of ours is kept, with a case, and books nothing: it names neither pay bill nor account, and the
    confirmation tells the same money. Raises only what is worth trying again (the database).
    """
    await apply_deliveries(runtime, ids, partial(_apply, runtime))


async def _apply(runtime: Runtime, connection: AsyncConnection, deliveries: Sequence[Delivery]) -> Effects:
    told, bad = read_each(deliveries, lambda delivery: (delivery, parse_stk_callback(delivery.body)))
    read = list(told.values())
    batch = _Batch(await _lock(connection, runtime, read))
    for delivery, said in read:
        request = batch.find(delivery, said)
        if request is None:
            batch.effects[delivery.id] = "of no request of ours: case opened"
            batch.cases.append(_unknown(delivery, said))
        else:
            _take(batch, delivery, said, request)
    bookings = await book_payments(connection, runtime, [payment for _, payment in batch.payments])
    for (delivery_id, payment), booking in zip(batch.payments, bookings, strict=True):
        batch.effects[delivery_id] = f"{booking} {payment.receipt}"
    await settle_requests(connection, runtime, batch.requests)
    await open_cases(connection, runtime.clock, runtime.new_id, batch.cases)
    return {**bad, **batch.effects}


async def settle_requests(connection: AsyncConnection, runtime: Runtime, requests: Sequence[StkRequest]) -> None:
    """Judges locked requests by what they have been told by now and writes them; a case about missing money ends with it."""
    now, spacing = runtime.clock.now(), timedelta(seconds=runtime.pace.stk_query_spacing)
    for request in requests:
        before, request.state = request.state, judge(request.told(), now)
        if request.state is not before:
            request.ended_at = now if request.state in _ENDS else None
        request.look_at = next_look(request.told(), request.asked_at, now, spacing)
    await write_requests(connection, runtime, requests)
    paid = [(UNBOOKED_CASE, request.case_subject) for request in requests if request.state is StkState.PAID]
    if paid:
        await close_cases(connection, runtime.clock, paid, resolution="its payment is booked")


async def _lock(connection: AsyncConnection, runtime: Runtime, read: Sequence[tuple[Delivery, StkCallback]]) -> list[StkRequest]:
    ours = [_our_reference(delivery) for delivery, _ in read]
    return await lock_requests(
        connection,
        runtime,
        ids=[reference for reference in ours if reference is not None],
        checkouts=[(delivery.partner_id, said.checkout_request_id or "") for delivery, said in read],
        receipts=[said.receipt for _, said in read if said.receipt is not None],
    )


def _take(batch: _Batch, delivery: Delivery, said: StkCallback, request: StkRequest) -> None:
    """Applies one callback to its request, in memory."""
    request.checkout_request_id = request.checkout_request_id or said.checkout_request_id
    request.merchant_request_id = request.merchant_request_id or said.merchant_request_id
    if _contradicts(request, said):
        batch.cases.append(_contradiction(request, said, delivery))
    if not said.is_success:
        first = request.callback_code is None
        if first:
            # A payment that was taken for its own by likeness was another one, made by hand.
            request.receipt = request.receipt_from = None
            request.callback_code, request.reason = said.code, f"{said.code}: {said.text}"
        batch.effects[delivery.id] = f"declined {said.code}" if first else f"told before; now {said.code}"
        return
    if request.receipt_from == "callback":
        batch.effects[delivery.id] = f"told before: {request.receipt}"
        return
    holder = _holder(batch.requests, request, said.receipt)
    if holder is not None and holder.receipt_from == "callback":
        batch.cases.append(_contradiction(request, said, delivery))
        batch.effects[delivery.id] = f"names {said.receipt}, by which another request is paid: case opened"
        return
    request.callback_code, request.reason = SUCCESS, None
    request.callback_receipt = said.receipt or request.callback_receipt
    if said.receipt is None or said.amount is None:
        batch.effects[delivery.id] = "paid, it says, but without receipt or amount: its money is waited for"
        return
    if holder is not None:  # it was taken for the holder's by likeness: the callback says whose it is
        holder.receipt = holder.receipt_from = None
    request.receipt, request.receipt_from = said.receipt, "callback"
    if said.amount != request.amount:
        batch.cases.append(_other_amount(request, said, delivery))
    batch.payments.append((delivery.id, _payment(request, said, delivery)))


def _contradicts(request: StkRequest, said: StkCallback) -> bool:
    if request.callback_code is None:
        return False
    if (request.callback_code == SUCCESS) != said.is_success:
        return True
    return None not in {request.callback_receipt, said.receipt} and request.callback_receipt != said.receipt


def _holder(requests: Sequence[StkRequest], request: StkRequest, receipt: str | None) -> StkRequest | None:
    """Another request that is paid under this receipt."""
    if receipt is None:
        return None
    key = (request.partner_id, request.short_code, receipt)
    return next((one for one in requests if one is not request and (one.partner_id, one.short_code, one.receipt) == key), None)


def _payment(request: StkRequest, said: StkCallback, delivery: Delivery) -> IncomingPayment:
    assert said.receipt is not None and said.amount is not None  # noqa: S101, PT018 - looked at by the caller
    return IncomingPayment(
        partner_id=request.partner_id,
        short_code=request.short_code,
        receipt=said.receipt,
        amount=said.amount,
        happened_at=said.at or delivery.received_at,
        source="stk",
        event_id=delivery.id,
        org_balance=None,  # the item Balance never has a value
        bill_reference=request.account_reference,
        payer_phone=said.phone or request.phone,
        payer_name=None,
    )


def _unknown(delivery: Delivery, said: StkCallback) -> NewCase:
    return NewCase(
        kind=UNKNOWN_CASE,
        subject=f"stk callback {said.merchant_request_id or f'in delivery {delivery.id}'}",
        partner_id=delivery.partner_id,
        amount=said.amount,
        evidence=_told(said, delivery),
    )


def _other_amount(request: StkRequest, said: StkCallback, delivery: Delivery) -> NewCase:
    evidence = request.facts() | _told(said, delivery) | {"paid": str(said.amount)}
    return NewCase(AMOUNT_CASE, request.case_subject, request.partner_id, said.amount, evidence)


def _contradiction(request: StkRequest, said: StkCallback, delivery: Delivery) -> NewCase:
    before = {"told_before": {"code": request.callback_code, "receipt": request.callback_receipt}}
    evidence = request.facts() | before | {"told_now": _told(said, delivery)}
    return NewCase(CONTRADICTION_CASE, request.case_subject, request.partner_id, request.amount, evidence)


def _told(said: StkCallback, delivery: Delivery) -> dict[str, Any]:
    return {
        "checkout_request_id": None if said.checkout_request_id is None else mask_checkout(said.checkout_request_id),
        "code": said.code,
        "receipt": said.receipt,
        "delivery": str(delivery.id),
        "source_ip": delivery.source_ip,
    }


def _our_reference(delivery: Delivery) -> UUID | None:
    """The id that we put at the end of the callback's URL, if that is what stands there."""
    try:
        return UUID(hex=delivery.path_reference) if delivery.path_reference else None
    except ValueError:
        return None
