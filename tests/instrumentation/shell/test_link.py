"""The channel on a real socket: inline sends, a peer that does not read, reconnects, garbage, forks."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from rendezvous_api.channel import Acked, Answered, Ask, Hello, Status, ToProcess
from rendezvous_api.event import Fail, Kind
from rendezvous_api.ids import Incarnation, LogId, word
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_instrumentation.shell.link import Link
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.shell.stats import Stats
from rendezvous_testing.channel_peer import Listener
from rendezvous_testing.inside import Start
from rendezvous_testing.replicated import eventually

INCARNATION = Incarnation(word(5))
LOG = LogId(word(7))
RID = bytes(16)


class Process:
    """A link with its outbox, and what it received."""

    def __init__(self, path: str, limit: int = 100_000) -> None:
        self.outbox = Outbox(INCARNATION, limit)
        self.stats = Stats("test")
        self.received: list[ToProcess] = []
        self.broken = False
        hello = Hello(INCARNATION, os.getpid(), "service", "region")
        self.link = Link(path, self.outbox, hello, self.stats, self._receive, lambda: None)

    def _receive(self, message: ToProcess) -> None:
        if self.broken:
            raise RuntimeError("a bug of ours")
        self.received.append(message)

    def event(self, size: int = 0) -> int:
        """Report an event with that many bytes of frontier."""
        return self.link.event(0, Kind.CLOSE, RID, 1, b"\0" + b"f" * size)

    def connected(self) -> None:
        eventually(lambda: self.link.connected)


@pytest.fixture
def new(sidecar: Listener) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(limit: int = 100_000) -> Process:
        made.append(Process(sidecar.path, limit))
        return made[-1]

    yield make
    for one in made:
        one.link.close()


def test_no_thread_and_no_socket_before_the_first_event(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    threads = threading.active_count()
    us = new()
    assert threading.active_count() == threads and not us.link.connected
    us.event()
    assert sidecar.accept().hello == Hello(INCARNATION, os.getpid(), "service", "region")


def test_events_reach_the_sidecar_in_order_without_any_further_call(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new()
    us.event()
    peer = sidecar.accept()
    us.connected()
    assert [one.seq for one in peer.read_events(1)] == [1]
    for seq in range(2, 20):
        assert us.event() == seq
    assert [one.seq for one in peer.read_events(18)] == list(range(2, 20))


def test_a_question_comes_after_the_events_it_is_about(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new()
    us.event()
    peer = sidecar.accept()
    us.connected()
    us.event()
    assert us.link.ask(Ask(1, 1000, "context"))
    assert [one.seq for one in peer.read_events(2)] == [1, 2]
    assert peer.read() == Ask(1, 1000, "context")


def test_a_question_without_a_channel_is_refused_at_once(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    assert new().link.ask(Ask(1, 1000, "context")) is False


def test_a_peer_that_does_not_read_blocks_nobody_and_gets_everything_in_order_later(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new()
    us.event()
    peer = sidecar.accept()
    us.connected()
    count = 400  # far more than any socket buffer takes
    for _ in range(count - 1):
        assert us.event(5_000)
    assert us.outbox.waiting  # the rest is kept here
    assert not us.link.ask(Ask(1, 1000, ""))  # and a question cannot overtake it
    assert [one.seq for one in peer.read_events(count)] == list(range(1, count + 1))
    us.event()
    assert [one.seq for one in peer.read_events(1)] == [count + 1]


def test_a_full_outbox_refuses_and_numbers_nothing(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new(limit=2)
    assert [us.event(), us.event(), us.event()] == [1, 2, 0]
    peer = sidecar.accept()
    peer.read_events(2)
    peer.send(Acked(((0, 2, LOG, 1),)))
    eventually(lambda: us.outbox.size == 0)
    assert us.event() == 3


def test_after_a_reconnect_what_was_not_acknowledged_is_sent_again(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new()
    for _ in range(3):
        us.event()
    first = sidecar.accept()
    first.read_events(3)
    first.send(Acked(((0, 1, LOG, 4),)))
    eventually(lambda: us.outbox.size == 2)
    first.close()
    second = sidecar.accept()
    assert second.hello.incarnation == INCARNATION
    us.event()
    assert [one.seq for one in second.read_events(3)] == [2, 3, 4]
    assert us.outbox.acks == {us.outbox.origins[0]: (1, {LOG: 4})}


@pytest.mark.parametrize(
    "garbage", [b"\xff", b"\x81short", b"\x82", b"\x81" + bytes([99]) + bytes(27), b"\x83\0\0"]
)
def test_garbage_ends_the_channel_is_counted_and_loses_nothing(
    new: Callable[..., Process], sidecar: Listener, garbage: bytes
) -> None:
    us = new()
    us.event()
    first = sidecar.accept()
    first.read_events(1)
    first.send_raw(garbage)
    second = sidecar.accept()
    assert [one.seq for one in second.read_events(1)] == [1]
    assert us.stats.counters["channel_garbage"] == 1


def test_a_failure_while_an_answer_is_taken_does_not_end_the_channel(
    new: Callable[..., Process], sidecar: Listener
) -> None:
    us = new()
    us.event()
    peer = sidecar.accept()
    us.broken = True
    peer.send(Answered(1, Status.ANSWERED, ""))
    eventually(lambda: us.stats.counters["failed"] == 1)
    us.broken = False
    peer.send(Answered(2, Status.ANSWERED, ""))
    eventually(lambda: us.received == [Answered(2, Status.ANSWERED, "")])


def test_a_closed_link_keeps_its_events(new: Callable[..., Process], sidecar: Listener) -> None:
    us = new()
    us.event()
    peer = sidecar.accept()
    us.connected()
    us.link.close()
    peer.read_events(1)
    with pytest.raises(EOFError):
        peer.read()
    assert us.event() == 2 and us.outbox.size == 2


def test_a_fork_is_another_incarnation_with_a_channel_of_its_own(
    start: Start, sidecar: Listener
) -> None:
    us = start(sidecar=sidecar.path)
    done_in, done_out = os.pipe()
    with us.request() as cell:
        us.us.event(cell, us.us.new_bid(), Fail())
        parent = sidecar.accept()
        parent.read_events(1)
        us.us.held = 3
        child = os.fork()
        if child == 0:
            mine = process()
            clean = mine is not us.us and mine.held == 0 and mine.outbox.size == 0
            mine.event(cell, mine.new_bid(), Fail())
            # The channel's thread lives until we are told that the peer has seen us.
            os.read(done_in, 1)
            os._exit(0 if clean else 1)
        try:
            other = sidecar.accept()
            assert other.hello.incarnation != parent.hello.incarnation
            assert other.hello.pid == child
            assert [one.seq for one in other.read_events(1)] == [1]
            us.us.event(cell, us.us.new_bid(), Fail())
            assert [one.seq for one in parent.read_events(1)] == [2]
        finally:
            os.write(done_out, b"x")
            _, status = os.waitpid(child, 0)
            os.close(done_in)
            os.close(done_out)
    assert os.waitstatus_to_exitcode(status) == 0
