"""Fault points: places where a test ends a process with SIGKILL. Off, and a plain comparison with None, everywhere else.

They stand on the seams that all code passes, so that a new transaction or call is a fault point by itself: before and after each
commit (database.py), before each request and after its answer (clients/http_exchange.py), between the two when it has left whole
(http_pool.py), around the commit of a delivery (inbox/receiving.py), around each Kafka message sent and each batch taken
(vault_pipelines/streams). A point is named by the moment and by the function or address it stands in.
"""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vault_core.errors import ConfigurationError

_SETTING = "VAULT_FAULT_POINT"
_WISH = re.compile(r"die at (?P<point>.+?)(?: #(?P<passing>[1-9]\d*))?|write to (?P<file>.+)")
_OWN_MACHINE = frozenset({"127.0.0.1", "localhost", "::1"})
_ROW = re.compile(r"(?<=/)\d+(?=/|$)|[0-9a-f]{32}")
_NAMELESS = (".work", ".<lambda>")


@dataclass(frozen=True, slots=True)
class FaultPoint:
    """Where the process ends: at the `passing`-th time that it reaches `point`."""

    point: str
    passing: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """Nobody dies; each point that is reached is a line in `file`."""

    file: Path


Wish = FaultPoint | Record

_reached: Callable[[str], None] | None = None


def read_wish(text: str, public_url: str) -> Wish | None:
    """What VAULT_FAULT_POINT asks for: `die at POINT`, `die at POINT #2` (the second time), or `write to FILE`; empty: nothing.

    Raises ConfigurationError for anything else, and for any wish where `public_url` is not this machine's own address: M-Pesa
    cannot reach such an installation, so that only a test or a demo can be ended like this.
    """
    if not text.strip():
        return None
    wish = _WISH.fullmatch(text.strip())
    if wish is None:
        raise ConfigurationError(f"{_SETTING}={text!r}: it reads `die at POINT`, `die at POINT #2` or `write to FILE`")
    if urlsplit(public_url).hostname not in _OWN_MACHINE:
        raise ConfigurationError(
            f"{_SETTING} ends processes, for tests; VAULT_PUBLIC_URL={public_url} can be reached from outside: unset {_SETTING}"
        )
    return Record(Path(wish["file"])) if wish["file"] else FaultPoint(wish["point"], int(wish["passing"] or 1))


def arm(wish: Wish | None) -> None:
    """Makes this process do as wished. For composition roots; None switches the fault points off."""
    global _reached  # noqa: PLW0603 - of the process as a whole, like the signal that ends it
    match wish:
        case None:
            _reached = None
        case FaultPoint():
            _reached = _Death(wish)
        case Record(file=file):
            _reached = partial(_write, file)


def reach(moment: str, place: Callable[..., Any] | str) -> None:
    """A fault point: `moment` is 'before commit', 'after send' ..., `place` the function or the method and URL it is about."""
    if _reached is not None:
        _reached(f"{moment} {place if isinstance(place, str) else _name_of(place)}")


def is_armed() -> bool:
    """Whether anything is done at fault points: else what only they need is not worked out."""
    return _reached is not None


def place_of(method: str, path: str) -> str:
    """Method and path, with the ids of rows and loans left out: the same for every loan."""
    return f"{method} {_ROW.sub('*', path)}"


def _name_of(place: Callable[..., Any]) -> str:
    function: Any = place.func if isinstance(place, partial) else place
    name = function.__qualname__.replace(".<locals>", "")
    for nameless in _NAMELESS:
        name = name.removesuffix(nameless)
    return f"{function.__module__.removeprefix('vault_core.')}.{name}"


class _Death:
    def __init__(self, wish: FaultPoint) -> None:
        self._point = wish.point
        self._left = wish.passing

    def __call__(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _write(file: Path, point: str) -> None:
    with file.open("a") as lines:
        lines.write(f"{point}\n")
