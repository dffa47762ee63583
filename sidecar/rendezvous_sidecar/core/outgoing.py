"""Batches: which lanes have something to send, and what the server has not acknowledged.

One batch is in flight; further ones follow only if they are full. One that is not full waits a
little for company, unless somebody waits for its events. So a quiet sidecar sends little and a busy
one sends much at once.
"""

from dataclasses import dataclass

from rendezvous_api.limits import BATCH_EVENTS_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.columns import batch_of
from rendezvous_sidecar.core.lane import Lane, Run
from rendezvous_sidecar.limits import BATCH_BYTES_MAX, BATCHES_IN_FLIGHT_MAX


@dataclass(slots=True)
class _InFlight:
    """A batch that the server has not wholly acknowledged: per lane the last seq it carries."""

    sent_at: float
    marks: dict[Lane, int]
    lanes: tuple[Lane, ...]
    """All that it carried when it was sent."""


class Outgoing:
    """The lanes' way into batches and out of memory."""

    def __init__(self, linger_s: float) -> None:
        self._linger_s = linger_s
        self._ready: dict[Lane, None] = {}
        self._in_flight: dict[int, _InFlight] = {}
        self._numbered = 0
        self._lingers_since: float | None = None

    @property
    def in_flight(self) -> int:
        """Batches that the server has not wholly acknowledged."""
        return len(self._in_flight)

    def waiting_since(self) -> float | None:
        """When the oldest batch in flight was sent."""
        for batch in self._in_flight.values():
            return batch.sent_at
        return None

    def ready(self, lane: Lane) -> None:
        """The lane may have something to send."""
        if lane.unsent:
            self._ready[lane] = None

    def restart(self) -> None:
        """The stream is gone: nothing is in flight any more."""
        self._in_flight.clear()

    def due(self) -> float | None:
        """When the batch that waits for company is to be sent, unless something is in flight."""
        if self._lingers_since is None or self._in_flight:
            return None
        return self._lingers_since + self._linger_s

    def next_batch(self, now: float, *, hurry: bool) -> pb.Batch | None:
        """The next batch, if one is to be sent now. ``hurry``: somebody waits for its events."""
        if not self._ready or len(self._in_flight) >= BATCHES_IN_FLIGHT_MAX:
            return None
        if not self._fills_a_batch():
            if self._lingers_since is None:
                self._lingers_since = now
            lingers = now < self._lingers_since + self._linger_s and not hurry
            if self._in_flight or lingers:
                return None
        self._lingers_since = None
        runs, marks = self._next_runs()
        if not runs:
            return None
        self._numbered += 1
        self._in_flight[self._numbered] = _InFlight(now, marks, tuple(marks))
        return batch_of(self._numbered, runs)

    def _fills_a_batch(self) -> bool:
        unsent = 0
        for lane in self._ready:
            unsent += lane.unsent
            if unsent >= BATCH_EVENTS_MAX:
                return True
        return False

    def _next_runs(self) -> tuple[list[Run], dict[Lane, int]]:
        """What the next batch carries; lanes take turns, suspect ones travel alone."""
        runs: list[Run] = []
        marks: dict[Lane, int] = {}
        events, size = BATCH_EVENTS_MAX, BATCH_BYTES_MAX
        for lane in list(self._ready):
            if lane.suspect and runs:
                continue
            taken, count, taken_bytes = lane.take(events, size)
            del self._ready[lane]
            self.ready(lane)  # behind the others
            if taken:
                runs += taken
                marks[lane] = lane.sent
            events -= count
            size -= taken_bytes
            if events <= 0 or size <= 0 or (lane.suspect and runs):
                break
        return runs, marks

    def settle(self, lane: Lane) -> None:
        """Bring the batches in flight in line with what the lane has acknowledged, taken back or
        given up."""
        done: list[int] = []
        for number, batch in self._in_flight.items():
            mark = batch.marks.get(lane)
            if mark is None:
                continue
            if lane.broken_from is not None or min(mark, lane.sent) <= lane.acked:
                del batch.marks[lane]
                if not batch.marks:
                    done.append(number)
        for number in done:
            del self._in_flight[number]
        if lane.broken_from is not None:
            self._ready.pop(lane, None)

    def refused(self, number: int) -> Lane | None:
        """The server refused a batch. If it carried one lane that is the one at fault; of several
        each is to show by itself which: they are sent again, every one alone."""
        batch = self._in_flight.pop(number, None)
        if batch is None:
            return None
        if len(batch.lanes) == 1:
            return batch.lanes[0]
        for lane in batch.marks:
            lane.suspect = True
            lane.rewind()
            self.ready(lane)
        return None
