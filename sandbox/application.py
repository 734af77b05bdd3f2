"""The ASGI application: every path to its stand-in."""

import copy
import re
from collections.abc import Mapping
from typing import Any

from sandbox.airtouch.gateway import answer_airtouch
from sandbox.asgi import Answer, BadBodyError, Dropped, Receive, Request, Send, json_answer, read_request, send_answer
from sandbox.control import answer_control
from sandbox.daraja.routes import answer_daraja
from sandbox.journal import Journal
from sandbox.mifos.routes import answer_mifos
from sandbox.truth import summary, truth
from sandbox.world import World, empty_world
from sandbox.world_file import fill_world

_MIFOS = re.compile(r"/mifos/([^/]+)/fineract-provider(/.*)")


class Sandbox:
    """One running sandbox. `start` is the world it begins with, and returns to on reset."""

    def __init__(self, seed: int, start: Mapping[str, Any], journal: Journal) -> None:
        self._seed = seed
        self._start = start
        self._journal = journal
        self.world = self._new_world()

    async def come_back(self) -> None:
        """Does again what the journal holds, and tells what had not been told; begins a journal if there is none."""
        found = self._journal.read()
        if found is None:
            self._journal.begin(self._seed)
            return
        self._seed, entries = found
        world = self.world = self._new_world()
        held = world.deliveries.held = {}
        self._journal.muted = True
        for entry in entries:
            if isinstance(entry, int):
                held.pop(entry, None)
                continue
            world.clock.pinned = entry.at
            await self._answer(entry.request)
            world.clock.shift = entry.shift
        world.clock.pinned = None
        self._journal.muted = False
        self._journal.go_on()
        world.deliveries.release()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        await send_answer(await self._answer(await read_request(scope, receive)), send)

    async def close(self) -> None:
        """Ends what still runs."""
        await self.world.deliveries.close()
        self._journal.close()

    async def _answer(self, request: Request) -> Answer | Dropped:
        path = request.path
        if path.startswith("/mifos/"):
            return await self._answer_mifos(request)
        if path.startswith("/daraja/"):
            return await answer_daraja(self.world, path.removeprefix("/daraja"), request)
        if path.startswith("/airtouch/"):
            return await answer_airtouch(self.world, path.removeprefix("/airtouch"), request)
        return await self._answer_about(path, request)

    async def _answer_about(self, path: str, request: Request) -> Answer:
        if path == "/control/reset" and request.method == "POST":
            return await self._reset(request)
        if path.startswith("/control/"):
            return await answer_control(self.world, path.removeprefix("/control"), request)
        if path == "/truth":
            return json_answer(truth(self.world))
        if path == "/truth/summary":
            return json_answer(summary(self.world))
        if path in ("/healthz", "/readyz"):
            return json_answer({"status": "up", "seed": self._seed})
        return json_answer({"error": f"no {path} here"}, 404)

    async def _reset(self, request: Request) -> Answer:
        """Everything anew; {"seed": N} changes the seed too."""
        try:
            seed = request.json_object().get("seed", self._seed) if request.body else self._seed
        except BadBodyError as error:
            return json_answer({"error": str(error)}, 400)
        if not isinstance(seed, int):
            return json_answer({"error": f"seed must be a whole number, got {seed!r}"}, 400)
        await self.world.deliveries.close()
        self._seed = seed
        self._journal.begin(seed)
        self.world = self._new_world()
        return json_answer({})

    async def _answer_mifos(self, request: Request) -> Answer | Dropped:
        match = _MIFOS.fullmatch(request.path)
        host = self.world.mifos.get(match[1]) if match else None
        if match is None or host is None:
            return json_answer({"error": f"no Mifos X host at {request.path}"}, 404)
        return await answer_mifos(self.world, host, match[2], request)

    def _new_world(self) -> World:
        world = empty_world(self._seed, self._journal)
        fill_world(world, copy.deepcopy(dict(self._start)))
        return world
