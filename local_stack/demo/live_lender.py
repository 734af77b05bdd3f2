"""The lender on a running Mifos X, through the day: what it was before, the kill in the middle, how fast we posted to it."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import text

from local_stack.demo.day_plan import PlannedPartner
from local_stack.demo.live_office import LiveMifos, Office
from vault_core.errors import PermanentError
from vault_core.runtime import Runtime

_LOOK_EVERY = 0.05
_PATIENCE = 300.0  # a Fineract needs one to two minutes to come up on a small machine
_TAIL = 500
_POSTED = text(
    """
    SELECT count(*) FROM core_postings c JOIN partners p ON p.id = c.partner_id
    WHERE p.name = :name AND c.kind = 'disburse' AND c.state = 'posted'
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


@dataclass(slots=True)
class LiveLender:
    """The lender's plan and office. `down_seconds` is how long the command took that killed and restarted its server."""

    server: LiveMifos
    planned: PlannedPartner
    office: Office
    day: date
    before: dict[str, Any] = field(default_factory=dict)
    down_seconds: float | None = None
    posted_when_killed: int | None = None

    async def open(self) -> None:
        """The office makes people and accounts; what stands in its books before the day is kept."""
        await self.office.open(self.planned, self.day)
        self.before = await self.office.books()

    async def be_killed(self, runtime: Runtime) -> None:
        """Runs the restart command once, when half of the loans are posted. Raises PermanentError if it fails or hangs."""
        if self.server.restart is None:
            return
        half = len(self.planned.approved) // 2
        posted = 0
        while posted < half:
            await asyncio.sleep(_LOOK_EVERY)
            async with runtime.engine.connect() as connection:
                posted = (await connection.execute(_POSTED, {"name": self.planned.name})).scalar_one()
        self.posted_when_killed = posted
        started = time.monotonic()
        await _run(self.server.restart)
        self.down_seconds = round(time.monotonic() - started, 1)

    async def span(self, runtime: Runtime) -> Span:
        """How fast the loans were posted."""
        async with runtime.engine.connect() as connection:
            row = (await connection.execute(_SPAN, {"name": self.planned.name})).one()
        return Span(row.n, row.again or 0, row.seconds or 0.0)


async def _run(command: str) -> None:
    process = await asyncio.create_subprocess_shell(
        command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            # Not communicate(): a server that the command leaves behind holds the pipe open.
            status = await process.wait()
    except TimeoutError as error:
        raise PermanentError(f"the restart command {command!r} has not ended after {_PATIENCE:.0f} s") from error
    if status != 0:
        said = await process.stdout.read(_TAIL) if process.stdout else b""
        raise PermanentError(f"the restart command {command!r} ended with {status}: {said.decode(errors='replace')}")
