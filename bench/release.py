"""How long after its data is visible at the node a held read goes on.

The node is a replica behind the delay proxy. Another process (``poller.py``) says, on the same clock
and independently of us, when the data became visible.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

from pairs import median, percentile
from surroundings import HERE, Surroundings

KEY = "bench-release"
FLAVOURS = ("sync", "asyncio")
HELD = (1, 8)


@dataclass(frozen=True, slots=True)
class Release:
    """One row, in ms: over all held reads of all rounds. ``stale`` reads must be none."""

    flavour: str
    held: int
    reads: int
    p50_ms: float
    p99_ms: float
    stale: int
    verdicts: dict[str, object]


def releases(around: Surroundings, rounds: int) -> list[Release]:
    """All rows."""
    return [_release(around, flavour, held, rounds) for flavour in FLAVOURS for held in HELD]


def _release(around: Surroundings, flavour: str, held: int, rounds: int) -> Release:
    environment = around.environment() | {"RENDEZVOUS_SIDECAR": around.sidecar}
    command = [sys.executable, str(HERE / "poller.py"), str(around.replica), KEY]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as poller:
        assert poller.stdout is not None
        poller.stdout.readline()
        command = [sys.executable, str(HERE / "holding.py"), flavour, str(held), str(rounds), KEY]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=120
        )
        out, _ = poller.communicate("stop\n", timeout=10)
    visible: dict[str, int] = json.loads(out)
    report = json.loads(done.stdout)
    late = [
        (moment - visible[value]) / 1e6
        for value, moments in report["went"].items()
        if value in visible
        for moment in moments
    ]
    return Release(
        flavour,
        held,
        len(late),
        median(late),
        percentile(late, 0.99),
        report["stale"],
        report["verdicts"],
    )
