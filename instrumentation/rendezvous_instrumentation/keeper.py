"""The keeper: starts a sidecar for one application, restarts it, and ends it with the application."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import NoReturn

RESTART_S_MIN = 0.1
RESTART_S_MAX = 5.0
STABLE_S = 10.0
"""A sidecar that lived for this long is restarted without delay again."""
DRAIN_S = 5.0
"""Seconds that a sidecar gets to hand over what it holds once the application has ended."""


def keep(application: int, socket_path: str, environ: dict[str, str]) -> NoReturn:
    """Keep a sidecar at ``socket_path`` for as long as process ``application`` lives."""
    os.setsid()  # a terminal's Ctrl-C is for the application
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    _let_go_of_standard_streams()
    try:
        watched = os.pidfd_open(application)
    except OSError:
        os._exit(0)
    sidecar: subprocess.Popen[bytes] | None = None
    pause_s = RESTART_S_MIN
    with suppress(Exception):
        while not _ended(watched, 0):
            began = time.monotonic()
            sidecar = _start(application, socket_path, environ)
            dead = os.pidfd_open(sidecar.pid)
            select.select([watched, dead], [], [])
            os.close(dead)
            if sidecar.poll() is None and not _ended(watched, 0):
                sidecar.wait()
            if _ended(watched, 0):
                break
            pause_s = RESTART_S_MIN if time.monotonic() - began > STABLE_S else pause_s
            if _ended(watched, pause_s):
                break
            pause_s = min(pause_s * 2, RESTART_S_MAX)
    if sidecar is not None and sidecar.poll() is None:
        sidecar.terminate()
        try:
            sidecar.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            sidecar.kill()
            sidecar.wait()
    shutil.rmtree(os.path.dirname(socket_path), ignore_errors=True)
    os._exit(0)


def _start(application: int, socket_path: str, environ: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "rendezvous_sidecar", "--socket", socket_path]
    command += ["--server", environ["RENDEZVOUS_SERVER"], "--parent-pid", str(application)]
    if environ.get("RENDEZVOUS_REGION"):
        command += ["--region", environ["RENDEZVOUS_REGION"]]
    own = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    own["RENDEZVOUS_MODE"] = "off"  # the sidecar itself is nobody's application
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=own)


def _ended(watched: int, within_s: float) -> bool:
    readable, _, _ = select.select([watched], [], [], within_s)
    return bool(readable)


def _let_go_of_standard_streams() -> None:
    """Whoever reads the application's output must see its end when the application ends. Errors of
    the sidecar still go to the application's stderr while that is a terminal or a file."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    import stat

    if stat.S_ISFIFO(os.fstat(2).st_mode):
        os.dup2(null, 2)
    os.close(null)
