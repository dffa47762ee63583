"""Ids: one text each, and nothing else is taken for one."""

import zlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api import ids
from rendezvous_api.errors import MalformedContext
from rendezvous_api.ids import Incarnation, Rid


@given(st.binary(max_size=40))
def test_text_is_unpadded_base64url(raw: bytes) -> None:
    text = ids.text_of(raw)
    assert text == urlsafe_b64encode(raw).decode().rstrip("=")
    assert ids.raw_of(text) == raw


@given(st.integers(0, 2**64 - 1))
def test_a_word_is_64_bits(value: int) -> None:
    text = ids.word(value)
    assert len(text) == ids.WORD_CHARS
    assert text == ids.text_of(value.to_bytes(8, "big"))
    assert ids.word_value(text) == value


@given(st.text(max_size=12) | st.text("AEw048_-+/=~", min_size=11, max_size=11))
def test_only_one_text_is_taken_for_a_word(text: str) -> None:
    try:
        value = ids.word_value(text)
    except MalformedContext:
        return
    assert ids.word(value) == text


@given(st.text(max_size=30) | st.text("AQgw_-+/=~", min_size=22, max_size=22))
def test_only_one_text_is_taken_for_a_rid(text: str) -> None:
    try:
        raw = ids.rid_bytes(Rid(text))
    except MalformedContext:
        return
    assert ids.rid_from_bytes(raw) == text


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_rid_has_16_bytes(size: int) -> None:
    with pytest.raises(MalformedContext, match=f"a rid has 16 bytes, not {size}"):
        ids.rid_from_bytes(bytes(size))
    with pytest.raises(MalformedContext, match="a rid has 22 characters"):
        ids.rid_bytes(Rid(ids.text_of(bytes(size))))


@given(st.binary(min_size=16, max_size=16))
def test_the_lane_is_the_top_4_bits_of_the_rids_hash(raw: bytes) -> None:
    lane = ids.lane_of(ids.rid_from_bytes(raw))
    assert lane == zlib.crc32(raw) >> 28


def test_lanes_are_even_where_trace_ids_begin_alike() -> None:
    """X-Ray trace ids begin with the time: the hash spreads them all the same."""
    counts = [0] * 16
    for number in range(3200):
        counts[ids.lane_of(ids.rid_from_bytes(b"\x66\0\0\0" + number.to_bytes(12, "big")))] += 1
    assert min(counts) > 100
    assert max(counts) < 300


def test_an_origin_is_the_incarnation_and_the_lane() -> None:
    origin = ids.origin_of(Incarnation(ids.word(1)), 15)
    assert origin == "AAAAAAAAAAEf"
    assert len(origin) == ids.ORIGIN_CHARS


@given(st.text())
def test_any_epoch_has_a_short_form(text: str) -> None:
    assert len(ids.short_epoch(text)) == ids.WORD_CHARS
    assert ids.short_epoch(text) == ids.short_epoch(text)
    assert ids.short_epoch(text) != ids.short_epoch(text + "x")


@given(st.lists(st.integers(0, 2**70)).map(tuple))
def test_a_zone_has_a_text(zone: ids.Zone) -> None:
    assert ids.zone_of(ids.zone_text(zone)) == zone


def test_the_zones_of_the_documentation() -> None:
    assert [ids.zone_text(zone) for zone in ((), (0,), (0, 1))] == ["", ":0", ":0:1"]
    assert ids.zone_of(":0:2") < ids.zone_of(":0:10")  # numeric order per component


@pytest.mark.parametrize(
    "text", ["0", "x:0", ":", ":x", ":-1", ":01", ": 1", ":1_0", ":+1", ":\u0661", "::1"]
)
def test_what_is_no_zone_is_refused(text: str) -> None:
    with pytest.raises(MalformedContext, match="not a zone"):
        ids.zone_of(text)


@pytest.mark.parametrize("raw", [b"", b"1", b"-r", b"r.x", b"r~", b"r x", b"r\0", b"r\xff", b"r+"])
def test_what_is_no_store_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedContext, match="not a store"):
        ids.store_from(raw)


@pytest.mark.parametrize("raw", [b"r", b"Q", b"rAAAAAAAAAAE", b"p-_9"])
def test_a_store_is_a_kind_and_an_epoch(raw: bytes) -> None:
    assert ids.store_from(raw) == raw.decode()
