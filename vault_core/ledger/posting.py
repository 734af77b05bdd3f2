"""Postings: balanced sets of legs, written in batches by one call of the database function `ledger_post`.

The function (vault_core/ledger/functions/30_posting.sql) is the only way in: it checks that legs sum to zero, reserves the
idempotency keys, locks the accounts in one order, numbers the entries and moves the balances. What Python checks here it checks
only to say more clearly what is wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.errors import InvalidInput, NotFound
from vault_core.ledger.array_literals import boolean_array, integer_array, moment_array, text_array, uuid_array
from vault_core.ledger.chart import AccountRef
from vault_core.ledger.refusals import ledger_refusals
from vault_core.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of a posting, in cents: a debit is positive, a credit negative."""

    account: AccountRef
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Posting:
    """What is to be posted, once, under `key` (unique a partner, or for the house).

    `effective_at` is when it happened outside (aware). Kind, reference, effective time, legs and the reversed transaction are the
    body: a repeat of the key must carry the same, so take the time from the event, not from the clock. `description` is free.

    `carried` says what becomes of a posting that is effective in a closed period. True, for what happened outside and must not be
    lost: it is booked at the first instant of the open period, and its own time is kept. False, for what a person asks for: it is
    refused. Not part of the body.

    Raises InvalidInput for legs that do not sum to zero, are empty or name another partner's account.
    """

    partner_id: UUID | None
    kind: str
    key: str
    reference: str
    effective_at: datetime
    legs: tuple[Leg, ...]
    description: str = ""
    reverses: UUID | None = None
    carried: bool = True

    def __post_init__(self) -> None:
        if not self.kind or not self.key:
            raise InvalidInput("a posting needs a kind and a key")
        if self.effective_at.tzinfo is None:
            raise InvalidInput(f"posting {self.key}: effective_at has no time zone")
        total = sum(leg.amount_cents for leg in self.legs)
        if not self.legs or total:
            raise InvalidInput(f"posting {self.key}: {len(self.legs)} legs sum to {total} cents, not to zero")
        for leg in self.legs:
            if type(leg.amount_cents) is not int or not leg.amount_cents:
                raise InvalidInput(f"posting {self.key}: a leg of {leg.amount_cents!r} cents on {leg.account.code}")
            owner = leg.account.partner_id
            if owner is not None and owner is not self.partner_id and owner != self.partner_id:
                raise InvalidInput(f"posting {self.key}: account {leg.account.code} is another partner's")


_POST = text(  # null: every posting is new, under the id it was given
    """
    SELECT nullif(ledger_post(:booked_at, CAST(:ids AS uuid[]), CAST(:partners AS uuid[]), CAST(:kinds AS text[]),
        CAST(:references AS text[]), CAST(:keys AS text[]), CAST(:descriptions AS text[]), CAST(:effective_at AS timestamptz[]),
        CAST(:carried AS boolean[]), CAST(:reverses AS uuid[]), CAST(:holds AS uuid[]), CAST(:leg_posting AS integer[]),
        CAST(:leg_code AS text[]), CAST(:leg_cents AS bigint[])), CAST(:ids AS uuid[]))
    """
)
_ORIGINAL = text(
    """
    SELECT t.partner_id, t.reference, a.partner_id AS account_partner, a.code, sum(e.amount_cents)::bigint AS cents
    FROM ledger_transactions t JOIN ledger_entries e ON e.transaction_id = t.id JOIN ledger_accounts a ON a.id = e.account_id
    WHERE t.id = :id GROUP BY t.partner_id, t.reference, a.partner_id, a.code HAVING sum(e.amount_cents) <> 0 ORDER BY a.code
    """
)


async def post(connection: AsyncConnection, runtime: Runtime, postings: Sequence[Posting]) -> list[UUID]:
    """Posts all of `postings` in the caller's transaction, in order, and returns their transaction ids.

    A key that was posted before with the same body, in this batch or ever, gives the first one's id and posts nothing. Raises
    Conflict for a key used with another body and for a transaction that is reversed already, PeriodClosed for a posting in a
    closed period that is not `carried`, InvalidInput for what the database finds malformed. Use `in_transaction`, which starts
    deadlocks and serialisation failures anew.
    """
    return await write_postings(connection, runtime, [(posting, None) for posting in postings])


async def write_postings(
    connection: AsyncConnection, runtime: Runtime, postings: Sequence[tuple[Posting, UUID | None]]
) -> list[UUID]:
    """`post`, where each posting may capture a hold. For vault_core/ledger/holds.py; others call `post` or `capture_holds`."""
    if not postings:
        return []
    new_ids = [runtime.new_id() for _ in postings]
    with ledger_refusals(f"posting {_named(posting.key for posting, _ in postings)}"):
        answer = await connection.execute(_POST, _arguments(runtime, new_ids, postings))
    first_ids: list[UUID] | None = answer.scalar_one()
    return first_ids or new_ids


async def reversal_of(
    connection: AsyncConnection, transaction_id: UUID, *, key: str, effective_at: datetime, why: str
) -> Posting:
    """The posting that undoes the transaction, account by account. Post it with `post`; the ledger lets that happen once.

    Raises NotFound if there is no such transaction.
    """
    rows = (await connection.execute(_ORIGINAL, {"id": transaction_id})).all()
    if not rows:
        raise NotFound(f"there is no ledger transaction {transaction_id} to reverse")
    return Posting(
        partner_id=rows[0].partner_id,
        kind="reversal",
        key=key,
        reference=rows[0].reference,
        effective_at=effective_at,
        legs=tuple(Leg(AccountRef(row.account_partner, row.code), -row.cents) for row in rows),
        description=why,
        reverses=transaction_id,
        carried=False,
    )


def _arguments(runtime: Runtime, ids: Sequence[UUID], postings: Sequence[tuple[Posting, UUID | None]]) -> dict[str, Any]:
    alone = [posting for posting, _ in postings]
    legs = [leg for posting in alone for leg in posting.legs]
    return {
        "booked_at": runtime.clock.now(),
        "ids": uuid_array(ids),
        "partners": uuid_array([posting.partner_id for posting in alone]),
        "kinds": text_array([posting.kind for posting in alone]),
        "references": text_array([posting.reference for posting in alone]),
        "keys": text_array([posting.key for posting in alone]),
        "descriptions": text_array([posting.description for posting in alone]),
        "effective_at": moment_array([posting.effective_at for posting in alone]),
        "carried": boolean_array([posting.carried for posting in alone]),
        "reverses": uuid_array([posting.reverses for posting in alone]),
        "holds": uuid_array([hold for _, hold in postings]),
        "leg_posting": integer_array([number for number, posting in enumerate(alone, 1) for _ in posting.legs]),
        "leg_code": text_array([leg.account.code for leg in legs]),
        "leg_cents": integer_array([leg.amount_cents for leg in legs]),
    }


def _named(keys: Iterable[str]) -> str:
    named = list(keys)
    return named[0] if len(named) == 1 else f"{named[0]} and {len(named) - 1} more"
