"""The keeper: starts a sidecar for one application, restarts it, and ends it with the application.

Run by the launcher: ``python -m rendezvous_instrumentation.keeper PID SOCKET SERVERS REGION``.
"""

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

RESTART_S_MIN = 0.1
RESTART_S_MAX = 5.0
STABLE_S = 10.0
"""A sidecar that lived for this long is restarted without delay again."""
DRAIN_S = 5.0
"""Seconds that a sidecar gets to hand over what it holds once the application has ended."""


def main(argv: list[str]) -> int:
    """Keep a sidecar for as long as the application, process ``argv[0]``, lives."""
    application, socket_path, servers, region = int(argv[0]), argv[1], argv[2], argv[3]
    os.setsid()  # a terminal's Ctrl-C is for the application
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _let_go_of_files()
    try:
        watched = os.pidfd_open(application)
    except OSError:
        shutil.rmtree(os.path.dirname(socket_path), ignore_errors=True)
        return 0
    command = [sys.executable, "-P", "-m", "rendezvous_sidecar", "--socket", socket_path]
    command += ["--server", servers, "--parent-pid", str(application)]
    if region:
        command += ["--region", region]
    sidecar: subprocess.Popen[bytes] | None = None
    pause_s = RESTART_S_MIN
    while not _ended(watched, 0):
        began = time.monotonic()
        try:
            sidecar = _start(command)
        except OSError as exc:  # no memory, no processes left: try again
            print(f"rendezvous: cannot start a sidecar: {exc.strerror}", file=sys.stderr)
        else:
            _wait_for_either(watched, sidecar)
        if time.monotonic() - began > STABLE_S:
            pause_s = RESTART_S_MIN
        if _ended(watched, pause_s):
            break
        pause_s = min(pause_s * 2, RESTART_S_MAX)
    if sidecar is not None:
        _end(sidecar)
    shutil.rmtree(os.path.dirname(socket_path), ignore_errors=True)
    return 0


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=_default_signals,
    )


def _default_signals() -> None:
    """What ends a sidecar must end it before it has set its own handlers, too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _wait_for_either(watched: int, sidecar: subprocess.Popen[bytes]) -> None:
    """Until the application or the sidecar has ended; a sidecar that has is reaped."""
    dead = os.pidfd_open(sidecar.pid)
    try:
        select.select([watched, dead], [], [])
    finally:
        os.close(dead)
    sidecar.poll()


def _end(sidecar: subprocess.Popen[bytes]) -> None:
    if sidecar.poll() is not None:
        return
    sidecar.terminate()
    try:
        sidecar.wait(DRAIN_S)
    except subprocess.TimeoutExpired:
        sidecar.kill()
        sidecar.wait()


def _ended(watched: int, within_s: float) -> bool:
    readable, _, _ = select.select([watched], [], [], within_s)
    return bool(readable)


def _let_go_of_files() -> None:
    """Whoever waits for the end of the application's output or of another file of its must not wait
    for us. Errors of the sidecar still go to stderr while that is a terminal or a regular file."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if stat.S_ISFIFO(os.fstat(2).st_mode):
        os.dup2(null, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # the list's own is closed already
                os.close(int(name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
