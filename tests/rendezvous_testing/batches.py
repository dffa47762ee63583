"""Batches for a server, made from events: as the core takes them, and as they travel."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from rendezvous_api.event import (
    Adopt,
    Body,
    Close,
    Fail,
    Lineage,
    Link,
    Opaque,
    Open,
    Unknown,
    Write,
    encode_body,
)
from rendezvous_api.ids import rid_bytes
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import Batch

Told = tuple[bytes, int, Body]
"""One event: rid, bid, body."""

ToldRun = tuple[int, int, int, Sequence[Told]]
"""Incarnation, lane, first seq, events."""


@dataclass
class _Columns:
    rids: list[bytes] = field(default_factory=list[bytes])
    names: list[str] = field(default_factory=lambda: [""])
    numbers: dict[str, list[int]] = field(default_factory=dict[str, list[int]])

    def rid(self, rid: bytes) -> int:
        if rid not in self.rids:
            self.rids.append(rid)
        return self.rids.index(rid)

    def name(self, name: str) -> int:
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def put(self, **values: int) -> None:
        for column, value in values.items():
            self.numbers.setdefault(column, []).append(value)

    def put_body(self, body: Body) -> None:
        name = self.name
        match body:
            case Open(work, parent, zone, service, region, tag):
                self.put(open_works=work, open_parents=parent, open_zones=name(zone))
                self.put(open_services=name(service), open_regions=name(region))
                self.put(open_tags=name(tag))
            case Close(frontier, region):
                self.put(close_frontiers=name(frontier), close_regions=name(region))
            case Adopt(service, region):
                self.put(adopt_services=name(service), adopt_regions=name(region))
            case Write(store, value):
                self.put(write_stores=name(store), write_values=value)
            case Unknown(store, unanswered):
                self.put(unknown_stores=name(store), unknown_unanswered=unanswered)
            case Link(rid):
                self.put(links=self.rid(rid_bytes(rid)))
            case Lineage(old, new, fork):
                self.put(lineage_olds=name(old), lineage_news=name(new), lineage_forks=fork)
            case Fail() | Opaque():
                pass


_COLUMNS = tuple(each.name for each in fields(Batch) if each.name not in ("number", "runs"))
_BYTES = ("open_works", "unknown_unanswered")


def batch_of(number: int, *runs: ToldRun) -> Batch:
    """A batch of these runs."""
    columns = _Columns()
    kinds: list[int] = []
    for _, _, _, events in runs:
        for rid, bid, body in events:
            kinds.append(encode_body(body)[0])
            columns.put(requests=columns.rid(rid), bids=bid)
            columns.put_body(body)
    plain = {
        column: bytes(values) if column in _BYTES else values
        for column, values in columns.numbers.items()
    }
    return Batch(
        number=number,
        runs=[(incarnation, lane, first, len(events)) for incarnation, lane, first, events in runs],
        kinds=bytes(kinds),
        rids=b"".join(columns.rids),
        names=columns.names,
        **plain,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    )


def message_of(batch: Batch) -> pb.FromSidecar:
    """The same batch as it travels."""
    message = pb.Batch(
        number=batch.number,
        runs=[
            pb.Run(incarnation=incarnation, lane=lane, first=first, count=count)
            for incarnation, lane, first, count in batch.runs
        ],
    )
    for name in _COLUMNS:
        value = getattr(batch, name)
        if isinstance(value, bytes):
            setattr(message, name, value)
        else:
            getattr(message, name).extend(value)
    return pb.FromSidecar(batch=message)
