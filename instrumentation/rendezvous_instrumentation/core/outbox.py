"""The outbox: where events are numbered, and kept until the server's ack names them (laws 1 and 3).

Invariant: per lane, the kept events are exactly those from the first unacknowledged to the last
numbered. Life: append (numbered and queued) → taken for sending → acked (freed), or, when the
channel is lost, queued again.
"""

from collections import deque

from rendezvous_api.event import pack
from rendezvous_api.ids import Incarnation, LogId, Origin, origin_of
from rendezvous_api.limits import LANES


class Outbox:
    """All unacknowledged events of one incarnation. ``acks``: per origin the highest acknowledged
    seq, and the logs, each with an index, that together hold the origin up to there (several after
    a failover: a frontier names them all)."""

    __slots__ = ("_kept", "_limit", "_next", "_unsent", "acks", "incarnation", "origins", "size")

    def __init__(self, incarnation: Incarnation, limit: int) -> None:
        self.incarnation = incarnation
        self.origins = [origin_of(incarnation, lane) for lane in range(LANES)]
        self.acks: dict[Origin, tuple[int, dict[LogId, int]]] = {}
        self.size = 0
        self._limit = limit
        self._next = [1] * LANES
        self._kept: list[deque[bytes]] = [deque() for _ in range(LANES)]
        self._unsent: deque[bytes] = deque()

    def append(self, lane: int, kind: int, rid: bytes, bid: int, body: bytes) -> int:
        """Number an event and queue it; its seq, or 0 where the outbox is full (not numbered)."""
        if self.size >= self._limit:
            return 0
        seq = self._next[lane]
        self._next[lane] = seq + 1
        raw = pack(kind, lane, seq, rid, bid, body)
        self._kept[lane].append(raw)
        self._unsent.append(raw)
        self.size += 1
        return seq

    def numbered(self, lane: int) -> int:
        """The last seq of a lane."""
        return self._next[lane] - 1

    def take(self, room: int) -> bytes:
        """The next events to send, as many as fit ``room`` bytes (at least one); or nothing."""
        unsent = self._unsent
        if not unsent:
            return b""
        if len(unsent) == 1:
            return unsent.popleft()
        taken = [unsent.popleft()]
        size = len(taken[0])
        while unsent and size + len(unsent[0]) <= room:
            size += len(unsent[0])
            taken.append(unsent.popleft())
        return b"".join(taken)

    def put_back(self, raw: bytes) -> None:
        """What :meth:`take` gave could not be sent; it stays first."""
        self._unsent.appendleft(raw)

    @property
    def waiting(self) -> bool:
        """Whether anything is queued for sending."""
        return bool(self._unsent)

    def acked(self, lane: int, seq: int, log: LogId, index: int) -> None:
        """The server has applied this lane up to ``seq``; older and repeated acks are harmless."""
        seq = min(seq, self._next[lane] - 1)
        kept = self._kept[lane]
        first = self._next[lane] - len(kept)
        for _ in range(seq - first + 1):
            kept.popleft()
            self.size -= 1
        origin = self.origins[lane]
        reached, logs = self.acks.get(origin, (0, {}))
        logs = {**logs, log: max(index, logs.get(log, 0))}
        self.acks[origin] = (max(seq, reached), logs)

    def channel_lost(self) -> None:
        """Everything unacknowledged is to be sent again, in order per lane."""
        self._unsent = deque(raw for kept in self._kept for raw in kept)
