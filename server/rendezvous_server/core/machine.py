"""The core: a deterministic state machine over logs of entries.

It owns all state of the server. It must never look at a clock, draw a number or touch a file: time
and randomness come in with the calls. Order of life of a batch: :meth:`Core.admit` (before it is
logged) → the shell appends what that names and waits until it is durable → :meth:`Core.apply` →
the shell sends what that returns. So too for whatever ``Effects.append`` names (see ``effects``).
"""

from collections import Counter
from collections.abc import Generator, Iterable, Sequence

from rendezvous_api.channel import Status
from rendezvous_api.errors import RemoteError
from rendezvous_api.event import Lineage
from rendezvous_api.ids import LogId, StoreKey
from rendezvous_api.limits import LANES, QUESTION_MS_MAX, QUESTIONS_HELD_MAX, RETENTION_S
from rendezvous_server.core.admission import Admissions
from rendezvous_server.core.batch import Batch, Shared, walk, walk_events
from rendezvous_server.core.effects import (
    NOTHING,
    Acked,
    Admission,
    Answered,
    Effects,
    LineagesLearnt,
    Send,
    Succeeded,
)
from rendezvous_server.core.entries import Batched, Entry, Expired, Follows, Holed, Moved
from rendezvous_server.core.keys import (
    OriginKey,
    QuestionId,
    StreamId,
    key_of,
    parts_of,
    text_of_key,
)
from rendezvous_server.core.leases import Leases
from rendezvous_server.core.origins import Origins
from rendezvous_server.core.questions import Question, Questions
from rendezvous_server.core.requests import Request, Requests
from rendezvous_server.core.retention import Wheel
from rendezvous_server.limits import CLOCK_SLACK_S, SLICE_EVENTS, SLICE_LEASES


class Core:
    """The metadata server's state and decisions. ``log`` is the log that this server appends to.

    Calls about streams: :meth:`connect`, :meth:`admit`, :meth:`lease`, :meth:`ended`,
    :meth:`disconnect`. Calls about questions: :meth:`ask`, :meth:`cancel`. From the log:
    :meth:`apply`. From the clock: :meth:`tick`. Every ``now`` is Unix seconds.
    """

    def __init__(self, log: LogId) -> None:
        self.log = log
        self.counters: Counter[str] = Counter()
        """What has happened so far, by name; local."""
        self.requests = Requests()
        self.origins = Origins()
        self.questions = Questions(log, self.requests, self.origins)
        self._leases = Leases()
        self._admissions = Admissions(self.origins, self._leases)
        self.wheel = Wheel(self.requests)
        self._shared = Shared()
        self.dead: dict[OriginKey, float] = {}
        """Since when an origin is in a hole: to be forgotten after the retention."""

    # --- streams --------------------------------------------------------------------

    def connect(self, stream: StreamId, sidecar: int, now: float) -> Effects:
        """A sidecar's stream began. ``sidecar`` is the number that the sidecar drew at its start."""
        self._leases.connect(stream, sidecar, now)
        known = self.lineages()
        return Effects(send=(LineagesLearnt(known),)) if known else NOTHING

    def disconnect(self, stream: StreamId, now: float) -> None:
        """A sidecar's stream ended."""
        self._leases.disconnect(stream, now)

    def admit(self, stream: StreamId, batch: Batch, now: float) -> Admission:
        """Check a batch and say what to append for it. Nothing is applied yet.

        Raises :class:`MalformedMessage` or :class:`Conflict`; the batch then had no effect.
        """
        self.lease(stream, (), now)
        try:
            admission = self._admissions.admit(stream, batch, now)
        except RemoteError as exc:
            self.counters["refused_" + type(exc).__name__] += 1
            raise
        self.counters["admitted"] += 1
        return admission

    def lease(self, stream: StreamId, incarnations: Iterable[int], now: float) -> None:
        """A sign of life of a stream; it speaks for these incarnations from now on too.

        Raises :class:`MalformedMessage` where it speaks for too many.
        """
        self._leases.streams[stream].alive = now
        for incarnation in incarnations:
            self._leases.take(stream, incarnation)

    def ended(self, stream: StreamId, incarnation: int, now: float) -> Effects:
        """A process ended and its sidecar has sent all there was: what is missing is lost."""
        self.lease(stream, (), now)
        self._leases.end(incarnation)
        return Effects(append=(self._hole([incarnation], now),))

    def _hole(self, incarnations: Iterable[int], now: float) -> Holed:
        reached = self._admissions.reached
        return Holed(
            now,
            tuple(
                (key, reached(key) + 1)
                for incarnation in incarnations
                for lane in range(LANES)
                for key in self.origins.chain(key_of(incarnation, lane))
            ),
        )

    # --- the log --------------------------------------------------------------------

    def apply(
        self, index: int, entry: Entry, stream: StreamId | None = None, log: LogId | None = None
    ) -> Effects:
        """Apply the durable entry at ``index`` of ``log`` (this server's own, unless named).

        Indexes of one log come in order, without gaps other than those of failed appends.
        ``stream`` is where an acknowledgement goes, if the entry came from one that still lives.
        """
        applying = self.applying(index, entry, stream, log)
        while True:
            try:
                next(applying)
            except StopIteration as end:
                effects: Effects = end.value
                return effects

    def applying(
        self, index: int, entry: Entry, stream: StreamId | None = None, log: LogId | None = None
    ) -> Generator[None, None, Effects]:
        """:meth:`apply` in slices: yields after every ``limits.SLICE_EVENTS`` events. Between
        slices any call but another ``apply`` may be made."""
        log = log or self.log
        woken: list[QuestionId] = []
        send: list[Send] = []
        acked: tuple[tuple[OriginKey, int], ...] = ()
        match entry:
            case Batched(now, batch, without):
                acked = yield from self._batch(batch, without, now, woken)
                self.wheel.add(self.requests.fresh, now)
            case Holed(now, origins):
                self._apply_holes(origins, now, woken)
            case Follows(now, successor, origin, after):
                send += self._apply_follows(successor, origin, after)
                woken += self.questions.woken_by_origin(origin, all_of_them=True)
            case Expired(now, branches):
                self.requests.expire(branches, now)
                self.counters["branches_expired"] += len(branches)
                self.wheel.add(self.requests.fresh, now)
            case Moved(now, incarnation):
                self._leases.end(incarnation)
        self.requests.fresh.clear()
        self._reached(log, index, now)
        woken += self.questions.woken_by_requests()
        woken += self.questions.woken_by_log()
        if self.requests.learnt:
            send.append(LineagesLearnt(_lineages(self.requests.learnt)))
            self.requests.learnt.clear()
        if stream in self._leases.streams and stream is not None and isinstance(entry, Batched):
            send.append(Acked(stream, log, index, acked))
        send += self._look_again(woken)
        return Effects(send=tuple(send))

    def _batch(
        self, batch: Batch, without: frozenset[int], now: float, woken: list[QuestionId]
    ) -> Generator[None, None, tuple[tuple[OriginKey, int], ...]]:
        origins, requests, counters = self.origins, self.requests, self.counters
        applied, admitted = origins.applied, self._admissions.admitted
        events = walk(batch, self._shared)
        seen: list[Request | None] = [None] * len(events.rids)
        acked: dict[OriginKey, int] = {}
        room = SLICE_EVENTS
        for number, (incarnation, lane, first, count) in enumerate(batch.runs):
            if number in without:
                events.skip(count)
                counters["superseded"] += count
                continue
            key = key_of(incarnation, lane)
            last = applied.get(key, 0)
            if first > last + 1:
                origins.hold(key, (first, now, events.take(count)))
                counters["held_back"] += count
                continue
            repeated = min(last + 1 - first, count)
            if repeated:
                events.skip(repeated)
                counters["repeated"] += repeated
            left = count - repeated
            own = self._own(key)
            while left:
                some = min(left, room)
                requests.apply(events, seen, some, now, own)
                last += some
                applied[key] = last
                left -= some
                room -= some
                if not room:
                    yield
                    room = SLICE_EVENTS
            if key in origins.held:
                last = self._release(key, own)
            if admitted.get(key, last + 1) <= last:
                del admitted[key]
            acked[key] = last
            woken += self.questions.woken_by_origin(key, all_of_them=False)
        return tuple(acked.items())

    def _release(self, key: OriginKey, own: str) -> int:
        """Apply what was held back and can go on now. Returns the seq applied up to."""
        while (held := self.origins.release(key)) is not None:
            first, now, events = held
            self.requests.apply(walk_events(events), [None] * len(events), len(events), now, own)
            self.origins.applied[key] = first + len(events) - 1
        return self.origins.applied[key]

    def _own(self, key: OriginKey) -> str:
        """What a close by this origin depends on beyond its frontier: a successor's events say
        nothing of the events before them, which this server may lack."""
        return f"s{text_of_key(key)}~1" if key in self.origins.preceded else ""

    def _apply_holes(
        self, holes: Sequence[tuple[OriginKey, int]], now: float, woken: list[QuestionId]
    ) -> None:
        for key, start in holes:
            if self.origins.hole(key, start):
                self.counters["holes"] += 1
                self.dead.pop(key, None)
                self.dead[key] = now
                woken += self.questions.woken_by_origin(key, all_of_them=True)

    def _apply_follows(self, successor: OriginKey, origin: OriginKey, after: int) -> list[Send]:
        self.origins.follow(origin, after, successor)
        self._admissions.asked.discard((origin, after))
        self.counters["successors"] += 1
        return [
            Succeeded(id_, origin, after, successor)
            for id_, stream in self._leases.streams.items()
            if origin in stream.superseded
        ]

    def _reached(self, log: LogId, index: int, now: float) -> None:
        questions = self.questions
        questions.indexes[log] = max(index, questions.indexes.get(log, 0))
        if log == self.log and (not questions.times or now >= questions.times[-1][1] + 1):
            questions.times.append((index, now))
            while questions.times[1:] and questions.times[1][1] < now - 2 * RETENTION_S:
                del questions.times[0]

    # --- questions ------------------------------------------------------------------

    def ask(self, question: QuestionId, context: str, budget_s: float, now: float) -> Effects:
        """A question about an encoded context: answered at once, or held for up to ``budget_s``.

        Raises :class:`MalformedContext`.
        """
        questions = self.questions
        self.counters["asked"] += 1
        taken = questions.ask(question, context, min(budget_s, QUESTION_MS_MAX / 1000), now)
        if questions.is_expired(taken, now):
            return self._answered(taken, Status.EXPIRED)
        end = questions.look(taken)
        if end is not None:
            return self._answered(taken, *end)
        if len(questions.held) > QUESTIONS_HELD_MAX:
            questions.drop(question)
            return self._answered(taken, Status.BUSY)
        return NOTHING

    def cancel(self, question: QuestionId) -> None:
        """Nobody wants the answer any more."""
        if self.questions.drop(question) is not None:
            self.counters["cancelled"] += 1

    def _answered(self, question: Question, status: Status, text: str = "") -> Effects:
        return Effects(send=(self._end(question, status, text),))

    def _end(self, question: Question, status: Status, text: str = "") -> Answered:
        text = text or self.questions.answer(question, status)
        self.questions.drop(question.id)
        self.counters["status_" + status.name.lower()] += 1
        return Answered(question.id, status, text)

    def _look_again(self, woken: list[QuestionId]) -> list[Send]:
        out: list[Send] = []
        for id_ in dict.fromkeys(woken):
            question = self.questions.held.get(id_)
            if question is None:
                continue
            end = self.questions.look(question)
            if end is not None:
                out.append(self._end(question, *end))
        return out

    # --- time -----------------------------------------------------------------------

    @property
    def next_tick(self) -> float | None:
        """When :meth:`tick` has something to do at the latest; leases come beside it, and want a
        tick every ``limits.TICK_S``."""
        due = [
            each for each in (self.questions.next_deadline, self.wheel.next_due) if each is not None
        ]
        return min(due, default=None)

    def tick(self, now: float) -> Effects:
        """Time has passed: questions time out, leases lapse, branches expire, what is idle is
        forgotten. One call does a bounded part of it; call again while ``next_tick <= now``."""
        send: list[Send] = []
        append: list[Entry] = []
        for _ in range(SLICE_EVENTS):
            deadline = self.questions.next_deadline
            if deadline is None or deadline > now:
                break
            question = self.questions.held[self.questions.next_due()]
            send.append(self._end(question, Status.TIMED_OUT))
        lapsed = self._leases.lapsed(now)
        if lapsed:
            self.counters["lapsed"] += len(lapsed)
            append.append(self._hole(lapsed, now))
        expired = self.wheel.turn(now, self.questions.watched)
        if expired:
            append.append(Expired(now, tuple(expired)))
        self._forget_origins(now)
        return Effects(tuple(append), tuple(send))

    def _forget_origins(self, now: float) -> None:
        horizon = now - RETENTION_S - CLOCK_SLACK_S
        for _ in range(min(len(self.dead), SLICE_LEASES * LANES)):
            key, since = next(iter(self.dead.items()))
            if since > horizon:
                break
            del self.dead[key]
            if self.origins.is_holed(key):
                self.origins.forget(key)
                self._admissions.admitted.pop(key, None)

    def recovered(self, now: float) -> None:
        """The log has been replayed: whoever was alive in it has a lease's time to turn up."""
        for key in self.origins.applied:
            if not self.origins.is_holed(key):
                self._leases.orphan(parts_of(key)[0], now)

    # --- looking --------------------------------------------------------------------

    def lineages(self) -> tuple[Lineage, ...]:
        """All lineages known."""
        return _lineages((old, new, fork) for (old, new), fork in self.requests.lineages.items())

    @property
    def index(self) -> int:
        """Up to where this server's own log is applied."""
        return self.questions.indexes[self.log]

    @property
    def forgotten(self) -> int:
        """Requests forgotten so far."""
        return self.wheel.forgotten

    @property
    def streams(self) -> int:
        """Sidecar streams now."""
        return len(self._leases.streams)


def _lineages(entries: Iterable[tuple[str, str, int]]) -> tuple[Lineage, ...]:
    return tuple(Lineage(StoreKey(old), StoreKey(new), fork) for old, new, fork in entries)
