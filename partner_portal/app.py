"""The ASGI entry point and its composition root. Run: granian --interface asgi partner_portal.app:application.

Importing this does nothing; everything is built when the server starts a worker (ASGI lifespan) from the environment.
"""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from partner_portal.metrics import Metrics
from partner_portal.portal import build_portal
from partner_portal.portal_settings import read_portal_settings
from vault_core.errors import ConfigurationError
from vault_core.partners.connections import Connections
from vault_core.runtime import open_runtime
from vault_core.settings import read_settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOOK_EVERY = 0.5
_ORPHANED = 71


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI entry point."""
    if scope["type"] == "http":
        await scope["state"]["portal"](scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(scope, receive, send)


async def _live(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup
    orphanhood = asyncio.create_task(_end_when_orphaned())
    try:
        async with open_portal(os.environ) as portal:
            scope["state"]["portal"] = portal
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
    except ConfigurationError as error:
        await send({"type": "lifespan.startup.failed", "message": f"the portal cannot start: {error}"})
        return
    finally:
        orphanhood.cancel()
    await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def open_portal(environment: Mapping[str, str]) -> AsyncIterator[Starlette]:
    """The portal of one worker process. It starts with or without PostgreSQL, and finds it when it comes.

    Raises ConfigurationError for a setting that is missing or wrong.
    """
    settings = read_portal_settings(environment)
    async with (
        open_runtime(read_settings(environment), pool_size=settings.database_connections) as runtime,
        aclosing(Connections(runtime)) as connections,
    ):
        yield build_portal(runtime, connections, settings, Metrics())


async def _end_when_orphaned() -> None:
    """Ends this worker when the server's main process has died: it would go on serving beside the next one's, on the same port.

    Nothing is lost by it: what a request began is on record before it is sent.
    """
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():  # noqa: ASYNC110 - a process sets no event
        await asyncio.sleep(_LOOK_EVERY)
    os._exit(_ORPHANED)
