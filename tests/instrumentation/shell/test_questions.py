"""Questions to the sidecar: prefetched, shared, late, unanswered; the breaker."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.cell import Cell
from rendezvous_api.channel import Acked, Answered, Ask, Lineages, Status
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Adopt, Fail, Lineage
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey, word
from rendezvous_instrumentation.core.barrier import Applied, Resolution
from rendezvous_instrumentation.limits import BREAKER_FAILURES
from rendezvous_instrumentation.shell import reads, resolves, writes
from rendezvous_instrumentation.shell.current import Scope
from rendezvous_instrumentation.shell.reads import Read
from rendezvous_monitors.positions import redis
from rendezvous_monitors.positions.cover import Cover
from rendezvous_monitors.positions.cover import Lineage as Histories
from rendezvous_testing.channel_peer import Listener, Peer
from rendezvous_testing.inside import Inside, Start
from rendezvous_testing.replicated import eventually

STORE, OTHER = StoreKey("r" + word(3)), StoreKey("r" + word(4))
LOG = LogId(word(7))
CALL = Bid(99)
ELSEWHERE = Origin(word(11) + "0")


def judge(applied: Applied, store: StoreKey, value: int) -> Cover:
    assert isinstance(applied, redis.Applied)
    return redis.covers(applied, store, value, Histories())


class Node:
    """A node that has applied ``value``, and counts what it is asked."""

    def __init__(self, value: int) -> None:
        self.applied = redis.Applied(STORE, value, False)

    def ask(self) -> redis.Applied:
        return self.applied

    def ask_and_read(self) -> tuple[redis.Applied, Callable[[], Any]]:
        return self.applied, lambda: "value"

    def read(self) -> Any:
        return "value"


class AsyncNode(Node):
    async def ask(self) -> redis.Applied:  # type: ignore[override]
        return self.applied

    async def ask_and_read(self) -> tuple[redis.Applied, Callable[[], Any]]:  # type: ignore[override]
        return self.applied, lambda: "value"

    async def read(self) -> Any:
        return "value"


WHAT = Read("r", judge, "endpoint", None, True, 100)


class Answering:
    """The sidecar in a thread: answers each question with ``answer``, or not at all."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.asked: list[Context] = []
        self.status = Status.ANSWERED
        self.positions: dict[StoreKey, int] = {}
        self.unresolved: frozenset[Bid] = frozenset()
        self.flags = Flags(0)
        self.silent = False
        self.unanswered: list[Ask] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                question = self.peer.read_ask()
            except (EOFError, OSError, ValueError):
                return
            self.asked.append(codec.decode(question.context))
            if self.silent:
                self.unanswered.append(question)
            else:
                self.answer(question)

    def answer(self, question: Ask) -> None:
        rid = codec.decode(question.context).rid
        known = Context(
            rid,
            positions=self.positions,
            unresolved=self.unresolved,
            logs={LOG: 50},
            flags=self.flags,
        )
        self.peer.send(Answered(question.number, self.status, codec.encode(known)))

    def join(self) -> None:
        self._thread.join()


@contextmanager
def answering(us: Inside, sidecar: Listener) -> Generator[Answering]:
    with us.request() as cell:  # the first event connects
        us.us.event(cell, us.us.new_bid(), Fail())
    peer = sidecar.accept()
    eventually(lambda: us.us.link.connected)
    answers = Answering(peer)
    try:
        yield answers
    finally:
        us.us.link.close()
        answers.join()


@pytest.fixture
def us(start: Start, sidecar: Listener) -> Inside:
    return start(sidecar=sidecar.path)


@pytest.fixture
def answers(us: Inside, sidecar: Listener) -> Iterator[Answering]:
    with answering(us, sidecar) as answers:
        yield answers


def read(cell: Cell, value: int = 100) -> Any:
    return reads.read(Scope(cell), Node(value), WHAT)


def test_an_unresolved_call_is_asked_about_and_settled(us: Inside, answers: Answering) -> None:
    answers.positions = {STORE: 40}
    with us.request() as cell:
        cell.unresolved.add(CALL)
        assert read(cell) == "value"
        assert not cell.unresolved and cell.positions == {STORE: 40} and cell.logs == {LOG: 50}
        assert answers.asked[0].unresolved == {CALL}
        assert read(cell) == "value"
    assert len(answers.asked) == 1
    assert us.verdicts() == {"protected": 2}


def test_a_call_that_is_still_open_is_unresolved(us: Inside, answers: Answering) -> None:
    answers.status = Status.TIMED_OUT
    answers.unresolved = frozenset({CALL})
    with us.request() as cell:
        cell.unresolved.add(CALL)
        read(cell)
        assert cell.unresolved == {CALL}
    assert us.verdicts() == {"unprotected{unresolved}": 1}


def test_more_is_asked_for_and_what_was_left_out_is_waited_for(
    us: Inside, answers: Answering
) -> None:
    answers.positions = {STORE: 200}
    us.us.config = replace(us.us.config, budget_s=0.05)
    with us.request() as cell:
        cell.mark(Flags.MORE)
        cell.merge(Context(cell.rid, logs={LOG: 9}))
        read(cell, value=100)
    assert us.verdicts() == {"unprotected{budget}": 1}


def test_a_prefetched_answer_is_used_by_the_read_that_needs_it(
    us: Inside, answers: Answering
) -> None:
    answers.positions = {STORE: 40}
    with us.request() as cell:
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        question = resolves.question_for(us.us, Scope(cell))
        eventually(lambda: question.resolution is not None)
        read(cell)
        assert cell.waited_s == 0
    assert len(answers.asked) == 1 and us.verdicts() == {"protected": 1}


def test_a_prefetch_counts_although_this_process_has_written_since(
    us: Inside, answers: Answering
) -> None:
    """DESIGN §2: apart from this process's own origins, whose writes the cell holds itself."""
    answers.positions = {STORE: 40}
    with us.request() as cell:
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        writes.written(OTHER, 7)
        assert cell.origins
        read(cell)
        assert cell.positions == {STORE: 40, OTHER: 7}
    assert len(answers.asked) == 1


def test_a_prefetch_counts_although_its_own_events_were_acknowledged_since(
    us: Inside, answers: Answering
) -> None:
    with us.request() as cell:
        us.us.event(cell, CALL, Adopt())
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        answers.peer.send(Acked(((cell.lane, us.us.outbox.numbered(cell.lane), LOG, 60),)))
        eventually(lambda: us.us.outbox.acks.get(us.us.outbox.origins[cell.lane]) is not None)
        read(cell)
    assert len(answers.asked) == 1


def test_what_an_answer_confirms_is_of_the_time_when_the_question_was_sent(
    us: Inside, answers: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    with us.request() as cell:
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        question = resolves.question_for(us.us, Scope(cell))
        eventually(lambda: question.resolution is not None)
        sent_at = question.sent_at
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 100)
        read(cell)
        assert cell.time == sent_at


@pytest.mark.parametrize(
    "newer",
    [
        Context(Rid("A" * 22), origins={ELSEWHERE: 5}),
        Context(Rid("A" * 22), logs={LOG: 51}),
        Context(Rid("A" * 22), unresolved=frozenset({Bid(7)})),
        Context(Rid("A" * 22)),  # a link: another request's knowledge
    ],
    ids=["origins", "logs", "unresolved", "links"],
)
def test_a_prefetch_overtaken_by_newer_knowledge_is_not_used(
    us: Inside, answers: Answering, newer: Context
) -> None:
    with us.request() as cell:
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        cell.merge(newer)
        read(cell)
    assert len(answers.asked) == 2
    assert answers.asked[1].links == {newer.rid} and answers.asked[1] != answers.asked[0]


def test_a_prefetch_that_brought_no_answer_is_not_used(us: Inside, answers: Answering) -> None:
    answers.status = Status.BUSY
    with us.request() as cell:
        cell.unresolved.add(CALL)
        resolves.prefetch(us.us, Scope(cell))
        question = resolves.question_for(us.us, Scope(cell))
        eventually(lambda: question.resolution is not None)
        answers.status = Status.ANSWERED
        read(cell)
    assert us.verdicts() == {"protected": 1}


def test_an_ancestor_of_the_readers_branch_is_not_asked_about(
    us: Inside, answers: Answering
) -> None:
    with us.request() as cell:
        cell.unresolved |= {CALL, Bid(7)}
        reads.read(Scope(cell, CALL), Node(100), WHAT)
    assert answers.asked[0].unresolved == {Bid(7)}


async def test_reads_of_one_request_share_its_question(us: Inside, answers: Answering) -> None:
    answers.silent = True
    with us.request() as cell:
        cell.unresolved.add(CALL)
        reading = asyncio.gather(
            *(reads.read_async(Scope(cell), AsyncNode(100), WHAT) for _ in range(5))
        )
        await asyncio.to_thread(eventually, lambda: bool(answers.unanswered))
        answers.answer(answers.unanswered[0])
        assert await reading == ["value"] * 5
    assert len(answers.asked) == 1 and us.verdicts() == {"protected": 5}


async def test_one_unanswered_question_is_one_failure_and_its_late_answer_is_counted(
    us: Inside, answers: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolves, "RESOLVE_BUDGET_S", 0.05)
    answers.silent = True
    with us.request() as cell:
        cell.unresolved.add(CALL)
        await asyncio.gather(
            *(reads.read_async(Scope(cell), AsyncNode(100), WHAT) for _ in range(5))
        )
        assert us.verdicts() == {"unprotected{unreachable}": 5}
        assert us.counted("breaker_opened") == 0
        answers.answer(answers.unanswered[0])
        await asyncio.to_thread(eventually, lambda: us.counted("answers_late") == 1)
    assert us.counted("failed") == 0


def test_an_answer_after_its_loop_has_ended_harms_nobody(
    us: Inside, answers: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.silent = True

    async def give_up(cell: Cell) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await reads.read_async(Scope(cell), AsyncNode(100), WHAT)

    with us.request() as cell:
        cell.unresolved.add(CALL)
        asyncio.run(give_up(cell))
        answers.answer(answers.unanswered[0])
        answers.silent = False
        read(cell)  # the channel's thread lives
    assert us.counted("failed") == 0 and us.verdicts() == {"protected": 1}


def test_the_breaker_opens_after_failures_and_answers_at_once(
    us: Inside, answers: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolves, "RESOLVE_BUDGET_S", 0.02)
    answers.silent = True
    for _ in range(BREAKER_FAILURES):
        with us.request() as cell:
            cell.unresolved.add(CALL)
            read(cell)
    assert us.counted("breaker_opened") == 1
    with us.request() as cell:
        cell.unresolved.add(CALL)
        read(cell)
        assert cell.waited_s == 0
    assert len(answers.asked) == BREAKER_FAILURES
    assert us.verdicts() == {
        "unprotected{unreachable}": BREAKER_FAILURES,
        "unprotected{breaker}": 1,
    }


def test_an_answer_in_between_keeps_the_breaker_closed(us: Inside) -> None:
    for _ in range(BREAKER_FAILURES - 1):
        us.us.question_failed()
    us.us._received(Answered(1, Status.TIMED_OUT, ""))  # pyright: ignore[reportPrivateUsage]
    us.us.question_failed()
    assert us.counted("breaker_opened") == 0
    for _ in range(BREAKER_FAILURES):  # a sidecar without a server is a failure too
        us.us._received(  # pyright: ignore[reportPrivateUsage]
            Answered(1, Status.UNREACHABLE, "")
        )
    assert us.counted("breaker_opened") == 1


def test_without_a_sidecar_reads_decide_by_the_positions_they_carry(start: Start) -> None:
    us = start()
    with us.request() as cell:
        cell.wrote(STORE, 40)
        assert read(cell) == "value"
        cell.unresolved.add(CALL)
        assert read(cell) == "value"
    assert us.verdicts() == {"protected": 1, "unprotected{unreachable}": 1}


def test_observe_does_not_wait_for_an_answer(start: Start, sidecar: Listener) -> None:
    us = start(sidecar=sidecar.path, mode="observe")
    with answering(us, sidecar) as answers:
        answers.silent = True
        with us.request() as cell:
            cell.unresolved.add(CALL)
            read(cell)
            assert cell.waited_s == 0
    assert us.verdicts() == {"unprotected{observed}": 1}


def test_a_malformed_answer_is_counted_and_answers_nothing(us: Inside, answers: Answering) -> None:
    got: list[Resolution] = []
    answers.silent = True
    with us.request() as cell:
        number = us.us.ask(Context(cell.rid), got.append)
        answers.peer.send(Answered(number, Status.ANSWERED, "not a context"))
        eventually(lambda: bool(got))
    assert got == [Resolution(Status.ANSWERED, None)]
    assert us.counted("answers_malformed") == 1


def test_lineages_that_others_have_seen_are_learnt(us: Inside, answers: Answering) -> None:
    answers.peer.send(Lineages((Lineage(STORE, OTHER, 10),)))
    eventually(lambda: us.us.lineage.carry(STORE, 10, OTHER) == 10)


def test_who_sees_an_endpoint_change_its_epoch_publishes_it(us: Inside, answers: Answering) -> None:
    for store in (STORE, STORE, OTHER, STORE):
        us.us.epoch_seen("endpoint", store)
    us.us.epoch_seen("another endpoint", STORE)
    assert us.us.lineage.known() == {STORE: {OTHER: 0}}
    assert us.us.outbox.numbered(0) >= 1


def test_a_lineage_that_a_full_outbox_refused_is_told_later(start: Start) -> None:
    us = start()
    us.us.outbox._limit = 0  # pyright: ignore[reportPrivateUsage]
    us.us.learn_lineage(STORE, OTHER, 10)
    assert us.us.lineage.carry(STORE, 10, OTHER) == 10 and us.events() == []
    us.us.outbox._limit = 9  # pyright: ignore[reportPrivateUsage]
    us.us._on_tick()  # pyright: ignore[reportPrivateUsage]
    us.us._on_tick()  # pyright: ignore[reportPrivateUsage]
    assert [one.body for one in us.events()] == [Lineage(STORE, OTHER, 10)]


async def test_a_cancellation_that_the_driver_swallows_is_not_lost(start: Start) -> None:
    us = start()

    class Swallowing(AsyncNode):
        async def ask(self) -> redis.Applied:  # type: ignore[override]
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            return self.applied

    with us.request() as cell:
        cell.wrote(STORE, 200)
        reading = asyncio.create_task(reads.read_async(Scope(cell), Swallowing(100), WHAT))
        await asyncio.to_thread(eventually, lambda: us.us.held == 1)
        await asyncio.sleep(0.05)  # it polls by now, most probably
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert us.us.held == 0 and us.verdicts() == {}
