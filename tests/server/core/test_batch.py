"""Malformed batches are refused, whatever they look like, and nothing of them is applied."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rendezvous_api.errors import MalformedMessage, RemoteError
from rendezvous_api.event import (
    Adopt,
    Close,
    Fail,
    Lineage,
    Link,
    Opaque,
    Open,
    Unknown,
    Work,
    Write,
)
from rendezvous_api.ids import ROOT_BID, LogId, StoreKey, rid_from_bytes, word
from rendezvous_server.core import Batch, Core, StreamId
from rendezvous_server.core.batch import Shared, check, walk
from rendezvous_server.core.view import joined_state
from rendezvous_server.limits import FRONTIER_BYTES_MAX
from rendezvous_testing.batches import Told, batch_of

R, S = b"r" * 16, b"s" * 16
STORE = StoreKey("rSTORE")
EVENTS: list[Told] = [
    (R, 1, Open(Work.RPC, ROOT_BID, ":0", "svc", "eu", "tag")),
    (R, 1, Adopt("other", "us")),
    (S, 2, Write(STORE, 2**64 - 1)),
    (R, 1, Close(f"s{word(5)}f~1", "eu")),
    (R, 2, Fail()),
    (R, 3, Opaque()),
    (S, 4, Unknown(STORE, True)),
    (S, 5, Link(rid_from_bytes(R))),
    (bytes(16), 0, Lineage(STORE, StoreKey("rNEW"), 7)),
]
WHOLE = batch_of(1, (5, 3, 1, EVENTS[:4]), (6, 3, 1, EVENTS[4:]))


def test_the_columns_say_what_the_events_said() -> None:
    check(WHOLE)
    assert walk(WHOLE, Shared()).take(9) == [
        (1, R, 1, (0, (1, ":0", "svc", "eu", "tag"))),
        (5, R, 1, ("other", "us")),
        (6, S, 2, (STORE, 2**64 - 1)),
        (2, R, 1, ("eu", f"s{word(5)}f~1")),
        (3, R, 2, ()),
        (4, R, 3, ()),
        (7, S, 4, (STORE, True)),
        (8, S, 5, (R,)),
        (9, bytes(16), 0, (STORE, "rNEW", 7)),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"runs": [(5, 16, 1, 9)]},
        {"runs": [(5, 3, 0, 9)]},
        {"runs": [(5, 3, 1, 0), (5, 3, 1, 9)]},
        {"runs": [(5, 3, 2**63 - 3, 9)]},
        {"runs": [(5, 3, 1, 8)]},
        {"runs": []},
        {"kinds": bytes(9)},
        {"kinds": b"\x0a" * 9},
        {"rids": b"r" * 33},
        {"requests": [9] * 9},
        {"names": []},
        {"names": ["", "x" * 300, *WHOLE.names[2:]]},
        {"open_works": b"\x09"},
        {"write_stores": [0]},
        {"lineage_olds": [1]},
        {"links": [7]},
        {"close_frontiers": [1]},
        {"write_values": []},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        check(replace(WHOLE, **change))


@pytest.mark.parametrize(
    "frontier", ["nonsense", "s" + "a" * 12, ".", f"f{'a' * 11}~1.", "p" * FRONTIER_BYTES_MAX]
)
def test_a_frontier_that_is_none_is_refused(frontier: str) -> None:
    with pytest.raises(MalformedMessage):
        check(batch_of(1, (5, 3, 1, [(R, 1, Close(frontier))])))


def test_too_many_events_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        check(batch_of(1, (5, 3, 1, [(R, 1, Fail())] * 1001)))


COLUMNS = tuple(field.name for field in fields(Batch))[2:]

_junk = st.one_of(
    st.lists(st.integers(0, 12), max_size=10),
    st.binary(max_size=10),
    st.lists(st.text(max_size=3), max_size=10),
)


@given(st.dictionaries(st.sampled_from(COLUMNS), _junk, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_mutated_batch_is_applied_or_refused_whole(change: dict[str, Any]) -> None:
    fitting = {
        name: value
        for name, value in change.items()
        if type(value) is type(getattr(WHOLE, name))
        and (name == "names") == any(isinstance(each, str) for each in value)
    }
    batch = replace(WHOLE, **fitting)
    core = Core(LogId("L" * 11))
    stream = StreamId(1)
    core.connect(stream, 1, 0.0)
    before = joined_state(core)
    try:
        admission = core.admit(stream, batch, 0.0)
    except RemoteError:
        assert joined_state(core) == before
        assert core.counters["refused_MalformedMessage"] == 1
    else:
        assert admission.entry is not None
        core.apply(1, admission.entry, stream)
        assert core.requests.events == len(batch.kinds)
