"""The cell: the live state of one request in one process, shared by all its tasks and threads.

Knowledge only grows (law 4): merging is maxima and unions, except that a resolve that answered for
the whole frontier replaces origin entries by the log indexes that cover them.
"""

from _thread import allocate_lock
from collections.abc import Mapping
from typing import TypeVar

from rendezvous_api.context import FLAGS, NO_FLAGS, Context, Flags
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey, Zone, lane_of
from rendezvous_api.limits import LINKS_MAX

K = TypeVar("K")
V = TypeVar("V", bound=int)

_MORE, _INCOMPLETE, _CONTINUES = int(Flags.MORE), int(Flags.INCOMPLETE), int(Flags.CONTINUES)
_DEPENDS = _MORE | _INCOMPLETE | int(Flags.JOINED)
_NO_LINKS: frozenset[Rid] = frozenset()
_NO_BIDS: frozenset[Bid] = frozenset()
_ZONE_NUMBER_MAX = 2**64 - 1
"""The last child zone that a context can name; beyond it zones share that number."""

# Mappings are replaced, never changed: they are iterated without the lock, and contexts share them.
# The raw lock: nothing inside a critical section here can switch greenlets, and ``threading`` must
# not be imported before the application decides whether to monkey-patch it.


class Cell:
    """One request's knowledge. ``rid`` and ``lane`` never change; the rest only grows."""

    __slots__ = (
        "__weakref__",
        "_bits",
        "_lock",
        "carried",
        "child_zones",
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
        self.positions: Mapping[StoreKey, int] = {}
        self.unknown: Mapping[StoreKey, bool] = {}
        self.unresolved: set[Bid] = set()
        self.logs: Mapping[LogId, int] = {}
        self.origins: Mapping[Origin, int] = {}
        self.child_zones: dict[Zone, int] = {}
        self.time = 0
        self._bits = 0
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
    def flags(self) -> Flags:
        """The union of all flags seen, less ``continues``, which belongs to one message."""
        return FLAGS[self._bits]

    @flags.setter
    def flags(self, flags: Flags) -> None:
        self._bits = +flags

    def mark(self, flags: Flags) -> None:
        """Add ``flags``. Unlike ``cell.flags |= …`` it loses no other thread's addition."""
        with self._lock:
            self._bits |= +flags

    @property
    def depends(self) -> bool:
        """Whether any read at all can be a dependent read."""
        return bool(self.positions or self.unknown or self.unresolved or self._bits & _DEPENDS)

    def merge(self, context: Context) -> None:
        """Add what a received context knows. A context of another request makes a link.

        Which links are kept beyond ``LINKS_MAX`` depends on the order; that the cell is then
        ``incomplete`` does not.
        """
        with self._lock:
            self._merge(context)

    def _merge(self, context: Context) -> None:
        if context.rid != self.rid:
            self._link(context.rid)
        elif context.child_zones > self.child_zones.get(context.zone, 0):
            self.child_zones[context.zone] = context.child_zones
        for rid in context.links:
            if rid != self.rid:
                self._link(rid)
        if context.positions:
            self.positions = _maxima(self.positions, context.positions)
        if context.unknown:
            self.unknown = _maxima(self.unknown, context.unknown)
        if context.unresolved:
            self.unresolved |= context.unresolved
        if context.logs:
            self.logs = _maxima(self.logs, context.logs)
        if context.origins:
            self.origins = _maxima(self.origins, context.origins)
        if context.time and (not self.time or context.time < self.time):
            self.time = context.time
        self._bits |= +context.flags & ~_CONTINUES

    def _link(self, rid: Rid) -> None:
        if len(self.links) >= LINKS_MAX and rid not in self.links:
            self._bits |= _INCOMPLETE
        else:
            self.links.add(rid)

    def wrote(self, store: StoreKey, value: int) -> None:
        """A write of this request is at ``value`` in ``store``; a negative value is no position."""
        with self._lock:
            if value < 0:
                self.unknown = {store: False, **self.unknown}
            elif value > self.positions.get(store, -1):
                self.positions = {**self.positions, store: value}

    def saw_event(self, origin: Origin, seq: int, now: int) -> None:
        """This process numbered an event of this request; ``now`` in Unix seconds."""
        with self._lock:
            if seq > self.origins.get(origin, 0):
                self.origins = {**self.origins, origin: seq}
            if not self.time or now < self.time:
                self.time = now

    def mark_unknown(self, store: StoreKey, *, unanswered: bool) -> None:
        """A write to ``store`` has an unknown position, or an unknown outcome (``unanswered``)."""
        with self._lock:
            self.unknown = _maxima(self.unknown, {store: unanswered})

    def head_seen(self, store: StoreKey, value: int) -> None:
        """A head of ``store``, asked after an answered write of unknown position, resolves it.

        A mark that names the kind alone stays: the write may have gone to another store. The caller
        sees to it that no write of unknown position began after the head was asked for.
        """
        with self._lock:
            if self.unknown.get(store) is False:
                self.positions = _maxima(self.positions, {store: value})
                self.unknown = {key: mark for key, mark in self.unknown.items() if key != store}

    def resolved(self, answer: Context, asked: Context, now: int) -> None:
        """Take a resolve's complete answer for the frontier and unresolved calls of ``asked``.

        The answer's logs stand for the origin entries that were asked for, and calls that it no
        longer names are settled. Knowledge that came while the question was under way stays, and
        so does ``more`` then, since what was left out may be part of it. Where the answer covers
        the cell's whole frontier, the oldest unconfirmed knowledge is of ``now``: the Unix time, in
        seconds, at which the question was sent.
        """
        with self._lock:
            self._merge(answer)
            # Additions come first and removals after: readers without the lock see too much,
            # never too little.
            self.unresolved -= asked.unresolved - answer.unresolved
            self.origins = {
                origin: seq
                for origin, seq in self.origins.items()
                if seq > asked.origins.get(origin, -1)
            }
            if self.origins or not _covers(self.logs, asked.logs, answer.logs):
                return
            if asked.flags & Flags.MORE and not answer.flags & Flags.MORE:
                self._bits &= ~_MORE
            self.time = now if self.logs else 0

    def next_child_zone(self, zone: Zone) -> Zone:
        """A new asynchronous call line below ``zone``."""
        with self._lock:
            number = self.child_zones.get(zone, 0)
            self.child_zones[zone] = min(number + 1, _ZONE_NUMBER_MAX)
        return (*zone, number)

    def cut(
        self,
        branch: Bid,
        zone: Zone,
        acks: Mapping[Origin, tuple[int, Mapping[LogId, int]]],
        flags: Flags = NO_FLAGS,
    ) -> Context:
        """The context to send now. ``acks`` gives, per origin of this process, the highest
        acknowledged seq and the logs and indexes that hold it: such entries travel as these."""
        with self._lock:
            if acks:
                for origin in [name for name in self.origins if name in acks]:
                    seq, held_in = acks[origin]
                    if self.origins[origin] <= seq:
                        self.logs = _maxima(self.logs, held_in)
                        self.origins = {k: v for k, v in self.origins.items() if k != origin}
            return Context(
                self.rid,
                branch,
                zone,
                self.child_zones.get(zone, 0),
                frozenset(self.links) if self.links else _NO_LINKS,
                self.positions,
                self.unknown,
                frozenset(self.unresolved) if self.unresolved else _NO_BIDS,
                self.logs,
                self.origins,
                self.time,
                FLAGS[self._bits | +flags],
            )


def _maxima(known: Mapping[K, V], other: Mapping[K, V]) -> Mapping[K, V]:
    """The higher value of each key of both; ``known`` itself where ``other`` adds nothing."""
    if not known:
        return other
    grown: dict[K, V] | None = None
    for key, value in other.items():
        if value > known.get(key, -1):
            grown = dict(known) if grown is None else grown
            grown[key] = value
    return known if grown is None else grown


def _covers(logs: Mapping[LogId, int], *known: Mapping[LogId, int]) -> bool:
    """Whether each index of ``logs`` is within one of ``known``."""
    return all(
        any(index <= known_logs.get(log, -1) for known_logs in known) for log, index in logs.items()
    )
