"""Asking a customer to pay: written before it is sent, sent once, never again by itself (DESIGN.md section 5)."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.audit import record_act
from vault_core.clients.daraja_stk import StkAck, StkPrompt, check_prompt
from vault_core.collections.masking import mask_reference
from vault_core.collections.payment_seals import reference_hash
from vault_core.collections.stk_requests import (
    StkRequest,
    account_reference_binding,
    load_request,
    lock_requests,
    phone_binding,
    write_requests,
)
from vault_core.collections.stk_verdict import StkState, judge, next_look
from vault_core.database import in_transaction
from vault_core.errors import Conflict, InvalidInput, KeyReused
from vault_core.money import Money
from vault_core.outcome import Accepted, Outcome, Refused, Unknown
from vault_core.partners.callback_urls import callback_url
from vault_core.partners.connections import Connections
from vault_core.phones import mask_phone, normalise_phone
from vault_core.runtime import Runtime

LONGEST_KEY = 100
_ANSWERED_WITHIN = timedelta(minutes=2)  # beside the time-out of the call: an access token may have to be taken first


@dataclass(frozen=True, slots=True)
class StkWish:
    """Who is to be asked for what. The same `key` of one partner asks once. `phone` in any spelling.

    Raises InvalidInput for what M-Pesa would refuse, cut or let fail in silence, naming the field.
    """

    partner_id: UUID
    key: str
    amount: Money
    phone: str = field(repr=False)
    account_reference: str = field(repr=False)
    description: str
    asked_by: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.key) <= LONGEST_KEY or not self.key.isascii() or not self.key.isprintable():
            raise InvalidInput(f"key: 1 to {LONGEST_KEY} printable ASCII characters")
        check_prompt(self.amount, self.normal_phone, self.account_reference, self.description)

    @property
    def normal_phone(self) -> str:
        """The phone in the one written form."""
        try:
            return normalise_phone(self.phone)
        except InvalidInput as error:
            raise InvalidInput(f"phone: {error}") from error


_INSERT = text(
    """
    INSERT INTO stk_requests (id, partner_id, idempotency_key, body_hash, short_code, amount_cents, phone_sealed, phone_hash,
                              account_reference_sealed, account_reference_hash, description, asked_by, asked_at, state,
                              expires_at, look_at)
    SELECT :id, partners.id, :key, :body_hash, c2b_short_code, :amount, :phone_sealed, :phone_hash, :reference_sealed,
           :reference_hash, :description, :asked_by, :now, 'prompting', :expires_at, :look_at
    FROM partners WHERE partners.id = :partner_id
    ON CONFLICT (partner_id, idempotency_key) DO NOTHING RETURNING id
    """
)
_BY_KEY = text("SELECT id, body_hash FROM stk_requests WHERE partner_id = :partner_id AND idempotency_key = :key")


async def ask_to_pay(runtime: Runtime, connections: Connections, wish: StkWish) -> tuple[StkRequest, bool]:
    """Prompts the customer and returns the request, and whether it is new. Audited.

    A repeat of the key with the same wish prompts nobody and returns the request as it stands; with another wish it raises
    KeyReused. Raises Conflict if the partner has no passkey. How the prompt went is the request's state: 'unknown' is
    resolved by evidence, and nobody is prompted again for it.
    """
    daraja = await connections.daraja(wish.partner_id)
    if not daraja.can_prompt:
        raise Conflict(
            "the pay bill has no passkey yet, so nobody can be prompted: `vault partner set-secret NAME mpesa_passkey`"
        )

    async def begin(connection: AsyncConnection) -> tuple[StkRequest, bool]:
        return await _write_ahead(connection, runtime, wish)

    request, is_new = await in_transaction(runtime.engine, begin)
    if not is_new:
        return request, False
    outcome = await daraja.prompt(
        StkPrompt(
            short_code=request.short_code,
            amount=request.amount,
            phone=request.phone,
            account_reference=request.account_reference,
            description=request.description,
            # Whose callback it is stands in its URL: where the answer is lost, nothing else could tell.
            callback_url=callback_url(runtime, request.partner_id, "stk_result", request.id.hex),
            at=runtime.clock.now(),
        )
    )

    async def note(connection: AsyncConnection) -> StkRequest:
        return await _note_answer(connection, runtime, request.id, outcome)

    return await in_transaction(runtime.engine, note), True


async def _write_ahead(connection: AsyncConnection, runtime: Runtime, wish: StkWish) -> tuple[StkRequest, bool]:
    now, request_id, phone = runtime.clock.now(), runtime.new_id(), wish.normal_phone
    body = json.dumps([phone, wish.amount.cents, wish.account_reference, wish.description])
    body_hash = runtime.sealer.lookup_hash(body, purpose="stk request")
    inserted = await connection.execute(
        _INSERT,
        {
            "id": request_id,
            "partner_id": wish.partner_id,
            "key": wish.key,
            "body_hash": body_hash,
            "amount": wish.amount.cents,
            "phone_sealed": runtime.sealer.seal(phone, bound_to=phone_binding(request_id)),
            "phone_hash": runtime.sealer.lookup_hash(phone, purpose="phone"),
            "reference_sealed": runtime.sealer.seal(wish.account_reference, bound_to=account_reference_binding(request_id)),
            "reference_hash": reference_hash(runtime.sealer, wish.account_reference),
            "description": wish.description,
            "asked_by": wish.asked_by,
            "now": now,
            "expires_at": now + timedelta(seconds=runtime.pace.stk_expire_after),
            "look_at": now + timedelta(seconds=runtime.pace.http_timeout) + _ANSWERED_WITHIN,
        },
    )
    if inserted.scalar_one_or_none() is None:
        first = (await connection.execute(_BY_KEY, {"partner_id": wish.partner_id, "key": wish.key})).one()
        if bytes(first.body_hash) != body_hash:
            raise KeyReused(f"key {wish.key!r} asked for something else before: a new request needs a new key")
        return await load_request(connection, runtime, wish.partner_id, first.id), False
    await record_act(
        connection,
        runtime.clock,
        runtime.new_id,
        actor=wish.asked_by,
        act="collection.asked",
        subject=f"stk {request_id}",
        partner_id=wish.partner_id,
        after={
            "amount": str(wish.amount),
            "phone": mask_phone(phone),
            "account_reference": mask_reference(wish.account_reference),
        },
        reason=wish.reason,
    )
    return await load_request(connection, runtime, wish.partner_id, request_id), True


async def _note_answer(connection: AsyncConnection, runtime: Runtime, request_id: UUID, outcome: Outcome[StkAck]) -> StkRequest:
    """Keeps M-Pesa's answer. The callback may have come before it, and stands."""
    (request,) = await lock_requests(connection, runtime, ids=[request_id])
    now = runtime.clock.now()
    match outcome:
        case Accepted(value=ack):
            request.merchant_request_id = ack.merchant_request_id or None
            request.checkout_request_id = request.checkout_request_id or ack.checkout_request_id
            begun, reason = StkState.PROMPTED, None
        case Refused(code=code, reason=words):
            begun, reason = StkState.REFUSED, f"{code}: {words}"
        case Unknown(cause=cause):
            begun, reason = StkState.UNKNOWN, cause
    if request.callback_code is None and request.receipt is None:
        request.state, request.reason = begun, reason
        request.state = judge(request.told(), now)
        request.ended_at = now if request.state is StkState.REFUSED else None
        first_look = timedelta(seconds=runtime.pace.stk_query_after)
        request.look_at = next_look(request.told(), request.asked_at, now, first_look)
    await write_requests(connection, runtime, [request])
    return request
