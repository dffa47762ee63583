"""Questions to the sidecar, asked ahead (prefetch) or by the read that needs the answer.

A prefetched answer counts when it was asked for a frontier that covers the cell's, apart from this
process's own events, whose writes and unresolved calls the cell holds itself (DESIGN §2).
"""

import time
from _thread import allocate_lock
from collections.abc import Callable
from weakref import WeakKeyDictionary

from rendezvous_api.cell import Cell
from rendezvous_api.channel import Status
from rendezvous_api.context import Context
from rendezvous_api.limits import RESOLVE_BUDGET_S
from rendezvous_instrumentation.core.barrier import Resolution, question_about
from rendezvous_instrumentation.shell.current import Scope
from rendezvous_instrumentation.shell.process import Process

Wake = Callable[[], None]


class Question:
    """One question about one cell, with everybody who waits for its answer."""

    __slots__ = ("_lock", "_wakes", "asked", "deadline", "number", "resolution", "sent_at")

    def __init__(self, asked: Context) -> None:
        self.asked = asked
        self.deadline = time.monotonic() + RESOLVE_BUDGET_S
        self.sent_at = int(time.time())
        self.number = 0
        self.resolution: Resolution | None = None
        self._wakes: list[Wake] = []
        self._lock = allocate_lock()

    def deliver(self, resolution: Resolution) -> None:
        """The answer is here; called once."""
        with self._lock:
            self.resolution = resolution
            wakes, self._wakes = self._wakes, []
        for wake in wakes:
            wake()

    def on_answer(self, wake: Wake) -> None:
        """Call ``wake`` when the answer is here (at once if it is)."""
        with self._lock:
            if self.resolution is None:
                self._wakes.append(wake)
                return
        wake()

    def covers(self, now: Context, own: frozenset[str]) -> bool:
        """Whether the answer to this question also answers for ``now``."""
        asked = self.asked
        return (
            now.unresolved <= asked.unresolved
            and now.links <= asked.links
            and all(index <= asked.logs.get(log, -1) for log, index in now.logs.items())
            and all(
                origin in own or seq <= asked.origins.get(origin, -1)
                for origin, seq in now.origins.items()
            )
        )


_open: WeakKeyDictionary[Cell, Question] = WeakKeyDictionary()


def prefetch(us: Process, scope: Scope) -> None:
    """Ask now, so that at the first read the answer is there already."""
    question_for(us, scope)


def question_for(us: Process, scope: Scope) -> Question:
    """A question that answers for all that the cell knows now: one on its way, or a new one."""
    cell, bid, zone = scope.cell, scope.bid, scope.zone
    known = _open.get(cell)
    if (
        known is not None
        and time.monotonic() < known.deadline
        # Without acks: one that came since then makes a log index of what is this process's own.
        and known.covers(question_about(cell.cut(bid, zone, {}), bid), frozenset(us.outbox.origins))
        and not (known.resolution and known.resolution.status is not Status.ANSWERED)
    ):
        return known
    now = question_about(cell.cut(bid, zone, us.outbox.acks), bid)
    question = Question(now)
    _open[cell] = question
    us.stats.count("questions")
    question.number = us.ask(now, question.deliver)
    return question


def settle(us: Process, scope: Scope, question: Question, waited_s: float) -> Resolution:
    """The answer, taken into the cell; without one: no answer within the budget."""
    resolution = question.resolution
    if resolution is None:
        if question.number and time.monotonic() >= question.deadline:
            us.drop(question.number)
            us.question_failed()
            question.number = 0  # one failure, however many have waited for it
        return Resolution(None, None, seconds=waited_s)
    if resolution.status is Status.ANSWERED and resolution.answer is not None:
        scope.cell.resolved(resolution.answer, question.asked, question.sent_at)
    return Resolution(resolution.status, resolution.answer, resolution.breaker_open, waited_s)
