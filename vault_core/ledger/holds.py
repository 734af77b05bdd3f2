"""Holds: money set aside before a service is rendered, counted against what is available, resolved once.

A hold is captured (in full or in part; the rest goes back), released, or, if it was placed with an expiry, expires. While an
outside outcome is Unknown the money stays set aside: what is held for an outside act carries no expiry, or is kept before the
act begins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.database import in_transaction
from vault_core.errors import InvalidInput
from vault_core.ledger.array_literals import integer_array, moment_array, text_array, uuid_array
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Posting, write_postings
from vault_core.ledger.refusals import ledger_refusals
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """`amount` (positive) to set aside on `account`. `key` names at most one hold of the partner that is held or captured.

    `expires_at` (aware, after now): from when it ends unless it was captured, released or kept before. None: never by itself.
    """

    account: AccountRef
    partner_id: UUID
    key: str
    amount: Money
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if self.account.partner_id != self.partner_id:
            raise InvalidInput(f"hold {self.key}: account {self.account.code} is not that partner's")
        if self.amount.cents <= 0:
            raise InvalidInput(f"hold {self.key}: {self.amount} is not a positive amount")
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise InvalidInput(f"hold {self.key}: expires_at has no time zone")


@dataclass(frozen=True, slots=True)
class Short:
    """The account could not cover the hold: nothing was set aside and the key stays free."""

    available: Money
    needed: Money


@dataclass(frozen=True, slots=True)
class Capture:
    """The posting that takes what was held. It debits the hold's account by at least a cent and at most what is held."""

    hold_id: UUID
    posting: Posting


_HOLD = text(
    """
    SELECT hold_id, available_cents FROM ledger_hold(:now, CAST(:ids AS uuid[]), CAST(:partners AS uuid[]),
        CAST(:codes AS text[]), CAST(:keys AS text[]), CAST(:cents AS bigint[]),
        CAST(:expires_at AS timestamptz[]))
    """
)
_RELEASE = text("SELECT ledger_release(:now, CAST(:holds AS uuid[]))")
_KEEP = text("SELECT ledger_keep(CAST(:holds AS uuid[]))")
_EXPIRE = text("SELECT ledger_expire(:now, :most)")


async def place_holds(
    connection: AsyncConnection, runtime: Runtime, requests: Sequence[HoldRequest]
) -> Mapping[str, UUID | Short]:
    """Places holds in the caller's transaction, in order, each against what is then available. Answers by key.

    A key that has a hold already, held or captured, gives that hold's id (once it was released or has expired, the key may hold
    again). Raises Conflict if that one, or another of this batch, is of another amount or account. Keys of one batch must be
    unlike across partners, because the answer is by key: raises InvalidInput otherwise.
    """
    if not requests:
        return {}
    owners = {request.key: request.partner_id for request in requests}
    if any(owners[request.key] != request.partner_id for request in requests):
        raise InvalidInput("two partners' holds of one batch carry the same key")
    with ledger_refusals(f"placing {len(requests)} holds"):
        rows = (
            await connection.execute(
                _HOLD,
                {
                    "now": runtime.clock.now(),
                    "ids": uuid_array([runtime.new_id() for _ in requests]),
                    "partners": uuid_array([request.partner_id for request in requests]),
                    "codes": text_array([request.account.code for request in requests]),
                    "keys": text_array([request.key for request in requests]),
                    "cents": integer_array([request.amount.cents for request in requests]),
                    "expires_at": moment_array([request.expires_at for request in requests]),
                },
            )
        ).all()
    answers: dict[str, UUID | Short] = {}
    for request, row in zip(requests, rows, strict=True):
        answers.setdefault(request.key, row.hold_id or Short(available=Money(row.available_cents), needed=request.amount))
    return answers


async def capture_holds(connection: AsyncConnection, runtime: Runtime, captures: Sequence[Capture]) -> list[UUID]:
    """Posts each capture's posting and ends its hold, in the caller's transaction; returns the transaction ids.

    What the posting does not take goes back to available. A repeat with the same key and body does nothing and gives the first
    id. A hold past its expiry can be captured as long as it has not been expired. Raises Conflict if the hold is captured by
    another posting, released or expired, InvalidInput if the posting takes more than held.
    """
    return await write_postings(connection, runtime, [(capture.posting, capture.hold_id) for capture in captures])


async def release_holds(connection: AsyncConnection, runtime: Runtime, hold_ids: Sequence[UUID]) -> int:
    """Gives the held money back and returns how many holds that ended (released ones are left as they are).

    Only after a definite failure of what it was held for. Raises Conflict for a captured, expired or unknown hold.
    """
    if not hold_ids:
        return 0
    with ledger_refusals(f"releasing {len(hold_ids)} holds"):
        answer = await connection.execute(_RELEASE, {"now": runtime.clock.now(), "holds": list(hold_ids)})
    released: int = answer.scalar_one()
    return released


async def keep_holds(connection: AsyncConnection, _runtime: Runtime, hold_ids: Sequence[UUID]) -> None:
    """Takes the expiry off these holds, in the caller's transaction: they end by capture or release only. Idempotent.

    Commit it before an outside act begins, because its outcome may become Unknown. Raises Conflict for a hold that is not held
    any more (expired, captured, released, unknown): then the act must not begin.
    """
    if not hold_ids:
        return
    with ledger_refusals(f"keeping {len(hold_ids)} holds"):
        await connection.execute(_KEEP, {"holds": list(hold_ids)})


async def expire_holds(runtime: Runtime, *, most: int = 1000) -> int:
    """Ends every hold that is past its expiry now, in transactions of at most `most` holds each, and returns how many."""

    async def work(connection: AsyncConnection) -> int:
        ended: int = (await connection.execute(_EXPIRE, {"now": runtime.clock.now(), "most": most})).scalar_one()
        return ended

    total = 0
    while ended := await in_transaction(runtime.engine, work):
        total += ended
    return total
