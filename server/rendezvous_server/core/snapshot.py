"""The state as parts made of plain values, and back.

A snapshot may be taken while entries go on being applied: the first part fixes the index that it
stands for, and the requests that follow may already hold more than that. Replaying the log from that
index on then repeats what they hold, which is harmless (law 5).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from rendezvous_server.core.machine import Core
from rendezvous_server.core.requests import Rank, Request
from rendezvous_server.limits import SLICE_REQUESTS

FORMAT = 1


def parts(core: Core) -> Iterator[Any]:
    """The parts, made one at a time as they are asked for; apply what you like in between."""
    origins, questions = core.origins, core.questions
    yield {
        "format": FORMAT,
        "indexes": dict(questions.indexes),
        "times": list(questions.times),
        "applied": dict(origins.applied),
        "holes": dict(origins.holes),
        "dead": dict(core.dead),
        "successors": {key: list(value) for key, value in origins.successors.items()},
        "held": {key: list(value) for key, value in origins.held.items()},
        "lineages": dict(core.requests.lineages),
    }
    table = core.requests.table
    rids = iter(list(table))
    while some := list(islice(rids, SLICE_REQUESTS)):
        yield [(rid, *_plain(request)) for rid in some if (request := table.get(rid)) is not None]


def _plain(request: Request) -> tuple[Any, ...]:
    return (
        request.created,
        request.active,
        request.incomplete,
        dict(request.positions),
        dict(request.unknown) if request.unknown else None,
        sorted(request.links) if request.links else None,
        dict(request.branches),
    )


def restore(core: Core, snapshot: Iterable[Any]) -> None:
    """Bring a new core to where the snapshot's parts were taken. Raises :class:`ValueError`."""
    for number, part in enumerate(snapshot):
        if number == 0:
            _restore_head(core, part)
        else:
            for rid, *plain in part:
                _restore_request(core, rid, *plain)


def _restore_head(core: Core, head: Any) -> None:
    if head["format"] != FORMAT:
        raise ValueError(f"a snapshot of format {head['format']}, not {FORMAT}")
    origins, questions = core.origins, core.questions
    questions.indexes.update(head["indexes"])
    questions.times[:] = head["times"]
    origins.applied.update(head["applied"])
    origins.holes.update(head["holes"])
    core.dead.update(head["dead"])
    for key, followers in head["successors"].items():
        for after, successor in followers:
            origins.follow(key, after, successor)
    for key, held in head["held"].items():
        for each in held:
            origins.hold(key, each)
    core.requests.lineages.update(head["lineages"])


def _restore_request(
    core: Core,
    rid: bytes,
    created: float,
    active: float,
    incomplete: bool,
    positions: dict[str, int],
    unknown: dict[str, bool] | None,
    links: list[bytes] | None,
    branches: dict[int, Any],
) -> None:
    request = Request(created)
    request.active = active
    request.incomplete = incomplete
    request.positions = positions
    request.unknown = unknown
    request.links = set(links) if links else None
    request.branches = branches
    request.open = sum(1 for branch in branches.values() if branch[0] <= Rank.ADOPTED)
    core.requests.table[rid] = request
    core.requests.open += request.open
    core.wheel.add([rid], created)
