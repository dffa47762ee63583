"""Questions of processes on their way to a server, and back to those who asked."""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from rendezvous_sidecar.limits import ANSWER_GRACE_S, SHARED_QUESTION_S


@dataclass(slots=True)
class Pending:
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
    """All questions without an answer. A question leaves by :meth:`take`, for whatever reason."""

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self._by_context: dict[str, Pending] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._asked = 0

    def add(self, process: int, number: int, context: str, deadline: float) -> Pending | None:
        """Note a question. None if an equal one, due at about the same time, answers it too."""
        equal = self._by_context.get(context)
        if equal is not None and abs(equal.deadline - deadline) <= SHARED_QUESTION_S:
            equal.askers.append((process, number))
            return None
        self._asked += 1
        question = Pending(self._asked, context, deadline, [(process, number)])
        self.pending[question.number] = question
        self._by_context[context] = question
        heappush(self._deadlines, (deadline, question.number))
        return question

    def take(self, number: int) -> Pending | None:
        """Remove a question; None if it is not pending (any more)."""
        question = self.pending.pop(number, None)
        if question is not None and self._by_context.get(question.context) is question:
            del self._by_context[question.context]
        return question

    def without(self, process: int) -> list[Pending]:
        """Forget what a process asked: the questions that nobody waits for now, removed."""
        orphans: list[Pending] = []
        for question in list(self.pending.values()):
            question.askers = [asker for asker in question.askers if asker[0] != process]
            if not question.askers:
                self.take(question.number)
                orphans.append(question)
        return orphans

    def due(self, *, connected: bool) -> float | None:
        """When the next question must be answered from here: with a server that is a little after
        its budget, since the server's own answer says more."""
        while self._deadlines and self._deadlines[0][1] not in self.pending:
            heappop(self._deadlines)
        if not self._deadlines:
            return None
        return self._deadlines[0][0] + (ANSWER_GRACE_S if connected else 0.0)

    def overdue(self, now: float, *, connected: bool) -> list[Pending]:
        """The questions that must be answered from here by now, removed."""
        out: list[Pending] = []
        while True:
            due = self.due(connected=connected)
            if due is None or due > now:
                return out
            question = self.take(self._deadlines[0][1])
            assert question is not None
            out.append(question)

    def all(self) -> list[Pending]:
        """Every question, removed."""
        out = list(self.pending.values())
        self.pending.clear()
        self._by_context.clear()
        self._deadlines.clear()
        return out

    def rewind(self) -> None:
        """The stream that carried them is gone: all are to be asked again."""
        for question in self.pending.values():
            question.sent = False
