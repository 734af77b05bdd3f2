"""Writing calls into the outbox, claiming them, and recording how they went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import Clock
from vault_core.database import in_transaction
from vault_core.identifiers import IdMaker
from vault_core.outbox.retry_schedule import next_wait
from vault_core.runtime import Runtime

MIFOS_TOPIC = "vault.dispatch.mifos"
SMS_TOPIC = "vault.dispatch.sms"


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call to make: `kind` names its handler, `subject` (a row id) what it is about; (kind, subject) is written once."""

    partner_id: UUID
    topic: str
    kind: str
    subject: UUID
    ordering_key: str
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A claimed call. `tries` counts this one. `last_try` says that after this one a person takes over.

    `lease_until` tells this claim from every other of the same call: only its holder may say how the call went.
    """

    id: UUID
    partner_id: UUID
    kind: str
    subject: UUID
    tries: int
    last_try: bool
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """The call is over: it succeeded, or it was refused for good and the handler has written what follows from that."""


@dataclass(frozen=True, slots=True)
class Again:
    """The call must be made again later, because of `cause`. After the last try it is given up instead.

    Not `counted`: nothing was asked of the outside, which is away (vault_core/outbox/outages.py). The try is no try, and the call
    is due as soon as its queue goes on.
    """

    cause: str
    wait: timedelta | None = None  # None: the schedule of retry_schedule.next_wait
    counted: bool = True


CallResult = Done | Again

_WRITE = text(
    """
    INSERT INTO outbox (id, partner_id, topic, kind, subject, ordering_key, due_at, relay_at, created_at)
    SELECT id, partner_id, topic, kind, subject, ordering_key, due_at, due_at, :now
    FROM unnest(CAST(:ids AS uuid[]), CAST(:partner_ids AS uuid[]), CAST(:topics AS text[]), CAST(:kinds AS text[]),
                CAST(:subjects AS text[]), CAST(:ordering_keys AS text[]), CAST(:dues AS timestamptz[]))
         AS new(id, partner_id, topic, kind, subject, ordering_key, due_at)
    ON CONFLICT (kind, subject) DO NOTHING
    """
)
_GOES_ON = "NOT EXISTS (SELECT FROM outbox_outages o WHERE o.partner_id = outbox.partner_id AND o.topic = outbox.topic)"
_CLAIM = text(
    f"""
    UPDATE outbox SET lease_until = :lease_until, tries = tries + 1
    FROM (SELECT id FROM outbox WHERE id = ANY(:ids) AND state = 'pending' AND due_at <= :now AND {_GOES_ON}
                 AND (lease_until IS NULL OR lease_until <= :now) ORDER BY id FOR UPDATE SKIP LOCKED) AS free
    WHERE outbox.id = free.id
    RETURNING outbox.id, partner_id, kind, subject, tries
    """  # noqa: S608 - the condition stands above
)
# A call that was begun anew while its worker was at it (a person acted meanwhile) has no lease, and one that another worker has
# claimed since has another: how the old one went is nothing to the new one.
_DONE = text(
    """
    UPDATE outbox SET state = 'done', done_at = :now, lease_until = NULL, last_cause = NULL
    FROM unnest(CAST(:ids AS uuid[]), CAST(:leases AS timestamptz[])) AS done(id, lease_until)
    WHERE outbox.id = done.id AND outbox.lease_until = done.lease_until
    """
)
_AGAIN = text(
    """
    UPDATE outbox SET lease_until = NULL, last_cause = again.cause, due_at = again.due_at, relay_at = again.due_at,
           tries = tries - CASE WHEN again.counted THEN 0 ELSE 1 END,
           state = CASE WHEN again.over THEN 'given_up' ELSE 'pending' END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:leases AS timestamptz[]), CAST(:causes AS text[]), CAST(:dues AS timestamptz[]),
                CAST(:counted AS boolean[]), CAST(:overs AS boolean[])) AS again(id, lease_until, cause, due_at, counted, over)
    WHERE outbox.id = again.id AND outbox.lease_until = again.lease_until
    """
)
_RELAY = text(
    f"""
    UPDATE outbox SET relay_at = :again_at
    FROM (SELECT id FROM outbox WHERE state = 'pending' AND relay_at <= :now AND {_GOES_ON}
          ORDER BY relay_at LIMIT :most FOR UPDATE SKIP LOCKED) AS due
    WHERE outbox.id = due.id
    RETURNING outbox.id, topic, ordering_key
    """  # noqa: S608
)
_ANEW = text(
    """
    UPDATE outbox SET state = 'pending', tries = 0, due_at = :now, relay_at = :now, lease_until = NULL
    WHERE kind = :kind AND subject = ANY(:subjects)
    """
)
_HAS_DUE = text(
    """
    SELECT EXISTS (SELECT FROM outbox WHERE partner_id = :partner_id AND topic = :topic AND state = 'pending' AND due_at <= :now)
    """
)
_OFFER_AGAIN = text("UPDATE outbox SET relay_at = greatest(due_at, :now) WHERE id = ANY(:ids) AND state = 'pending'")
_STILL_PENDING = text(
    """
    SELECT outbox.id FROM outbox JOIN unnest(CAST(:ids AS uuid[]), CAST(:leases AS timestamptz[])) AS held(id, lease_until)
                          ON outbox.id = held.id AND outbox.lease_until = held.lease_until
    WHERE state = 'pending' ORDER BY outbox.id FOR UPDATE OF outbox
    """
)


async def write_calls(connection: AsyncConnection, clock: Clock, new_id: IdMaker, calls: Sequence[NewCall]) -> None:
    """Writes calls in the caller's transaction. A call of the same kind and subject is written once, ever."""
    if not calls:
        return
    now = clock.now()
    await connection.execute(
        _WRITE,
        {
            "ids": [new_id() for _ in calls],
            "partner_ids": [call.partner_id for call in calls],
            "topics": [call.topic for call in calls],
            "kinds": [call.kind for call in calls],
            "subjects": [str(call.subject) for call in calls],
            "ordering_keys": [call.ordering_key for call in calls],
            "dues": [call.due_at or now for call in calls],
            "now": now,
        },
    )


async def has_due_calls(runtime: Runtime, partner_id: UUID, topic: str) -> bool:
    """Whether calls of the partner to `topic` are due, or under way: then what can wait leaves the other side to them."""
    async with runtime.engine.connect() as connection:
        values = {"partner_id": partner_id, "topic": topic, "now": runtime.clock.now()}
        return bool((await connection.execute(_HAS_DUE, values)).scalar_one())


async def take_due_for_relay(runtime: Runtime, most: int = 500) -> list[tuple[UUID, str, str]]:
    """The calls to publish now, as (id, topic, Kafka key). Each is offered again a lease later, should the message be lost."""
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> list[tuple[UUID, str, str]]:
        again_at = now + timedelta(seconds=runtime.pace.outbox_lease)
        rows = await connection.execute(_RELAY, {"now": now, "again_at": again_at, "most": most})
        return [(row.id, row.topic, row.ordering_key) for row in rows]

    return await in_transaction(runtime.engine, work)


async def offer_again(runtime: Runtime, ids: Sequence[UUID]) -> None:
    """Makes calls due for relay at once: those taken by `take_due_for_relay` that Kafka did not accept."""
    now = runtime.clock.now()

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_OFFER_AGAIN, {"ids": list(ids), "now": now})

    await in_transaction(runtime.engine, work)


async def begin_anew(connection: AsyncConnection, clock: Clock, kind: str, subjects: Sequence[UUID]) -> None:
    """Gives the calls of `kind` about `subjects` all their tries again, from now, in the caller's transaction."""
    await connection.execute(_ANEW, {"kind": kind, "subjects": [str(subject) for subject in subjects], "now": clock.now()})


async def record_failure(runtime: Runtime, calls: Sequence[Call], cause: str) -> list[Call]:
    """Records, for those of `calls` whose handler left them pending, that they failed for `cause`: again, or given up.

    Returns the calls that were given up, for a person to take over. For handlers that ended by an error nobody foresaw.
    """
    by_id = {call.id: call for call in calls}

    async def work(connection: AsyncConnection) -> list[Call]:
        pending = [by_id[row.id] for row in await connection.execute(_STILL_PENDING, _claims(calls))]
        await record_results(connection, runtime, {call: Again(cause) for call in pending})
        return [call for call in pending if call.last_try]

    return await in_transaction(runtime.engine, work)


async def claim_calls(runtime: Runtime, ids: Sequence[UUID]) -> list[Call]:
    """Claims those of `ids` that are due and that nobody holds, for one lease. The rest fall away."""
    now = runtime.clock.now()
    lease_until = now + timedelta(seconds=runtime.pace.outbox_lease)

    async def work(connection: AsyncConnection) -> list[Call]:
        rows = await connection.execute(_CLAIM, {"ids": list(ids), "now": now, "lease_until": lease_until})
        return [
            Call(
                row.id,
                row.partner_id,
                row.kind,
                UUID(row.subject),
                row.tries,
                row.tries >= runtime.pace.outbox_max_tries,
                lease_until,
            )
            for row in rows
        ]

    return await in_transaction(runtime.engine, work)


async def record_results(connection: AsyncConnection, runtime: Runtime, results: Mapping[Call, CallResult]) -> None:
    """Records, in the caller's transaction, how claimed calls went.

    One that was begun anew since its claim, or claimed by another worker after its lease had run out, stays as it is.
    """
    now = runtime.clock.now()
    done = [call for call, result in results.items() if isinstance(result, Done)]
    again = [(call, result) for call, result in results.items() if isinstance(result, Again)]
    if done:
        await connection.execute(_DONE, {**_claims(done), "now": now})
    if again:
        waits = [_wait(runtime, result, call.tries) for call, result in again]
        await connection.execute(
            _AGAIN,
            {
                **_claims([call for call, _ in again]),
                "causes": [result.cause[:2000] for _, result in again],
                "dues": [now + wait for wait in waits],
                "counted": [result.counted for _, result in again],
                "overs": [result.counted and call.last_try for call, result in again],
            },
        )


def _claims(calls: Sequence[Call]) -> dict[str, object]:
    return {"ids": [call.id for call in calls], "leases": [call.lease_until for call in calls]}


def _wait(runtime: Runtime, result: Again, tries: int) -> timedelta:
    return result.wait or next_wait(tries if result.counted else 1, runtime.pace, runtime.chance)
