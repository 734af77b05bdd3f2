"""What a worker does by the clock. Every job takes what it works on with SKIP LOCKED, so any number of workers may run them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import faust
import structlog

from vault_core.collections.assigning import lapse_decisions
from vault_core.collections.balance_gaps import check_balances
from vault_core.collections.mirror_refresh import refresh_mirrors
from vault_core.collections.pull_sweeping import sweep_pulls
from vault_core.collections.purging import purge_feed_answers
from vault_core.collections.reversal_sending import advance_reversals
from vault_core.collections.stk_following import follow_prompts
from vault_core.database import in_transaction
from vault_core.disbursements.balance_queries import ask_balances
from vault_core.disbursements.float_audit import audit_floats
from vault_core.disbursements.float_watch import watch_floats
from vault_core.disbursements.next_tranches import find_next_tranches
from vault_core.disbursements.recovery import recover_sending
from vault_core.disbursements.review import read_held_again, release_held
from vault_core.disbursements.status_queries import ask_due
from vault_core.disbursements.tariff_audit import audit_tariffs
from vault_core.disbursements.top_up_watch import compare_payoffs
from vault_core.disbursements.undo_watch import look_for_undone
from vault_core.disbursements.unposted import look_for_posted
from vault_core.ledger.holds import expire_holds
from vault_core.ledger.proof_history import prove_due
from vault_core.ledger.sealing import seal_due
from vault_core.notifications.wallet_texts import watch_wallets
from vault_core.partitions import cut_ahead
from vault_core.postings.mifos_outages import probe_away
from vault_core.runtime import Runtime
from vault_core.wallets.adjustment_decisions import lapse_adjustments
from vault_pipelines.streams.edge import Edge, Produce, cause_of
from vault_pipelines.streams.relaying import relay_calls, sweep_inbox

log = structlog.get_logger(__name__)

_AFTER_FAILURE = 2.0


Rest = float | Callable[[], float]


@dataclass(frozen=True, slots=True)
class Job:
    """One job: `work` does what is due and returns how much it was. Seconds of rest after nothing and after something.

    What is a setting is asked for at each rest: there are none before the worker has started.
    """

    name: str
    work: Callable[[], Awaitable[int]]
    idle: Rest
    busy: Rest


def jobs(edge: Edge, produce: Produce, *, heartbeat: Path | None) -> list[Job]:
    """The jobs of every worker."""

    def every() -> float:
        return edge.runtime.pace.audit_every

    made = [
        Job("relay calls", partial(relay_calls, edge, produce), idle=0.2, busy=0.05),
        Job("sweep inbox", partial(sweep_inbox, edge, produce), idle=2.0, busy=0.5),
        Job("ask about payouts", lambda: ask_due(edge.runtime, edge.connections), idle=2.0, busy=0.5),
        Job("follow prompts to pay", lambda: follow_prompts(edge.runtime, edge.connections), idle=2.0, busy=0.5),
        Job("look at held loans", lambda: release_held(edge.runtime), idle=3.0, busy=1.0),
        Job("read held loans again", lambda: read_held_again(edge.runtime, edge.connections), idle=3.0, busy=1.0),
        Job("watch floats", lambda: watch_floats(edge.runtime), idle=3.0, busy=1.0),
        Job("audit floats", lambda: audit_floats(edge.runtime), idle=every, busy=every),
        Job("ask for balances", lambda: ask_balances(edge.runtime, edge.connections), idle=2.0, busy=2.0),
        Job("ask for what was away", lambda: probe_away(edge.runtime, edge.connections), idle=1.0, busy=1.0),
        Job("look for next tranches", lambda: find_next_tranches(edge.runtime, edge.connections), idle=10.0, busy=1.0),
        Job("look for postings by hand", lambda: look_for_posted(edge.runtime, edge.connections), idle=10.0, busy=1.0),
        Job("look for undone postings", lambda: look_for_undone(edge.runtime, edge.connections), idle=10.0, busy=1.0),
        Job("compare top-ups", lambda: compare_payoffs(edge.runtime, edge.connections), idle=10.0, busy=1.0),
        Job("recover sending", lambda: recover_sending(edge.runtime, edge.connections), idle=10.0, busy=2.0),
        Job("refresh account mirrors", lambda: refresh_mirrors(edge.runtime, edge.connections), idle=3.0, busy=1.0),
        Job("pull payments", lambda: sweep_pulls(edge.runtime, edge.connections), idle=2.0, busy=0.5),
        Job("check balances", lambda: check_balances(edge.runtime), idle=10.0, busy=10.0),
        Job("purge feed answers", lambda: purge_feed_answers(edge.runtime), idle=3600.0, busy=5.0),
        Job("watch wallets", lambda: watch_wallets(edge.runtime), idle=5.0, busy=5.0),
        Job("lapse adjustments", lambda: lapse_adjustments(edge.runtime), idle=60.0, busy=1.0),
        Job("send reversals", lambda: advance_reversals(edge.runtime, edge.connections), idle=2.0, busy=0.5),
        Job("lapse decisions on payments", lambda: lapse_decisions(edge.runtime), idle=60.0, busy=1.0),
        Job("expire holds", lambda: expire_holds(edge.runtime), idle=60.0, busy=1.0),
        Job("audit tariffs", lambda: audit_tariffs(edge.runtime), idle=every, busy=lambda: min(5.0, every())),
        Job("cut partitions", lambda: _cut_partitions(edge.runtime), idle=3600.0, busy=3600.0),
        Job("seal ledger", lambda: seal_due(edge.runtime), idle=60.0, busy=10.0),
        Job("prove ledger", lambda: prove_due(edge.runtime), idle=600.0, busy=600.0),
    ]
    if heartbeat is not None:
        made.append(Job("heartbeat", partial(_beat, heartbeat), idle=1.0, busy=1.0))
    return made


def register(app: faust.App, job: Job) -> None:
    """Adds `job` to `app`: runs until the worker stops. A failure is logged and tried again; the rows it left are still due."""

    async def repeat() -> None:
        while not app.should_stop:
            await app.sleep(await _rest_after(job))

    app.task(repeat)


async def _rest_after(job: Job) -> float:
    try:
        return _seconds(job.busy if await job.work() else job.idle)
    except Exception as error:  # noqa: BLE001 - the edge of a process: the cause is logged, the work stays due
        log.warning("job failed", job=job.name, cause=cause_of(error))
        return max(_seconds(job.idle), _AFTER_FAILURE)


def _seconds(rest: Rest) -> float:
    return rest() if callable(rest) else rest


async def _cut_partitions(runtime: Runtime) -> int:
    return await in_transaction(runtime.engine, lambda connection: cut_ahead(connection, now=runtime.clock.now()))


async def _beat(file: Path) -> int:
    """Touches `file`: `vault status` reads from its age that this worker's loop turns."""

    def touch() -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    await asyncio.to_thread(touch)
    return 0
