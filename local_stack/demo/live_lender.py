"""The lender on a running Mifos X, through the day: what it was before, the kill in the middle, how fast we posted to it."""

import asyncio
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import text

from local_stack.demo.day_plan import PlannedLoan, PlannedPartner
from local_stack.demo.live_office import LiveMifos, Office
from vault_core.errors import PermanentError
from vault_core.runtime import Runtime

_LOOK_EVERY = 0.05
_PATIENCE = 1200.0  # a Fineract needs a minute to come up on a small machine, and ten on a busy one
_LONGEST_WORDS = 500
_STANDING = text(
    """
    SELECT count(*) FILTER (WHERE c.state = 'posted') AS posted, count(*) FILTER (WHERE c.lease_until > :now) AS under_way
    FROM core_postings c JOIN partners p ON p.id = c.partner_id WHERE p.name = :name AND c.kind = 'disburse'
    """
)
_COLLECTED = text(
    """
    SELECT count(*) FILTER (WHERE c.kind = 'repayment' AND c.state = 'posted') AS repayments,
           count(*) FILTER (WHERE c.kind = 'deposit' AND c.state = 'posted') AS deposits,
           count(*) FILTER (WHERE c.state = 'undone') AS undone
    FROM core_postings c JOIN partners p ON p.id = c.partner_id WHERE p.name = :name AND c.kind IN ('repayment', 'deposit')
    """
)
_SPAN = text(
    """
    SELECT count(*) AS n, sum(c.tries) - count(*) AS again,
           extract(epoch FROM max(c.posted_at) - min(c.called_at))::float AS seconds
    FROM core_postings c JOIN partners p ON p.id = c.partner_id
    WHERE p.name = :name AND c.kind = 'disburse' AND c.state = 'posted'
    """
)


@dataclass(frozen=True, slots=True)
class Span:
    """Disbursements posted, calls beyond the first of each, and the seconds from the first call to the last answer."""

    postings: int
    calls_again: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Postings a second; 0 for none."""
        return self.postings / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Kill:
    """The kill in the middle: how many loans were posted and how many calls under way just before, how long the command took."""

    posted: int
    under_way: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Collected:
    """Postings of customers' payments that stand there, and those that were undone."""

    repayments: int
    deposits: int
    undone: int


@dataclass(frozen=True, slots=True)
class LiveOutcome:
    """What the day was to the lender on the running server."""

    url: str
    span: Span
    kill: Kill | None
    collected: Collected


@dataclass(slots=True)
class LiveLender:
    """The lender's plan and its office. `before` is what stood in its books before the day; `kill`: once it has happened."""

    server: LiveMifos
    planned: PlannedPartner
    office: Office
    day: date
    before: dict[str, Any] = field(default_factory=dict)
    kill: Kill | None = None
    hours: asyncio.Lock = field(default_factory=asyncio.Lock)  # held by whoever works in its Mifos X, and by who restarts it

    async def open(self) -> None:
        """The office makes people and accounts; what stands in its books before the day is kept."""
        await self.office.open(self.planned, self.day)
        self.before = await self.office.books()

    async def approve(self, loans: Sequence[PlannedLoan]) -> None:
        """Officers approve loans; while the server is being restarted they wait."""
        async with self.hours:
            await self.office.approve(loans, self.day)

    async def be_killed(self, runtime: Runtime) -> None:
        """Runs the restart command once, when half of the loans are posted and a call is under way.

        Raises PermanentError if the command fails or does not end, or the loans are not posted.
        """
        if self.server.restart is None:
            return
        posted, under_way = await self._half_posted(runtime)
        async with self.hours:
            started = time.monotonic()
            await _run(self.server.restart)
            self.kill = Kill(posted, under_way, round(time.monotonic() - started, 1))

    async def _half_posted(self, runtime: Runtime) -> tuple[int, int]:
        """Loans posted and calls under way, once half are posted and some under way, or all are posted."""
        loans = len(self.planned.approved)
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            async with runtime.engine.connect() as connection:
                names = {"name": self.planned.name, "now": runtime.clock.now()}
                posted, under_way = (await connection.execute(_STANDING, names)).one()
            if posted == loans or (posted >= loans // 2 and under_way):
                return posted, under_way
            await asyncio.sleep(_LOOK_EVERY)
        raise PermanentError(f"{posted} of {loans} loans are posted after {_PATIENCE:.0f} s: nothing was killed")

    async def outcome(self, runtime: Runtime) -> LiveOutcome:
        """What the day was to this lender."""
        async with runtime.engine.connect() as connection:
            row = (await connection.execute(_COLLECTED, {"name": self.planned.name})).one()
        return LiveOutcome(self.server.url, await self.span(runtime), self.kill, Collected(*row))

    async def span(self, runtime: Runtime) -> Span:
        """How fast the loans were posted."""
        async with runtime.engine.connect() as connection:
            row = (await connection.execute(_SPAN, {"name": self.planned.name})).one()
        return Span(row.n, row.again or 0, row.seconds or 0.0)


def doubled(books: Mapping[str, Any]) -> list[str]:
    """The loans on which more than one disbursement stands, in words. `books` as Office.books tells them."""
    counts = {
        number: sum(row["kind"] == "disbursement" and not row["reversed"] for row in loan["transactions"])
        for number, loan in books["loans"].items()
    }
    return [f"Mifos X: loan {number}: {count} disbursements stand on it" for number, count in counts.items() if count > 1]


def misplaced(
    books: Mapping[str, Any], payments: Iterable[Mapping[str, Any]], placed: Mapping[str, Mapping[tuple[str, int], int]]
) -> list[str]:
    """The payments that do not stand where they belong, in words.

    `payments`: all that M-Pesa took. Each stands in full and no more, and those in `placed` (by receipt) exactly on the accounts
    named there, with so many cents on each.
    """
    standing: dict[str, dict[tuple[str, int], int]] = {}
    for kind, accounts in (("loan", books["loans"]), ("savings", books["savings"])):
        for number, account in accounts.items():
            for row in account["transactions"]:
                if row["receipt"] and row["kind"] in {"repayment", "deposit"} and not row["reversed"]:
                    on = standing.setdefault(row["receipt"], {})
                    on[kind, number] = on.get((kind, number), 0) + row["amount_cents"]
    findings = []
    for payment in payments:
        receipt = payment["receipt"]
        there = standing.pop(receipt, {})
        belongs = placed.get(receipt)
        if there != belongs if belongs is not None else sum(there.values()) != payment["amount_cents"]:
            words = "in full" if belongs is None else str(dict(belongs))
            findings.append(f"Mifos X: payment {receipt} of {payment['amount_cents']} cents stands as {there}, and not {words}")
    return findings + [
        f"Mifos X: {receipt} stands as {there}, and M-Pesa has no such payment" for receipt, there in standing.items()
    ]


async def _run(command: str) -> None:
    # What it says goes into a file: a server that the command leaves behind would hold a pipe open, or fill it.
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_shell(
            command, stdin=asyncio.subprocess.DEVNULL, stdout=said, stderr=asyncio.subprocess.STDOUT
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                status = await process.wait()
        except TimeoutError as error:
            raise PermanentError(f"the restart command {command!r} has not ended after {_PATIENCE:.0f} s") from error
        if status != 0:
            said.seek(0)
            words = said.read(_LONGEST_WORDS).decode(errors="replace")
            raise PermanentError(f"the restart command {command!r} ended with {status}: {words}")
