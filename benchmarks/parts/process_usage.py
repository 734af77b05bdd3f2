"""Processor time and memory of the processes that a benchmark started, by what they are.

Of a class counts the whole tree of each process, those of its children that have ended included: a PostgreSQL connection is a
process of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.parts.bench_report import Figure
from local_stack.plan import Plan

SELF = "benchmark"
# What stands in a command line, and the class that it is of.
_CLASSES = (
    ("callback_receiver.app", "receiver"),
    ("faust", "stream worker"),
    ("kafka.Kafka", "Kafka"),
    ("sandbox", "sandbox"),
    ("postgres", "PostgreSQL"),
    ("benchmarks.parts", "bare"),
)

Roots = Mapping[str, Sequence[psutil.Process]]


class UsageWatch:
    """Counts from its making, or from the last `begin`. `look` now and then: what is highest of what was seen is the peak.

    `roots` tells the processes whose trees are counted, by class.
    """

    def __init__(self, roots: Callable[[], Roots]) -> None:
        self._roots = roots
        self._peaks: dict[str, float] = {}
        self.begin()

    def begin(self) -> None:
        """Counts processor time from now."""
        self._before = _cpu_seconds(_trees(self._roots()))

    def look(self) -> dict[str, float]:
        """Processor seconds of each class since the beginning."""
        trees = _trees(self._roots())
        for name, processes in trees.items():
            self._peaks[name] = max(self._peaks.get(name, 0.0), sum(map(_most_memory, processes)) / 2**20)
        return {name: used - self._before.get(name, 0.0) for name, used in _cpu_seconds(trees).items()}

    def peaks(self) -> Mapping[str, float]:
        """The most memory seen of each class, in MiB: of each process its own peak, of PostgreSQL with shared pages once."""
        return self._peaks


def usage_figures(used: Mapping[str, float], peaks: Mapping[str, float], *, per: int, what: str, seconds: float) -> list[Figure]:
    """Processor time of each class a piece (`per` of `what`), its share of one core over `seconds`, and its peak memory."""
    figures = []
    for name in sorted(used, key=used.__getitem__, reverse=True):
        figures += [
            Figure(f"{what}: processor time of {name}", used[name] / per * 1000, "ms each"),
            Figure(f"{what}: {name}", used[name] / seconds * 100, "% of one core"),
            Figure(f"{what}: memory of {name}, peak", peaks.get(name, 0.0), "MiB"),
        ]
    return figures


def class_of(command_line: Iterable[str]) -> str | None:
    """What the process of that command line is; None: nothing that is counted."""
    words = " ".join(command_line)
    return next((name for sign, name in _CLASSES if sign in words), None)


def own_children() -> Roots:
    """This process itself, and what it started, by class."""
    me = psutil.Process()
    found: dict[str, list[psutil.Process]] = {SELF: [me]}
    for child in me.children():
        try:
            found.setdefault(class_of(child.cmdline()) or SELF, []).append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def server_at(port: int) -> Roots:
    """The process that listens on `port` of this machine, and the PostgreSQL it is connected to; nothing if that is not shown."""
    listening = {one.laddr.port: one.pid for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    if listening.get(port) is None:
        return {}
    server = psutil.Process(listening[port])
    peers = {one.raddr.port for one in server.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED}
    behind = [psutil.Process(pid) for pid in {listening.get(peer) for peer in peers} - {None}]
    return {"Mifos X": [server], "its PostgreSQL": [one for one in behind if "postgres" in one.name()]}


def supervised(plan: Plan) -> Roots:
    """This process itself, and the processes of a supervised stack, by their names."""
    pids = {name: state.pid for name, state in plan.supervision.states().items() if state.pid}
    return {SELF: [psutil.Process()], **{name: [psutil.Process(pid)] for name, pid in pids.items() if psutil.pid_exists(pid)}}


def _trees(roots: Roots) -> dict[str, list[psutil.Process]]:
    return {name: [one for root in found for one in _tree(root, alone=name == SELF)] for name, found in roots.items()}


def _tree(root: psutil.Process, *, alone: bool) -> list[psutil.Process]:
    try:
        return [root] if alone else [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(trees: Mapping[str, Iterable[psutil.Process]]) -> dict[str, float]:
    return {name: sum(_cpu_of(process, own=name == SELF) for process in processes) for name, processes in trees.items()}


def _cpu_of(process: psutil.Process, *, own: bool) -> float:
    """With its ended children, but not of ourselves: those are of other classes."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    used: float = times.user + times.system
    return used if own else used + times.children_user + times.children_system


def _most_memory(process: psutil.Process) -> float:
    """Bytes, at its peak; of PostgreSQL what it has now and its part of what is shared, where the system tells that."""
    try:
        if "postgres" in process.name():
            memory = process.memory_full_info()
            return float(getattr(memory, "pss", memory.rss))
        return _high_water(process.pid) or float(process.memory_info().rss)
    except psutil.Error:
        return 0.0


def _high_water(pid: int) -> float | None:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found.group(1)) * 1024.0 if found else None
