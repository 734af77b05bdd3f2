"""`vault lock`: renewing what this repository pins."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from local_stack.bootstrap import installer_environment, system_store
from local_stack.home import REPOSITORY
from vault_cli.session import fail

_UNREACHABLE = 5


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(lock)


def lock(
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions that pyproject.toml allows.")] = False,
    kafka: Annotated[
        str | None, typer.Option("--kafka", metavar="VERSION", help="Renew the broker's lock for this version instead.")
    ] = None,
) -> None:
    """Write requirements.lock anew from pyproject.toml (or, with --kafka, the list of the broker's files)."""
    if kafka is not None:
        from local_stack.kafka_lock_renewal import renew_lock

        typer.echo(f"{renew_lock(kafka)} files of Apache Kafka {kafka} are locked")
        return
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "-q",
        "--all-extras",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-header",
    ]
    command += ["--python-version", "3.11", "--universal", "--system-certs", "pyproject.toml", "-o", "requirements.lock"]
    command += ["--upgrade"] if upgrade else []
    done = subprocess.run(command, check=False, cwd=REPOSITORY, env=installer_environment(os.environ, {}, system_store()))
    if done.returncode != 0:
        fail("the lock was not renewed; the lines above are uv's", _UNREACHABLE)
