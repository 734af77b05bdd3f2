"""The processes under supervisor (PyPI): it starts them again when they end, however they end, and keeps their logs short.

We write its settings, start it as a daemon, and talk to it over its socket.
"""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from local_stack.home import REPOSITORY, Home
from local_stack.processes import Process
from local_stack.waiting import wait_for
from vault_core.errors import ConfigurationError, Unreachable

# Set for every process under the supervisor, so that those of a killed one are known again. Never set by a person.
MEMBER_VARIABLE = "VAULT_STACK_MEMBER"
_START_SECONDS = 15.0
_STOP_SECONDS = 90.0
_HEAD = """\
; Written by `./vault up` at each start.
[supervisord]
logfile = {log}
logfile_maxbytes = 10MB
logfile_backups = 2
pidfile = {pid}
childlogdir = {logs}
minfds = 1024
{user}
[unix_http_server]
file = {socket}
chmod = 0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
# A process that ran for `startsecs` and ends is started again at once; one that ends sooner waits 1, 2, 3 ... seconds.
_PROGRAM = """
[program:{name}]
command = {command}
directory = {directory}
priority = {order}
autostart = false
autorestart = true
startsecs = 2
startretries = 1000000
stopsignal = {stop_signal}
stopwaitsecs = {stop_seconds}
stopasgroup = {group}
killasgroup = {group}
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 20MB
stdout_logfile_backups = 3
{environment}{user}"""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor says of one process. `restarts` counts the starts after the first since the supervisor began."""

    name: str
    state: str  # STOPPED STARTING RUNNING BACKOFF STOPPING EXITED FATAL UNKNOWN
    pid: int | None
    restarts: int
    description: str

    def started_at(self) -> float:
        """When the process of this pid began, in seconds since the epoch; infinitely late if there is none."""
        try:
            return float(psutil.Process(self.pid).create_time()) if self.pid else math.inf
        except psutil.NoSuchProcess:
            return math.inf


@dataclass(frozen=True, slots=True)
class Supervision:
    """One installation's supervisor."""

    home: Home
    sockets: Path

    @property
    def settings_file(self) -> Path:
        """supervisord.conf."""
        return self.home.supervisor / "supervisord.conf"

    @property
    def log_file(self) -> Path:
        """The supervisor's own log."""
        return self.home.supervisor / "supervisord.log"

    @property
    def pid_file(self) -> Path:
        """Holds the supervisor's pid."""
        return self.home.supervisor / "supervisord.pid"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.sockets / "supervisor.sock"

    def log_of(self, process: str) -> Path:
        """The log file of `process`."""
        return self.home.logs / f"{process}.log"

    def is_running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            self._call("getState")
        except Unreachable:
            return False
        return True

    def settings_for(self, processes: Sequence[Process]) -> str:
        """The settings that run `processes`. Raises ConfigurationError for paths that supervisor's settings cannot hold."""
        head = _HEAD.format(
            log=_quoted(self.log_file),
            pid=_quoted(self.pid_file),
            logs=_quoted(self.home.logs),
            socket=_quoted(self.socket),
            user="user = root\n" if os.geteuid() == 0 else "",  # said, so that it does not warn
        )
        return head + "".join(self._program(process) for process in processes)

    def start(self, settings: str, environment: Mapping[str, str]) -> None:
        """Starts the supervisor with `settings`; its processes are not started yet and will inherit `environment`."""
        self.settings_file.write_text(settings, encoding="utf-8")
        self.settings_file.chmod(0o600)
        self.socket.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.settings_file)],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            env={**environment, MEMBER_VARIABLE: str(self.home.path)}, cwd=REPOSITORY,
        )  # fmt: skip
        if done.returncode != 0:
            raise ConfigurationError(f"the process supervisor did not start: {done.stdout.strip()[-500:]}")
        wait_for(self.is_running, seconds=_START_SECONDS, what="the process supervisor to start")

    def stop(self) -> None:
        """Stops every process, last started first, then the supervisor. Does nothing if it is not running."""
        try:
            pid = int(self._call("getPID"))
            self._call("shutdown")
        except Unreachable:
            return
        wait_for(lambda: not _is_alive(pid), seconds=_STOP_SECONDS, what="the processes to stop")

    def start_process(self, name: str) -> None:
        """Starts a process if it does not run, without waiting for it; one that waits for its next try is started now."""
        if self.states()[name].state in {"BACKOFF", "FATAL"}:
            self.stop_process(name)
        self._call("startProcess", name, False, allowed=Faults.ALREADY_STARTED)

    def stop_process(self, name: str) -> None:
        """Stops a process and waits until it has ended."""
        self._call("stopProcess", name, True, allowed=Faults.NOT_RUNNING)

    def states(self) -> dict[str, ProcessState]:
        """Every process by name. Raises Unreachable if the supervisor does not run."""
        starts = self._starts()
        return {
            info["name"]: ProcessState(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"] or None,
                restarts=max(0, starts.get(info["name"], 0) - 1),
                description=info["spawnerr"] or info["description"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def _program(self, process: Process) -> str:
        environment = ",".join(f'{name}="{value}"' for name, value in process.environment.items())
        return _PROGRAM.format(
            name=process.name,
            command=_checked(shlex.join(process.command)),
            directory=_quoted(REPOSITORY),
            order=process.order,
            stop_signal=process.stop_signal,
            stop_seconds=process.stop_seconds,
            group="true" if process.whole_group else "false",
            log=_quoted(self.log_of(process.name)),
            environment=f"environment = {environment}\n" if environment else "",
            user=f"user = {process.account.name}\n" if process.account else "",
        )

    def _call(self, method: str, *arguments: object, allowed: int | None = None) -> Any:
        if not self.socket.exists():
            raise Unreachable("the stack is not running: `./vault up` starts it")
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != allowed:
                raise ConfigurationError(f"the process supervisor refused {method} {arguments}: {fault.faultString}") from fault
            return None
        except (OSError, HTTPException) as error:
            raise Unreachable(f"the process supervisor does not answer ({error}): `./vault up` starts it") from error
        finally:
            transport.close()

    def _starts(self) -> dict[str, int]:
        try:
            log = self.log_file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        since = log.rfind("supervisord started with pid")
        counts: dict[str, int] = {}
        for name in re.findall(r"spawned: '([^']+)' with pid", log[max(since, 0) :]):
            counts[name] = counts.get(name, 0) + 1
        return counts


def end_left_overs(home: Home) -> None:
    """Ends the processes of this home that a killed supervisor left behind. The supervisor must not be running."""
    left = [process for process in psutil.process_iter() if _is_member(process, home)]
    for process in left:
        number = _stop_signal(process)
        if number is not None:
            _send(process, number)
    _gone, alive = psutil.wait_procs(left, timeout=20)
    for process in alive:
        _send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def _stop_signal(process: psutil.Process) -> signal.Signals | None:
    """PostgreSQL stops fast by SIGINT to its main process, which stops the others; everything else by SIGTERM."""
    try:
        if process.name() != "postgres":
            return signal.SIGTERM
        parent = process.parent()
        return None if parent is not None and parent.name() == "postgres" else signal.SIGINT
    except psutil.NoSuchProcess:
        return None


def _is_member(process: psutil.Process, home: Home) -> bool:
    try:
        return bool(process.environ().get(MEMBER_VARIABLE) == str(home.path))
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _quoted(path: Path) -> str:
    return _checked(str(path))


def _checked(text: str) -> str:
    if re.search(r"[\n\r]|\s[;#]", text):
        raise ConfigurationError(f"the process supervisor cannot run from this folder, because of its name: {text}")
    return text.replace("%", "%%")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
