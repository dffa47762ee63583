"""The read barrier: one decision core for synchronous and asynchronous drivers (DESIGN §2).

A barrier is a generator. It yields effects, is sent their results, and returns the verdict:

* ``Resolve``: ask the sidecar; sent back ``Resolution``.
* ``Ask``: ask the node on the read's own connection; sent back ``Applied`` or ``None``.
* ``AskAndRead``: the same in one packet with the read, whose result stands if the barrier then ends
  and is thrown away if it goes on; only for reads that may be repeated.
* ``Wait``: until the node may have moved (shared among the readers held for one node); sent back
  ``Waited``.

The target is fixed when the barrier starts: what the request learns later is for later reads.
"""

from collections.abc import Generator
from typing import Protocol

from rendezvous_api.cell import Cell
from rendezvous_api.channel import Status
from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Bid, StoreKey
from rendezvous_api.record import record
from rendezvous_instrumentation.core.verdict import (
    PROTECTED,
    WAITED,
    Reason,
    Verdict,
    unprotected,
)
from rendezvous_monitors.positions.cover import Cover


class Applied(Protocol):
    """What a node answered: at least its epoch."""

    @property
    def store(self) -> StoreKey: ...
    @property
    def value(self) -> int: ...
    @property
    def primary(self) -> bool: ...


class Judge(Protocol):
    """A datastore's ``covers`` with the process's lineage bound."""

    def __call__(self, applied: Applied, store: StoreKey, value: int, /) -> Cover: ...


@record
class Resolve:
    """Ask the sidecar what this request must wait for; wait for its answer at most ``seconds``."""

    seconds: float


@record
class Ask:
    """Ask the node what it has applied."""


@record
class AskAndRead:
    """Ask the node and read, in one packet."""


@record
class Wait:
    """Wait until the node may cover ``targets``, at most ``seconds``."""

    targets: tuple[tuple[StoreKey, int], ...]
    seconds: float


@record
class Resolution:
    """The sidecar's answer, waited for ``seconds``; ``None``: there was none within the budget, or
    the breaker is open."""

    status: Status | None
    answer: Context | None
    breaker_open: bool = False
    seconds: float = 0.0


@record
class Waited:
    """How long a ``Wait`` took."""

    seconds: float


Effect = Resolve | Ask | AskAndRead | Wait
Reply = Applied | Resolution | Waited | None
Barrier = Generator[Effect, Reply, Verdict]

_LOSSES = {
    Status.LOST_TAIL: Reason.LOST_TAIL,
    Status.LOST_LOG: Reason.LOST_LOG,
    Status.EXPIRED: Reason.EXPIRED,
    Status.TIMED_OUT: Reason.UNRESOLVED,
    Status.BUSY: Reason.RESOLVE,
    Status.UNREACHABLE: Reason.RESOLVE,
}
_WAITABLE = (Cover.NO, Cover.UNKNOWN)
_DOUBTS = int(Flags.MORE | Flags.INCOMPLETE | Flags.JOINED)
_ASKS = int(Flags.MORE | Flags.JOINED)


def depends(cell: Cell, kind: str) -> bool:
    """Whether a read of a store of ``kind`` in this cell is a dependent read."""
    if cell.unresolved or +cell.flags & _DOUBTS:
        return True
    for store in cell.positions:
        if store[0] == kind:
            return True
    return any(store[0] == kind for store in cell.unknown)


def needs_resolve(cell: Cell, branch: Bid) -> bool:
    """Whether what the cell holds cannot say what to wait for, and a server can."""
    if +cell.flags & _ASKS:
        return True
    return bool(cell.unresolved) and cell.unresolved != {branch}


def question_about(context: Context, branch: Bid) -> Context:
    """What to ask about: all but the reader's own branch, which cannot end before the read does."""
    if branch not in context.unresolved:
        return context
    return Context(
        context.rid,
        context.branch,
        context.zone,
        context.child_zones,
        context.links,
        context.positions,
        context.unknown,
        context.unresolved - {branch},
        context.logs,
        context.origins,
        context.time,
        context.flags,
    )


def read_barrier(
    cell: Cell,
    kind: str,
    judge: Judge,
    *,
    branch: Bid,
    remembered: Applied | None,
    repeatable: bool,
    no_wait: Reason,
    budget_s: float,
) -> Barrier:
    """The barrier before one dependent read.

    ``remembered``: what this very connection's node is known to have applied; ``repeatable``: the
    read has no side effect; ``no_wait``: why it must not be held (mode ``observe``, full bulkhead), or
    ``NONE``; ``budget_s``: what is left of the request's budget.
    """
    doubt = Reason.NONE
    waited = False
    resolved: Context | None = None
    if needs_resolve(cell, branch):
        reply = yield Resolve(max(0.0, budget_s) if no_wait is Reason.NONE else 0.0)
        assert isinstance(reply, Resolution)
        budget_s -= reply.seconds
        resolved = reply.answer
        if reply.status is not Status.ANSWERED or resolved is None:
            if reply.breaker_open:
                doubt = Reason.BREAKER
            elif reply.status is not None:
                doubt = _LOSSES.get(reply.status, Reason.RESOLVE)
            else:
                doubt = Reason.RESOLVE if no_wait is Reason.NONE else no_wait
    if doubt is Reason.NONE:
        flags = int(cell.flags) | (int(resolved.flags) if resolved else 0)
        if flags & int(Flags.INCOMPLETE):
            doubt = Reason.INCOMPLETE
        elif flags & int(Flags.JOINED):
            doubt = Reason.JOINED
        elif resolved is None or int(resolved.flags) & int(Flags.MORE):
            # Positions were left out, and nobody has said which.
            doubt = Reason.RESOLVE if flags & int(Flags.MORE) else doubt
    wanted = {store: value for store, value in cell.positions.items() if store[0] == kind}
    if resolved is not None:
        for store, value in resolved.positions.items():
            if store[0] == kind and value > wanted.get(store, -1):
                wanted[store] = value
    targets = tuple(wanted.items())
    unknown = {store: mark for store, mark in cell.unknown.items() if store[0] == kind}
    if not targets and not unknown:
        return _settle(PROTECTED, doubt)

    applied = remembered
    if applied is None or _judged(applied, targets, judge) is not Cover.YES or unknown:
        applied = _node_answer((yield AskAndRead() if repeatable else Ask()))
        if applied is None:
            return unprotected(Reason.FORBIDDEN)
    cover = _judged(applied, targets, judge)
    while cover in _WAITABLE:
        if no_wait is not Reason.NONE:
            return unprotected(no_wait)
        late = {store for store, value in targets if judge(applied, store, value) in _WAITABLE}
        if budget_s <= 0 or not cell.timed_out.isdisjoint(late):
            cell.timed_out.update(late)
            return unprotected(Reason.SYNCING if cover is Cover.UNKNOWN else Reason.BUDGET)
        passed = yield Wait(targets, budget_s)
        assert isinstance(passed, Waited)
        budget_s -= passed.seconds
        waited = True
        applied = _node_answer((yield AskAndRead() if repeatable else Ask()))
        if applied is None:
            return unprotected(Reason.FORBIDDEN)
        cover = _judged(applied, targets, judge)
    if cover is Cover.LOST:
        return unprotected(Reason.LOST)
    if any(_unsure(store, mark, applied, judge) for store, mark in unknown.items()):
        return unprotected(Reason.UNKNOWN_WRITE)
    return _settle(WAITED if waited else PROTECTED, doubt)


def _node_answer(reply: Reply) -> Applied | None:
    """The reply to ``Ask`` and ``AskAndRead``."""
    assert not isinstance(reply, Resolution | Waited)
    return reply


def _settle(verdict: Verdict, doubt: Reason) -> Verdict:
    """Known positions were waited for as usual; for what is missing nobody waits, and we say so."""
    return verdict if doubt is Reason.NONE else unprotected(doubt)


def _judged(applied: Applied, targets: tuple[tuple[StoreKey, int], ...], judge: Judge) -> Cover:
    """The answer over all targets: the worst one; a store that is not this node's asks nothing."""
    worst = Cover.YES
    for store, value in targets:
        match judge(applied, store, value):
            case Cover.LOST:
                return Cover.LOST
            case Cover.NO:
                worst = Cover.NO
            case Cover.UNKNOWN if worst is Cover.YES:
                worst = Cover.UNKNOWN
            case _:
                pass
    return worst


def _unsure(store: StoreKey, unanswered: bool, applied: Applied, judge: Judge) -> bool:
    """Whether an unknown write may be missing at this node. One that was answered is in the head of
    its primary; one that was not answered may still come. A mark without an epoch may be anywhere."""
    anonymous = len(store) == 1
    if not anonymous and judge(applied, store, 0) is Cover.UNRELATED:
        return False
    in_head = applied.primary and (anonymous or store == applied.store)
    return unanswered or not in_head
