"""Who is alive: which stream holds which incarnation's lease. Local state, never logged.

Any sign of life of a stream renews all its incarnations. One whose stream has been silent or gone
for ``limits.LEASE_S`` has lapsed: its unsent tail is to become a hole.
"""

from rendezvous_api.errors import MalformedMessage
from rendezvous_api.limits import LEASE_S
from rendezvous_server.core.keys import OriginKey, StreamId
from rendezvous_server.limits import INCARNATIONS_PER_STREAM_MAX, SLICE_LEASES


class Stream:
    """One sidecar stream. ``seen``: origins whose runs came on it; ``superseded``: those of them
    that go on under a successor."""

    __slots__ = ("alive", "incarnations", "seen", "sidecar", "superseded")

    def __init__(self, sidecar: int, now: float) -> None:
        self.sidecar = sidecar
        self.alive = now
        self.incarnations: set[int] = set()
        self.seen: set[OriginKey] = set()
        self.superseded: set[OriginKey] = set()


class Leases:
    """The leases of this server's streams."""

    __slots__ = ("_holder", "_orphans", "streams")

    def __init__(self) -> None:
        self.streams: dict[StreamId, Stream] = {}
        self._holder: dict[int, StreamId] = {}
        self._orphans: dict[int, tuple[float, int]] = {}
        """Incarnation → (when it lapses, its last sidecar)."""

    def connect(self, stream: StreamId, sidecar: int, now: float) -> None:
        """A stream began. It takes up what an earlier stream of the same sidecar held, whether or
        not that one is known to have ended yet."""
        returned = [inc for inc, (_, last) in self._orphans.items() if last == sidecar]
        for earlier in self.streams.values():
            if earlier.sidecar == sidecar:
                returned += earlier.incarnations
        self.streams[stream] = Stream(sidecar, now)
        for incarnation in returned:
            self.take(stream, incarnation)

    def disconnect(self, stream: StreamId, now: float) -> None:
        """A stream ended: its incarnations have ``LEASE_S`` to turn up on another."""
        gone = self.streams.pop(stream, None)
        if gone is None:
            return
        for incarnation in gone.incarnations:
            if self._holder.get(incarnation) == stream:
                del self._holder[incarnation]
                self._orphans[incarnation] = (now + LEASE_S, gone.sidecar)

    def take(self, stream: StreamId, incarnation: int) -> None:
        """``stream`` speaks for the incarnation from now on. Raises :class:`MalformedMessage` where
        it speaks for too many."""
        before = self._holder.get(incarnation)
        if before == stream:
            return
        if len(self.streams[stream].incarnations) >= INCARNATIONS_PER_STREAM_MAX:
            raise MalformedMessage(f"more than {INCARNATIONS_PER_STREAM_MAX} processes")
        if before is not None and before in self.streams:
            self.streams[before].incarnations.discard(incarnation)
        self._orphans.pop(incarnation, None)
        self._holder[incarnation] = stream
        self.streams[stream].incarnations.add(incarnation)

    def orphan(self, incarnation: int, now: float) -> None:
        """An incarnation known from the log alone, after a restart."""
        if incarnation not in self._holder:
            self._orphans.setdefault(incarnation, (now + LEASE_S, 0))

    def end(self, incarnation: int) -> None:
        """The lease is over: the incarnation ended, or moved to another server."""
        self._orphans.pop(incarnation, None)
        holder = self._holder.pop(incarnation, None)
        if holder is not None and holder in self.streams:
            self.streams[holder].incarnations.discard(incarnation)

    def lapsed(self, now: float) -> list[int]:
        """Incarnations whose lease has run out, at most ``SLICE_LEASES``; they are let go of."""
        out = [inc for inc, (until, _) in self._orphans.items() if until <= now]
        for stream in self.streams.values():
            if stream.incarnations and stream.alive + LEASE_S <= now:
                out += stream.incarnations
        del out[SLICE_LEASES:]
        for incarnation in out:
            self.end(incarnation)
        return out
