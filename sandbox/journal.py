"""What a killed sandbox comes back from: every request that changed something, in the order in which it did.

One JSON line an act, written before the act is answered. Coming back means doing the same requests again, each at its own
moment and without waiting or telling anybody; what had not been told yet is told then. No line is synced to the disk: this
guards against a killed process, not against a lost machine.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any

from sandbox.asgi import Request
from sandbox.clock import SandboxClock

_KEPT_HEADERS = ("authorization", "idempotency-key", "fineract-platform-tenantid", "content-type", "host")


@dataclass(frozen=True, slots=True)
class Act:
    """A request that changed something, and when."""

    request: Request
    at: datetime
    shift: timedelta


class Journal:
    """The file. Without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self.muted = False

    def begin(self, seed: int) -> None:
        """Forgets what was; the next acts belong to a new world of `seed`."""
        if self._path is not None:
            self.close()
            self._path.write_text(json.dumps({"seed": seed}) + "\n")
            self._file = self._path.open("a")

    def go_on(self) -> None:
        """Writes after what is there."""
        if self._path is not None:
            self._file = self._path.open("a")
            self._file.write("\n")  # the last line may be torn

    def note(self, request: Request, clock: SandboxClock) -> None:
        """Keeps `request`, which is about to change something."""
        if self._file is None or self.muted:
            return
        self._write(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "headers": {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers},
                "body": request.body.decode("utf-8", "surrogateescape"),
                "at": clock.now().isoformat(),
                "shift": clock.shift.total_seconds(),
            }
        )

    def told(self, number: int) -> None:
        """Keeps that delivery `number` was told."""
        if self._file is not None and not self.muted:
            self._write({"told": number})

    def read(self) -> tuple[int, Iterator[Act | int]] | None:
        """The seed, then acts and numbers of deliveries told, in order; None when there is nothing. A torn line is left out."""
        if self._path is None or not self._path.exists():
            return None
        lines = self._path.read_text().splitlines()
        if not lines:
            return None
        return int(json.loads(lines[0])["seed"]), self._entries(lines[1:])

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    @staticmethod
    def _entries(lines: list[str]) -> Iterator[Act | int]:
        for line in filter(None, lines):
            try:
                entry = json.loads(line)
            except ValueError:  # torn: the process was killed while it wrote
                continue
            if "told" in entry:
                yield int(entry["told"])
                continue
            body = entry["body"].encode("utf-8", "surrogateescape")
            request = Request(entry["method"], entry["path"], entry["query"], entry["headers"], body)
            yield Act(request, datetime.fromisoformat(entry["at"]), timedelta(seconds=entry["shift"]))
