"""What people may see of the state: one request, and the whole in numbers."""

from dataclasses import dataclass
from typing import Any

from rendezvous_api.event import Work
from rendezvous_api.ids import Rid, rid_bytes, rid_from_bytes
from rendezvous_server.core.machine import Core
from rendezvous_server.core.requests import Rank


@dataclass(frozen=True, slots=True)
class BranchView:
    """One branch as reported so far; what was not reported is empty."""

    bid: int
    parent: int
    zone: str
    service: str
    region: str
    tag: str
    work: str
    state: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """One request."""

    branches: tuple[BranchView, ...]
    positions: dict[str, int]
    links: tuple[Rid, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """The server in numbers. ``events``: applied since the start; ``holes``: appended since."""

    index: int
    requests: int
    open_branches: int
    questions_held: int
    events: int
    events_held_back: int
    origins: int
    holes: int
    streams: int


def show(core: Core, rid: Rid) -> RequestView | None:
    """One request's state; ``None`` if it is not known. Raises :class:`MalformedContext`."""
    request = core.requests.table.get(rid_bytes(rid))
    if request is None:
        return None
    branches: list[BranchView] = []
    for bid, (rank, _, parent, opened, adopter, _) in sorted(request.branches.items()):
        work, zone, service, region, tag = opened or (0, "", "", "", "")
        if adopter is not None:
            service, region = adopter[0] or service, adopter[1] or region
        kind = Work(work).name.lower() if work else ""
        state = Rank(rank).name.lower()
        branches.append(BranchView(bid, parent, zone, service, region, tag, kind, state))
    links = tuple(rid_from_bytes(link) for link in sorted(request.links or ()))
    return RequestView(tuple(branches), dict(request.positions), links)


def totals(core: Core) -> Totals:
    """The server in numbers."""
    return Totals(
        core.index,
        len(core.requests.table),
        core.requests.open,
        len(core.questions.held),
        core.requests.events,
        core.origins.held_events,
        len(core.origins.applied),
        core.counters["holes"],
        core.streams,
    )


def joined_state(core: Core) -> dict[str, Any]:
    """The state that law 5 compares: the same for every interleaving of the same logs. Without what
    is local: times, leases, questions, and what was forgotten. For tests and simulations."""
    requests = {
        rid: (
            dict(request.positions),
            dict(request.unknown or {}),
            frozenset(request.links or ()),
            {bid: (rank, *rest) for bid, (rank, _, *rest) in request.branches.items()},
        )
        for rid, request in core.requests.table.items()
    }
    origins = core.origins
    return {
        "requests": requests,
        "lineages": dict(core.requests.lineages),
        "applied": dict(origins.applied),
        "holes": {key: start for key, start in origins.holes.items() if origins.is_holed(key)},
        "successors": {key: tuple(after) for key, after in origins.successors.items()},
        "held": {
            (key, first + at): event
            for key, entries in origins.held.items()
            for first, _, events in entries
            for at, event in enumerate(events)
        },
        "indexes": dict(core.questions.indexes),
    }
