"""Judges of a finished run. Each says what it checks; what none of them checks is said in the package.

"No silent miss" is judged at every read, where it happens (``reads.Miss``).
"""

import random
from collections.abc import Iterable, Sequence

from rendezvous_api.event import Write
from rendezvous_api.ids import rid_bytes
from rendezvous_server.core import Core, Entry
from rendezvous_server.core.view import joined_state
from rendezvous_testing.simulation.scenario import Run


class Failed(AssertionError):
    """A property does not hold."""


def check(run: Run) -> None:
    """All properties of a finished run."""
    no_hung_waiter(run)
    everything_acknowledged(run)
    no_acknowledged_event_lost(run)
    exactly_once(run)
    same_state_in_any_interleaving(run)


def no_hung_waiter(run: Run) -> None:
    """Once faults stop, every task ends and nobody holds a question. (Not: how soon.)"""
    if run.world.tasks:
        raise Failed(f"{run.world.tasks} tasks still wait")
    for server in run.servers:
        if server.core.questions.held:
            raise Failed(f"{server.name} holds {len(server.core.questions.held)} questions")


def everything_acknowledged(run: Run) -> None:
    """Once faults stop, living processes get every event acknowledged; sidecars hold nothing."""
    for application in run.applications:
        if application.outbox.size:
            raise Failed(f"{application.name} still has {application.outbox.size} events")
    for sidecar in run.sidecars:
        if sidecar.agent.held:
            raise Failed(f"{sidecar.name} still holds {sidecar.agent.held} events")


def no_acknowledged_event_lost(run: Run) -> None:
    """A write acknowledged in a log that still exists is in the state made from that log. (Not:
    other kinds of events, whose effect later ones may hide.)"""
    servers = {server.log: server for server in run.servers}
    for application in run.applications:
        reached: dict[str, int] = {}
        for origin, seq, log, _ in application.acked:
            server = servers.get(log)
            first = reached.get(origin, 0) + 1
            reached[origin] = max(reached.get(origin, 0), seq)
            for number in range(first, seq + 1):
                rid, _, body = application.events.get((origin, number), (None, None, None))
                if server is None or rid is None or not isinstance(body, Write):
                    continue
                request = server.core.requests.table.get(rid_bytes(rid))
                if request is None or request.positions.get(body.store, -1) < body.value:
                    raise Failed(f"{origin}:{number} was acknowledged in {log} and is not in it")


def exactly_once(run: Run) -> None:
    """What is applied of all origins together is as many events as were applied: none twice, no
    gap. (Origins forgotten after the retention do not occur in runs this short.)"""
    for server in run.servers:
        core = server.core
        if sum(core.origins.applied.values()) != core.requests.events:
            raise Failed(
                f"{server.name} applied {core.requests.events} events of origins that reached "
                f"{sum(core.origins.applied.values())}"
            )


def same_state_in_any_interleaving(run: Run) -> None:
    """The logs of all servers give the same state in any interleaving (law 5)."""
    rng = random.Random(run.seed)
    logs = [(server.log, server.entries) for server in run.servers]
    if len(logs) < 2:
        return
    states = [state_of(interleaved(logs, rng)) for _ in range(2)]
    if states[0] != states[1]:
        raise Failed("two interleavings of the same logs give different states")


def interleaved(
    logs: Sequence[tuple[str, Sequence[Entry]]], rng: random.Random
) -> Iterable[tuple[str, int, Entry]]:
    """The entries of several logs in one random order that keeps the order of each."""
    places = [0] * len(logs)
    while open_ones := [n for n, (_, entries) in enumerate(logs) if places[n] < len(entries)]:
        chosen = rng.choice(open_ones)
        log, entries = logs[chosen]
        places[chosen] += 1
        yield log, places[chosen], entries[places[chosen] - 1]


def state_of(entries: Iterable[tuple[str, int, Entry]]) -> object:
    """What law 5 compares of a server that applied these."""
    from rendezvous_api.ids import LogId

    core = Core(LogId("A" * 11))
    for log, index, entry in entries:
        core.apply(index, entry, None, LogId(log))
    return joined_state(core)
