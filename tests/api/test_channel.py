"""Channel packets: round trips, and arbitrary packets that never raise but MalformedMessage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api import channel
from rendezvous_api.channel import Acked, Answered, Ask, Hello, Status
from rendezvous_api.errors import MalformedMessage
from rendezvous_api.ids import Incarnation, LogId, word
from rendezvous_testing.contexts import to_process, to_sidecar

ME = Incarnation(word(5))


@given(to_sidecar)
def test_a_message_to_the_sidecar_arrives_as_it_was_sent(message: channel.ToSidecar) -> None:
    assert channel.decode_to_sidecar(channel.encode(message)) == message


@given(to_process)
def test_a_message_to_the_process_arrives_as_it_was_sent(message: channel.ToProcess) -> None:
    assert channel.decode_to_process(channel.encode(message)) == message


@given(st.sampled_from([0, 1, 2, 3, 0x81, 0x82, 0x83, 0xFF]), st.binary(max_size=120))
def test_any_packet_is_decoded_or_refused(kind: int, rest: bytes) -> None:
    for packet in (bytes((kind,)) + rest, rest):
        for decode in (channel.decode_to_sidecar, channel.decode_to_process):
            try:
                decode(packet)
            except MalformedMessage:
                continue


@given(to_sidecar | to_process, st.data())
def test_a_mutated_packet_is_decoded_or_refused(
    message: channel.ToSidecar | channel.ToProcess, data: st.DataObject
) -> None:
    raw = bytearray(channel.encode(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for packet in (bytes(raw), bytes(raw[: data.draw(st.integers(0, len(raw)))])):
        for decode in (channel.decode_to_sidecar, channel.decode_to_process):
            try:
                decode(packet)
            except MalformedMessage:
                continue


@given(to_sidecar)
def test_no_message_of_one_direction_passes_for_the_other(message: channel.ToSidecar) -> None:
    with pytest.raises(MalformedMessage, match="from a sidecar"):
        channel.decode_to_process(channel.encode(message))


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"", "channel packet: index out of range"),
        (b"\x09", "unknown message 9 from a process"),
        (b"\x02\x01", "a cut event"),
        (channel.encode(Hello(ME, 7))[:9], "channel packet: unpack_from requires"),
        (b"\x01\x02" + channel.encode(Hello(ME, 7))[2:], "channel version 2; this side has 1"),
        (channel.encode(Hello(ME, 7))[:-1], "a hello without a region"),
        (channel.encode(Hello(Incarnation("short"), 7)), "channel packet: not 64 bits in 11"),
        (channel.encode(Ask(1, 2, "")) + b"\xff", "channel packet: 'ascii' codec"),
    ],
)
def test_a_refusal_says_what_is_wrong(packet: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        channel.decode_to_sidecar(packet)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (b"\x01", "unknown message 1 from a sidecar"),
        (channel.encode(Acked(((1, 2, LogId(word(1)), 3),)))[:-1], "channel packet: iterative"),
        (channel.encode(Acked(((16, 2, LogId(word(1)), 3),))), "no lane 16"),
        (channel.encode(Acked(((1, 2, LogId("?"), 3),))), "channel packet: not 64 bits"),
        (b"\x82" + bytes(4) + b"\x63", "channel packet: 99 is not a valid Status"),
        (b"\x83" + bytes(8) + b"\x01\x01r", "a cut lineage"),
        (b"\x83" + bytes(8) + b"\x01\x00r", "channel packet: not a store: b''"),
    ],
)
def test_a_refused_answer_says_what_is_wrong(packet: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        channel.decode_to_process(packet)
    assert str(caught.value).startswith(said)


def test_a_service_name_cannot_shift_into_the_region() -> None:
    sent = Hello(ME, 1, "a\0b", "eu")
    assert channel.decode_to_sidecar(channel.encode(sent)) == Hello(ME, 1, "ab", "eu")


def test_the_wire_format_stays() -> None:
    ask = channel.encode(Ask(1, 500, "1.x"))
    assert ask.hex(" ", 1) == "03 01 00 00 00 f4 01 00 00 31 2e 78"
    answer = channel.encode(Answered(2, Status.EXPIRED, "1.x"))
    assert answer.hex(" ", 1) == "82 02 00 00 00 04 31 2e 78"
    assert channel.encode(Hello(ME, 9, "s", "r")) == b"\x01\x01\x09\0\0\0" + ME.encode() + b"s\0r"
    assert [(status.name, status.value) for status in Status] == [
        ("ANSWERED", 0), ("TIMED_OUT", 1), ("LOST_TAIL", 2), ("LOST_LOG", 3), ("EXPIRED", 4),
        ("BUSY", 5), ("UNREACHABLE", 6),
    ]  # fmt: skip


def test_counts_go_round_and_odd_names_are_refused() -> None:
    counted = channel.Counted((("reads.waited", 3), ("reads.unprotected.lost_tail", 2**40)))
    assert channel.decode_to_sidecar(channel.encode(counted)) == counted
    for raw in (b"\x04" + bytes(9), channel.encode(channel.Counted((("a b", 1),)))):
        with pytest.raises(MalformedMessage):
            channel.decode_to_sidecar(raw)
