"""`python -m sandbox --port P --seed N`: serves until it is told to stop."""

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from sandbox.application import Sandbox
from sandbox.journal import Journal


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="Stand-ins for M-Pesa, Mifos X and an SMS gateway.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SANDBOX_SEED", "1")))
    parser.add_argument("--latency-ms", type=int, default=0, help="how long the M-Pesa gateway takes to answer a payment")
    parser.add_argument("--world", type=Path, help="a JSON file with the world to begin with (see sandbox/README.md)")
    parser.add_argument("--state", type=Path, help="a journal file: started with it again, a killed sandbox comes back")
    return parser.parse_args()


def _start_world(arguments: argparse.Namespace) -> dict[str, Any]:
    world: dict[str, Any] = json.loads(arguments.world.read_text()) if arguments.world else {}
    if arguments.latency_ms:
        world["settings"] = {"b2c_latency_ms": arguments.latency_ms} | world.get("settings", {})
    return world


async def _serve(arguments: argparse.Namespace) -> None:
    sandbox = Sandbox(arguments.seed, _start_world(arguments), Journal(arguments.state))
    await sandbox.come_back()
    server = Server(
        sandbox, address=arguments.host, port=arguments.port, interface=Interfaces.ASGINL, websockets=False, backlog=2048
    )
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, server.stop)
    await server.serve()
    await sandbox.close()


if __name__ == "__main__":
    uvloop.run(_serve(_arguments()))
