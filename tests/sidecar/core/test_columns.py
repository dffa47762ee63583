"""Columns say exactly what the events said: read back as the protocol says."""

from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api.event import (
    Adopt,
    Body,
    Close,
    Fail,
    Kind,
    Lineage,
    Link,
    Opaque,
    Open,
    Unknown,
    Work,
    Write,
    encode_body,
)
from rendezvous_api.ids import Bid, Rid, StoreKey, rid_from_bytes
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core.batch import check
from rendezvous_server.shell.columns import columns
from rendezvous_sidecar.core.columns import batch_of
from rendezvous_sidecar.core.lane import Item, Run

U64 = st.integers(0, 2**64 - 1)
NAMES = st.sampled_from(["", "writer", "läser", ":0:1", "eu"])
STORES = st.sampled_from([StoreKey("rAAAAAAAAAAA"), StoreKey("r"), StoreKey("pxyz")])
RIDS: st.SearchStrategy[Rid] = st.integers(1, 3).map(lambda n: rid_from_bytes(bytes([n]) * 16))
FRONTIERS = st.sampled_from(["", "fAAAAAAAAAAA~1f", "sAAAAAAAAAAA0~1.sAAAAAAAAAAAf~2"])
BODIES: st.SearchStrategy[Body] = st.one_of(
    st.builds(Open, st.sampled_from(Work), U64.map(Bid), NAMES, NAMES, NAMES, NAMES),
    st.builds(Close, FRONTIERS, NAMES),
    st.builds(Fail),
    st.builds(Opaque),
    st.builds(Adopt, NAMES, NAMES),
    st.builds(Write, STORES, U64),
    st.builds(Unknown, STORES, st.booleans()),
    st.builds(Link, RIDS),
    st.builds(Lineage, STORES, STORES, U64),
)


def item_of(body: Body, rid: bytes, bid: int) -> Item:
    kind, raw = encode_body(body)
    return (kind, rid, bid, body, len(raw))


ITEMS = st.builds(item_of, BODIES, st.integers(0, 3).map(lambda n: bytes([n]) * 16), U64)


def read(batch: pb.Batch) -> list[tuple[int, bytes, int, Body]]:
    """The events of a batch, read as ``rendezvous.proto`` says."""
    rids = [batch.rids[at : at + 16] for at in range(0, len(batch.rids), 16)]

    def names(*columns: Iterable[int]) -> Iterator[tuple[str, ...]]:
        parts = [[batch.names[at] for at in column] for column in columns]
        assert len({len(part) for part in parts}) == 1, "columns of one kind differ in length"
        return (tuple([part[at] for part in parts]) for at in range(len(parts[0])))

    works = zip(batch.open_works, batch.open_parents, strict=True)
    opens = names(batch.open_zones, batch.open_services, batch.open_regions, batch.open_tags)
    closes = names(batch.close_frontiers, batch.close_regions)
    adopts = names(batch.adopt_services, batch.adopt_regions)
    writes = zip(names(batch.write_stores), batch.write_values, strict=True)
    unknowns = zip(names(batch.unknown_stores), batch.unknown_unanswered, strict=True)
    links = iter(batch.links)
    lineages = zip(names(batch.lineage_olds, batch.lineage_news), batch.lineage_forks, strict=True)

    def body(kind: Kind) -> Body:
        match kind:
            case Kind.OPEN:
                work, parent = next(works)
                return Open(Work(work), Bid(parent), *next(opens))
            case Kind.CLOSE:
                return Close(*next(closes))
            case Kind.FAIL:
                return Fail()
            case Kind.OPAQUE:
                return Opaque()
            case Kind.ADOPT:
                return Adopt(*next(adopts))
            case Kind.WRITE:
                (store,), value = next(writes)
                return Write(StoreKey(store), value)
            case Kind.UNKNOWN:
                (store,), unanswered = next(unknowns)
                return Unknown(StoreKey(store), bool(unanswered))
            case Kind.LINK:
                return Link(rid_from_bytes(rids[next(links)]))
            case Kind.LINEAGE:
                (old, new), fork = next(lineages)
                return Lineage(StoreKey(old), StoreKey(new), fork)

    events = [
        (kind, rids[request], bid, body(Kind(kind)))
        for kind, request, bid in zip(batch.kinds, batch.requests, batch.bids, strict=True)
    ]
    for column in (works, opens, closes, adopts, writes, unknowns, links, lineages):
        assert not list(column), "a column holds more than its events"
    return events


@given(st.lists(st.lists(ITEMS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_what_the_server_reads_is_what_the_processes_said(stretches: list[list[Item]]) -> None:
    runs = [Run(7 + at, at, 100 * at + 1, items) for at, items in enumerate(stretches)]
    batch = batch_of(5, runs)
    check(columns(batch))  # the server's own
    assert batch.number == 5
    assert [(run.incarnation, run.lane, run.first, run.count) for run in batch.runs] == [
        (run.incarnation, run.lane, run.first, len(run.items)) for run in runs
    ]
    assert read(batch) == [item[:4] for run in runs for item in run.items]


def test_names_and_requests_stand_in_the_batch_once() -> None:
    items = [item_of(Adopt("svc", "eu"), b"r" * 16, n) for n in range(50)]
    batch = batch_of(1, [Run(1, 0, 1, items)])
    assert list(batch.names) == ["", "svc", "eu"]
    assert batch.rids == b"r" * 16
