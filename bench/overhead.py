"""What Rendezvous adds to an application process: time and CPU per operation, beside DESIGN §4's targets.

``python bench/overhead.py [--quick] [--json FILE]``. Needs no network but loopback; starts a Valkey with
a replica, an HTTP and gRPC peer, a metadata server and a sidecar, all real.

How it compares. One interpreter cannot be patched and bare at once: taking patches off and putting
them on again would make the interpreter respecialise its code each time, and the comparison would pay
for that. So each side (bare; Rendezvous; OpenTelemetry's own instrumentation, for scale) is a process
of its own, and they take turns in short rounds, in changing order, one at a time: only one measures,
the others wait. Each figure is the median over the rounds of the round's difference to bare. Since
two processes also differ by chance (where their memory lies), all are started anew several times.

Nothing here asserts a time: it reports. A shared machine makes figures worse, never better.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from pairs import Added, Side, Turn, added, median, percentile
from parts import PARTS
from release import Release, releases
from starting import Starting, starting
from surroundings import HERE, RawClient, Surroundings, surroundings

IDLE_US, WRITE_US, CARRY_US, READ_US = 5.0, 25.0, 15.0, 10.0
START_MS, START_MB, RELEASE_MS = 30.0, 5.0, 2.0
COUNT = 60
"""Operations in one turn."""
WARM_UP = 15
"""Operations before them that do not count: another process has just had the processor's caches."""
CONTEXT = "1.lSf5A216JhxzPzx-Y59I5g.bd8irFj8Sess.t6b060ddb.sd8irFj8SRBo0~36b1.prSt9DZ_luWE8~1e240"


@dataclass(frozen=True, slots=True)
class Row:
    """A situation of an operation, measured on one side; ``target_us`` is its p50's, if it has one."""

    side: str
    situation: str
    label: str
    target_us: float | None = None


def rows_of(operation: str) -> list[Row]:
    """What is measured of an operation, beside bare."""
    otel = Row("otel", "outside", "OpenTelemetry")
    idle = Row("idle", "outside", "outside a request", IDLE_US)
    if operation.endswith("GET"):
        return [
            idle,
            Row("patched", "request", "in a request, no dependency", READ_US),
            Row("patched", "covered", "dependent, nothing to wait for", READ_US),
            Row("patched", "asks", "dependent, asks in its packet"),
            otel,
        ]
    if operation.endswith("SET"):
        return [idle, Row("patched", "request", "write in a request", WRITE_US), otel]
    if operation == "aiohttp server":
        return [
            Row("patched", "outside", "opens a request"),
            Row("patched", "carried", "context in, and out again", 2 * CARRY_US),
            otel,
        ]
    return [idle, Row("patched", "request", "context out, and in again", 2 * CARRY_US), otel]


class Worker:
    """A measured process of one side."""

    def __init__(self, side: str, around: Surroundings) -> None:
        environment = around.environment()
        if side in ("idle", "patched"):
            environment["RENDEZVOUS_SIDECAR"] = around.sidecar
        self._child = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._raw: RawClient | None = None
        hello = self.order("?", "", 0)
        self.operations: list[str] = hello["operations"]
        if hello["port"]:
            self._raw = RawClient(hello["port"])

    def order(self, name: str, situation: str, count: int) -> Any:
        """One order and its answer."""
        self._send(name, situation, count)
        return self._answer()

    def turn(self, name: str, situation: str, count: int) -> Turn:
        """One turn at an operation."""
        self._send(name, situation, count)
        if name == "aiohttp server":
            times = self._drive(situation == "carried", count)
            answer = self._answer()
        else:
            answer = self._answer()
            times = answer["times"]
        return Turn([value / 1000 for value in times], answer["cpu"] / 1000 / count)

    def _drive(self, carried: bool, count: int) -> list[int]:
        assert self._raw is not None
        head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
        head += f"baggage: rdv={CONTEXT}\r\n\r\n" if carried else "\r\n"
        request = head.encode()
        times: list[int] = []
        for _ in range(count):
            began = perf_counter_ns()
            self._raw.ask(request)
            times.append(perf_counter_ns() - began)
        return times

    def _send(self, name: str, situation: str, count: int) -> None:
        assert self._child.stdin is not None
        order = {"name": name, "situation": situation, "count": count}
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()

    def _answer(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"a measured process ended with {self._child.wait()}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        if self._raw is not None:
            self._raw.close()
        assert self._child.stdin is not None
        self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:  # it failed in the middle of an order
            self._child.kill()
            self._child.wait()


@contextmanager
def workers(around: Surroundings) -> Generator[dict[str, Worker]]:
    """One process of each side."""
    with ExitStack() as stack:
        made: dict[str, Worker] = {}
        for side in ("bare", "idle", "patched", "otel"):
            made[side] = Worker(side, around)
            stack.callback(made[side].close)
        yield made


Sides = dict[tuple[str, str, str], Side]
"""Operation, side, situation → its turns."""


def measure(
    around: Surroundings, generations: int, rounds: int, only: str
) -> tuple[Sides, dict[str, Side]]:
    """All operations and all parts whose name holds ``only``."""
    sides: Sides = {}
    parts = {name: Side() for name in PARTS if only in name}
    for generation in range(generations):
        with workers(around) as made:
            names = [name for name in made["bare"].operations if only in name]
            for number in range(rounds + 1):
                for name in names:
                    todo = [("bare", "outside")]
                    todo += [(row.side, row.situation) for row in rows_of(name)]
                    turn = (generation + number) % len(todo)
                    for side, situation in todo[turn:] + todo[:turn]:
                        made[side].turn(name, situation, WARM_UP)
                        took = made[side].turn(name, situation, COUNT)
                        if number:  # the first round warms up
                            key = (name, side, situation)
                            sides.setdefault(key, Side()).turns.append(took)
                for name, part in parts.items():
                    times = made["patched"].order(name, "part", 10)["times"]
                    if number:
                        part.turns.append(Turn([value / 1000 for value in times], 0.0))
            print(f"  processes {generation + 1} of {generations} measured", file=sys.stderr)
    return sides, parts


def holds(value: float, target: float | None) -> str:
    """A target and whether it holds, for people."""
    if target is None:
        return ""
    return f"<= {target:<5g} {'holds' if value <= target else 'MISSED'}"


def show_operations(sides: Sides) -> list[dict[str, Any]]:
    """Print the operations' table; the same as records."""
    print(
        f"\n{'µs per operation, beyond bare':48}{'p50':>7} {'quartiles':>14}{'p99':>8}{'CPU':>7}"
        f"{'ratio':>7}  target"
    )
    records: list[dict[str, Any]] = []
    for name in dict.fromkeys(key[0] for key in sides):
        bare = sides[name, "bare", "outside"]
        p50, p99 = median(bare.wall_us), percentile(bare.wall_us, 0.99)
        print(f"{name + ': bare takes':48}{p50:7.1f} {'':14}{p99:8.1f}{bare.cpu_us:7.1f}")
        records.append({"operation": name, "p50_us": p50, "p99_us": p99, "cpu_us": bare.cpu_us})
        for row in rows_of(name):
            more: Added = added(bare, sides[name, row.side, row.situation])
            quartiles = f"{more.low_us:.1f}..{more.high_us:.1f}"
            print(
                f"  + {row.label:44}{more.p50_us:7.1f} {quartiles:>14}{more.p99_us:8.1f}"
                f"{more.cpu_us:7.1f}{more.ratio:7.2f}  {holds(more.p50_us, row.target_us)}"
            )
            records.append({"operation": name, **asdict(row), **asdict(more)})
    return records


def show_parts(parts: dict[str, Side]) -> list[dict[str, Any]]:
    """Print what parts of a call cost."""
    print(f"\n{'µs, parts by themselves (events are sent)':48}{'p50':>7} {'':14}{'p99':>8}")
    records: list[dict[str, Any]] = []
    for name, side in parts.items():
        p50, p99 = median(side.wall_us), percentile(side.wall_us, 0.99)
        target = CARRY_US if name.startswith("carry") else None
        print(f"  {name:46}{p50:7.1f} {'':14}{p99:8.1f}{'':14}  {holds(p50, target)}")
        records.append({"part": name, "p50_us": p50, "p99_us": p99, "target_us": target})
    return records


def show_releases(rows: list[Release]) -> None:
    """Print how fast held reads go on."""
    print(f"\n{'ms from visible at the node to read goes on':48}{'p50':>7} {'':14}{'p99':>8}")
    for row in rows:
        label = f"{row.flavour}, {row.held} held ({row.reads} reads, {row.stale} stale)"
        print(
            f"  {label:46}{row.p50_ms:7.2f} {'':14}{row.p99_ms:8.2f}{'':14}"
            f"  {holds(row.p50_ms, RELEASE_MS)}"
        )


def show_starting(start: Starting) -> None:
    """Print what the start of a process costs."""
    print(f"\n{'start of `python -c pass`, beyond bare':48}{'p50':>7} {'':14}{'p99':>8}{'CPU':>7}")
    more = start.added
    print(
        f"  {'ms (bare takes ' + format(start.bare_us / 1000, '.1f') + ')':46}"
        f"{more.p50_us / 1000:7.2f} {'':14}{more.p99_us / 1000:8.2f}{more.cpu_us / 1000:7.2f}"
        f"{more.ratio:7.2f}  {holds(more.p50_us / 1000, START_MS)}"
    )
    print(f"  {'MB, peak RSS':46}{start.rss_mb:7.2f}{'':37}  {holds(start.rss_mb, START_MB)}")


def machine() -> dict[str, Any]:
    """What the machine is and what it is doing."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "python": sys.version.split()[0],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What Rendezvous adds to an application process.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: rough figures")
    parser.add_argument("--only", metavar="TEXT", default="", help="operations named so")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    options = parser.parse_args()
    only: str = options.only
    generations, rounds, held, starts = (1, 6, 25, 8) if options.quick else (3, 16, 100, 40)
    before = machine()
    with surroundings() as around:
        start = starting(around.environment(), starts) if not only else None
        sides, parts = measure(around, generations, rounds, only)
        released = releases(around, held) if not only or only == "release" else []
    after = machine()
    print(
        f"{before['cores']} cores of {before['cpu']}, Python {before['python']}; load average "
        f"{before['load'][0]:.1f} before, {after['load'][0]:.1f} after"
    )
    records = {
        "machine": {"before": before, "after": after},
        "operations": show_operations(sides),
        "parts": show_parts(parts),
        "releases": [asdict(row) for row in released],
        "start": asdict(start) if start else None,
    }
    if released:
        show_releases(released)
    if start:
        show_starting(start)
    if options.json:
        Path(options.json).write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
