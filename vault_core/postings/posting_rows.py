"""The rows of intended postings: claimed with a lease, so that calls for one account never overlap, and written back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clients.mifos import LoanTransaction
from vault_core.database import in_transaction
from vault_core.money import Money
from vault_core.runtime import Runtime

PostingKind = Literal["disburse", "repayment", "deposit"]


@dataclass(frozen=True, slots=True)
class CorePosting:
    """One intended write to Mifos X. `tries` counts the calls that may have been made before now."""

    id: UUID
    partner_id: UUID
    kind: PostingKind
    subject_id: UUID
    account_id: int
    tranche: int | None  # a disbursal of a tranche loan: which
    external_id: str
    idempotency_key: str
    receipt: str
    amount: Money
    transaction_date: date
    account_number: str | None = field(repr=False)
    state: str
    mifos_transaction_id: int | None
    tries: int
    key_tries: int
    called_at: datetime | None
    last_answer: str | None
    not_before: date | None  # the tenant's calendar refused every day before it
    undone: tuple[int, ...]  # earlier transactions of its payment on the account, undone or another part: never this posting
    created_at: datetime
    top_up: bool  # a disbursal that pays off an older loan: two transactions in Mifos X, and no external id


_COLUMNS = """
    id, partner_id, kind, subject_id, account_id, tranche, external_id, idempotency_key, receipt, amount_cents, transaction_date,
    account_number_sealed, state, mifos_transaction_id, tries, key_tries, called_at, last_answer, not_before, undone, created_at,
    top_up
"""
_READ = text(f"SELECT {_COLUMNS} FROM core_postings WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")  # noqa: S608
_ACCOUNTS = text(
    "SELECT DISTINCT partner_id, kind = 'deposit' AS savings, account_id FROM core_postings WHERE id = ANY(:ids) ORDER BY 1, 2, 3"
)
_TAKE_TURNS = text(
    "SELECT pg_advisory_xact_lock(hashtextextended('core posting ' || account, 0)) FROM unnest(CAST(:accounts AS text[])) account"
)
_BUSY = text(
    """
    SELECT partner_id, kind, account_id FROM core_postings
    WHERE lease_until > :now AND partner_id = ANY(:partners) AND account_id = ANY(:accounts)
    """
)
# Called for and made, because the answer to a call may be lost, and one that was called for before may be made after. Undone ones
# keep their transaction.
_MADE = text(
    """
    SELECT p.id, (SELECT count(*) FILTER (WHERE o.tries > 0) + count(o.mifos_transaction_id) FROM core_postings o
                  WHERE o.partner_id = p.partner_id AND o.account_id = p.account_id AND o.id <> p.id
                        AND (o.kind = 'deposit') = (p.kind = 'deposit')) AS made
    FROM core_postings p WHERE p.id = ANY(:ids)
    """
)
_LEASE = text(
    """
    UPDATE core_postings SET lease_until = :until, called_at = CASE WHEN tries = 0 THEN :now ELSE called_at END,
           state = 'unknown', key_tries = key_tries + CASE WHEN tries = 0 THEN 1 ELSE 0 END,
           tries = tries + CASE WHEN tries = 0 THEN 1 ELSE 0 END
    WHERE id = ANY(:ids)
    """
)
_CALLING = text(
    """
    UPDATE core_postings
    SET tries = tries + 1, key_tries = CASE WHEN idempotency_key = :key THEN key_tries ELSE 0 END + 1,
        idempotency_key = :key, called_at = :now
    WHERE id = :id AND lease_until = :until AND state = 'unknown' RETURNING id
    """
)
_LOOK = text(
    f"SELECT {_COLUMNS} FROM core_postings WHERE kind = :kind AND subject_id = ANY(:subjects) AND state <> 'undone' ORDER BY id"  # noqa: S608
)
_SEEN = text(
    """
    UPDATE core_postings SET state = 'posted', mifos_transaction_id = seen.transaction_id, posted_at = :now,
           transaction_date = seen.day, last_answer = 'found by looking'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:transactions AS bigint[]), CAST(:days AS date[])) AS seen(id, transaction_id, day)
    WHERE core_postings.id = seen.id AND core_postings.state IN ('unknown', 'refused') RETURNING core_postings.id
    """
)
# Whoever lost the lease while the call was under way says nothing about a posting that is another's now; only that it is posted
# is true whoever saw it. What is over stays as it ended.
_WRITE = text(
    """
    UPDATE core_postings SET lease_until = nullif(lease_until, :until), state = done.state,
           mifos_transaction_id = done.transaction_id,
           posted_at = CASE WHEN done.state = 'posted' THEN CAST(:now AS timestamptz) END, last_answer = done.answer,
           transaction_date = coalesce(done.day, transaction_date),
           not_before = coalesce(done.not_before, core_postings.not_before),
           tries = tries - CASE WHEN done.no_try THEN 1 ELSE 0 END,
           key_tries = CASE WHEN done.new_key IS NOT NULL THEN 0 WHEN done.no_try THEN key_tries - 1 ELSE key_tries END,
           idempotency_key = coalesce(done.new_key, idempotency_key)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:states AS text[]), CAST(:transactions AS bigint[]), CAST(:answers AS text[]),
                CAST(:days AS date[]), CAST(:new_keys AS text[]), CAST(:not_befores AS date[]), CAST(:no_tries AS boolean[]))
         AS done(id, state, transaction_id, answer, day, new_key, not_before, no_try)
    WHERE core_postings.id = done.id AND core_postings.state = 'unknown' AND (lease_until = :until OR done.state = 'posted')
    RETURNING core_postings.id
    """
)


def account_number_binding(posting_id: UUID) -> str:
    """What the sealed account number (the payer's or payee's phone) of a posting is bound to."""
    return f"core_postings:{posting_id}:account_number_sealed"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a claim gave: postings to execute until `until`, those that were over before, and those whose account is busy.

    `outdated`: uncalled ones whose account has got another posting since it was read for them, with the rest of their payments.
    """

    until: datetime
    mine: tuple[CorePosting, ...]
    over: tuple[CorePosting, ...]
    busy: tuple[UUID, ...]
    outdated: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What is written back of one posting. `new_key` replaces an idempotency key that the server will answer for ever."""

    posting_id: UUID
    state: Literal["unknown", "posted", "refused"]
    answer: str
    transaction_id: int | None = None
    day: date | None = None
    new_key: str | None = None
    not_before: date | None = None  # the tenant's calendar refused the day before
    unsent: bool = False  # Mifos X failed before anything was written to it
    no_try: bool = False  # the call that was counted for it did not leave


async def count_made(connection: AsyncConnection, posting_ids: Sequence[UUID]) -> dict[UUID, int]:
    """For each posting, a number that changes with every other posting to its account: to be asked before the account is read."""
    return {row.id: row.made for row in await connection.execute(_MADE, {"ids": list(posting_ids)})}


async def take_postings(
    runtime: Runtime, ids: Sequence[UUID], lease: timedelta, made_before: Mapping[UUID, int] | None = None
) -> Taken:
    """Leases those of `ids` that are open and whose account nobody writes to, one a account; a first call is counted here.

    `made_before`: of postings that rest on a reading of their account, what `count_made` said before it.
    """
    read_for = made_before or {}

    async def work(connection: AsyncConnection) -> Taken:
        now = runtime.clock.now()
        until = now + lease
        accounts = (await connection.execute(_ACCOUNTS, {"ids": list(ids)})).all()
        names = [f"{row.partner_id}:{row.savings}:{row.account_id}" for row in accounts]
        await connection.execute(_TAKE_TURNS, {"accounts": names})
        busy = {
            (row.partner_id, row.kind == "deposit", row.account_id)
            for row in await connection.execute(
                _BUSY,
                {
                    "now": now,
                    "partners": list({row.partner_id for row in accounts}),
                    "accounts": [row.account_id for row in accounts],
                },
            )
        }
        # After the busy ones were looked for: who is no longer busy has written what was made.
        made = await count_made(connection, list(read_for)) if read_for else {}
        postings = [_posting(runtime, row) for row in await connection.execute(_READ, {"ids": list(ids)})]
        passed = {one.subject_id for one in postings if made.get(one.id) != read_for.get(one.id)}
        mine, over, waiting, outdated = [], [], [], []
        for posting in postings:
            account = (posting.partner_id, posting.kind == "deposit", posting.account_id)
            if posting.state in {"posted", "refused", "undone"}:
                over.append(posting)
            elif posting.subject_id in passed and not posting.tries:
                outdated.append(posting.id)
            elif account in busy:
                waiting.append(posting.id)
            else:
                busy.add(account)
                mine.append(posting)
        await connection.execute(_LEASE, {"ids": [posting.id for posting in mine], "until": until, "now": now})
        return Taken(until, tuple(mine), tuple(over), tuple(waiting), tuple(outdated))

    return await in_transaction(runtime.engine, work)


async def mark_calling(runtime: Runtime, posting_id: UUID, key: str, until: datetime) -> bool:
    """Commits, before a further call, that it is made under `key`. False: the lease (until `until`) is another's by now."""

    async def work(connection: AsyncConnection) -> bool:
        marked = await connection.execute(_CALLING, {"id": posting_id, "key": key, "until": until, "now": runtime.clock.now()})
        return marked.one_or_none() is not None

    return await in_transaction(runtime.engine, work)


async def write_back(runtime: Runtime, written: Sequence[Written], until: datetime) -> set[UUID]:
    """Writes what came of the postings leased until `until`, and ends their leases.

    Returns the ids of those that were written. The others are another worker's by now, or over: what was seen here does not
    count.
    """

    async def work(connection: AsyncConnection) -> set[UUID]:
        rows = await connection.execute(
            _WRITE,
            {
                "now": runtime.clock.now(),
                "until": until,
                "ids": [item.posting_id for item in written],
                "states": [item.state for item in written],
                "transactions": [item.transaction_id for item in written],
                "answers": [item.answer[:1000] for item in written],
                "days": [item.day for item in written],
                "new_keys": [item.new_key for item in written],
                "not_befores": [item.not_before for item in written],
                "no_tries": [item.no_try for item in written],
            },
        )
        return {row.id for row in rows}

    return await in_transaction(runtime.engine, work) if written else set()


async def read_postings(
    connection: AsyncConnection, runtime: Runtime, kind: PostingKind, subject_ids: Sequence[UUID]
) -> list[CorePosting]:
    """The postings of these subjects as they stand, taken from nobody: to look at, not to call with."""
    rows = await connection.execute(_LOOK, {"kind": kind, "subjects": list(subject_ids)})
    return [_posting(runtime, row) for row in rows]


async def mark_seen_posted(
    connection: AsyncConnection, runtime: Runtime, seen: Sequence[tuple[UUID, LoanTransaction]]
) -> set[UUID]:
    """Notes, in the caller's transaction, that postings (by id) were found in Mifos X; returns those that were open until then.

    A worker that calls for one of them meanwhile finds it over when it writes back.
    """
    rows = await connection.execute(
        _SEEN,
        {
            "now": runtime.clock.now(),
            "ids": [posting_id for posting_id, _ in seen],
            "transactions": [transaction.id for _, transaction in seen],
            "days": [transaction.on for _, transaction in seen],
        },
    )
    return {row.id for row in rows}


async def postings_of(
    connection: AsyncConnection, kinds: Sequence[PostingKind], subject_ids: Sequence[UUID]
) -> Mapping[UUID, UUID]:
    """The id of the posting of each subject (disbursement or collection) that has one."""
    rows = await connection.execute(
        text(
            "SELECT subject_id, id FROM core_postings"
            " WHERE kind = ANY(:kinds) AND subject_id = ANY(:subjects) AND state <> 'undone'"
        ),
        {"kinds": list(kinds), "subjects": list(subject_ids)},
    )
    return {row.subject_id: row.id for row in rows}


def _posting(runtime: Runtime, row: Row[Any]) -> CorePosting:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented way to a row's names
    sealed = values.pop("account_number_sealed")
    number = None if sealed is None else runtime.sealer.open_text(sealed, bound_to=account_number_binding(row.id))
    amount, undone = Money(values.pop("amount_cents")), tuple(values.pop("undone"))
    return CorePosting(amount=amount, account_number=number, undone=undone, **values)
