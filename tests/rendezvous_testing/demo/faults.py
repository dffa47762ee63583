"""Kills in the midst of the load: who, how, and what must come back by itself."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

from rendezvous_testing.demo.load import Gate, Outcome
from rendezvous_testing.demo.result import Run
from rendezvous_testing.demo.topology import SERVER, Topology
from rendezvous_testing.limits import KILLS_PER_RUN, POLL_S, RESTART_S

FAULTS = {
    "reader-sidecar": "the reader's sidecar",
    "writer-sidecar": "the writer's sidecar",
    "server": "the metadata server",
    "writer": "the writer together with its sidecar",
}


class Milestones:
    """The points of the load at which something is killed."""

    def __init__(self, posts: int) -> None:
        self.posts = posts
        self.done = 0
        self._marks = [
            (posts * (number + 1) // (KILLS_PER_RUN + 1), asyncio.Event())
            for number in range(KILLS_PER_RUN)
        ]

    def show(self, outcome: Outcome) -> None:
        """The load has come this far."""
        self.done = outcome.done
        for count, event in self._marks:
            if outcome.done >= count:
                event.set()

    async def wait(self, number: int) -> None:
        """Wait for milestone ``number``."""
        await self._marks[number][1].wait()


async def inject(
    fault: str,
    topology: Topology,
    *,
    run: Run,
    gate: Gate,
    milestones: Milestones,
    say: Callable[[str], None],
) -> None:
    """Kill :data:`FAULTS`' ``fault`` several times while the load runs, and see it come back.

    What was killed goes to ``run.kills``, what did not happen as it must to ``run.broken``.
    """
    done: str | None
    for number in range(KILLS_PER_RUN):
        await milestones.wait(number)
        if milestones.done >= milestones.posts:
            run.broken.append(
                f"only {number} of {KILLS_PER_RUN} kills fell into the load; use more --posts"
            )
            return
        match fault:
            case "server":
                done = await _kill_server(topology)
            case "writer":
                done = await _kill_writer(topology, gate)
            case _:
                done = await _kill_sidecar(topology, fault.removesuffix("-sidecar"), run)
        if done is None:
            return
        run.kills.append(done)
        say(f"# at {milestones.done} of {milestones.posts} posts: {done}")


async def _kill_server(topology: Topology) -> str:
    process = topology.process(SERVER)
    pid = process.pid
    await asyncio.to_thread(topology.kill, SERVER)
    begin = time.monotonic()
    process.start()
    await asyncio.to_thread(process.wait_for_line, "listening on")
    return f"kill -9 {pid} (metadata server), ready again after {_since(begin)}"


async def _kill_writer(topology: Topology, gate: Gate) -> str:
    process = topology.process("writer")
    pid = process.pid
    gate.close()
    await asyncio.to_thread(topology.kill, "writer")
    begin = time.monotonic()
    process.start()
    await asyncio.to_thread(process.wait_for_http, topology.writer_port)
    gate.open()
    return f"kill -9 {pid} (writer) and its sidecar, ready again after {_since(begin)}"


async def _kill_sidecar(topology: Topology, service: str, run: Run) -> str | None:
    begin = time.monotonic()
    killed: int | None = None
    while time.monotonic() - begin < RESTART_S:
        pid = await asyncio.to_thread(topology.sidecar_pid, service)
        if pid is not None and killed is None:
            os.kill(pid, signal.SIGKILL)
            killed = pid
        elif pid is not None and pid != killed:
            return f"kill -9 {killed} (sidecar of {service}), a new one after {_since(begin)}"
        await asyncio.sleep(POLL_S)
    what = "had no sidecar to kill" if killed is None else "got no new sidecar"
    run.broken.append(f"the {service} {what} within {RESTART_S:g} s")
    return None


def _since(begin: float) -> str:
    return f"{time.monotonic() - begin:.2f} s"
