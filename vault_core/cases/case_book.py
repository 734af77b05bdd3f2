"""Opening and closing cases, in the transaction of the service that found the reason."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.clock import Clock
from vault_core.identifiers import IdMaker
from vault_core.money import Money


@dataclass(frozen=True, slots=True)
class NewCase:
    """What a person must see. `kind` is a snake_case word of docs/operations.md, `subject` a stable reference ('loan 12')."""

    kind: str
    subject: str
    partner_id: UUID | None
    amount: Money | None = None
    evidence: dict[str, Any] = field(default_factory=dict)  # no clear phones or names


@dataclass(frozen=True, slots=True)
class OpenCase:
    """A case nobody has closed yet. `owner`: whose work it is, if somebody took it."""

    id: UUID
    kind: str
    subject: str
    partner_id: UUID | None
    amount: Money | None
    opened_at: datetime
    evidence: dict[str, Any]
    owner: str | None


_OPEN = text(
    """
    INSERT INTO cases (id, partner_id, kind, subject, amount_cents, opened_at, evidence)
    VALUES (:id, :partner_id, :kind, :subject, :amount_cents, :opened_at, :evidence)
    ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO NOTHING
    """
).bindparams(bindparam("evidence", type_=JSON))

_OPEN_UNHEARD = text(
    """
    INSERT INTO cases (id, partner_id, kind, subject, amount_cents, opened_at, evidence)
    SELECT CAST(:id AS uuid), CAST(:partner_id AS uuid), :kind, :subject, CAST(:amount_cents AS bigint),
           CAST(:opened_at AS timestamptz), CAST(:evidence AS jsonb)
    WHERE NOT EXISTS (SELECT FROM cases heard
                      WHERE heard.kind = :kind AND heard.subject = :subject AND heard.closed_at IS NOT NULL
                            AND heard.evidence - CAST(:told_by AS text[]) = CAST(:evidence AS jsonb) - CAST(:told_by AS text[]))
    ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO NOTHING
    """
).bindparams(bindparam("evidence", type_=JSON))

_RENEW = text(
    """
    UPDATE cases SET evidence = CAST(told.evidence AS jsonb)
    FROM unnest(CAST(:kinds AS text[]), CAST(:subjects AS text[]), CAST(:evidence AS text[])) AS told(kind, subject, evidence)
    WHERE cases.closed_at IS NULL AND cases.kind = told.kind AND cases.subject = told.subject
    """
)

_CLOSE = text(
    """
    UPDATE cases SET closed_at = :now, resolution = :resolution
    WHERE closed_at IS NULL AND (kind, subject) IN (SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:subjects AS text[])))
    """
)

_LIST = text(
    """
    SELECT id, kind, subject, partner_id, amount_cents, opened_at, evidence, owner FROM cases
    WHERE closed_at IS NULL AND (CAST(:partner_id AS uuid) IS NULL OR partner_id = :partner_id) ORDER BY opened_at, id
    """
)


async def open_cases(connection: AsyncConnection, clock: Clock, new_id: IdMaker, cases: Sequence[NewCase]) -> None:
    """Opens each case unless one of its kind and subject is open already. Repeats do nothing."""
    if not cases:
        return
    await connection.execute(_OPEN, _rows(clock, new_id, cases))


async def open_unheard_cases(
    connection: AsyncConnection, clock: Clock, new_id: IdMaker, cases: Sequence[NewCase], *, told_by: Sequence[str]
) -> None:
    """As `open_cases`, but what a person has closed a case over is not brought up again when it is told once more.

    `told_by`: the names in the evidence that say by what it was told, and nothing of what.
    """
    if cases:
        rows = [row | {"told_by": list(told_by)} for row in _rows(clock, new_id, cases)]
        await connection.execute(_OPEN_UNHEARD, rows)


def _rows(clock: Clock, new_id: IdMaker, cases: Sequence[NewCase]) -> list[dict[str, Any]]:
    now = clock.now()
    return [
        {
            "id": new_id(),
            "partner_id": case.partner_id,
            "kind": case.kind,
            "subject": case.subject,
            "amount_cents": case.amount.cents if case.amount is not None else None,
            "opened_at": now,
            "evidence": case.evidence,
        }
        for case in cases
    ]


async def renew_cases(connection: AsyncConnection, cases: Sequence[NewCase]) -> None:
    """Gives the open case of each kind and subject its present evidence. One that is not open stays as it is."""
    if cases:
        kinds, subjects = [case.kind for case in cases], [case.subject for case in cases]
        evidence = [json.dumps(case.evidence) for case in cases]
        await connection.execute(_RENEW, {"kinds": kinds, "subjects": subjects, "evidence": evidence})


async def close_case(connection: AsyncConnection, clock: Clock, *, kind: str, subject: str, resolution: str) -> bool:
    """Closes the open case of that kind and subject; False if there is none. `resolution` states the evidence."""
    return await close_cases(connection, clock, [(kind, subject)], resolution=resolution) > 0


async def close_cases(connection: AsyncConnection, clock: Clock, cases: Sequence[tuple[str, str]], *, resolution: str) -> int:
    """Closes those of `cases` (kind, subject) that are open, and returns how many. `resolution` states the evidence."""
    closed = await connection.execute(
        _CLOSE,
        {
            "now": clock.now(),
            "resolution": resolution,
            "kinds": [kind for kind, _ in cases],
            "subjects": [subject for _, subject in cases],
        },
    )
    return closed.rowcount


async def list_open_cases(connection: AsyncConnection, partner_id: UUID | None = None) -> list[OpenCase]:
    """The open cases, oldest first; of one partner if given."""
    rows = await connection.execute(_LIST, {"partner_id": partner_id})
    return [
        OpenCase(
            id=row.id,
            kind=row.kind,
            subject=row.subject,
            partner_id=row.partner_id,
            amount=None if row.amount_cents is None else Money(row.amount_cents),
            opened_at=row.opened_at,
            evidence=row.evidence,
            owner=row.owner,
        )
        for row in rows
    ]
