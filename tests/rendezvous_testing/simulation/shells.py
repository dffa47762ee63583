"""What the shell of ``rendezvous_instrumentation`` does around the cores, in the same order.

One process, again and again (``life`` counts its incarnations), with the real outbox, cells and
codec. Nothing here is drawn: who uses a ``Shell`` says what happens. What the process knows travels
beside the truth (``Ground``), so that every read can be judged (``reads``).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from rendezvous_api import channel, codec
from rendezvous_api.cell import Cell
from rendezvous_api.channel import Acked, Answered, Hello
from rendezvous_api.context import NO_FLAGS, Flags
from rendezvous_api.event import (
    NO_RID,
    Adopt,
    Body,
    Close,
    Fail,
    Lineage,
    Opaque,
    Open,
    Unknown,
    Work,
    Write,
    encode_body,
)
from rendezvous_api.ids import (
    ROOT_BID,
    Bid,
    Incarnation,
    LogId,
    Origin,
    Rid,
    StoreKey,
    Zone,
    rid_bytes,
    text_of,
    word,
    zone_text,
)
from rendezvous_instrumentation.core.barrier import Resolution
from rendezvous_instrumentation.core.closing import close_frontier
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_monitors.positions import cover, redis
from rendezvous_testing.simulation.sidecars import Channel, Sidecar
from rendezvous_testing.simulation.stores import Node, Store
from rendezvous_testing.simulation.truth import Ground, Truth
from rendezvous_testing.simulation.world import Future, World


@dataclass(frozen=True)
class Bounds:
    """What a process is given."""

    context_bytes: int = 512
    outbox_events: int = 20_000
    budget_s: float = 3.0


@dataclass
class Scope:
    """A task's place: its cell, branch and truth."""

    cell: Cell
    bid: Bid
    zone: Zone
    truth: Truth


@dataclass(frozen=True)
class Call:
    """An outgoing call or message: the context that it carries, and the truth beside it."""

    bid: Bid
    registered: bool
    text: str
    truth: Truth


@dataclass(frozen=True)
class Numbered:
    """An event as its process numbered it; 0: refused."""

    origin: Origin
    seq: int
    rid: Rid
    bid: Bid
    body: Body


class Reply(Enum):
    """How a store answers a write."""

    PLACED = "placed"
    UNPLACED = "unplaced"
    """Answered, but its position is not told."""
    NONE = "none"
    """Not answered: it may have happened or not, or happen later."""


class Shell:
    """One process."""

    def __init__(
        self,
        world: World,
        ground: Ground,
        name: str,
        region: str,
        sidecar: Sidecar,
        bounds: Bounds,
    ) -> None:
        self.world = world
        self.ground = ground
        self.name = name
        self.region = region
        self.sidecar = sidecar
        self.bounds = bounds
        self.verdicts: Counter[str] = Counter()
        self.reads = 0
        self.life = 0
        self.up = False
        self.acked: list[tuple[Origin, int, LogId, int]] = []
        self.events: dict[tuple[Origin, int], tuple[Rid, Bid, Body]] = {}
        self.start()

    # --- life -----------------------------------------------------------------------

    def start(self) -> None:
        """A new incarnation."""
        rng = self.world.rng
        self.up = True
        self.life += 1
        self.outbox = Outbox(Incarnation(word(rng.getrandbits(64))), self.bounds.outbox_events)
        self.lineage = cover.Lineage()
        self._epochs: dict[str, StoreKey] = {}
        """Per endpoint, the epoch that was there last."""
        self.channel: Channel | None = None
        self._cells: dict[Rid, Cell] = {}
        self._truths: dict[Rid, Truth] = {}
        self.questions: dict[int, Future] = {}
        self.asked = 0
        self._bids = rng.getrandbits(63)
        self.world.tap(self.name, self.name, self.outbox.incarnation)
        self._pump()

    def crash(self) -> None:
        """kill -9."""
        self.world.say(f"{self.name}: killed")
        self.up = False
        self.life += 1
        if self.channel is not None:
            self.sidecar.process_died(self.channel)
            self.channel = None

    def alive(self) -> Callable[[], bool]:
        """Whether the incarnation of now still lives, to be asked later."""
        life = self.life
        return lambda: self.up and self.life == life

    # --- the channel (what Link does) -----------------------------------------------

    def _pump(self) -> None:
        alive = self.alive()

        def tick() -> None:
            if alive():
                if self.channel is None and self.sidecar.up:
                    self._connect()
                self.flush()
                self.world.after(0.05, tick)

        tick()

    def _connect(self) -> None:
        life = self.life
        owner = self

        class Peer:
            name = owner.name

            def packet(self, raw: bytes) -> None:
                if owner.up and owner.life == life:
                    owner.receive(raw)

            def hung_up(self) -> None:
                if owner.up and owner.life == life and owner.channel is opened:
                    owner.channel = None
                    owner.outbox.channel_lost()

        opened = self.sidecar.open_channel(Peer())
        self.channel = opened
        self.outbox.channel_lost()
        hello = Hello(self.outbox.incarnation, 1, self.name, self.region)
        opened.up.send(channel.encode(hello))

    def flush(self) -> None:
        """Send what is queued, as far as the channel takes it."""
        pipe = self.channel
        while pipe is not None and self.outbox.waiting and not (pipe.up.full or pipe.paused):
            pipe.up.send(channel.EVENTS_PREFIX + self.outbox.take(400))

    def receive(self, raw: bytes) -> None:
        """A packet from the sidecar."""
        message = channel.decode_to_process(raw)
        if isinstance(message, Acked):
            for lane, seq, log, index in message.entries:
                self.outbox.acked(lane, seq, log, index)
                self.acked.append((self.outbox.origins[lane], seq, log, index))
        elif isinstance(message, Answered):
            future = self.questions.pop(message.number, None)
            if future is not None:
                answer = codec.decode(message.context) if message.context else None
                future.set(Resolution(message.status, answer))
        else:
            for entry in message.entries:
                self.lineage.learn(entry.old, entry.new, entry.fork)

    def event(self, cell: Cell, bid: Bid, body: Body) -> bool:
        """Report an event; whether it was numbered."""
        kind, raw = encode_body(body)
        seq = self.outbox.append(cell.lane, kind, rid_bytes(cell.rid), bid, raw)
        origin = self.outbox.origins[cell.lane]
        self.world.tap(self.name, self.name, Numbered(origin, seq, cell.rid, bid, body))
        if not seq:
            return False
        self.events[origin, seq] = (cell.rid, bid, body)
        cell.saw_event(origin, seq, int(self.world.now))
        self.flush()
        return True

    def new_bid(self) -> Bid:
        """A branch id of this process."""
        self._bids += 1
        return Bid(self._bids)

    # --- requests -------------------------------------------------------------------

    def begin(self, rid: Rid | None = None) -> Scope:
        """A request from outside; with ``rid`` one that is known by its trace id alone."""
        joined = rid is not None
        rid = rid or Rid(text_of(self.world.rng.randbytes(16)))
        scope = self._scope(rid, ROOT_BID, ())
        if joined:
            scope.cell.mark(Flags.JOINED)
        return scope

    def adopt(self, text: str, truth: Truth) -> Scope:
        """A call or message arrives."""
        context = codec.decode(text)
        scope = self._scope(context.rid, context.branch, context.zone)
        scope.truth |= truth
        scope.cell.merge(context)
        self.ground.under[scope.bid] = scope.truth
        self.event(scope.cell, scope.bid, Adopt(self.name, self.region))
        return scope

    def _scope(self, rid: Rid, bid: Bid, zone: Zone) -> Scope:
        cell = self._cells.setdefault(rid, Cell(rid))
        return Scope(cell, bid, zone, self._truths.setdefault(rid, set()))

    def link(self, scope: Scope, before: Scope) -> None:
        """The request continues an earlier one, whose context came with it."""
        scope.cell.merge(codec.decode(self.encoded(before, before.bid)))
        scope.truth |= before.truth

    def answer(self, scope: Scope, *, continues: bool = False) -> tuple[str, Truth]:
        """The response: its context, and the truth beside it. Unless it ``continues``, the branch
        is closed first, so that its event goes out with those that the context names."""
        carried = set(scope.truth)
        if not continues:
            self.close(scope)
        return self.encoded(scope, scope.bid, Flags.CONTINUES if continues else NO_FLAGS), carried

    def close(self, scope: Scope) -> None:
        """The branch's work is done."""
        self.ground.under[scope.bid] = set(scope.truth)
        known = scope.cell.cut(ROOT_BID, (), self.outbox.acks)
        own = self.outbox.origins[scope.cell.lane]
        frontier = close_frontier(known, own, unregistered=bool(scope.cell.unregistered))
        self.say(scope, f"close: {frontier}")
        self.event(scope.cell, scope.bid, Close(frontier, self.region))

    def go_on(self, scope: Scope) -> Scope:
        """The response is out and work goes on: a branch of its own in a child zone."""
        zone, bid = scope.cell.next_child_zone(scope.zone), self.new_bid()
        opened = Open(Work.TASK, scope.bid, zone_text(zone), self.name, self.region)
        self.event(scope.cell, bid, opened)
        self.ground.parents[bid] = scope.bid
        self.ground.under[bid] = scope.truth
        return Scope(scope.cell, bid, zone, scope.truth)

    def encoded(self, scope: Scope, bid: Bid, flags: Flags = NO_FLAGS) -> str:
        """The context as it leaves the process."""
        cut = scope.cell.cut(bid, scope.zone, self.outbox.acks, flags)
        keep = frozenset(scope.cell.unregistered)
        return codec.encode(cut, limit_bytes=self.bounds.context_bytes, keep=keep)

    # --- calls ----------------------------------------------------------------------

    def call(self, scope: Scope, peer: str, region: str) -> Call:
        """Begin a call; then exactly one of ``answered``, ``opaque``, ``unanswered``, ``never_sent``."""
        bid = self.new_bid()
        registered = self.event(scope.cell, bid, Open(Work.RPC, scope.bid, "", peer, region))
        self.ground.parents[bid] = scope.bid
        text = self.encoded(scope, bid)
        self.say(scope, f"call {bid:x} to {peer}: {text}")
        return Call(bid, registered, text, set(scope.truth))

    def message(self, scope: Scope, peer: str, region: str) -> Call:
        """Send a message: a branch of its own in a child zone, that nobody answers."""
        bid, zone = self.new_bid(), scope.cell.next_child_zone(scope.zone)
        opened = Open(Work.MESSAGE, scope.bid, zone_text(zone), peer, region)
        registered = self.event(scope.cell, bid, opened)
        self.ground.parents[bid] = scope.bid
        inside = Scope(scope.cell, bid, zone, scope.truth)
        return Call(bid, registered, self.encoded(inside, bid), set(scope.truth))

    def never_sent(self, scope: Scope, call: Call) -> None:
        """Not a byte left."""
        if call.registered:
            self.event(scope.cell, call.bid, Fail())

    def opaque(self, scope: Scope, call: Call) -> None:
        """A complete response without a context, from a peer never seen to answer with one."""
        if call.registered:
            self.event(scope.cell, call.bid, Opaque())

    def unanswered(self, scope: Scope, call: Call) -> None:
        """The call ended without the callee's context."""
        self.say(scope, f"call {call.bid:x} timed out")
        self._leave_unresolved(scope, call)

    def answered(self, scope: Scope, call: Call, text: str, truth: Truth) -> None:
        """The response is here."""
        scope.truth |= truth
        context = codec.decode(text)
        scope.cell.merge(context)
        self.say(scope, f"call {call.bid:x} answered: {text}")
        if context.flags & Flags.CONTINUES:
            self._leave_unresolved(scope, call)

    def _leave_unresolved(self, scope: Scope, call: Call) -> None:
        scope.truth.add(call.bid)  # whatever the callee has done, or still does, is meant too
        if call.registered:
            scope.cell.unresolved.add(call.bid)
        else:
            scope.cell.mark(Flags.INCOMPLETE)

    # --- writes ---------------------------------------------------------------------

    def write(
        self,
        scope: Scope,
        store: Store,
        reply: Reply,
        *,
        happens: bool = True,
        after_s: float = 0.0,
    ) -> None:
        """Write. ``happens`` and ``after_s`` say what becomes of a write that is not answered."""
        wrote = self.ground.new_write(store.name)
        cell, seen = scope.cell, store.primary.epoch
        if reply is Reply.NONE:
            if happens:
                self.world.after(after_s, lambda: store.write(wrote) and None)
                scope.truth.add(wrote)
            self.say(scope, f"write {wrote.number} of {store.name} is not answered")
            self._unplaced(scope, seen, unanswered=True)
            return
        self.ask(store.primary, store.name)
        epoch, value = store.write(wrote)
        scope.truth.add(wrote)
        self.say(scope, f"write {wrote.number} of {store.name} at {value}")
        if reply is Reply.UNPLACED:
            self._unplaced(scope, seen, unanswered=False)
            return
        cell.wrote(epoch, value)
        if self.event(cell, self.new_bid(), Write(epoch, value)):
            cell.unregistered.discard(epoch)
        else:
            cell.unregistered.add(epoch)

    def ask(self, node: Node, endpoint: str = "") -> redis.Applied:
        """Ask a node (at ``endpoint``, where that is not its own address).

        Whoever sees an endpoint change its epoch publishes the lineage; where nobody says how two
        epochs hang together, nothing is known to have come along.
        """
        applied = node.applied()
        if applied.previous is not None:
            self._learn(applied.previous, applied.store, applied.fork)
        endpoint = endpoint or node.name
        before = self._epochs.get(endpoint)
        self._epochs[endpoint] = applied.store
        if before is not None and self.lineage.carry(before, 0, applied.store) is None:
            self._learn(before, applied.store, 0)
        return applied

    def _learn(self, old: StoreKey, new: StoreKey, fork: int) -> None:
        if self.lineage.learn(old, new, fork):
            kind, raw = encode_body(Lineage(old, new, fork))
            self.outbox.append(0, kind, rid_bytes(NO_RID), 0, raw)
            self.flush()

    def _unplaced(self, scope: Scope, store: StoreKey, *, unanswered: bool) -> None:
        scope.cell.mark_unknown(store, unanswered=unanswered)
        if not self.event(scope.cell, self.new_bid(), Unknown(store, unanswered)):
            scope.cell.mark(Flags.INCOMPLETE)

    def say(self, scope: Scope, what: str) -> None:
        """A line of the trace."""
        self.world.say(f"{self.name} {scope.cell.rid[:4]} {scope.bid:x}: {what}")
