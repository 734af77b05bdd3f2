"""The demo's day from beginning to end: start the parts, act it out, wait until nothing moves, report, prove."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from local_stack import stack
from local_stack.demo.acts import Outside, take_in_lender
from local_stack.demo.commands import Commands
from local_stack.demo.day_plan import DayPlan, plan_day
from local_stack.demo.everybody import Everybody
from local_stack.demo.live_lender import LiveLender, LiveOutcome, doubled, misplaced
from local_stack.demo.live_office import LiveMifos, Office
from local_stack.demo.live_plan import plan_live
from local_stack.demo.proof import ProofLine
from local_stack.demo.proving import draw_proof
from local_stack.demo.reporting import make_reports
from local_stack.demo.small_lenders import plan_small_lenders
from local_stack.demo.story import Happening, read_story
from local_stack.demo.watching import Picture, open_cases, take_picture
from local_stack.demo.world import planned_faults, sandbox_world
from local_stack.home import Home, exists, remove
from local_stack.kept_settings import keep_settings
from local_stack.plan import Plan
from vault_core.clock import NAIROBI
from vault_core.errors import Unreachable, VaultError
from vault_core.partners.connections import Connections
from vault_core.runtime import Runtime, open_runtime
from vault_core.settings import read_settings

Show = Callable[[str, Picture | None], None]  # (phase, the day so far)

# A real day's waits, shortened so that a day passes in minutes.
PACE = {
    "VAULT_POLL_EVERY": "15",
    "VAULT_INBOX_SWEEP_AFTER": "5",
    "VAULT_OUTBOX_RETRY_BASE": "1",
    "VAULT_OUTBOX_LEASE": "15",
    "VAULT_STATUS_QUERY_AFTER": "5",
    "VAULT_STATUS_QUERY_SPACING": "5",
    "VAULT_STATUS_QUERY_TRIES": "7",
    "VAULT_SEND_WITHIN": "20",
    "VAULT_PAYOUT_RETRY_BASE": "4",
    "VAULT_BALANCE_QUERY_EVERY": "2",
    "VAULT_WALLET_RETRY_AFTER": "3",
    "VAULT_AUDIT_EVERY": "3",
    "VAULT_FEES_SETTLE_AFTER": "5",
    "VAULT_TRANCHE_LOOK_EVERY": "3",
    "VAULT_PULL_EVERY": "3600",  # a pull within the day was asked for by a balance
    "VAULT_STK_QUERY_AFTER": "5",
    "VAULT_STK_QUERY_SPACING": "5",
    "VAULT_STK_EXPIRE_AFTER": "60",
    "VAULT_MIRROR_RENEW_EVERY": "20",
    "VAULT_CONFIRMATION_LATE_AFTER": "10",
    "VAULT_BALANCE_GAP_AFTER": "15",
    "VAULT_UNPOSTED_LOOK_EVERY": "3",
    "VAULT_MIFOS_WRITE_TIMEOUT": "10",
}
# A server that is killed comes back in a minute or two, and its first answers are slow.
LIVE_PACE = {"VAULT_OUTBOX_RETRY_CAP": "15", "VAULT_OUTBOX_MAX_TRIES": "200", "VAULT_MIFOS_WRITE_TIMEOUT": "30"}
_OFFSET = "VAULT_CLOCK_OFFSET_SECONDS"
_OPENING = time_of_day(8, 0)
_REST_SECONDS = (
    900.0  # more than VAULT_BATCH_LOST_AFTER: on a busy machine a tick of Dagster can be lost, and its batch is formed anew
)
_LOOK_EVERY = 0.5


@dataclass(slots=True)
class DayOutcome:
    """What the day came to."""

    seed: int
    day: date
    proof: list[ProofLine]
    picture: Picture
    faults: dict[str, int]
    story: list[Happening]
    cases: list[dict[str, Any]]
    seconds: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)  # of `vault verify`
    problem: str | None = None  # why the day did not come to its end
    live: LiveOutcome | None = None  # of the lender on a running server, if there was one

    @property
    def ok(self) -> bool:
        """Whether every line of the proof holds, `vault verify` finds nothing, and all of the day was done."""
        return self.problem is None and not self.findings and bool(self.proof) and all(line.holds for line in self.proof)


async def run_day(
    home: Home, environment: Mapping[str, str], *, seed: int, day: date, show: Show, server: LiveMifos | None = None
) -> tuple[DayOutcome, Plan]:
    """Runs the day of `seed` in a fresh installation at `home` (an earlier demo there is removed) and leaves it running.

    With `server` one more lender has its loans there: people, accounts and loans are made in it, and stay.
    Raises the stack's and the clients' errors if the parts cannot be started. What goes wrong in the day itself is told in the
    outcome, with the proof as far as it can be drawn.
    """
    seconds: dict[str, float] = {}
    opening = datetime.combine(day, _OPENING, NAIROBI).astimezone(UTC)
    pace = PACE if server is None else {**PACE, **LIVE_PACE}
    demo_environment = {**environment, **pace, "VAULT_HOME": str(home.path), "SANDBOX_SEED": str(seed)}
    async with _timed(seconds, "start"):
        show("starting the parts", None)
        if exists(home):
            await asyncio.to_thread(stack.down, home, demo_environment)
            remove(home)
        demo_environment[_OFFSET] = str((opening - datetime.now(UTC)).total_seconds())
        plan = await asyncio.to_thread(stack.up, home, demo_environment, sandbox=True)
        # So that a command in another shell has the day's clock, too.
        keep_settings(home, {**pace, _OFFSET: demo_environment[_OFFSET]})
    planned = plan_day(seed)
    planned = replace(planned, partners=(*planned.partners, *plan_small_lenders(seed)))
    if server is not None:
        planned = replace(planned, partners=(*planned.partners, plan_live(seed, int(time.time() * 10), server.loans)))
    async with open_runtime(read_settings(plan.environment)) as runtime:
        connections = Connections(runtime)
        outside = Outside(plan.environment["VAULT_SANDBOX_URL"], runtime.http)
        live = None if server is None else LiveLender(server, planned.partners[-1], Office(server, runtime.http), day)
        try:
            outcome = await _live(runtime, connections, outside, plan, planned, live, day, seconds, show)
        finally:
            await connections.aclose()
    return outcome, plan


async def _live(
    runtime: Runtime,
    connections: Connections,
    outside: Outside,
    plan: Plan,
    planned: DayPlan,
    live: LiveLender | None,
    day: date,
    seconds: dict[str, float],
    show: Show,
) -> DayOutcome:
    async with _timed(seconds, "set up"):
        if live is not None:
            show(f"{len(live.planned.approved)} loans are applied for at {live.server.url}", None)
            await live.open()
        show(f"the office adds {len(planned.partners)} lenders", None)
        await outside.pull("setup", sandbox_world(planned, day, runtime.clock.now().isoformat()))
        before = await outside.truth()
        sandbox_url, server = plan.environment["VAULT_SANDBOX_URL"], live.server if live is not None else None
        partners = [await take_in_lender(runtime, connections, each, sandbox_url, server) for each in planned.partners]
        # From now on: the office is not to be met by what it could not prepare for.
        await outside.pull("faults", planned_faults(planned))
    problem = None
    lenders = {partner.name: (partner, plan) for partner, plan in zip(partners, planned.partners, strict=True)}
    everybody = Everybody(runtime, connections, outside, plan, planned, lenders, live)
    async with _timed(seconds, "day"):
        living = asyncio.create_task(everybody.act())
        try:
            await _wait_for_rest(runtime, outside, planned, living, show)
        except Unreachable as error:
            problem = str(error)
        finally:
            if problem is not None:
                living.cancel()
            await asyncio.wait([living])
    async with _timed(seconds, "reports"):
        show("Dagster makes the day's reports", None)
        if problem is None:
            try:
                await make_reports(plan.ports["dagster"].number, day)
            except VaultError as error:
                problem = str(error)
    async with _timed(seconds, "proof"):
        show("holding the books against each other", None)
        truth, findings = await outside.truth(), await _verified(plan)
        if live is not None:
            before["mifos"][live.planned.host] = live.before
            truth["mifos"][live.planned.host] = books = await live.office.books()
            paid_in = truth["mpesa"]["short_codes"][live.planned.c2b_short_code]["c2b"]
            findings += doubled(books) + misplaced(books, paid_in, everybody.placed)
            await live.office.take_down_hooks(runtime.public_url)
        async with runtime.engine.connect() as connection:
            cases, story = await open_cases(connection), await read_story(connection, everybody.diary)
            picture = await take_picture(connection, runtime.clock.now())
            folder = Path(plan.environment["VAULT_REPORTS_DIR"])
            proof = [] if problem else await draw_proof(connection, folder, planned, day, before, truth, cases)
    faults = (await outside.summary())["faults"]
    told = None if live is None else await live.outcome(runtime)
    return DayOutcome(planned.seed, day, proof, picture, faults, story, cases, seconds, findings, problem, told)


async def _wait_for_rest(runtime: Runtime, outside: Outside, planned: DayPlan, living: "asyncio.Task[None]", show: Show) -> None:
    """Until all of the day has been told (which may include a server's restart), applied and done, within 15 minutes of that."""
    payments = sum(len(partner.payments) for partner in planned.partners)
    loans = sum(partner.parts_to_pay for partner in planned.partners)
    picture, lived_at = Picture(), None
    while lived_at is None or time.monotonic() < lived_at + _REST_SECONDS:
        if living.done() and lived_at is None:
            lived_at = time.monotonic()
        async with runtime.engine.connect() as connection:
            picture = await take_picture(connection, runtime.clock.now())
        show("the day is lived", picture)
        if living.done() and (failed := living.exception()) is not None:
            raise Unreachable(f"the day was not lived to its end: {_first_cause(failed)}") from failed
        told = living.done() and (await outside.summary())["pending"] == 0
        if told and picture.at_rest and picture.payments >= payments and picture.loans >= loans:
            return
        await asyncio.sleep(_LOOK_EVERY)
    raise Unreachable(f"the day did not come to rest in {_REST_SECONDS:.0f} s: {picture}")


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


async def _verified(plan: Plan) -> list[str]:
    """What `vault verify` finds, run as an auditor runs it."""
    told = await Commands(plan.environment).run("verify", allowed=(0, 1))
    return [f"{finding['check']}: {finding['where']}: {finding['what']}" for finding in told["findings"]]


@asynccontextmanager
async def _timed(seconds: dict[str, float], phase: str) -> AsyncIterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - started, 1)
