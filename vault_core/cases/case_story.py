"""One case as a person reads it: what it is about, how it ends, what was proposed about it and by whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from vault_core.cases.case_kinds import Ending, Facts, ending_of, told
from vault_core.errors import InvalidInput, NotFound
from vault_core.money import Money

_SHORTEST = 8  # digits of an id that a person may name it by


@dataclass(frozen=True, slots=True)
class Closing:
    """What a person proposed about a case. `decided_by` None: it waits for a second person."""

    reason: str
    evidence: str
    proposed_by: str
    proposed_at: datetime
    state: str
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One case, open or closed."""

    id: UUID
    partner_id: UUID | None
    partner: str | None
    kind: str
    subject: str
    amount: Money | None
    opened_at: datetime
    evidence: dict[str, Any]
    owner: str | None
    closed_at: datetime | None
    resolution: str | None
    unsettled: str | None
    settled: bool
    closings: tuple[Closing, ...]

    @property
    def short_id(self) -> str:
        """What people name it by."""
        return short_id(self.id)

    @property
    def name(self) -> str:
        """As people know it."""
        return f"case {self.short_id} ({self.kind}, {self.subject})"

    @property
    def facts(self) -> Facts:
        """What its ending depends on."""
        return Facts(self.kind, self.subject, self.amount, self.unsettled, self.settled)

    @property
    def ending(self) -> Ending:
        """How it ends."""
        return ending_of(self.facts)

    @property
    def ends(self) -> str:
        """How it ends, in words."""
        return told(self.ending, self.facts, case=self.short_id, partner=self.partner)

    @property
    def proposed(self) -> Closing | None:
        """The proposal that waits for a second person."""
        return next((closing for closing in self.closings if closing.state == "proposed"), None)


_FIND = text(
    """
    SELECT id FROM cases WHERE replace(id::text, '-', '') LIKE '%' || :digits
    ORDER BY closed_at IS NOT NULL, opened_at DESC LIMIT 3
    """
)
# Unsettled: what M-Pesa said against a failure waits for `resolve`; until then the failed instruction keeps the receipt. Settled:
# the loan or the payment is in Mifos X, the partner pays again.
_COLUMNS = """
    SELECT c.id, c.partner_id, p.name AS partner, c.kind, c.subject, c.amount_cents, c.opened_at, c.evidence, c.owner,
           c.closed_at, c.resolution,
           CASE WHEN c.kind = 'contradicting_result' AND c.subject ~ '^attempt [0-9a-f-]{36} ' THEN
               (SELECT a.disbursement_id::text FROM disbursement_attempts a
                WHERE a.id = CAST(split_part(c.subject, ' ', 2) AS uuid) AND a.state = 'failed' AND a.receipt IS NOT NULL)
           END AS unsettled,
           CASE WHEN c.subject ~ '^disbursement [0-9a-f-]{36}$' THEN
               (SELECT d.state = 'disbursed' FROM disbursements d WHERE d.id = CAST(split_part(c.subject, ' ', 2) AS uuid))
               WHEN c.kind = 'partner_halted' THEN p.state = 'active'
               WHEN c.kind IN ('unmatched_payment', 'collection_not_posted') THEN
               (SELECT k.state = 'posted' FROM collections k
                WHERE k.short_code = split_part(c.subject, ' ', 1) AND k.receipt = split_part(c.subject, ' ', 2))
           END AS settled
    FROM cases c LEFT JOIN partners p ON p.id = c.partner_id WHERE c.id = :id
"""
_READ = text(_COLUMNS)
_LOCKED = text(f"{_COLUMNS} FOR UPDATE OF c")
_CLOSINGS = text(
    """
    SELECT reason, evidence, proposed_by, proposed_at, state, decided_by, decided_at, decision_note FROM case_closings
    WHERE case_id = :id ORDER BY proposed_at, id
    """
)


def short_id(case_id: UUID) -> str:
    """The last eight digits: chance, where the first ones are the time."""
    return case_id.hex[-_SHORTEST:]


async def find_case(connection: AsyncConnection, which: str) -> UUID:
    """The case of that id, or whose id ends so (at least eight digits). Raises NotFound, and InvalidInput if it is not plain."""
    digits = which.strip().lower().replace("-", "")
    if len(digits) < _SHORTEST or set(digits) - set("0123456789abcdef"):
        raise InvalidInput(f"{which!r} names no case: give its id, or the last {_SHORTEST} digits, as `vault cases` prints them")
    found: Sequence[UUID] = (await connection.execute(_FIND, {"digits": digits})).scalars().all()
    if not found:
        raise NotFound(f"there is no case {which}: `vault cases` lists those that are open")
    if len(found) > 1:
        raise InvalidInput(f"{which} is the end of several cases: {', '.join(str(one) for one in found)}")
    return found[0]


async def read_case(connection: AsyncConnection, case_id: UUID, *, lock: bool = False) -> Case:
    """The case as it stands, locked until the end of the transaction if asked. Raises NotFound."""
    row = (await connection.execute(_LOCKED if lock else _READ, {"id": case_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no case {case_id}")
    closings = [Closing(*closing) for closing in await connection.execute(_CLOSINGS, {"id": case_id})]
    return _case(row, closings)


def _case(row: Row[Any], closings: Sequence[Closing]) -> Case:
    return Case(
        id=row.id,
        partner_id=row.partner_id,
        partner=row.partner,
        kind=row.kind,
        subject=row.subject,
        amount=None if row.amount_cents is None else Money(row.amount_cents),
        opened_at=row.opened_at,
        evidence=row.evidence,
        owner=row.owner,
        closed_at=row.closed_at,
        resolution=row.resolution,
        unsettled=row.unsettled,
        settled=bool(row.settled),
        closings=tuple(closings),
    )
