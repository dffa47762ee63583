"""This process, as Rendezvous sees it: incarnation, outbox, channel, what nodes and peers are known.

Made at the first use, made anew after a fork (a fork is a new incarnation: two processes must never
number events of one origin).
"""

import os
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from weakref import WeakKeyDictionary

from rendezvous_api import channel, codec
from rendezvous_api.cell import Cell
from rendezvous_api.channel import Answered, Ask, Lineages, Status
from rendezvous_api.context import Context
from rendezvous_api.errors import MalformedContext
from rendezvous_api.event import NO_RID, Body, Lineage, encode_body
from rendezvous_api.ids import Bid, Incarnation, StoreKey, rid_bytes, text_of
from rendezvous_api.limits import OUTBOX_EVENTS_MAX, RESOLVE_BUDGET_S
from rendezvous_instrumentation.config import Config, read_or_default
from rendezvous_instrumentation.core.barrier import Resolution
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_instrumentation.limits import (
    ANSWER_WAY_S,
    BREAKER_FAILURES,
    BREAKER_OPEN_S,
    ENDPOINTS_MAX,
    PEERS_MAX,
    STATS_INTERVAL_S,
)
from rendezvous_instrumentation.shell.current import forget_cells
from rendezvous_instrumentation.shell.held import forget_held
from rendezvous_instrumentation.shell.link import Link, identity
from rendezvous_instrumentation.shell.stats import Stats
from rendezvous_monitors.positions import cover

_QUESTION_BYTES_MAX = 4_000
Deliver = Callable[[Resolution], None]


class Process:
    """Everything of one incarnation. Get it with :func:`process`."""

    def __init__(self, config: Config) -> None:
        self.pid, seed = identity()
        self.config = config
        self.enforcing = config.mode == "enforce"
        self.stats = Stats(config.service)
        self.lineage = cover.Lineage()
        self.held = 0
        self.outbox = Outbox(Incarnation(text_of(seed)), OUTBOX_EVENTS_MAX)
        hello = channel.Hello(self.outbox.incarnation, self.pid, config.service, config.region)
        self.link = Link(
            config.sidecar, self.outbox, hello, self.stats, self._received, self._on_tick
        )
        self.later: deque[tuple[Cell, Bid]] = deque()
        """Branches whose last holder was collected: closed at the next event or tick, since a
        collector may run inside our own locks."""
        self._bids = count(int.from_bytes(seed, "big"))
        self._lock = allocate_lock()
        self._number = 0
        self._questions: dict[int, Deliver] = {}
        self._failures = 0
        self._breaker_until = 0.0
        self._speakers: set[str] = set()
        self._untold: deque[Lineage] = deque()
        self._epochs: dict[object, StoreKey] = {}
        self._holding: WeakKeyDictionary[Cell, tuple[int, float]] = WeakKeyDictionary()
        self._stats_at = 0.0
        self._told: tuple[tuple[str, int], ...] = ()

    def new_bid(self) -> Bid:
        """A branch id that no other process draws: 64 random bits at the start, then counting."""
        return Bid(next(self._bids) & 0xFFFF_FFFF_FFFF_FFFF or self.new_bid())

    def event(self, cell: Cell, bid: Bid, body: Body) -> bool:
        """Report an event of a request; whether it was numbered (a full outbox refuses)."""
        kind, raw = encode_body(body)
        return self.encoded_event(cell, bid, kind, raw)

    def encoded_event(self, cell: Cell, bid: Bid, kind: int, raw: bytes) -> bool:
        """:meth:`event`, its body encoded already."""
        lane = cell.lane
        seq = self.link.event(lane, kind, rid_bytes(cell.rid), bid, raw)
        if not seq:
            self.stats.count("events_refused")
            return False
        cell.saw_event(self.outbox.origins[lane], seq, int(time.time()))
        return True

    def learn_lineage(self, old: StoreKey, new: StoreKey, fork: int) -> None:
        """An endpoint changed its epoch: remember, and tell everybody."""
        if self.lineage.learn(old, new, fork):
            self._untold.append(Lineage(old, new, fork))
            self._tell_lineages()

    def _tell_lineages(self) -> None:
        """Tell what a full outbox has not refused; the rest is tried again at the next tick."""
        while self._untold:
            kind, raw = encode_body(self._untold[0])
            if not self.link.event(0, kind, rid_bytes(NO_RID), 0, raw):
                return
            with suppress(IndexError):  # another thread was quicker: repeating it is harmless
                self._untold.popleft()

    def epoch_seen(self, endpoint: object, store: StoreKey) -> None:
        """A node of ``endpoint`` lives in ``store``. Where another epoch was there before and nobody
        has said how the two hang together, nothing is known to have come along."""
        before = self._epochs.get(endpoint)
        if before == store:
            return
        if before is None and len(self._epochs) >= ENDPOINTS_MAX:
            self._epochs.clear()
        self._epochs[endpoint] = store
        if before is not None and self.lineage.carry(before, 0, store) is None:
            self.learn_lineage(before, store, 0)

    def hold(self, cell: Cell, by: int) -> None:
        """One more read of a request is held, or one fewer. Time in which several of its reads are
        held at once counts once in its budget."""
        now = time.monotonic()
        with self._lock:
            self.held += by
            reads, since = self._holding.get(cell, (0, now))
            if reads:
                cell.waited_s += now - since
            self._holding[cell] = (reads + by, now)

    def waited_s(self, cell: Cell) -> float:
        """Seconds for which reads of a request have been held here, up to now."""
        reads, since = self._holding.get(cell, (0, 0.0))
        return cell.waited_s + (time.monotonic() - since if reads else 0.0)

    # --- peers ---------------------------------------------------------------------------

    def speaks(self, peer: str) -> bool:
        """Whether this peer has ever answered with a context."""
        return peer in self._speakers

    def spoke(self, peer: str) -> None:
        """This peer answered with a context."""
        if peer not in self._speakers:
            if len(self._speakers) >= PEERS_MAX:
                self._speakers.clear()
            self._speakers.add(peer)

    # --- questions -----------------------------------------------------------------------

    def ask(self, context: Context, deliver: Deliver) -> int:
        """Ask the sidecar about a context; ``deliver`` is called once, from any thread, unless the
        question is dropped (:meth:`drop`). Returns its number, 0 when already answered."""
        now = time.monotonic()
        if now < self._breaker_until:
            deliver(Resolution(None, None, breaker_open=True))
            return 0
        with self._lock:
            self._number = number = (self._number + 1) & 0xFFFF_FFFF or 1
            self._questions[number] = deliver
        text = codec.encode(context, limit_bytes=_QUESTION_BYTES_MAX)
        budget_ms = int((RESOLVE_BUDGET_S - ANSWER_WAY_S) * 1000)
        if not self.link.ask(Ask(number, budget_ms, text)):
            self.drop(number)
            self.question_failed()
            deliver(Resolution(None, None))
            return 0
        return number

    def drop(self, number: int) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._questions.pop(number, None)

    def question_failed(self) -> None:
        """No answer came in time: after several in a row the breaker opens."""
        self._failures += 1
        if self._failures >= BREAKER_FAILURES:
            self._failures = 0
            self._breaker_until = time.monotonic() + BREAKER_OPEN_S
            self.stats.count("breaker_opened")

    def _received(self, message: channel.ToProcess) -> None:
        if isinstance(message, Answered):
            with self._lock:
                deliver = self._questions.pop(message.number, None)
            if message.status is Status.UNREACHABLE:
                self.question_failed()
            else:
                self._failures = 0
            if deliver is None:
                self.stats.count("answers_late")
                return
            try:
                answer = codec.decode(message.context) if message.context else None
            except MalformedContext:
                self.stats.count("answers_malformed")
                answer = None
            deliver(Resolution(message.status, answer))
        elif isinstance(message, Lineages):
            for entry in message.entries:
                self.lineage.learn(entry.old, entry.new, entry.fork)

    # --- life ----------------------------------------------------------------------------

    def _on_tick(self) -> None:
        from rendezvous_instrumentation.shell.background import close_later

        close_later(self)
        self._tell_lineages()
        now = time.monotonic()
        if now - self._stats_at >= STATS_INTERVAL_S:
            self._stats_at = now
            self._report()

    def _report(self) -> None:
        """Tell the sidecar what was counted, and write it where a folder for it is set."""
        entries = self.stats.entries()
        if entries != self._told and self.link.tell(channel.Counted(entries)):
            self._told = entries
        if self.config.stats_dir:
            self.stats.write(self.config.stats_dir)

    def finish(self) -> None:
        """At exit: the last events and statistics; never waits for anybody."""
        self.link.flush(now=True)
        self._report()


_current: Process | None = None
_making = allocate_lock()


def process() -> Process:
    """This process's incarnation. Compares the pid: not every fork runs Python's fork hooks."""
    current = _current
    if current is not None and current.pid == os.getpid():
        return current
    return _make()


def _make() -> Process:
    global _current
    with _making:
        if _current is None or _current.pid != os.getpid():
            if _current is None:
                import atexit

                os.register_at_fork(after_in_child=_after_fork)
                atexit.register(_at_exit)
            else:
                _forget()
            _current = Process(read_or_default(os.environ))
        return _current


def _after_fork() -> None:
    global _making
    _making = allocate_lock()
    _forget()


def _forget() -> None:
    """The parent's channel is not ours: close our copy of its socket, keep nothing of it."""
    global _current
    current, _current = _current, None
    forget_cells()
    forget_held()
    if current is not None:
        sock = current.link._socket  # pyright: ignore[reportPrivateUsage]
        if sock is not None:
            with suppress(OSError):
                sock.close()


def _at_exit() -> None:
    if _current is not None and _current.pid == os.getpid():
        with suppress(Exception):
            _current.finish()
