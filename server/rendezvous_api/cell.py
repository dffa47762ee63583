"""The cell: the live state of one request in one process, shared by all its tasks and threads.

Knowledge only grows (law 4): merging is maxima and unions, except that a resolve that answered for
the whole frontier replaces origin entries by the log indexes that cover them.
"""

from _thread import allocate_lock
from collections.abc import Mapping
from typing import TypeVar

from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey, Zone, lane_of
from rendezvous_api.limits import LINKS_MAX

K = TypeVar("K")

# The raw lock: nothing inside a critical section here can switch greenlets, and ``threading`` must
# not be imported before the application decides whether to monkey-patch it.


class Cell:
    """One request's knowledge. ``rid`` and ``lane`` never change; the rest only grows."""

    __slots__ = (
        "_lock",
        "carried",
        "child_zones",
        "flags",
        "lane",
        "links",
        "logs",
        "origins",
        "positions",
        "rid",
        "time",
        "timed_out",
        "unknown",
        "unregistered",
        "unresolved",
        "waited_s",
    )

    def __init__(self, rid: Rid) -> None:
        self.rid = rid
        self.lane = lane_of(rid)
        self.links: set[Rid] = set()
        self.positions: dict[StoreKey, int] = {}
        self.unknown: dict[StoreKey, bool] = {}
        self.unresolved: set[Bid] = set()
        self.logs: dict[LogId, int] = {}
        self.origins: dict[Origin, int] = {}
        self.child_zones: dict[Zone, int] = {}
        self.time = 0
        self.flags = Flags(0)
        self.unregistered: set[StoreKey] = set()
        """Stores whose position no numbered event covers: never dropped as ``more``."""
        self.carried = False
        """Whether the request arrived with a context, so that the response answers with one."""
        self.waited_s = 0.0
        """Seconds that this request's barriers have waited in this process."""
        self.timed_out: set[str] = set()
        """Store kinds or keys on which a barrier timed out: later reads of them do not wait."""
        self._lock = allocate_lock()

    @property
    def depends(self) -> bool:
        """Whether any read at all can be a dependent read."""
        return bool(
            self.positions
            or self.unknown
            or self.unresolved
            or self.flags & (Flags.MORE | Flags.INCOMPLETE | Flags.JOINED)
        )

    def merge(self, context: Context) -> None:
        """Add what a received context knows. A context of another request makes a link."""
        with self._lock:
            if context.rid != self.rid:
                self._link(context.rid)
            for rid in context.links:
                if rid != self.rid:
                    self._link(rid)
            _raise_to(self.positions, context.positions)
            for store, unanswered in context.unknown.items():
                self.unknown[store] = unanswered or self.unknown.get(store, False)
            self.unresolved |= context.unresolved
            _raise_to(self.logs, context.logs)
            _raise_to(self.origins, context.origins)
            if context.child_zones > self.child_zones.get(context.zone, 0):
                self.child_zones[context.zone] = context.child_zones
            if context.time:
                self.time = min(self.time, context.time) if self.time else context.time
            self.flags |= context.flags & ~Flags.CONTINUES

    def _link(self, rid: Rid) -> None:
        if len(self.links) >= LINKS_MAX and rid not in self.links:
            self.flags |= Flags.INCOMPLETE
        else:
            self.links.add(rid)

    def wrote(self, store: StoreKey, value: int) -> None:
        """A write of this request is at ``value`` in ``store``."""
        with self._lock:
            if value > self.positions.get(store, -1):
                self.positions[store] = value

    def saw_event(self, origin: Origin, seq: int, now: int) -> None:
        """This process numbered an event of this request; ``now`` in Unix seconds."""
        with self._lock:
            if seq > self.origins.get(origin, 0):
                self.origins[origin] = seq
            if not self.time:
                self.time = now

    def mark_unknown(self, store: StoreKey, *, unanswered: bool) -> None:
        """A write to ``store`` has an unknown position, or an unknown outcome (``unanswered``)."""
        with self._lock:
            self.unknown[store] = unanswered or self.unknown.get(store, False)

    def head_seen(self, store: StoreKey, value: int) -> None:
        """A head of ``store``, asked after an answered write of unknown position, resolves it."""
        with self._lock:
            for mark in (store, StoreKey(store[0])):
                if self.unknown.get(mark) is False:
                    del self.unknown[mark]
                    self.positions[store] = max(value, self.positions.get(store, 0))

    def resolved(self, answer: Context, asked: Context, now: int) -> None:
        """Take a resolve's answer for the frontier and unresolved calls of ``asked``.

        The answer covers all of ``asked``: its origin entries are replaced by the answer's logs and
        what it says nothing of any more is settled. Knowledge newer than ``asked`` stays.
        """
        with self._lock:
            _raise_to(self.positions, answer.positions)
            for store, unanswered in answer.unknown.items():
                self.unknown[store] = unanswered or self.unknown.get(store, False)
            self.unresolved -= asked.unresolved - answer.unresolved
            self.unresolved |= answer.unresolved
            _raise_to(self.logs, answer.logs)
            for origin, seq in asked.origins.items():
                if self.origins.get(origin, 0) <= seq:
                    self.origins.pop(origin, None)
            if asked.flags & Flags.MORE:
                self.flags &= ~Flags.MORE
            self.flags |= answer.flags
            self.time = 0 if not self.origins else now

    def next_child_zone(self, zone: Zone) -> Zone:
        """A new asynchronous call line below ``zone``."""
        with self._lock:
            number = self.child_zones.get(zone, 0)
            self.child_zones[zone] = number + 1
        return (*zone, number)

    def cut(
        self,
        branch: Bid,
        zone: Zone,
        acks: Mapping[Origin, tuple[int, LogId, int]],
        flags: Flags = Flags(0),
    ) -> Context:
        """The context to send now. ``acks`` gives, per origin of this process, the highest
        acknowledged seq and the log and index that hold it: those entries travel as log indexes."""
        with self._lock:
            logs, origins = self.logs, self.origins
            if acks:
                for origin in [o for o in origins if o in acks]:
                    seq, log, index = acks[origin]
                    if origins[origin] <= seq:
                        del origins[origin]
                        if index > logs.get(log, 0):
                            logs[log] = index
            return Context(
                self.rid,
                branch,
                zone,
                self.child_zones.get(zone, 0),
                frozenset(self.links),
                dict(self.positions),
                dict(self.unknown),
                frozenset(self.unresolved),
                dict(logs),
                dict(origins),
                self.time,
                self.flags | flags,
            )


def _raise_to(into: dict[K, int], other: Mapping[K, int]) -> None:
    for key, value in other.items():
        if value > into.get(key, -1):
            into[key] = value
