"""What Rendezvous adds to the start of a Python process, before its first target library is imported:
``python -c pass`` with and without our bootstrap, in turns."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

import rendezvous_instrumentation
from pairs import Added, Side, Turn, added, median


@dataclass(frozen=True, slots=True)
class Starting:
    """Times in µs, as pairs give them, and what the process's memory grew by (peak RSS, MiB)."""

    bare_us: float
    patched_us: float
    added: Added
    rss_mb: float


def starting(environment: dict[str, str], rounds: int) -> Starting:
    """Start the interpreter ``rounds`` times each way."""
    bootstrap = str(Path(rendezvous_instrumentation.__file__).parent / "bootstrap")
    bare = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    patched = {**bare, "PYTHONPATH": bootstrap, "RENDEZVOUS_SIDECAR": "/nonexistent/sidecar.sock"}
    sides = {"bare": Side(), "patched": Side()}
    rss: dict[str, list[float]] = {"bare": [], "patched": []}
    for number in range(rounds + 2):
        order = [("bare", bare), ("patched", patched)]
        for name, environ in order if number % 2 else reversed(order):
            turn = _start(environ)
            if number >= 2:  # the first ones read files from the disk
                sides[name].turns.append(turn)
                rss[name].append(_peak_kb(environ))
    return Starting(
        median(sides["bare"].wall_us),
        median(sides["patched"].wall_us),
        added(sides["bare"], sides["patched"]),
        (median(rss["patched"]) - median(rss["bare"])) / 1024,
    )


def _start(environ: dict[str, str]) -> Turn:
    began = perf_counter_ns()
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], environ)
    _, status, usage = os.wait4(child, 0)
    wall_us = (perf_counter_ns() - began) / 1000
    if status:
        raise RuntimeError(f"python -c pass ended with {status}")
    return Turn([wall_us], (usage.ru_utime + usage.ru_stime) * 1e6)


def _peak_kb(environ: dict[str, str]) -> float:
    """Peak RSS, as the process itself reads it: what ``wait4`` tells includes the parent's."""
    command = [sys.executable, "-c", "print(open('/proc/self/status').read())"]
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1])
    raise RuntimeError("no VmHWM in /proc/self/status")
