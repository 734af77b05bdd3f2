"""Prompts to pay as they are kept: locked for evidence, read for people and partners."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.collections.stk_verdict import ReceiptFrom, StkState, Told
from vault_core.errors import NotFound
from vault_core.money import Money
from vault_core.phones import mask_phone
from vault_core.runtime import Runtime


@dataclass(slots=True)
class StkRequest:
    """One prompt. Locked ones are changed in memory as evidence is applied in order, then written together."""

    id: UUID
    partner_id: UUID
    short_code: str
    amount: Money
    phone: str = field(repr=False)
    phone_hash: bytes = field(repr=False)
    account_reference: str = field(repr=False)
    account_reference_hash: bytes = field(repr=False)
    description: str
    asked_by: str
    asked_at: datetime
    state: StkState
    reason: str | None
    merchant_request_id: str | None
    checkout_request_id: str | None = field(repr=False)  # it ends in the customer's phone
    callback_code: str | None
    callback_receipt: str | None
    query_code: str | None
    receipt: str | None
    receipt_from: ReceiptFrom | None
    queries: int
    expires_at: datetime
    look_at: datetime | None
    ended_at: datetime | None

    @property
    def masked_phone(self) -> str:
        """The phone as it may be shown."""
        return mask_phone(self.phone)

    @property
    def masked_checkout(self) -> str | None:
        """M-Pesa's id as it may be shown."""
        return None if self.checkout_request_id is None else mask_checkout(self.checkout_request_id)

    @property
    def case_subject(self) -> str:
        """The stable subject of a case about it."""
        return f"stk {self.id}"

    def told(self) -> Told:
        """What its verdict depends on."""
        return Told(
            self.state,
            self.checkout_request_id is not None,
            self.callback_code,
            self.query_code,
            self.receipt,
            self.expires_at,
        )

    def facts(self) -> dict[str, Any]:
        """What a person needs to know of it in a case: no phone, no reference."""
        return {
            "request": str(self.id),
            "checkout_request_id": self.masked_checkout,
            "asked_for": str(self.amount),
            "asked_at": self.asked_at.isoformat(),
            "asked_by": self.asked_by,
        }


_COLUMNS = """
    r.id, r.partner_id, r.short_code, r.amount_cents, r.phone_sealed, r.phone_hash, r.account_reference_sealed,
    r.account_reference_hash, r.description, r.asked_by, r.asked_at, r.state, r.reason, r.merchant_request_id,
    r.checkout_sealed, r.callback_code, r.callback_receipt, r.query_code, r.receipt, r.receipt_from, r.queries, r.expires_at,
    r.look_at, r.ended_at
"""
# In the order of their ids, as every transaction locks them.
_LOCK = text(
    f"""
    SELECT {_COLUMNS} FROM stk_requests r
    WHERE r.id = ANY(:ids)
          OR (r.partner_id, r.checkout_hash) IN (SELECT * FROM unnest(CAST(:partners AS uuid[]), CAST(:checkouts AS bytea[])))
          OR (r.partner_id = ANY(:partners) AND r.receipt = ANY(:receipts))
    ORDER BY r.id FOR UPDATE
    """  # noqa: S608 - the columns stand above
)
_LOCK_DUE = text(
    f"""
    SELECT {_COLUMNS} FROM stk_requests r WHERE r.look_at <= :now ORDER BY r.look_at LIMIT :most FOR UPDATE SKIP LOCKED
    """  # noqa: S608
)
_ONE = text(f"SELECT {_COLUMNS} FROM stk_requests r WHERE r.id = :id AND r.partner_id = :partner_id")  # noqa: S608
_FIND = text(
    f"""
    SELECT {_COLUMNS} FROM stk_requests r
    WHERE r.id = CAST(:id AS uuid) OR r.checkout_hash = :checkout OR r.receipt = upper(:given) ORDER BY r.id LIMIT 1
    """  # noqa: S608
)
_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM stk_requests r
    WHERE (CAST(:partner_id AS uuid) IS NULL OR r.partner_id = :partner_id)
          AND (CAST(:state AS text) IS NULL OR r.state = :state)
    ORDER BY r.asked_at DESC, r.id DESC LIMIT :most
    """  # noqa: S608
)
_WRITE = text(
    """
    UPDATE stk_requests SET state = new.state, reason = new.reason, merchant_request_id = new.merchant,
           checkout_sealed = new.checkout_sealed, checkout_hash = new.checkout_hash, callback_code = new.callback_code,
           callback_receipt = new.callback_receipt, query_code = new.query_code, receipt = new.receipt,
           receipt_from = new.receipt_from, queries = new.queries, look_at = new.look_at, ended_at = new.ended_at
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:reasons AS text[]), CAST(:merchants AS text[]),
                CAST(:checkouts_sealed AS bytea[]), CAST(:checkout_hashes AS bytea[]), CAST(:callback_codes AS text[]),
                CAST(:callback_receipts AS text[]), CAST(:query_codes AS text[]), CAST(:receipts AS text[]),
                CAST(:receipts_from AS text[]),
                CAST(:queries AS integer[]), CAST(:looks AS timestamptz[]), CAST(:ends AS timestamptz[]))
         AS new(id, state, reason, merchant, checkout_sealed, checkout_hash, callback_code, callback_receipt, query_code,
                receipt, receipt_from, queries, look_at, ended_at)
    WHERE stk_requests.id = new.id
    """
)


async def lock_requests(
    connection: AsyncConnection,
    runtime: Runtime,
    *,
    ids: Iterable[UUID] = (),
    checkouts: Iterable[tuple[UUID, str]] = (),
    receipts: Iterable[str] = (),
) -> list[StkRequest]:
    """The requests with these ids, or these (partner, CheckoutRequestID), locked until the end of the transaction.

    With them those of the same partners that are paid under one of `receipts`.
    """
    pairs = list(checkouts)
    rows = await connection.execute(
        _LOCK,
        {
            "ids": list(ids),
            "partners": [partner_id for partner_id, _ in pairs],
            "checkouts": [_checkout_hash(runtime, checkout) for _, checkout in pairs],
            "receipts": list(receipts),
        },
    )
    return [_request(row, runtime) for row in rows]


async def lock_due_requests(connection: AsyncConnection, runtime: Runtime, most: int) -> list[StkRequest]:
    """Up to `most` requests that it is time to look at, locked; those that another worker has are left to it."""
    rows = await connection.execute(_LOCK_DUE, {"now": runtime.clock.now(), "most": most})
    return [_request(row, runtime) for row in rows]


async def write_requests(connection: AsyncConnection, runtime: Runtime, requests: Sequence[StkRequest]) -> None:
    """Writes locked requests as they are now."""
    if not requests:
        return
    await connection.execute(
        _WRITE,
        {
            "ids": [one.id for one in requests],
            "states": [one.state.value for one in requests],
            "reasons": [one.reason for one in requests],
            "merchants": [one.merchant_request_id for one in requests],
            "checkouts_sealed": [_sealed_checkout(runtime, one) for one in requests],
            "checkout_hashes": [_checkout_hash(runtime, one.checkout_request_id) for one in requests],
            "callback_codes": [one.callback_code for one in requests],
            "callback_receipts": [one.callback_receipt for one in requests],
            "query_codes": [one.query_code for one in requests],
            "receipts": [one.receipt for one in requests],
            "receipts_from": [one.receipt_from for one in requests],
            "queries": [one.queries for one in requests],
            "looks": [one.look_at for one in requests],
            "ends": [one.ended_at for one in requests],
        },
    )


async def load_request(connection: AsyncConnection, runtime: Runtime, partner_id: UUID, request_id: UUID) -> StkRequest:
    """The partner's request. Raises NotFound, for another partner's too."""
    row = (await connection.execute(_ONE, {"id": request_id, "partner_id": partner_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no request to pay {request_id}")
    return _request(row, runtime)


async def find_request(connection: AsyncConnection, runtime: Runtime, given: str) -> StkRequest:
    """The request that `given` means: its id, CheckoutRequestID or receipt. Raises NotFound."""
    try:
        as_id = UUID(given)
    except ValueError:
        as_id = None
    row = (
        await connection.execute(_FIND, {"id": as_id, "given": given, "checkout": _checkout_hash(runtime, given)})
    ).one_or_none()
    if row is None:
        raise NotFound(f"no request to pay has {given[:60]!r} as its id, CheckoutRequestID or receipt: `vault collect list`")
    return _request(row, runtime)


async def list_requests(
    connection: AsyncConnection,
    runtime: Runtime,
    *,
    partner_id: UUID | None = None,
    state: StkState | None = None,
    most: int = 100,
) -> list[StkRequest]:
    """The newest `most` requests; of one partner and in one state if named."""
    rows = await connection.execute(_LIST, {"partner_id": partner_id, "state": state, "most": most})
    return [_request(row, runtime) for row in rows]


def phone_binding(request_id: UUID) -> str:
    """What the sealed phone of a request is bound to."""
    return f"stk_requests:{request_id}:phone"


def account_reference_binding(request_id: UUID) -> str:
    """What the sealed account reference of a request is bound to."""
    return f"stk_requests:{request_id}:account_reference"


def mask_checkout(checkout_request_id: str) -> str:
    """A CheckoutRequestID without its last nine characters: in it the customer's phone ends (samples of reference/daraja.md)."""
    return f"{checkout_request_id[:-9]}***"


def _checkout_hash(runtime: Runtime, checkout_request_id: str | None) -> bytes | None:
    if checkout_request_id is None:
        return None
    return runtime.sealer.lookup_hash(checkout_request_id, purpose="checkout request")


def _sealed_checkout(runtime: Runtime, request: StkRequest) -> bytes | None:
    if request.checkout_request_id is None:
        return None
    return runtime.sealer.seal(request.checkout_request_id, bound_to=_checkout_binding(request.id))


def _checkout_binding(request_id: UUID) -> str:
    return f"stk_requests:{request_id}:checkout"


def _request(row: Row[Any], runtime: Runtime) -> StkRequest:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    checkout = values.pop("checkout_sealed")
    return StkRequest(
        amount=Money(values.pop("amount_cents")),
        phone=runtime.sealer.open_text(values.pop("phone_sealed"), bound_to=phone_binding(row.id)),
        account_reference=runtime.sealer.open_text(
            values.pop("account_reference_sealed"), bound_to=account_reference_binding(row.id)
        ),
        checkout_request_id=None if checkout is None else runtime.sealer.open_text(checkout, bound_to=_checkout_binding(row.id)),
        state=StkState(values.pop("state")),
        **values,
    )
