"""The stream workers: any number of `faust --loop uvloop -A vault_pipelines.streams.app worker --without-web`, one name each.

VAULT_WORKER_NAME is the worker's stable name in the consumer group: one that was killed and comes back under it goes on
within seconds instead of after a session time-out. Importing this builds the app and does no I/O.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import faust
import structlog

from vault_core.settings import read_settings
from vault_pipelines.streams import (
    b2c_results,
    b2c_timeouts,
    c2b_confirmations,
    dispatch_mifos,
    dispatch_sms,
    mifos_events,
    periodic,
    query_results,
    recorder,
    stk_results,
)
from vault_pipelines.streams.edge import Edge
from vault_pipelines.streams.stalling import stall_job

AGENTS = (
    b2c_results,
    b2c_timeouts,
    query_results,
    c2b_confirmations,
    stk_results,
    mifos_events,
    dispatch_mifos,
    dispatch_sms,
    recorder,
)
_SESSION_SECONDS = 10.0
_HEARTBEAT_SECONDS = 3.0
_PRODUCE_WITHIN = 15.0


class Worker(faust.App):  # type: ignore[misc]  # Faust ships no types
    """A Faust app whose edge is opened and closed with it."""

    edge: Edge

    async def on_first_start(self) -> None:
        """Makes no folders: this app has no tables. Logs past Faust, which would call every line of ours a warning."""
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

    async def on_start(self) -> None:
        """Builds what the agents run with, before the first of them starts."""
        await super().on_start()
        await self.edge.open(read_settings(os.environ))

    async def on_shutdown(self) -> None:
        """Closes it, after the last of them stopped."""
        await super().on_shutdown()
        await self.edge.close()


def build_app(environment: Mapping[str, str], *, agents: Sequence[ModuleType] = AGENTS, with_clock: bool = True) -> Worker:
    """The app of one worker, named and addressed by `environment`; `agents` and the jobs of the clock are what it does."""
    worker = environment.get("VAULT_WORKER_NAME", "")
    app = Worker(
        "payment-vault",
        broker=[f"kafka://{address.strip()}" for address in _bootstrap(environment).split(",")],
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        topic_allow_declare=False,  # topics are created ahead, with their partitions (vault_core/topics.py)
        topic_disable_leader=True,
        broker_session_timeout=_SESSION_SECONDS,
        broker_heartbeat_interval=_HEARTBEAT_SECONDS,
        broker_commit_interval=1.0,
        consumer_group_instance_id=worker or None,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        stream_wait_empty=False,  # a batch that is cut off at the stop is in the inbox
    )

    async def produce(topic: str, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> None:
        producer = await app.maybe_start_producer()
        async with asyncio.timeout(_PRODUCE_WITHIN):
            await producer.send_and_wait(topic, key, value, None, None, dict(headers))

    app.edge = Edge(produce)
    for agent in agents:
        agent.register(app, app.edge)
    if with_clock:
        for job in periodic.jobs(app.edge, produce, heartbeat=_heartbeat_file(environment, worker)):
            periodic.register(app, job)
        periodic.register(app, periodic.Job("watch for stalls", stall_job(app), idle=15.0, busy=15.0))
    return app


def _bootstrap(environment: Mapping[str, str]) -> str:
    # A default, so that importing this without settings (tests, type checks) works; starting without them does not.
    return environment.get("VAULT_KAFKA_BOOTSTRAP", "127.0.0.1:9092")


def _heartbeat_file(environment: Mapping[str, str], worker: str) -> Path | None:
    home = environment.get("VAULT_HOME")
    return Path(home) / "run" / f"{worker or 'worker'}.heartbeat" if home else None


app = build_app(os.environ)
