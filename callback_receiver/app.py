"""The ASGI application and its composition root. Run: granian --interface asgi callback_receiver.app:application.

Importing this does nothing; everything is built when the server starts a worker (ASGI lifespan) from the environment.
"""

import asyncio
import multiprocessing
import os
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog

from callback_receiver.batch_writer import BatchWriter
from callback_receiver.metrics import Metrics
from callback_receiver.publisher import Publisher
from callback_receiver.receiver import Receive, Receiver, Scope, Send
from callback_receiver.receiver_settings import read_receiver_settings
from callback_receiver.token_directory import TokenDirectory
from callback_receiver.validation_desk import ValidationDesk
from vault_core.clock import SystemClock
from vault_core.database import open_async_engine
from vault_core.errors import ConfigurationError
from vault_core.fault_points import arm
from vault_core.identifiers import id_maker
from vault_core.inbox.receiving import open_delivery_store
from vault_core.settings import read_settings

log = structlog.get_logger(__name__)

_STOP_WITHIN = 5.0
_LOOK_EVERY = 0.5
_ORPHANED = 71


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI entry point."""
    if scope["type"] == "http":
        await scope["state"]["receiver"].answer(scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(scope, receive, send)


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup
    orphaned = False
    try:
        root = open_receiver(os.environ)
        async with root as receiver:
            scope["state"]["receiver"] = receiver
            await send({"type": "lifespan.startup.complete"})
            orphaned = await _stop_or_orphanhood(receive)
    except ConfigurationError as error:
        await send({"type": "lifespan.startup.failed", "message": f"the receiver cannot start: {error}"})
        return
    finally:
        if orphaned:
            os._exit(_ORPHANED)  # whatever the clean-up met: with the main process gone, even logging fails
    await send({"type": "lifespan.shutdown.complete"})


async def _stop_or_orphanhood(receive: Receive) -> bool:
    """Waits for the server to stop; returns whether its main process died instead.

    The server's workers share one port. Those of a killed main process would go on serving beside the next ones, with yesterday's
    settings and beyond the supervisor's reach.
    """
    parent = multiprocessing.parent_process()
    stop = asyncio.ensure_future(receive())  # lifespan.shutdown
    while not stop.done():
        await asyncio.wait({stop}, timeout=_LOOK_EVERY)
        if parent is not None and not parent.is_alive():
            stop.cancel()
            # Nobody would end a clean-up that hangs.
            asyncio.get_running_loop().call_later(2 * _STOP_WITHIN, os._exit, _ORPHANED)
            return True
    return False


@asynccontextmanager
async def open_receiver(environment: Mapping[str, str]) -> AsyncIterator[Receiver]:
    """The receiver of one worker process. It starts with or without PostgreSQL and Kafka, and finds them when they come.

    Raises ConfigurationError for a setting that is missing or wrong.
    """
    settings = read_settings(environment)
    arm(settings.fault_point)
    bounds = read_receiver_settings(environment)
    clock = SystemClock(settings.clock_offset)
    metrics = Metrics()
    engine = open_async_engine(settings.database_url, pool_size=bounds.writers + bounds.validators + 2)
    publisher = Publisher(settings.kafka_bootstrap, metrics, most=bounds.publish_queue)
    directory = TokenDirectory(engine, settings.sealer)
    desk = ValidationDesk(
        engine,
        settings.sealer,
        metrics,
        within=bounds.validation_within,
        believed_for=timedelta(seconds=settings.pace.mirror_believed_for),
    )
    writer = BatchWriter(
        lambda: open_delivery_store(engine, settings.sealer, sweep_after=timedelta(seconds=settings.pace.inbox_sweep_after)),
        publisher.offer,
        bounds,
        metrics,
    )
    tasks = [
        asyncio.create_task(writer.run(), name="writer"),
        asyncio.create_task(publisher.run(), name="publisher"),
        asyncio.create_task(directory.follow(bounds.tokens_every), name="tokens"),
        asyncio.create_task(desk.follow(bounds.tokens_every), name="validation settings"),
        *(asyncio.create_task(desk.run(), name="validator") for _ in range(bounds.validators)),
    ]
    for task in tasks:
        task.add_done_callback(_stop_if_failed)
    try:
        yield Receiver(
            directory=directory,
            writer=writer,
            desk=desk,
            metrics=metrics,
            settings=bounds,
            engine=engine,
            clock=clock,
            new_id=id_maker(clock),
        )
        await writer.drain(_STOP_WITHIN)
        await publisher.drain(_STOP_WITHIN)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await engine.dispose()


def _stop_if_failed(task: "asyncio.Task[None]") -> None:
    """A background task ended by an error nobody foresaw leaves a receiver that cannot work: the supervisor starts another."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("receiver stopped", task=task.get_name(), errors=list(_places(error)))
        os._exit(70)


def _places(error: BaseException) -> Iterator[str]:
    """The kind and place of `error` (of each, in a group). Not its text, which may quote a delivery."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _places(part)
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    yield f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
