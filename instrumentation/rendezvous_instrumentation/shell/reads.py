"""Runs read barriers: one interpreter for synchronous drivers, one for asynchronous ones, around the
one decision core (``core.barrier``). A driver's patch supplies a ``Node`` or ``AsyncNode``.
"""

import asyncio
import sys
import time
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from rendezvous_api.errors import RendezvousError
from rendezvous_api.ids import StoreKey
from rendezvous_api.limits import RESOLVE_BUDGET_S
from rendezvous_api.record import record
from rendezvous_instrumentation.core import barrier
from rendezvous_instrumentation.core.barrier import (
    Applied,
    Ask,
    AskAndRead,
    Barrier,
    Judge,
    Reply,
    Resolution,
    Resolve,
    Wait,
    Waited,
)
from rendezvous_instrumentation.core.verdict import PROTECTED, Outcome, Reason, Verdict
from rendezvous_instrumentation.limits import EAGER_S, POLL_EAGER_S, POLL_S
from rendezvous_instrumentation.shell.background import scope_in_use
from rendezvous_instrumentation.shell.current import Scope
from rendezvous_instrumentation.shell.held import Held, Waiter, held_for
from rendezvous_instrumentation.shell.process import Process
from rendezvous_instrumentation.shell.resolves import Question, question_for, settle
from rendezvous_monitors.positions.cover import Cover


class BarrierTimeout(RendezvousError):
    """A read waited for its budget in vain, and ``RENDEZVOUS_ON_TIMEOUT=error`` is set.

    No ``TimeoutError``: drivers take that for a broken connection, and try again.
    """


class NoRead(Exception):
    """The connection broke before the node had answered anything: nothing was read, so there is no
    verdict. ``outcome`` raises the driver's own error."""

    def __init__(self, outcome: Callable[[], Any]) -> None:
        super().__init__()
        self.outcome = outcome


@record
class Read:
    """What a barrier must know of a read: the store's kind, how to judge its node, what names the
    endpoint, what this connection's node is known to have applied, whether the read may be repeated,
    and how many of the driver's connections may be held."""

    kind: str
    judge: Judge
    endpoint: object
    remembered: Applied | None
    repeatable: bool
    held_max: int


class Node(Protocol):
    """The node behind one connection of a synchronous driver."""

    def ask(self) -> Applied | None:
        """Ask for the applied position; ``None`` when there is no usable answer."""
        ...

    def ask_and_read(self) -> tuple[Applied | None, Callable[[], Any]]:
        """Ask and read in one packet; the callable returns the read's result or raises its error."""
        ...

    def read(self) -> Any:
        """Just read."""
        ...


class AsyncNode(Protocol):
    """:class:`Node` of an asynchronous driver."""

    async def ask(self) -> Applied | None: ...
    async def ask_and_read(self) -> tuple[Applied | None, Callable[[], Any]]: ...
    async def read(self) -> Any: ...


class _Held:
    """One barrier while it runs: the request's budget, the bulkhead's place, and the result."""

    __slots__ = ("began", "outcome", "read", "scope", "us", "waited_s")

    def __init__(self, scope: Scope, us: Process, read: Read) -> None:
        self.scope = scope
        self.us = us
        self.read = read
        self.waited_s = 0.0
        self.outcome: Callable[[], Any] | None = None

    def start(self) -> Barrier:
        us, scope, read = self.us, self.scope, self.read
        no_wait = Reason.NONE
        if not us.enforcing:
            no_wait = Reason.OBSERVED
        elif us.held >= min(us.config.held_max, read.held_max):
            no_wait = Reason.BULKHEAD
        cell = scope.cell
        budget_s = us.config.budget_s - us.waited_s(cell)
        if scope.deadline:
            budget_s = min(budget_s, scope.deadline - time.monotonic())
        return barrier.read_barrier(
            cell,
            read.kind,
            read.judge,
            branch=scope.bid,
            remembered=read.remembered,
            repeatable=read.repeatable,
            no_wait=no_wait,
            budget_s=budget_s,
        )

    def waited(self, seconds: float) -> Waited:
        self.waited_s += seconds
        return Waited(seconds)

    def finished(self, verdict: Verdict) -> None:
        """Count the verdict, show it on the user's span, and raise where the policy says so."""
        us = self.us
        us.stats.verdict(verdict, self.waited_s)
        if verdict.reason is Reason.OBSERVED:
            us.stats.count("would_have_waited")
        _show_on_span(verdict, self.waited_s)
        if verdict.reason is Reason.BUDGET and us.config.on_timeout == "error":
            raise BarrierTimeout(
                f"rendezvous: the replica did not show this request's writes within "
                f"{us.config.budget_s:g} s (RENDEZVOUS_BUDGET)"
            )


def count_protected(us: Process) -> None:
    """A dependent read was decided without a barrier: the node is known to cover all of it."""
    us.stats.protected()
    _show_on_span(PROTECTED, 0.0)


def _show_on_span(verdict: Verdict, waited_s: float) -> None:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return
    with suppress(Exception):  # a tracer of the user's may do anything
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute("rendezvous.verdict", verdict.text)
            if verdict.outcome is Outcome.WAITED:
                span.set_attribute("rendezvous.waited_ms", round(waited_s * 1000, 3))


def read(scope: Scope, node: Node, what: Read) -> Any:
    """A dependent read on a synchronous driver: wait as the barrier says, then read."""
    held = _Held(scope, scope_in_use(scope), what)
    no_read: Callable[[], Any] | None = None
    verdict = Verdict(Outcome.UNPROTECTED, Reason.FAILED)
    try:
        program = held.start()
        reply: Reply = None
        while True:
            try:
                effect = program.send(reply)
            except StopIteration as stop:
                verdict = stop.value
                break
            held.outcome = None
            match effect:
                case AskAndRead():
                    reply, held.outcome = node.ask_and_read()
                case Ask():
                    reply = node.ask()
                case Wait(targets, seconds):
                    reply = held.waited(_wait(held, node, targets, seconds))
                case Resolve(seconds):
                    reply = _resolve(held, seconds)
    except NoRead as broken:
        no_read = broken.outcome
    except Exception:
        held.us.stats.count("failed")
    if no_read is not None:
        return no_read()
    held.finished(verdict)
    return held.outcome() if held.outcome is not None else node.read()


async def read_async(scope: Scope, node: AsyncNode, what: Read) -> Any:
    """:func:`read` on an asynchronous driver."""
    held = _Held(scope, scope_in_use(scope), what)
    no_read: Callable[[], Any] | None = None
    verdict = Verdict(Outcome.UNPROTECTED, Reason.FAILED)
    try:
        program = held.start()
        reply: Reply = None
        while True:
            try:
                effect = program.send(reply)
            except StopIteration as stop:
                verdict = stop.value
                break
            held.outcome = None
            match effect:
                case AskAndRead():
                    reply, held.outcome = await node.ask_and_read()
                case Ask():
                    reply = await node.ask()
                case Wait(targets, seconds):
                    reply = held.waited(await _wait_async(held, node, targets, seconds))
                case Resolve(seconds):
                    reply = await _resolve_async(held, seconds)
    except NoRead as broken:
        no_read = broken.outcome
    except Exception:
        held.us.stats.count("failed")
    if no_read is not None:
        return no_read()
    held.finished(verdict)
    return held.outcome() if held.outcome is not None else await node.read()


class _Watch:
    """The waiting itself, common to both worlds: who leads, and when it is over."""

    __slots__ = ("began", "cell", "deadline", "judge", "place", "us", "waiter")

    def __init__(
        self,
        held: _Held,
        targets: tuple[tuple[StoreKey, int], ...],
        seconds: float,
        wake: Callable[[], None],
    ) -> None:
        self.us = held.us
        self.judge = held.read.judge
        self.began = time.monotonic()
        self.deadline = self.began + seconds
        self.place: Held = held_for(held.read.endpoint)
        self.cell = held.scope.cell
        self.us.hold(self.cell, 1)
        self.waiter: Waiter = self.place.join(targets, wake)

    def sleep_s(self) -> float:
        now = time.monotonic()
        left_s = max(0.0, self.deadline - now)
        if not self.waiter.leads:
            return left_s
        return min(POLL_EAGER_S if now - self.began < EAGER_S else POLL_S, left_s)

    def expired(self) -> bool:
        return time.monotonic() >= self.deadline

    def over(self, applied: Applied | None) -> bool:
        """The leader's node answered: wake the others; whether the leader itself may go on."""
        if applied is None:
            return True
        self.place.observed(applied, self.judge)
        return all(
            self.judge(applied, store, value) not in (Cover.NO, Cover.UNKNOWN)
            for store, value in self.waiter.targets
        )

    def leave(self) -> float:
        self.us.hold(self.cell, -1)
        self.place.leave(self.waiter)
        return time.monotonic() - self.began


def _wait(
    held: _Held, node: Node, targets: tuple[tuple[StoreKey, int], ...], seconds: float
) -> float:
    signal = allocate_lock()
    signal.acquire()

    def wake() -> None:
        with suppress(RuntimeError):  # woken twice: once is enough
            signal.release()

    watch = _Watch(held, targets, seconds, wake)
    try:
        while not watch.expired() and not watch.waiter.woken:
            if watch.waiter.leads:
                time.sleep(watch.sleep_s())
                if watch.over(node.ask()):
                    break
            else:
                signal.acquire(timeout=watch.sleep_s())
    finally:
        passed_s = watch.leave()
    return passed_s


async def _wait_async(
    held: _Held, node: AsyncNode, targets: tuple[tuple[StoreKey, int], ...], seconds: float
) -> float:
    loop = asyncio.get_running_loop()
    signal = asyncio.Event()
    task = asyncio.current_task()
    cancels = task.cancelling() if task is not None else 0

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(signal.set)

    watch = _Watch(held, targets, seconds, wake)
    try:
        while not watch.expired() and not watch.waiter.woken:
            if watch.waiter.leads:
                await asyncio.sleep(watch.sleep_s())
                applied = await node.ask()
                if task is not None and task.cancelling() > cancels:
                    # Lost in the driver's wait_for (Python < 3.12), which we call a thousand times
                    # where the application called it once.
                    raise asyncio.CancelledError
                if watch.over(applied):
                    break
            else:
                try:
                    async with asyncio.timeout(watch.sleep_s()):
                        await signal.wait()
                    signal.clear()
                except TimeoutError:
                    break
    finally:
        passed_s = watch.leave()
    return passed_s


def _resolve(held: _Held, seconds: float) -> Resolution:
    question = question_for(held.us, held.scope)
    left_s = _left_s(question, seconds)
    passed_s = 0.0
    if question.resolution is None and left_s:
        signal = allocate_lock()
        signal.acquire()
        question.on_answer(signal.release)
        began = time.monotonic()
        held.us.hold(held.scope.cell, 1)
        try:
            signal.acquire(timeout=left_s)
        finally:
            held.us.hold(held.scope.cell, -1)
        passed_s = held.waited(time.monotonic() - began).seconds
    return settle(held.us, held.scope, question, passed_s)


async def _resolve_async(held: _Held, seconds: float) -> Resolution:
    question = question_for(held.us, held.scope)
    left_s = _left_s(question, seconds)
    passed_s = 0.0
    if question.resolution is None and left_s:
        loop = asyncio.get_running_loop()
        signal = asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(signal.set)

        question.on_answer(wake)
        began = time.monotonic()
        held.us.hold(held.scope.cell, 1)
        try:
            async with asyncio.timeout(left_s):
                await signal.wait()
        except TimeoutError:
            pass
        finally:
            held.us.hold(held.scope.cell, -1)
        passed_s = held.waited(time.monotonic() - began).seconds
    return settle(held.us, held.scope, question, passed_s)


def _left_s(question: Question, seconds: float) -> float:
    return max(0.0, min(RESOLVE_BUDGET_S, seconds, question.deadline - time.monotonic()))


__all__ = ["AsyncNode", "BarrierTimeout", "NoRead", "Node", "Read", "read", "read_async"]
