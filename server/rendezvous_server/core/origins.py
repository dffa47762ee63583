"""Origins: what is applied of each, what is held back, holes, and successors (law 2).

Applied seqs and holes are maxima, successors a union: a join, like everything else (law 5). A hole
at ``n`` holds only while nothing from ``n`` on has been applied.
"""

from bisect import bisect_left, insort
from enum import IntEnum

from rendezvous_server.core.batch import Event
from rendezvous_server.core.keys import OriginKey
from rendezvous_server.limits import FRONTIER_CHAIN_MAX


class Cover(IntEnum):
    """Whether an entry of a frontier is covered: the higher, the better."""

    LOST = 0
    NOT_YET = 1
    YES = 2


Held = tuple[int, float, list[Event]]
"""First seq, time of the entry, events."""


class Origins:
    """All origins that this server has heard of."""

    __slots__ = ("applied", "held", "held_events", "holes", "preceded", "successors")

    def __init__(self) -> None:
        self.applied: dict[OriginKey, int] = {}
        self.holes: dict[OriginKey, int] = {}
        self.successors: dict[OriginKey, list[tuple[int, OriginKey]]] = {}
        """Per origin, sorted: what follows after which seq."""
        self.preceded: dict[OriginKey, tuple[OriginKey, int]] = {}
        """Inverse: whom, and after which seq, an origin follows."""
        self.held: dict[OriginKey, list[Held]] = {}
        """Sorted by first seq."""
        self.held_events = 0

    def hold(self, key: OriginKey, held: Held) -> None:
        """Keep events until their predecessors are applied."""
        entries = self.held.setdefault(key, [])
        at = bisect_left(entries, held[0], key=lambda entry: entry[0])
        if at < len(entries) and entries[at][0] == held[0]:
            if len(entries[at][2]) >= len(held[2]):
                return
            self.held_events -= len(entries[at][2])
            entries[at] = held
        else:
            entries.insert(at, held)
        self.held_events += len(held[2])

    def release(self, key: OriginKey) -> Held | None:
        """The next held events that can be applied now, if any."""
        entries = self.held.get(key)
        if not entries:
            return None
        following = self.applied.get(key, 0) + 1
        first, now, events = entries[0]
        if first > following:
            return None
        del entries[0]
        if not entries:
            del self.held[key]
        self.held_events -= len(events)
        return following, now, events[following - first :]

    def hole(self, key: OriginKey, start: int) -> bool:
        """Nothing from ``start`` on is expected. Returns whether that is news."""
        if start <= self.holes.get(key, 0):
            return False
        self.holes[key] = start
        return start > self.applied.get(key, 0)

    def is_holed(self, key: OriginKey) -> bool:
        """Whether a hole of this origin still holds."""
        return self.holes.get(key, 0) > self.applied.get(key, 0)

    def follow(self, origin: OriginKey, after: int, successor: OriginKey) -> None:
        """``successor`` carries what ``origin`` has after ``after``."""
        followers = self.successors.setdefault(origin, [])
        if (after, successor) not in followers:
            insort(followers, (after, successor))
            self.preceded[successor] = (origin, after)

    def successor(self, origin: OriginKey, after: int) -> OriginKey | None:
        """Who follows ``origin`` after exactly ``after``."""
        for start, successor in self.successors.get(origin, ()):
            if start == after:
                return successor
        return None

    def cover(self, key: OriginKey, seq: int, watch: set[OriginKey]) -> Cover:
        """Whether ``key``:``seq`` is covered. Adds the origins whose news may change a ``NOT_YET``
        to ``watch``.

        An event may arrive under its origin's own name, and under every successor's. Covered: it
        and all before it are applied, under whatever names. Lost: one of them has no name left
        under which it may arrive.
        """
        for _ in range(FRONTIER_CHAIN_MAX):
            before = self.preceded.get(key)
            if before is None:
                return self._cover(key, seq, watch, {}, 0)
            key, seq = before[0], before[1] + seq
        return Cover.LOST

    def _cover(
        self,
        key: OriginKey,
        seq: int,
        watch: set[OriginKey],
        known: dict[tuple[OriginKey, int], Cover],
        depth: int,
    ) -> Cover:
        """:meth:`cover` by the origin's own name and those of its successors."""
        applied = self.applied.get(key, 0)
        if seq <= applied:
            return Cover.YES
        verdict = known.get((key, seq))
        if verdict is not None:
            return verdict
        if depth > FRONTIER_CHAIN_MAX:
            return Cover.LOST
        verdict = Cover.LOST if applied < self.holes.get(key, 0) <= seq else Cover.NOT_YET
        if verdict is Cover.NOT_YET:
            watch.add(key)
        for after, successor in self.successors.get(key, ()):
            if after < seq:
                other = min(
                    self._cover(key, after, watch, known, depth + 1),
                    self._cover(successor, seq - after, watch, known, depth + 1),
                )
                verdict = max(verdict, other)
        known[key, seq] = verdict
        return verdict

    def chain(self, key: OriginKey) -> list[OriginKey]:
        """The origin and all that follow it."""
        out = [key]
        for origin in out:
            out += [after for _, after in self.successors.get(origin, ()) if after not in out]
        return out

    def forget(self, key: OriginKey) -> None:
        """Drop all that is known of an origin."""
        self.applied.pop(key, None)
        self.holes.pop(key, None)
        for _, _, events in self.held.pop(key, ()):
            self.held_events -= len(events)
        for _, successor in self.successors.pop(key, ()):
            self.preceded.pop(successor, None)
        before = self.preceded.pop(key, None)
        if before is not None and before[0] in self.successors:
            left = [each for each in self.successors[before[0]] if each[1] != key]
            self.successors[before[0]] = left
