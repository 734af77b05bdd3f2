"""Commands of `vault`, run by people on the machine where the demo's day is lived."""

import asyncio
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from local_stack.home import REPOSITORY
from vault_core.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Commands:
    """The shell of this installation."""

    environment: Mapping[str, str]

    async def run(self, *words: str, allowed: Collection[int] = (0,)) -> Any:
        """What `vault WORDS --json` says. Raises Unreachable with its words if it ends with another exit code than `allowed`."""
        process = await asyncio.create_subprocess_exec(
            str(REPOSITORY / "vault"), *words, "--json", env=dict(self.environment),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, complained = await process.communicate()
        if process.returncode not in allowed:
            raise Unreachable(f"`vault {' '.join(words)}` ended with {process.returncode}: {complained.decode()[-400:]}")
        return json.loads(told)
