"""Real processes for tests and demos: started, watched, killed and restarted; none left behind.

A process runs in a session of its own, so that a terminal's Ctrl-C reaches only us and we end it
in order. What it prints goes to a file in the folder given.
"""

import ctypes
import http.client
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from rendezvous_testing.limits import LOG_TAIL_LINES, ORPHAN_S, POLL_S, PROBE_S, READY_S, STOP_S
from rendezvous_testing.proctree import Member, alive, tree

_KILL_ROUNDS = 5
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class ProcessFailed(Exception):
    """A process ended, or was not ready in time. The text ends with the tail of its log."""


class Process:
    """One command that can be started, killed and started again.

    Order of life: ``start`` → ``wait_for_…`` → (``kill`` | ``stop``) → ``start`` …
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        # A name of its own, not a value: in a test of a test fixture both marks must stay.
        self._mark = f"TESTING_PROCESS_{secrets.token_hex(8)}"
        inherited = os.environ if environment is None else environment
        self.environment = {**inherited, self._mark: name}
        self.directory = directory
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @property
    def pid(self) -> int:
        """The pid of the running process. Raises :class:`ProcessFailed` if there is none."""
        if self._child is None:
            raise ProcessFailed(f"{self.name} has not been started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._child is not None and not _ended(self._child)

    def start(self) -> None:
        """Start the command; return before it is ready."""
        if self.running:
            raise ProcessFailed(f"{self.name} is running already, pid {self.pid}")
        self._reap()
        with uninterrupted(), self.log.open("ab") as log:
            self._log_from = log.tell()
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
            )
        self.starts += 1

    def wait_for_line(self, text: str, *, within_s: float = READY_S) -> str:
        """Wait until the process has printed a line that holds ``text``; return that line."""
        deadline = time.monotonic() + within_s
        while True:
            ended = not self.running
            for line in self.output().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line.rstrip("\n")
            self._check(f"to print {text!r}", deadline, ended=ended)

    def wait_for_port(self, port: int, *, within_s: float = READY_S) -> None:
        """Wait until something accepts connections on the loopback ``port``."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), PROBE_S).close()
            except OSError:
                self._check(f"to listen on port {port}", deadline, ended=not self.running)
            else:
                return

    def wait_for_http(
        self, port: int, path: str = "/healthz", *, within_s: float = READY_S
    ) -> None:
        """Wait until ``GET path`` on the loopback ``port`` answers 200."""
        deadline = time.monotonic() + within_s
        while http_status(port, path) != 200:
            self._check(f"to answer {path} on port {port}", deadline, ended=not self.running)

    def wait(self, *, within_s: float = STOP_S) -> int:
        """Wait for the process to end by itself; return its exit code."""
        child = self._child
        if child is None:
            raise ProcessFailed(f"{self.name} has not been started")
        try:
            return child.wait(within_s)
        except subprocess.TimeoutExpired as exc:
            raise ProcessFailed(f"{self.name} did not end in {within_s} s") from exc

    def tree(self) -> list[Member]:
        """The process and all that came from it, daemons too; empty before the first start."""
        return tree(self._child.pid, self._mark) if self._child is not None else []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself."""
        if self._child is not None and self.running:
            self._child.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and its whole tree, without warning."""
        self._end(self.tree())

    def stop(self) -> None:
        """SIGTERM, then what is left of the tree is killed. Does nothing if it does not run."""
        members = self.tree()
        self.signal(signal.SIGTERM)
        _until(lambda: not self.running, STOP_S)
        _until_gone([one for one in members if one.pid != self.pid])
        self._end(members)

    def restart(self) -> None:
        """Kill the process if it runs, and start it anew."""
        self.kill()
        self.start()

    def output(self) -> str:
        """What the process has printed since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def log_tail(self) -> str:
        """The last lines of the log, indented."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:]) or "    (no output)"

    def _check(self, what: str, deadline: float, *, ended: bool) -> None:
        if ended or time.monotonic() > deadline:
            reason = "it ended" if ended else "too late"
            raise ProcessFailed(f"waited for {self.name} {what}, {reason}:\n{self.log_tail()}")
        time.sleep(POLL_S)

    def _end(self, known: list[Member]) -> None:
        if self._child is None:
            return
        # A process that is being killed may fork once more, hence the rounds.
        for _ in range(_KILL_ROUNDS):
            known = list({one.pid: one for one in (*known, *self.tree())}.values())
            members = [one for one in known if alive(one)]
            if not members:
                break
            for one in members:
                with suppress(ProcessLookupError):
                    os.kill(one.pid, signal.SIGKILL)
            self._reap()
            _until_gone(members)
        for one in known:
            _reap_orphan(one)
        self._reap()

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait()


class Processes:
    """All processes of one test or demo; leaving the ``with`` block ends them, last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: list[Process] = []

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> Process:
        """Start a process that ends with this block."""
        process = Process(
            name, command, folder=self.folder, environment=environment, directory=directory
        )
        self.all.append(process)
        process.start()
        return process

    def stop(self) -> None:
        """End all processes, last one first; a second Ctrl-C does not interrupt it."""
        with uninterrupted():
            while self.all:
                self.all.pop().stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def http_status(port: int, path: str) -> int | None:
    """The status of ``GET path`` on the loopback ``port``; None if nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def adopt_orphans() -> None:
    """From now on orphans among this process's descendants become its own children, to be reaped
    when their tree ends: in a container, process 1 may leave them as zombies."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@contextmanager
def uninterrupted() -> Generator[None]:
    """Hold back SIGINT and SIGTERM in this block, which must be short; they take effect after it.

    Does nothing outside the main thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(signal.Signals(came[0]))


def _ended(child: subprocess.Popen[bytes]) -> bool:
    # Not reaped here: while it is a zombie nobody else can have its pid.
    if child.returncode is not None:
        return True
    with suppress(ChildProcessError):
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return True


def _reap_orphan(one: Member) -> None:
    # It is our child only if it was orphaned and we adopt orphans.
    with suppress(ChildProcessError):
        os.waitpid(one.pid, os.WNOHANG)


def _until_gone(members: list[Member]) -> None:
    _until(lambda: not any(alive(one) for one in members), ORPHAN_S)


def _until(done: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
