"""Finding the payment of a prompt whose callback is lost: the one payment that can be it, or none. Never a guess."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.incoming import clear_phone
from vault_core.collections.payment_seals import phone_told
from vault_core.collections.stk_requests import StkRequest
from vault_core.runtime import Runtime

_CLOCKS_DIFFER = timedelta(minutes=1)

# With how many prompts each payment could be meant for: of the same customer, account and amount, not settled otherwise.
_LIKE = text(
    """
    SELECT r.id AS request_id, c.id, c.receipt, c.payer_phone_sealed,
           (SELECT count(*) FROM stk_requests o
            WHERE o.partner_id = r.partner_id AND o.short_code = r.short_code AND o.amount_cents = r.amount_cents
                  AND o.account_reference_hash = r.account_reference_hash AND o.phone_hash = r.phone_hash
                  AND c.happened_at BETWEEN o.asked_at - CAST(:skew AS interval) AND o.expires_at
                  AND o.receipt IS NULL AND o.state <> 'refused' AND coalesce(o.callback_code, '0') = '0') AS rivals
    FROM stk_requests r JOIN collections c
         ON c.partner_id = r.partner_id AND c.short_code = r.short_code AND c.bill_reference_hash = r.account_reference_hash
            AND c.amount_cents = r.amount_cents
            AND c.happened_at BETWEEN r.asked_at - CAST(:skew AS interval) AND r.expires_at
    WHERE r.id = ANY(:ids)
          AND NOT EXISTS (SELECT FROM stk_requests t
                          WHERE t.partner_id = c.partner_id AND t.short_code = c.short_code AND t.receipt = c.receipt)
          AND NOT EXISTS (SELECT FROM stk_requests t
                          WHERE t.partner_id = c.partner_id AND t.short_code = c.short_code AND t.callback_receipt = c.receipt)
    """
)
_NAMED = text(
    """
    SELECT r.id AS request_id, c.receipt FROM stk_requests r JOIN collections c
         ON c.partner_id = r.partner_id AND c.short_code = r.short_code AND c.receipt = r.callback_receipt
    WHERE r.id = ANY(:ids)
    """
)


@dataclass(frozen=True, slots=True)
class LikePayment:
    """A payment of the account and amount that a prompt was for. `rivals` counts the prompts it could be of."""

    receipt: str
    phone: str | None = field(repr=False)  # as it was told: masked, hashed or in clear
    rivals: int


async def find_payments(connection: AsyncConnection, runtime: Runtime, requests: Sequence[StkRequest]) -> dict[UUID, str]:
    """The receipt of each request's money, where it is booked and can be no other's; by the request's id.

    By the receipt that the callback named, else by account, amount, time and phone together.
    """
    if not requests:
        return {}
    ids = [request.id for request in requests]
    found = {row.request_id: str(row.receipt) for row in await connection.execute(_NAMED, {"ids": ids})}
    like: defaultdict[UUID, list[LikePayment]] = defaultdict(list)
    for row in await connection.execute(_LIKE, {"ids": ids, "skew": _CLOCKS_DIFFER}):
        phone = phone_told(runtime.sealer, row.id, row.payer_phone_sealed)
        like[row.request_id].append(LikePayment(row.receipt, phone, row.rivals))
    for request in requests:
        only = choose(request.phone, like[request.id])
        if only is not None and request.callback_receipt is None:
            found.setdefault(request.id, only)
    return found


def choose(phone: str, like: Sequence[LikePayment]) -> str | None:
    """The receipt of the one payment from `phone` that could be of no other prompt; None if there is none, or are several."""
    from_phone = [payment for payment in like if phone_agrees(phone, payment.phone)]
    return from_phone[0].receipt if len(from_phone) == 1 and from_phone[0].rivals == 1 else None


def phone_agrees(phone: str, told: str | None) -> bool:
    """Whether the payer's phone as it was told can be `phone` (2547..). A phone that was not told agrees with none.

    Masks are `2547 ***** 126` and `25470****149`, and the first version of C2B sends a SHA-256 (reference/daraja.md section 4).
    """
    text_told = re.sub(r"\s", "", told or "").lower()
    if "*" in text_told:
        head, _, tail = text_told.partition("*")
        tail = tail.lstrip("*")
        return bool(head or tail) and phone.startswith(head) and phone.endswith(tail)
    return phone == clear_phone(text_told) or text_told == sha256(phone.encode()).hexdigest()
