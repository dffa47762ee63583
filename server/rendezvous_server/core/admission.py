"""What happens to a batch before it is logged: its check, its origins' places, repetitions.

The decisions taken here are written into the entry (``Batched.without``, ``Follows``, ``Holed``), so
that applying the log needs none of this module's state, which is local and not logged.
"""

from collections import deque

from rendezvous_api.errors import Conflict, MalformedMessage
from rendezvous_api.ids import word
from rendezvous_server.core.batch import Batch, Event, Run, Shared, check, walk
from rendezvous_server.core.effects import Admission, Lack, Send, Succeeded
from rendezvous_server.core.entries import Batched, Entry, Holed
from rendezvous_server.core.keys import OriginKey, StreamId, key_of
from rendezvous_server.core.leases import Leases
from rendezvous_server.core.origins import Origins
from rendezvous_server.limits import (
    HELD_EVENTS_MAX,
    ORIGINS_PER_STREAM_MAX,
    RECENT_EVENTS_MAX,
)


class Admissions:
    """Admits batches. ``admitted`` is the highest seq per origin on its way to the log."""

    __slots__ = ("_leases", "_origins", "_recent", "_recent_events", "admitted", "asked")

    def __init__(self, origins: Origins, leases: Leases) -> None:
        self._origins = origins
        self._leases = leases
        self._recent: deque[Batch] = deque()
        self._recent_events = 0
        self.admitted: dict[OriginKey, int] = {}
        """Only while it is above what is applied."""
        self.asked: set[tuple[OriginKey, int]] = set()
        """Successors asked for, not yet applied."""

    def reached(self, key: OriginKey) -> int:
        """Up to where this origin's events are applied or on their way to the log."""
        return max(self.admitted.get(key, 0), self._origins.applied.get(key, 0))

    def admit(self, stream_id: StreamId, batch: Batch, now: float) -> Admission:
        """Raises :class:`MalformedMessage` or :class:`Conflict`: then nothing has changed
        but that the stream speaks for the batch's processes."""
        check(batch)
        stream = self._leases.streams[stream_id]
        admitted, applied = self.admitted, self._origins.applied
        without: set[int] = set()
        lacking: dict[OriginKey, int] = {}
        reached: dict[OriginKey, int] = {}
        repeated = ahead = False
        for index, (incarnation, lane, first, count) in enumerate(batch.runs):
            key = key_of(incarnation, lane)
            last = reached.get(key) or max(admitted.get(key, 0), applied.get(key, 0))
            if first == last + 1:
                reached[key] = last + count
            elif first <= last:
                repeated = True
                reached[key] = max(last, first + count - 1)
            elif key in stream.superseded or key in lacking:
                without.add(index)
            elif key not in stream.seen and key not in reached:
                lacking[key] = first - 1
                without.add(index)
            else:
                ahead = True
        if ahead and self._origins.held_events + len(batch.kinds) > HELD_EVENTS_MAX:
            raise MalformedMessage(
                f"too many events ahead of their predecessors; {HELD_EVENTS_MAX}"
            )
        if len(stream.seen) + len(reached) > ORIGINS_PER_STREAM_MAX:
            raise MalformedMessage(f"more than {ORIGINS_PER_STREAM_MAX} origins on one stream")
        for incarnation, _, _, _ in batch.runs:
            if incarnation not in stream.incarnations:
                self._leases.take(stream_id, incarnation)
        if repeated:
            self._compare(batch)
        self._remember(batch)
        admitted.update(reached)
        stream.seen.update(reached, lacking)
        entry = None
        if len(without) < len(batch.runs):
            entry = Batched(now, batch, frozenset(without))
        if not lacking:
            return Admission(entry)
        return self._succeed(stream_id, lacking, entry, now)

    def _succeed(
        self, stream_id: StreamId, lacking: dict[OriginKey, int], entry: Entry | None, now: float
    ) -> Admission:
        """Origins whose predecessors this server lacks go on under a successor."""
        origins = self._origins
        self._leases.streams[stream_id].superseded.update(lacking)
        send: list[Send] = []
        lacks: list[Lack] = []
        holed: list[tuple[OriginKey, int]] = []
        for key, after in lacking.items():
            known = self._follower(key, after)
            if known is not None:
                send.append(Succeeded(stream_id, key, *known))
            elif (key, after) not in self.asked:
                self.asked.add((key, after))
                lacks.append(Lack(key, after))
                if not origins.is_holed(key):
                    holed.append((key, self.reached(key) + 1))
        holes = (Holed(now, tuple(holed)),) if holed else ()
        return Admission(entry, holes, tuple(lacks), tuple(send))

    def _follower(self, key: OriginKey, after: int) -> tuple[int, OriginKey] | None:
        """The successor, with the seq that it follows, that can go on right after ``after``."""
        for start, successor in reversed(self._origins.successors.get(key, ())):
            if start <= after <= start + self.reached(successor):
                return start, successor
        return None

    def _remember(self, batch: Batch) -> None:
        self._recent.append(batch)
        self._recent_events += len(batch.kinds)
        while self._recent_events > RECENT_EVENTS_MAX and len(self._recent) > 1:
            self._recent_events -= len(self._recent.popleft().kinds)

    def _compare(self, batch: Batch) -> None:
        """Raise :class:`Conflict` where a recent event is repeated with other content."""
        mine: list[Event] | None = None
        for earlier in self._recent:
            theirs: list[Event] | None = None
            for one, at in _placed(batch):
                for other, there in _placed(earlier):
                    start = max(one[2], other[2])
                    end = min(one[2] + one[3], other[2] + other[3])
                    if one[:2] != other[:2] or start >= end:
                        continue
                    mine = mine or walk(batch, Shared()).take(len(batch.kinds))
                    theirs = theirs or walk(earlier, Shared()).take(len(earlier.kinds))
                    for seq in range(start, end):
                        if mine[at + seq - one[2]] != theirs[there + seq - other[2]]:
                            raise Conflict(
                                f"origin {word(one[0])}/{one[1]} sent two different events {seq}"
                            )


def _placed(batch: Batch) -> list[tuple[Run, int]]:
    """Each run, and where its events begin."""
    out: list[tuple[Run, int]] = []
    at = 0
    for run in batch.runs:
        out.append((run, at))
        at += run[3]
    return out
