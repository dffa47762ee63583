"""Events as bytes: round trips, and arbitrary bytes that never raise but MalformedMessage."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rendezvous_api import event
from rendezvous_api.errors import MalformedMessage
from rendezvous_api.event import HEAD_BYTES, NO_RID, Event, Kind
from rendezvous_api.ids import Bid, StoreKey, rid_bytes, word
from rendezvous_api.limits import NAME_BYTES_MAX
from rendezvous_testing.contexts import bodies, events

STORE = StoreKey("r" + word(1))
SAMPLE = event.encode(Event(3, 1, NO_RID, Bid(7), event.Write(STORE, 5)))


@given(st.lists(events, max_size=5))
def test_events_are_decoded_as_they_were_encoded(some: list[Event]) -> None:
    raw = b"".join(event.encode(each) for each in some)
    assert event.decode(raw) == some


@given(st.lists(events, max_size=5))
def test_heads_are_split_without_their_bodies_being_read(some: list[Event]) -> None:
    raw = b"".join(event.encode(each) for each in some)
    heads = event.split(raw)
    assert [(h[1], h[2], h[3], h[4]) for h in heads] == [
        (each.lane, each.seq, rid_bytes(each.rid), each.bid) for each in some
    ]
    assert b"".join(event.pack(*head) for head in heads) == raw


@given(bodies)
def test_a_body_cut_or_lengthened_is_refused_or_another_body(body: event.Body) -> None:
    kind, raw = event.encode_body(body)
    for changed in (*(raw[:end] for end in range(len(raw))), raw + b"\0"):
        try:
            assert event.decode_body(kind, changed) != body
        except MalformedMessage:
            continue


@given(st.integers(0, 255), st.binary(max_size=80))
@example(Kind.LINK, b"short")
@example(Kind.OPEN, bytes(12))
def test_any_body_is_decoded_or_refused(kind: int, raw: bytes) -> None:
    try:
        body = event.decode_body(kind, raw)
    except MalformedMessage:
        return
    assert event.decode_body(*event.encode_body(body)) == body


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(raw: bytes) -> None:
    for candidate in (raw, SAMPLE + raw, raw + SAMPLE):
        try:
            event.decode(candidate)
        except MalformedMessage:
            continue


@given(events, st.data())
def test_a_mutated_event_is_decoded_or_refused(some: Event, data: st.DataObject) -> None:
    raw = bytearray(event.encode(some))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        event.decode(bytes(raw))
    except MalformedMessage:
        return


def test_an_event_cut_anywhere_is_refused() -> None:
    for end in range(1, len(SAMPLE)):
        with pytest.raises(MalformedMessage):
            event.decode(SAMPLE[:end])


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x01", "a cut event"),
        (event.pack(Kind.FAIL, 16, 1, bytes(16), 0, b""), "a cut event, or a bad lane or seq"),
        (event.pack(Kind.FAIL, 0, 0, bytes(16), 0, b""), "a cut event, or a bad lane or seq"),
        (event.pack(99, 0, 1, bytes(16), 0, b""), "unknown event kind 99"),
        (event.pack(Kind.FAIL, 0, 1, bytes(16), 0, b"xy"), "2 bytes too many in an event"),
        (event.pack(Kind.OPAQUE, 0, 1, bytes(16), 0, b"x"), "1 bytes too many in an event"),
        (
            event.pack(Kind.LINK, 0, 1, bytes(16), 0, b"x"),
            "event of kind 8: a rid has 16 bytes, not 1",
        ),
        (
            event.pack(Kind.WRITE, 0, 1, bytes(16), 0, bytes(8)),
            "event of kind 6: not a store: b''",
        ),
        (
            event.pack(Kind.UNKNOWN, 0, 1, bytes(16), 0, b"\0r.x"),
            "event of kind 7: not a store: b'r.x'",
        ),
        (event.pack(Kind.ADOPT, 0, 1, bytes(16), 0, b"\x05ab"), "a cut name"),
    ],
)
def test_a_refusal_says_what_is_wrong(raw: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        event.decode(raw)
    assert str(caught.value) == said


def test_a_long_name_is_cut_between_characters() -> None:
    body = event.Adopt("ä" * 200, "x" * 300)
    got = event.decode_body(*event.encode_body(body))
    assert got == event.Adopt("ä" * (NAME_BYTES_MAX // 2), "x" * NAME_BYTES_MAX)


def test_a_name_that_is_no_text_does_not_stop_the_event() -> None:
    assert event.decode_body(*event.encode_body(event.Adopt("a\ud800b"))) == event.Adopt("a?b")


def test_the_wire_format_stays() -> None:
    assert HEAD_BYTES == 36
    assert SAMPLE.hex() == (
        "06"
        "03"
        "1400"
        "0100000000000000" + "00" * 16 + "0700000000000000"
        "0500000000000000" + STORE.encode().hex()
    )
    assert [(kind.name, kind.value) for kind in Kind] == [
        ("OPEN", 1), ("CLOSE", 2), ("FAIL", 3), ("OPAQUE", 4), ("ADOPT", 5), ("WRITE", 6),
        ("UNKNOWN", 7), ("LINK", 8), ("LINEAGE", 9),
    ]  # fmt: skip
