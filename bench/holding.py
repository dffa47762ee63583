"""A process whose reads are held: ``holding.py sync|asyncio HELD ROUNDS KEY``.

Each round is a request that writes to the primary and at once reads the replica ``HELD`` times
concurrently. Prints, as JSON, when each read went on (CLOCK_MONOTONIC, ns), by the value written, how
many reads saw another value, and the verdicts.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from rendezvous_instrumentation.install import install

install()

import redis  # noqa: E402
import redis.asyncio  # noqa: E402

from rendezvous_instrumentation.shell.entries import enter  # noqa: E402
from rendezvous_instrumentation.shell.process import process  # noqa: E402

PRIMARY, REPLICA = int(os.environ["BENCH_PRIMARY"]), int(os.environ["BENCH_REPLICA"])
WARM_UP = 5
Went = dict[str, list[int]]


@contextmanager
def _request() -> Generator[None]:
    entry = enter([])
    entry.begin()
    try:
        yield
    finally:
        entry.end()
        entry.leave()


class Rounds:
    """What is written, and what the reads saw."""

    def __init__(self, name: str, count: int) -> None:
        self.values = [f"{name}-{number}" for number in range(count + WARM_UP)]
        self.went: Went = {}
        self.stale = 0

    def saw(self, value: str, raw: Any) -> None:
        """A read of the round of ``value`` has gone on."""
        now = time.monotonic_ns()
        self.went.setdefault(value, []).append(now)
        self.stale += raw != value.encode()


def run_sync(rounds: Rounds, held: int, key: str) -> None:
    """Threads and the synchronous client."""
    primary, replica = redis.Redis(port=PRIMARY), redis.Redis(port=REPLICA)
    with ThreadPoolExecutor(held) as pool:
        for value in rounds.values:
            with _request():
                primary.set(key, value)

                def read(value: str = value) -> None:
                    rounds.saw(value, replica.get(key))

                for done in [pool.submit(read) for _ in range(held)]:
                    done.result()


async def run_asyncio(rounds: Rounds, held: int, key: str) -> None:
    """Tasks and the asyncio client."""
    primary: Any = redis.asyncio.Redis(port=PRIMARY)
    replica: Any = redis.asyncio.Redis(port=REPLICA)
    for value in rounds.values:
        with _request():
            await primary.set(key, value)

            async def read(value: str = value) -> None:
                rounds.saw(value, await replica.get(key))

            await asyncio.gather(*[read() for _ in range(held)])
    await primary.aclose()
    await replica.aclose()


def main(flavour: str, held: int, count: int, key: str) -> None:
    """Run all rounds and report."""
    rounds = Rounds(f"{flavour}-{held}", count)
    if flavour == "sync":
        run_sync(rounds, held, key)
    else:
        asyncio.run(run_asyncio(rounds, held, key))
    went = {value: rounds.went[value] for value in rounds.values[WARM_UP:]}
    verdicts = process().stats.snapshot()["verdicts"]
    print(json.dumps({"went": went, "stale": rounds.stale, "verdicts": verdicts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
