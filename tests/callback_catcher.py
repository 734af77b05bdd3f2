"""A server that keeps what is posted to it, as M-Pesa's callbacks are, for a test to hand on when it wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Catcher:
    """What came, in order: (path, body)."""

    base: str = ""
    caught: list[tuple[str, bytes]] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        """The first `count` posts, once they are there."""
        async with asyncio.timeout(10), self._arrived:
            await self._arrived.wait_for(lambda: len(self.caught) >= count)
            return list(self.caught)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        async with self._arrived:
            self.caught.append((head.split()[1], body))
            self._arrived.notify_all()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def catch_callbacks() -> AsyncIterator[Catcher]:
    catcher = Catcher()
    server = await asyncio.start_server(catcher.take, "127.0.0.1", 0)
    catcher.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield catcher
