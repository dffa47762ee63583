"""A batch as columns of plain values, its check, and the walk over it.

The shell copies the columns out of the protocol message. :func:`check` comes first: whatever passes
it can be applied without further care.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

from rendezvous_api.errors import MalformedMessage
from rendezvous_api.event import Kind
from rendezvous_api.limits import BATCH_EVENTS_MAX, LANES, NAME_BYTES_MAX
from rendezvous_server.limits import FRONTIER_BYTES_MAX, NAMES_BYTES_MAX, SHARED_MAX

Run = tuple[int, int, int, int]
"""Consecutive events of one origin: incarnation, lane, first seq, count."""

Event = tuple[int, bytes, int, tuple[Any, ...]]
"""One event: kind, rid, bid, body; the body's values are those of its kind's columns."""

SEQ_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """The columns of ``rendezvous.v1.Batch``, same names and meaning."""

    number: int = 0
    runs: Sequence[Run] = ()
    kinds: bytes = b""
    rids: bytes = b""
    requests: Sequence[int] = ()
    bids: Sequence[int] = ()
    names: Sequence[str] = ("",)
    open_works: bytes = b""
    open_parents: Sequence[int] = ()
    open_zones: Sequence[int] = ()
    open_services: Sequence[int] = ()
    open_regions: Sequence[int] = ()
    open_tags: Sequence[int] = ()
    close_frontiers: Sequence[int] = ()
    close_regions: Sequence[int] = ()
    adopt_services: Sequence[int] = ()
    adopt_regions: Sequence[int] = ()
    write_stores: Sequence[int] = ()
    write_values: Sequence[int] = ()
    unknown_stores: Sequence[int] = ()
    unknown_unanswered: bytes = b""
    links: Sequence[int] = ()
    lineage_olds: Sequence[int] = ()
    lineage_news: Sequence[int] = ()
    lineage_forks: Sequence[int] = ()


_KINDS = bytes(Kind)
_WORKS = bytes((1, 2, 3, 4))
_STORE = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_COUNTED = r"(?:f[A-Za-z0-9_-]{11}|s[A-Za-z0-9_-]{11}[0-9a-f])~[0-9a-f]{1,16}"
_ENTRY = rf"(?:{_COUNTED}|x[A-Za-z0-9_-]{{11}}|gi)"
_FRONTIER = re.compile(rf"{_ENTRY}(?:\.{_ENTRY})*")


def check(batch: Batch) -> None:
    """Raise :class:`MalformedMessage` unless every column has its length, every index its target
    and every name its form."""
    events = len(batch.kinds)
    if events > BATCH_EVENTS_MAX:
        raise MalformedMessage(f"{events} events in a batch; at most {BATCH_EVENTS_MAX}")
    _check_runs(batch.runs, events)
    if len(batch.rids) % 16:
        raise MalformedMessage("rids: not a multiple of 16 bytes")
    if batch.kinds.translate(None, _KINDS):
        raise MalformedMessage("kinds: an unknown kind of event")
    if batch.open_works.translate(None, _WORKS):
        raise MalformedMessage("open_works: an unknown kind of work")
    _check_lengths(batch, events)
    _check_indexes(batch)
    _check_names(batch)


def _check_runs(runs: Sequence[Run], events: int) -> None:
    total = 0
    for _, lane, first, count in runs:
        if lane >= LANES or first < 1 or count < 1 or first + count > SEQ_MAX:
            raise MalformedMessage("runs: a bad lane, seq or count")
        total += count
    if total != events:
        raise MalformedMessage(f"runs: {total} events, kinds: {events}")


def _check_lengths(batch: Batch, events: int) -> None:
    count = batch.kinds.count
    opens, closes, adopts = count(Kind.OPEN), count(Kind.CLOSE), count(Kind.ADOPT)
    writes, unknowns, lineages = count(Kind.WRITE), count(Kind.UNKNOWN), count(Kind.LINEAGE)
    for name, column, length in (
        ("requests", batch.requests, events),
        ("bids", batch.bids, events),
        ("open_works", batch.open_works, opens),
        ("open_parents", batch.open_parents, opens),
        ("open_zones", batch.open_zones, opens),
        ("open_services", batch.open_services, opens),
        ("open_regions", batch.open_regions, opens),
        ("open_tags", batch.open_tags, opens),
        ("close_frontiers", batch.close_frontiers, closes),
        ("close_regions", batch.close_regions, closes),
        ("adopt_services", batch.adopt_services, adopts),
        ("adopt_regions", batch.adopt_regions, adopts),
        ("write_stores", batch.write_stores, writes),
        ("write_values", batch.write_values, writes),
        ("unknown_stores", batch.unknown_stores, unknowns),
        ("unknown_unanswered", batch.unknown_unanswered, unknowns),
        ("links", batch.links, count(Kind.LINK)),
        ("lineage_olds", batch.lineage_olds, lineages),
        ("lineage_news", batch.lineage_news, lineages),
        ("lineage_forks", batch.lineage_forks, lineages),
    ):
        if len(column) != length:
            raise MalformedMessage(f"{name}: {len(column)} values for {length} events")


def _check_indexes(batch: Batch) -> None:
    rids, names = len(batch.rids) // 16, len(batch.names)
    for name, column, bound in (
        ("requests", batch.requests, rids),
        ("links", batch.links, rids),
        ("open_zones", batch.open_zones, names),
        ("open_services", batch.open_services, names),
        ("open_regions", batch.open_regions, names),
        ("open_tags", batch.open_tags, names),
        ("close_frontiers", batch.close_frontiers, names),
        ("close_regions", batch.close_regions, names),
        ("adopt_services", batch.adopt_services, names),
        ("adopt_regions", batch.adopt_regions, names),
        ("write_stores", batch.write_stores, names),
        ("unknown_stores", batch.unknown_stores, names),
        ("lineage_olds", batch.lineage_olds, names),
        ("lineage_news", batch.lineage_news, names),
    ):
        if column and max(column) >= bound:
            raise MalformedMessage(f"{name}: an index beyond the table of {bound}")


def _check_names(batch: Batch) -> None:
    names = batch.names
    if sum(map(len, names)) > NAMES_BYTES_MAX:
        raise MalformedMessage("names: too many bytes")
    frontiers = set(batch.close_frontiers)
    for index, name in enumerate(names):
        if len(name) > NAME_BYTES_MAX and (
            index not in frontiers or len(name) > FRONTIER_BYTES_MAX
        ):
            raise MalformedMessage(f"names: one of {len(name)} characters")
    for index in frontiers:
        if names[index] and not _FRONTIER.fullmatch(names[index]):
            raise MalformedMessage(f"close_frontiers: not a frontier: {names[index][:64]!r}")
    for column in (
        batch.write_stores,
        batch.unknown_stores,
        batch.lineage_olds,
        batch.lineage_news,
    ):
        for index in set(column):
            if len(names[index]) > NAME_BYTES_MAX or not _STORE.fullmatch(names[index]):
                raise MalformedMessage(f"names: not a store: {names[index][:64]!r}")


class Shared(dict[Any, Any]):
    """Values kept once, however often they come: ``shared[value]`` is the first equal one.

    Beyond ``limits.SHARED_MAX`` it starts anew, which costs memory and nothing else.
    """

    def __missing__(self, value: Any) -> Any:
        if len(self) >= SHARED_MAX:
            self.clear()
        self[value] = value
        return value


class Walk:
    """One pass over events in order. ``rows`` yields (kind, index of the request, bid);
    ``columns[kind]`` yields the body of each event of that kind as it comes up."""

    __slots__ = ("columns", "rids", "rows")

    rows: Iterator[tuple[int, int, int]]
    columns: tuple[Iterator[tuple[Any, ...]], ...]
    rids: Sequence[bytes]

    def __init__(
        self,
        rows: Iterator[tuple[int, int, int]],
        columns: tuple[Iterator[tuple[Any, ...]], ...],
        rids: Sequence[bytes],
    ) -> None:
        self.rows = rows
        self.columns = columns
        self.rids = rids

    def skip(self, count: int) -> None:
        """Pass ``count`` events by."""
        columns = self.columns
        for kind, _, _ in islice(self.rows, count):
            next(columns[kind])

    def take(self, count: int) -> list[Event]:
        """The next ``count`` events, each by itself."""
        columns, rids = self.columns, self.rids
        return [
            (kind, rids[at], bid, next(columns[kind])) for kind, at, bid in islice(self.rows, count)
        ]


def walk(batch: Batch, shared: Shared) -> Walk:
    """A pass over a checked batch. What requests have in common comes from ``shared``."""
    raw = batch.rids
    keep = shared.__getitem__
    names = [name if "~" in name else keep(name) for name in batch.names]  # a frontier has a "~"
    rids = [raw[at : at + 16] for at in range(0, len(raw), 16)]
    name = names.__getitem__
    empty: Iterator[tuple[Any, ...]] = repeat(())
    columns: tuple[Iterator[tuple[Any, ...]], ...] = (
        empty,
        zip(
            batch.open_parents,
            map(
                keep,
                zip(
                    batch.open_works,
                    map(name, batch.open_zones),
                    map(name, batch.open_services),
                    map(name, batch.open_regions),
                    map(name, batch.open_tags),
                    strict=True,
                ),
            ),
            strict=True,
        ),
        zip(map(name, batch.close_regions), map(name, batch.close_frontiers), strict=True),
        empty,
        empty,
        zip(map(name, batch.adopt_services), map(name, batch.adopt_regions), strict=True),
        zip(map(name, batch.write_stores), batch.write_values, strict=True),
        zip(map(name, batch.unknown_stores), map(bool, batch.unknown_unanswered), strict=True),
        zip(map(rids.__getitem__, batch.links), strict=True),
        zip(
            map(name, batch.lineage_olds),
            map(name, batch.lineage_news),
            batch.lineage_forks,
            strict=True,
        ),
    )
    return Walk(zip(batch.kinds, batch.requests, batch.bids, strict=True), columns, rids)


def walk_events(events: Sequence[Event]) -> Walk:
    """A pass over events that were taken out of their batches."""
    bodies: list[list[tuple[Any, ...]]] = [[] for _ in range(len(Kind) + 1)]
    for kind, _, _, body in events:
        bodies[kind].append(body)
    return Walk(
        ((kind, at, bid) for at, (kind, _, bid, _) in enumerate(events)),
        tuple(iter(column) for column in bodies),
        [rid for _, rid, _, _ in events],
    )
