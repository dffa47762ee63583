"""The question in a command's packet, and its answer taken from what has arrived already."""

import pytest

from rendezvous_instrumentation.patches.redis_driver import arrived, text_of_bulk, with_question
from rendezvous_monitors.positions.redis import QUESTION_PACKED


class Reader:
    """As much of ``asyncio.StreamReader`` as is looked at."""

    def __init__(self, raw: bytes) -> None:
        self._buffer = bytearray(raw)


TEXT = b"# Replication\r\nrole:master\r\n"
BULK = b"$%d\r\n%s\r\n" % (len(TEXT), TEXT)
VERBATIM = b"=%d\r\ntxt:%s\r\n" % (len(TEXT) + 4, TEXT)


@pytest.mark.parametrize("reply", [BULK, VERBATIM])
def test_a_reply_counts_once_it_is_whole(reply: bytes) -> None:
    for cut in range(len(reply)):
        assert arrived(Reader(reply[:cut])) == 0
    assert arrived(Reader(reply)) == len(reply)
    assert arrived(Reader(reply + b"+OK\r\n")) == len(reply)
    assert text_of_bulk(reply) == TEXT


@pytest.mark.parametrize(
    "raw", [b"", b"-NOPERM\r\n", b"$-1\r\n", b"_\r\n", b">2\r\n$1\r\na\r\n", b"$?\r\n", b"$9" * 20]
)
def test_what_is_no_bulk_is_left_to_the_driver(raw: bytes) -> None:
    assert arrived(Reader(raw)) == 0


def test_a_reader_without_such_a_buffer_is_left_to_the_driver() -> None:
    assert arrived(None) == 0
    assert arrived(object()) == 0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "command", [[], [b"GET a"], [b"SET a", memoryview(b"x" * 9), b"\r\n"], [b"x" * 20_000]]
)
def test_the_question_is_next_to_the_command_and_changes_nothing_in_it(
    command: list[bytes | memoryview], first: bool
) -> None:
    before = list(command)
    whole = b"".join(command)
    sent = b"".join(with_question(command, first=first))
    assert sent == (QUESTION_PACKED + whole if first else whole + QUESTION_PACKED)
    assert command == before


def test_a_small_command_and_the_question_are_one_write() -> None:
    assert len(with_question([b"SET a"], first=False)) == 1
    assert len(with_question([b"GET a"], first=True)) == 1
