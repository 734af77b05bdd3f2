"""Cores of its own for a server that stands on the machine that measures it. Linux only.

A lender's Mifos X does not stand on the machine that pays. Where it does for a benchmark, both sides take processor time from
each other, and the rate tells the sum of their needs rather than whether one holds the other up.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.parts.process_usage import Roots


@contextmanager
def apart(server: Roots) -> Iterator[None]:
    """Gives `server` the lower half of the cores, and this process with all that it starts the rest, until the block ends.

    Raises SystemExit when there is no server here to move, or only one core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not server or len(cores) < 2:
        raise SystemExit("--apart needs the server on this machine, and two cores at least")
    half = len(cores) // 2
    trees = [one for roots in server.values() for root in roots for one in (root, *root.children(recursive=True))]
    _pin(trees, cores[:half])
    _pin([psutil.Process()], cores[half:])
    try:
        yield
    finally:
        _pin([psutil.Process(), *trees], cores)


def _pin(processes: Iterable[psutil.Process], cores: list[int]) -> None:
    for thread in [task for process in processes for task in Path(f"/proc/{process.pid}/task").glob("*")]:
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # ended meanwhile
