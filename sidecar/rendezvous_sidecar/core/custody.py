"""Events in custody: from their acceptance from a process to a server's ack (law 3), and the
translation to successors (law 2).

A lane that a server refuses, or under one seq of which two different events come, is given up
loudly: its events are dropped and counted, later ones too, and nothing of it is acknowledged from
there on, so that no context takes them for safe. A question about what was given up is answered
``lost_tail`` at once.
"""

from collections.abc import Iterable

from rendezvous_api.errors import MalformedMessage
from rendezvous_api.event import decode_body, split
from rendezvous_api.ids import Incarnation, LogId, Origin, origin_of, word
from rendezvous_sidecar.core.buffer import Buffer
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.lane import Item, Lane
from rendezvous_sidecar.core.outgoing import Outgoing
from rendezvous_sidecar.core.questions import Questions
from rendezvous_sidecar.core.source import Source


class Custody:
    """All sources with their lanes, and the names by which servers acknowledge them."""

    def __init__(
        self, desk: Desk, buffer: Buffer, outgoing: Outgoing, questions: Questions
    ) -> None:
        self.sources: dict[int, Source] = {}
        """By incarnation, until :meth:`forget`."""
        self._desk = desk
        self._buffer = buffer
        self._outgoing = outgoing
        self._questions = questions
        self._routes: dict[tuple[int, int], tuple[Source, Lane]] = {}

    def accept(self, source: Source, events: bytes) -> None:
        """Take a process's events. Acks that repeated ones are due are noted in ``source``.
        Raises a ``RemoteError`` if they are not of the agreed form; those before it are taken."""
        buffer, counts = self._buffer, self._desk.counts
        for kind, number, seq, rid, bid, encoded in split(events):
            item = (kind, rid, bid, decode_body(kind, encoded), len(encoded))
            lane = source.lanes.get(number)
            if lane is None:
                lane = source.lanes[number] = Lane(source.incarnation, number, seq)
                self._routes[source.incarnation, number] = (source, lane)
            if lane.broken_from is not None:
                if seq > lane.received:
                    lane.received = lane.sent = seq
                    counts[Count.EVENTS_REFUSED] += 1
                continue
            if seq == lane.received + 1:
                lane.accept(item)
                buffer.held += 1
                counts[Count.EVENTS_ACCEPTED] += 1
                self._outgoing.ready(lane)
            elif seq > lane.received:
                raise MalformedMessage(f"lane {number}: {seq} after {lane.received}")
            else:
                self._on_repeat(source, lane, seq, item)
        buffer.pause_if_full()

    def _on_repeat(self, source: Source, lane: Lane, seq: int, item: Item) -> None:
        self._desk.counts[Count.EVENTS_REPEATED] += 1
        held = lane.at(seq)
        if held is None:
            source.owe(lane)  # acknowledged already; the process has not heard of it
        elif held != item:
            self._desk.counts[Count.CONFLICTS] += 1
            self._break(lane, f"two different events came under seq {seq}")

    def acknowledge(
        self, entries: Iterable[tuple[int, int, int]], log: LogId, index: int
    ) -> list[Source]:
        """A server applied lanes up to a seq, all in the entry ``index`` of ``log`` or before.
        ``entries``: (incarnation, lane, seq). Returns whose processes are due an ack."""
        freed = 0
        told: dict[Source, None] = {}
        for incarnation, number, seq in entries:
            route = self._routes.get((incarnation, number))
            if route is None:
                continue
            source, lane = route
            count = lane.acknowledge(incarnation, seq, log, index)
            self._outgoing.settle(lane)
            if count:
                freed += count
                source.owe(lane)
                told[source] = None
        self._buffer.held -= freed
        self._desk.counts[Count.EVENTS_ACKED] += freed
        self._buffer.resume_if_room()
        return list(told)

    def succeed(self, incarnation: int, number: int, after: int, successor: int) -> None:
        """A server wants what follows ``incarnation``:``after`` in a lane as ``successor``."""
        route = self._routes.get((incarnation, number))
        if route is None:
            return
        source, lane = route
        self._desk.counts[Count.SUCCESSORS] += 1
        if not lane.succeed(incarnation, after, successor):
            self._break(lane, f"the server wants what follows {after}, freed long ago")
            return
        self._reroute(source, lane)
        self._outgoing.settle(lane)
        self._outgoing.ready(lane)

    def refused(self, batch: int, reason: str) -> None:
        """A server refused a batch: the lane at fault is given up, once it is known which."""
        lane = self._outgoing.refused(batch)
        if lane is not None and lane.broken_from is None:
            self._break(lane, f"refused: {reason}")

    def rewind(self) -> None:
        """The stream is gone: everything held is to be sent once more."""
        self._outgoing.restart()
        for source in self.sources.values():
            for lane in source.lanes.values():
                if lane.held:
                    lane.rewind()
                    self._outgoing.ready(lane)

    def start_anew(self) -> None:
        """A server with another log: it is sent the processes' own numbering."""
        for source in self.sources.values():
            for lane in source.lanes.values():
                lane.start_anew()
                self._reroute(source, lane)

    def names(self) -> list[int]:
        """The incarnations under which servers may wait for more: the sources' and successors'."""
        return [name for source in self.sources.values() for name in source.names()]

    def forget(self, source: Source) -> None:
        """Nothing more comes of a source, and nothing of it is held that is to be sent."""
        del self.sources[source.incarnation]
        for lane in source.lanes.values():
            self._questions.lost.pop(_origin(lane), None)
            for name in lane.known_as:
                del self._routes[name, lane.number]

    def _break(self, lane: Lane, reason: str) -> None:
        lost = lane.give_up()
        self._buffer.held -= lost
        self._desk.counts[Count.LANES_BROKEN] += 1
        self._desk.counts[Count.EVENTS_REFUSED] += lost
        self._outgoing.settle(lane)
        name = word(lane.owner)
        self._questions.lost[_origin(lane)] = lane.broken_from or 1
        self._desk.warn(
            f"lane {lane.number} of incarnation {name} is given up from seq "
            f"{lane.broken_from}, {lost} events lost: {reason}"
        )
        self._buffer.resume_if_room()

    def _reroute(self, source: Source, lane: Lane) -> None:
        """Hand the acks of all names that the lane has now to it, and of no other."""
        names = set(lane.names)
        for name in names - lane.known_as:
            self._routes[name, lane.number] = (source, lane)
        for name in lane.known_as - names:
            del self._routes[name, lane.number]
        lane.known_as = names


def _origin(lane: Lane) -> Origin:
    return origin_of(Incarnation(word(lane.owner)), lane.number)
