"""Holds: money set aside before a service is rendered, counted against what is available, resolved once.

A hold is captured (in full or in part; the rest goes back) or released. Nothing here lets it expire: while an outside outcome is
Unknown the money stays set aside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.posting import Posting, write_postings
from vault_core.ledger.refusals import ledger_refusals
from vault_core.money import Money
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """`amount` (positive) to set aside on `account`. `key` names at most one hold of the partner that is not released."""

    account: AccountRef
    partner_id: UUID
    key: str
    amount: Money

    def __post_init__(self) -> None:
        if self.account.partner_id != self.partner_id:
            raise InvalidInput(f"hold {self.key}: account {self.account.code} is not that partner's")
        if self.amount.cents <= 0:
            raise InvalidInput(f"hold {self.key}: {self.amount} is not a positive amount")


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
        CAST(:codes AS text[]), CAST(:keys AS text[]), CAST(:cents AS bigint[]))
    """
)
_RELEASE = text("SELECT ledger_release(:now, CAST(:holds AS uuid[]))")


async def place_holds(
    connection: AsyncConnection, runtime: Runtime, requests: Sequence[HoldRequest]
) -> Mapping[str, UUID | Short]:
    """Places holds in the caller's transaction, in order, each against what is then available. Answers by key.

    A key that has a hold already, held or captured, gives that hold's id (a key whose hold was released may hold again). Raises
    Conflict if that one, or another of this batch, is of another amount or account. Keys of one batch must be unlike across
    partners, because the answer is by key: raises InvalidInput otherwise.
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
                    "ids": [runtime.new_id() for _ in requests],
                    "partners": [request.partner_id for request in requests],
                    "codes": [request.account.code for request in requests],
                    "keys": [request.key for request in requests],
                    "cents": [request.amount.cents for request in requests],
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
    id. Raises Conflict if the hold is captured by another posting or released, InvalidInput if the posting takes more than held.
    """
    return await write_postings(connection, runtime, [(capture.posting, capture.hold_id) for capture in captures])


async def release_holds(connection: AsyncConnection, runtime: Runtime, hold_ids: Sequence[UUID]) -> int:
    """Gives the held money back and returns how many holds that ended (released ones are left as they are).

    Only after a definite failure of what it was held for. Raises Conflict for a hold that is captured or does not exist.
    """
    if not hold_ids:
        return 0
    with ledger_refusals(f"releasing {len(hold_ids)} holds"):
        answer = await connection.execute(_RELEASE, {"now": runtime.clock.now(), "holds": list(hold_ids)})
    released: int = answer.scalar_one()
    return released
