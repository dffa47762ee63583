"""Questions of processes on their way to a server, and back to those who asked.

An answer from here, not from a server, echoes the question's own context: it claims nothing that
the asker does not know.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from rendezvous_api import codec
from rendezvous_api.channel import Answered, Ask, Status
from rendezvous_api.errors import RemoteError
from rendezvous_api.ids import Origin
from rendezvous_api.limits import QUESTION_MS_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.limits import (
    ANSWER_GRACE_S,
    QUESTIONS_PENDING_MAX,
    SHARED_QUESTION_S,
    UNREACHABLE_AFTER_S,
)


@dataclass(slots=True)
class _Pending:
    """One question to the server, for all who asked the same."""

    number: int
    context: str
    deadline: float
    """When its budget is spent, in seconds of the agent's clock."""
    askers: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """(process, the process's own number for it)"""
    sent: bool = False
    """Whether the current stream carries it."""


class Questions:
    """All questions without an answer. While no server is connected they wait for one, but not
    longer than ``UNREACHABLE_AFTER_S`` since the last was lost."""

    def __init__(self, desk: Desk, now: float) -> None:
        self.lost: dict[Origin, int] = {}
        """Origins of this sidecar's processes that were given up, and from which seq on."""
        self._desk = desk
        self._pending: dict[int, _Pending] = {}
        self._by_context: dict[str, _Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._asked = 0
        self._unreachable_at = now + UNREACHABLE_AFTER_S

    def __len__(self) -> int:
        return len(self._pending)

    def ask(self, process: int, ask: Ask, now: float) -> None:
        """A process asks. Raises :class:`MalformedContext`."""
        origins = codec.decode(ask.context).origins
        desk = self._desk
        desk.counts[Count.QUESTIONS_ASKED] += 1
        deadline = now + min(ask.budget_ms, QUESTION_MS_MAX) / 1000
        asker = (process, ask.number)
        alone = _Pending(0, ask.context, deadline, [asker])
        if self.lost and any(seq >= self.lost.get(name, seq + 1) for name, seq in origins.items()):
            self._answer(alone, Status.LOST_TAIL)
        elif not desk.connected and now >= self._unreachable_at:
            self._answer_unreachable(alone)
        elif not self._joins_an_equal_one(alone, asker):
            if len(self._pending) >= QUESTIONS_PENDING_MAX:
                desk.counts[Count.QUESTIONS_BUSY] += 1
                self._answer(alone, Status.BUSY)
            else:
                self._add(alone, now)

    def _joins_an_equal_one(self, question: _Pending, asker: tuple[int, int]) -> bool:
        equal = self._by_context.get(question.context)
        if equal is None or abs(equal.deadline - question.deadline) > SHARED_QUESTION_S:
            return False
        equal.askers.append(asker)
        self._desk.counts[Count.QUESTIONS_SHARED] += 1
        return True

    def _add(self, question: _Pending, now: float) -> None:
        self._asked += 1
        question.number = self._asked
        self._pending[question.number] = question
        self._by_context[question.context] = question
        heappush(self._deadlines, (question.deadline, question.number))
        if self._desk.connected:
            self._put(question, now)

    def _put(self, question: _Pending, now: float) -> None:
        question.sent = True
        left_ms = max(1, round((question.deadline - now) * 1000))
        message = pb.Question(number=question.number, budget_ms=left_ms, context=question.context)
        self._desk.send(pb.FromSidecar(question=message))

    def _take(self, number: int) -> _Pending | None:
        question = self._pending.pop(number, None)
        if question is not None and self._by_context.get(question.context) is question:
            del self._by_context[question.context]
        return question

    def _cancel(self, question: _Pending) -> None:
        if question.sent:
            cancel = pb.CancelQuestion(number=question.number)
            self._desk.send(pb.FromSidecar(cancel=cancel))

    def _answer(self, question: _Pending, status: Status, context: str = "") -> None:
        for process, number in question.askers:
            self._desk.tell(process, Answered(number, status, context or question.context))

    def _answer_unreachable(self, question: _Pending) -> None:
        self._desk.counts[Count.QUESTIONS_UNREACHABLE] += len(question.askers)
        self._answer(question, Status.UNREACHABLE)

    def answered(self, answer: pb.Answer) -> None:
        """The server answers. One that nobody waits for any more is ignored."""
        question = self._take(answer.number)
        if question is None:
            return
        try:
            status = Status(answer.status)
            if answer.context or status is Status.ANSWERED:
                codec.decode(answer.context)
        except (ValueError, RemoteError):
            self._desk.counts[Count.SERVER_MALFORMED] += 1
            self._answer_unreachable(question)
        else:
            self._answer(question, status, answer.context)

    def connected(self, now: float) -> None:
        """A server is there: ask it everything."""
        for question in self._pending.values():
            self._put(question, now)

    def disconnected(self, now: float) -> None:
        """The server that was asked is gone: the next one is to be asked again."""
        self._unreachable_at = now + UNREACHABLE_AFTER_S
        for question in self._pending.values():
            question.sent = False

    def without(self, process: int) -> None:
        """Forget what a process asked."""
        for question in list(self._pending.values()):
            question.askers = [asker for asker in question.askers if asker[0] != process]
            if not question.askers:
                self._take(question.number)
                self._cancel(question)

    def due(self) -> float | None:
        """When :meth:`on_time` has something to do."""
        while self._deadlines and self._deadlines[0][1] not in self._pending:
            heappop(self._deadlines)
        if not self._deadlines:
            return None
        deadline = self._deadlines[0][0]
        # The server's own "timed out" says more: give it time to arrive.
        if self._desk.connected:
            return deadline + ANSWER_GRACE_S
        return min(deadline, self._unreachable_at)

    def on_time(self, now: float) -> None:
        """Answer what must be answered from here by now."""
        while (due := self.due()) is not None and due <= now:
            question = self._take(self._deadlines[0][1])
            assert question is not None
            if self._desk.connected:
                self._desk.counts[Count.QUESTIONS_TIMED_OUT] += 1
                self._answer(question, Status.TIMED_OUT)
                self._cancel(question)
            else:
                self._answer_unreachable(question)
