"""The demo's day from beginning to end: start the parts, act it out, wait until nothing moves, report, prove."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

from sqlalchemy import text

from local_stack import stack
from local_stack.demo.acts import Outside, live_the_day, take_in_lender, top_up_again
from local_stack.demo.day_plan import ENABLED_PRODUCTS, DayPlan, PlannedPartner, plan_day
from local_stack.demo.live_lender import LiveLender, LiveOutcome, doubled
from local_stack.demo.live_office import LiveMifos, Office
from local_stack.demo.live_plan import plan_live
from local_stack.demo.proof import (
    HOUSE,
    LENT,
    SMS,
    WALLET,
    PartnerTerms,
    ProofLine,
    house_lines,
    ledger_lines,
    partner_lines,
    prove,
    report_lines,
    truth_of,
)
from local_stack.demo.reporting import make_reports, read_reports
from local_stack.demo.watching import Picture, open_cases, take_picture
from local_stack.demo.world import FAULTS, SMS_PRICE, sandbox_world
from local_stack.home import REPOSITORY, Home, exists, remove
from local_stack.plan import Plan
from vault_core.clock import NAIROBI
from vault_core.errors import Unreachable, VaultError
from vault_core.ledger.balances import trial_balance
from vault_core.money import Money
from vault_core.partners.connections import Connections
from vault_core.partners.partner import Partner
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
    "VAULT_STATUS_QUERY_TRIES": "12",
    "VAULT_SEND_WITHIN": "20",
    "VAULT_PAYOUT_RETRY_BASE": "4",
    "VAULT_BALANCE_QUERY_EVERY": "2",
    "VAULT_WALLET_RETRY_AFTER": "3",
    "VAULT_MIFOS_WRITE_TIMEOUT": "10",
}
# A server that is killed comes back in a minute or two, and its first answers are slow.
LIVE_PACE = {"VAULT_OUTBOX_RETRY_CAP": "15", "VAULT_OUTBOX_MAX_TRIES": "200", "VAULT_MIFOS_WRITE_TIMEOUT": "30"}
_OPENING = time_of_day(8, 0)
_WAVE_SECONDS = 2.0
_REST_SECONDS = 900.0  # more than LOST_AFTER: on a busy machine a tick of Dagster can be lost, and its batch is formed anew
_LOOK_EVERY = 0.5
# Money that a difference may be about, by the kind of the open case that names it.
_CASES_OF_PARTNER = {WALLET: {"sms_unknown"}, LENT: {"disbursement_unposted"}}
_CASES_OF_HOUSE = {SMS: {"sms_unknown"}}

_PARTNERS = text("SELECT id, name FROM partners ORDER BY name")


@dataclass(slots=True)
class DayOutcome:
    """What the day came to."""

    seed: int
    day: date
    proof: list[ProofLine]
    picture: Picture
    faults: dict[str, int]
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
        demo_environment["VAULT_CLOCK_OFFSET_SECONDS"] = str((opening - datetime.now(UTC)).total_seconds())
        plan = await asyncio.to_thread(stack.up, home, demo_environment, sandbox=True)
    planned = plan_day(seed)
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
        await outside.pull("faults", FAULTS)  # from now on: the office is not to be met by what it could not prepare for
    problem = None
    async with _timed(seconds, "day"):
        living = asyncio.create_task(_lived(runtime, outside, planned, live))
        try:
            await _wait_for_rest(runtime, outside, planned, partners, living, show)
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
            findings += doubled(books)
            await live.office.take_down_hooks(runtime.public_url)
        proof, cases, picture = await _prove(runtime, plan, planned, day, before, truth, reported=problem is None)
    faults = (await outside.summary())["faults"]
    told = None if live is None else await live.outcome(runtime)
    return DayOutcome(planned.seed, day, proof, picture, faults, cases, seconds, findings, problem, told)


async def _lived(runtime: Runtime, outside: Outside, planned: DayPlan, live: LiveLender | None) -> None:
    """The day's acts, and the kill of the live server among them."""
    async with asyncio.TaskGroup() as acts:
        acts.create_task(live_the_day(outside, planned, wave_seconds=_WAVE_SECONDS, live=live))
        if live is not None:
            acts.create_task(live.be_killed(runtime))


async def _wait_for_rest(
    runtime: Runtime, outside: Outside, planned: DayPlan, partners: list[Partner], living: "asyncio.Task[None]", show: Show
) -> None:
    """Until all of the day has been told (which may include a server's restart), applied and done, within 15 minutes of that.

    The lender that runs short is topped up once it has been told so.
    """
    payments = sum(len(partner.payments) for partner in planned.partners)
    loans = sum(loan.product in ENABLED_PRODUCTS for partner in planned.partners for loan in partner.approved)
    short = {
        partner.name: (partner, plan) for partner, plan in zip(partners, planned.partners, strict=True) if plan.second_top_up
    }
    picture, lived_at = Picture(), None
    while lived_at is None or time.monotonic() < lived_at + _REST_SECONDS:
        if living.done() and lived_at is None:
            lived_at = time.monotonic()
        async with runtime.engine.connect() as connection:
            picture = await take_picture(connection)
        show("the day is lived", picture)
        if short and living.done() and picture.held_for.get("wallet_short"):
            for partner, plan in short.values():
                await top_up_again(runtime, partner, plan)
            short = {}
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


async def _prove(
    runtime: Runtime,
    plan: Plan,
    planned: DayPlan,
    day: date,
    before: Mapping[str, Any],
    truth: Mapping[str, Any],
    *,
    reported: bool,
) -> tuple[list[ProofLine], list[dict[str, Any]], Picture]:
    async with runtime.engine.connect() as connection:
        cases = await open_cases(connection)
        picture = await take_picture(connection)
    if not reported:
        return [], cases, picture
    async with runtime.engine.connect() as connection:
        names = {row.id: row.name for row in await connection.execute(_PARTNERS)}
        ledger = ledger_lines(await trial_balance(connection), names)
    reports = read_reports(Path(plan.environment["VAULT_REPORTS_DIR"]), day)
    truths = {partner.name: truth_of(_terms(partner), truth, before) for partner in planned.partners}
    told = {partner.name: report_lines(*reports, partner.name) for partner in planned.partners}
    topped_up = {partner.name: (partner.first_top_up + partner.second_top_up) * 100 for partner in planned.partners}
    lines: list[ProofLine] = []
    for name, cents in topped_up.items():
        in_cases = _in_cases(cases, _CASES_OF_PARTNER, name)
        lines += prove(name, partner_lines(truths[name], cents), ledger[name], partner_lines(told[name], cents), in_cases)
    total = sum(topped_up.values())
    of_house = house_lines(truths.values(), total), ledger[HOUSE], house_lines(told.values(), total)
    lines += prove(HOUSE, *of_house, _in_cases(cases, _CASES_OF_HOUSE, None))
    return lines, cases, picture


def _in_cases(cases: list[dict[str, Any]], kinds_of: Mapping[str, set[str]], partner: str | None) -> dict[str, int]:
    """What open cases name, by line; of one partner, or (None) of all."""
    return {
        line: sum(c["amount_cents"] or 0 for c in cases if partner in {None, c["partner"]} and c["kind"] in kinds)
        for line, kinds in kinds_of.items()
    }


async def _verified(plan: Plan) -> list[str]:
    """What `vault verify` finds, run as an auditor runs it."""
    process = await asyncio.create_subprocess_exec(
        str(REPOSITORY / "vault"), "verify", "--json", env=plan.environment, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    told, _ = await process.communicate()
    if process.returncode not in {0, 1}:
        raise Unreachable(f"`vault verify` ended with {process.returncode}")
    return [f"{finding['check']}: {finding['where']}: {finding['what']}" for finding in json.loads(told)["findings"]]


def _terms(partner: PlannedPartner) -> PartnerTerms:
    return PartnerTerms(
        name=partner.name,
        host=partner.host,
        b2c_short_code=partner.b2c_short_code,
        c2b_short_code=partner.c2b_short_code,
        sms_user=partner.name,
        sms_price_cents=Money.parse(SMS_PRICE).cents,
        system_fee_cents=partner.system_fee * 100,
        collections=partner.collections,
    )


@asynccontextmanager
async def _timed(seconds: dict[str, float], phase: str) -> AsyncIterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - started, 1)
