"""Reads held for one node share one question (DESIGN §3.2).

Of all reads held for an endpoint, one leads: it polls on its own connection and wakes those whose
targets the answer covers; each then asks once more on its own connection, with its read in the same
packet, since two connections to one address may lead to two nodes.
"""

from _thread import allocate_lock
from collections.abc import Callable

from rendezvous_api.ids import StoreKey
from rendezvous_instrumentation.core.barrier import Applied, Judge
from rendezvous_monitors.positions.cover import Cover

Wake = Callable[[], None]
Targets = tuple[tuple[StoreKey, int], ...]


class Waiter:
    """One held read. ``leads``: it must poll; otherwise it sleeps until it is woken."""

    __slots__ = ("leads", "targets", "wake", "woken")

    def __init__(self, targets: Targets, wake: Wake) -> None:
        self.targets = targets
        self.wake = wake
        self.leads = False
        self.woken = False


class Held:
    """The reads held for one endpoint."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._waiters: list[Waiter] = []

    def join(self, targets: Targets, wake: Wake) -> Waiter:
        """Begin to wait. The first one leads."""
        waiter = Waiter(targets, wake)
        with self._lock:
            waiter.leads = not any(other.leads for other in self._waiters)
            self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Stop waiting; where the leader leaves, another one is woken to lead."""
        successor = None
        with self._lock:
            self._waiters.remove(waiter)
            if waiter.leads and self._waiters:
                successor = self._waiters[0]
                successor.leads = True
        if successor is not None:
            successor.wake()

    def observed(self, applied: Applied, judge: Judge) -> None:
        """The leader's node answered: wake those who may go on."""
        with self._lock:
            due = [
                waiter
                for waiter in self._waiters
                if not waiter.leads
                and not waiter.woken
                and all(
                    judge(applied, store, value) not in (Cover.NO, Cover.UNKNOWN)
                    for store, value in waiter.targets
                )
            ]
            for waiter in due:
                waiter.woken = True
        for waiter in due:
            waiter.wake()


_endpoints: dict[object, Held] = {}
_ENDPOINTS_MAX = 1_024


def forget_held() -> None:
    """After a fork: the parent's held reads are not the child's; nobody here would lead them."""
    _endpoints.clear()


def held_for(endpoint: object) -> Held:
    """The held reads of one endpoint (any hashable that names it)."""
    held = _endpoints.get(endpoint)
    if held is None:
        if len(_endpoints) >= _ENDPOINTS_MAX:
            _endpoints.clear()
        held = _endpoints.setdefault(endpoint, Held())
    return held
