"""The ceiling: an ASGI app that does nothing but append each body to a file, flush it in groups, and answer.

Run by the same server with the same flags as the receiver. BARE_FILE names the file.
"""

import asyncio
import os
from typing import Any

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
}
_BODY = {"type": "http.response.body", "body": b"{}"}


class Appender:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()

    def append(self, body: bytes) -> "asyncio.Future[None]":
        flushed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((body, flushed))
        self._arrived.set()
        return flushed

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            group, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, b"\n".join(body for body, _ in group))
            for _, flushed in group:
                if not flushed.done():
                    flushed.set_result(None)

    def _write(self, data: bytes) -> None:
        os.write(self._file, data)
        os.fdatasync(self._file)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        appender = Appender(os.environ["BARE_FILE"])
        task = asyncio.create_task(appender.run())
        scope["state"]["appender"] = appender
        await send({"type": "lifespan.startup.complete"})
        await receive()
        task.cancel()
        await send({"type": "lifespan.shutdown.complete"})
        return
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    await scope["state"]["appender"].append(bytes(body))
    await send(_START)
    await send(_BODY)
