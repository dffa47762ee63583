"""One lane of one process's events: what is held, sent and acknowledged, and under which name.

Everything here counts in the process's own numbering. A server may know the tail of the lane under
another origin (a successor): ``Segment`` translates.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from rendezvous_api.event import Body
from rendezvous_api.ids import LogId
from rendezvous_sidecar.limits import LOGS_PER_LANE_MAX

Item = tuple[int, bytes, int, Body, int]
"""One held event: kind, rid bytes, bid, body, and the body's size in bytes."""


@dataclass(slots=True)
class Segment:
    """A stretch of a lane that servers know as one origin: the process's ``seq`` is theirs plus
    ``base``. Ends with ``end`` where a successor follows. Invariant: base <= acked."""

    incarnation: int
    base: int
    acked: int
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive events to send, as the server numbers them."""

    incarnation: int
    lane: int
    first: int
    items: list[Item]


class Lane:
    """Invariant: acked <= sent <= received, and ``received - acked`` events are held."""

    __slots__ = (
        "_events",
        "_segments",
        "ack",
        "acked",
        "acks",
        "broken_from",
        "known_as",
        "number",
        "owner",
        "received",
        "sent",
        "suspect",
    )

    def __init__(self, owner: int, number: int, first: int) -> None:
        self.owner = owner
        """The incarnation of the process, as a number."""
        self.number = number
        self.acked = first - 1
        self.sent = first - 1
        self.received = first - 1
        self.ack: tuple[int, LogId, int] | None = None
        """The last acknowledgement: (seq, log, index)."""
        self.acks: dict[LogId, tuple[int, LogId, int]] = {}
        """The last acknowledgement of each log."""
        self.suspect = False
        """A batch with events of this lane was refused: it travels alone until one is applied."""
        self.broken_from: int | None = None
        """The first seq that was given up; nothing from there on is kept, sent or acknowledged."""
        self.known_as = {owner}
        """Incarnations whose acks the agent hands to this lane."""
        self._events: deque[Item] = deque()
        self._segments = [Segment(owner, 0, first - 1)]

    @property
    def held(self) -> int:
        """Events that no server has acknowledged."""
        return len(self._events)

    @property
    def unsent(self) -> int:
        """Events that the current stream has not carried yet."""
        return self.received - self.sent if self.broken_from is None else 0

    @property
    def names(self) -> Iterator[int]:
        """The incarnations under which servers may still know what is held and what follows."""
        return (segment.incarnation for segment in self._segments)

    def accept(self, item: Item) -> None:
        """Take the event ``received + 1``."""
        self._events.append(item)
        self.received += 1

    def at(self, seq: int) -> Item | None:
        """The event ``seq`` if it is held."""
        offset = seq - self.acked - 1
        return self._events[offset] if 0 <= offset < len(self._events) else None

    def take(self, events_max: int, bytes_max: int) -> tuple[list[Run], int, int]:
        """The next runs to send with their number of events and bytes, within both bounds (one
        event is taken at least)."""
        runs: list[Run] = []
        count = size = 0
        while count < events_max and self.sent < self.received and (size < bytes_max or not count):
            segment = self._segment_of(self.sent + 1)
            stop = min(self.received, self.sent + events_max - count)
            if segment.end is not None:
                stop = min(stop, segment.end)
            items: list[Item] = []
            for item in islice(self._events, self.sent - self.acked, stop - self.acked):
                if size + item[4] > bytes_max and (count or items):
                    break
                items.append(item)
                size += item[4]
            if not items:
                break
            first = self.sent + 1 - segment.base
            runs.append(Run(segment.incarnation, self.number, first, items))
            self.sent += len(items)
            count += len(items)
        return runs, count, size

    def _segment_of(self, seq: int) -> Segment:
        for segment in self._segments:
            if segment.end is None or seq <= segment.end:
                return segment
        raise AssertionError("the last segment is open")

    def acknowledge(self, incarnation: int, seq: int, log: LogId, index: int) -> int:
        """A server applied this lane's events up to its ``seq`` of ``incarnation``: the number of
        events freed. What the process never sent here is not taken as acknowledged."""
        if self.broken_from is not None:
            return 0
        for segment in self._segments:
            if segment.incarnation == incarnation:
                upto = min(seq + segment.base, self.received)
                if segment.end is not None:
                    upto = min(upto, segment.end)
                segment.acked = max(segment.acked, upto)
        before = self.acked
        while True:
            head = self._segments[0]
            self.acked = max(self.acked, head.acked)
            if head.end is None or head.acked < head.end:
                break
            del self._segments[0]
        freed = self.acked - before
        for _ in range(freed):
            self._events.popleft()
        self.sent = max(self.sent, self.acked)
        if freed:
            self.acks.pop(log, None)  # the newest is the last
            self.ack = self.acks[log] = (self.acked, log, index)
            if len(self.acks) > LOGS_PER_LANE_MAX:
                del self.acks[next(iter(self.acks))]
            self.suspect = False
        return freed

    def succeed(self, incarnation: int, after: int, successor: int) -> bool:
        """What follows ``incarnation``:``after`` is to be sent as ``successor``:1, 2, 3 ...

        False if the lane cannot do that: events that the server wants were freed long ago.
        """
        names = list(self.names)
        if incarnation not in names:
            return True  # an answer to what was sent before an earlier successor
        at = names.index(incarnation)
        segment = self._segments[at]
        start, end = segment.base + after, segment.end
        if end is not None and start >= end:
            return True  # what follows has a successor already
        if start > self.received or (start < segment.acked and at > 0):
            return False
        # Below what is acknowledged: the server has those, and names whom the rest belongs to.
        follower = Segment(successor, start, max(start, segment.acked), end)
        if start <= segment.acked and at == 0:
            self._segments[0] = follower
        else:
            segment.end = start
            self._segments.insert(at + 1, follower)
        self.sent = max(self.acked, min(self.sent, start))
        return True

    def start_anew(self) -> None:
        """Forget successors: a server with another log knows the lane, if at all, by its own name,
        and only a server that has said ``S follows X:n`` may be sent S."""
        self._segments = [Segment(self.owner, 0, self.acked)]
        self.rewind()

    def rewind(self) -> None:
        """Send everything held once more: the stream that carried it is gone."""
        self.sent = self.acked

    def give_up(self) -> int:
        """Drop what is held and take no more: the number of events lost."""
        lost = len(self._events)
        self._events.clear()
        self.broken_from = self.acked + 1
        self.sent = self.received
        return lost
