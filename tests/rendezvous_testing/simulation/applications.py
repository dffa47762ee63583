"""An application process: the real outbox, cells, codec and barrier; its shell simulated.

Each request is a task of random steps: write, read at the local replica, call another process, send
it a message. What the shell of ``rendezvous_instrumentation`` does around the cores is done here in
the same order; what it knows travels beside the truth, and every read is judged.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from rendezvous_api import channel, codec
from rendezvous_api.cell import Cell
from rendezvous_api.channel import Acked, Answered, Ask, Hello, Lineages
from rendezvous_api.context import Flags
from rendezvous_api.event import (
    NO_RID,
    Adopt,
    Body,
    Close,
    Fail,
    Lineage,
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
    rid_bytes,
    text_of,
    word,
)
from rendezvous_instrumentation.core.barrier import (
    Applied,
    Ask as AskNode,
    AskAndRead,
    Reply,
    Resolution,
    Resolve,
    Wait,
    Waited,
    needs_resolve,
    question_about,
    read_barrier,
)
from rendezvous_instrumentation.core.closing import close_frontier
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_instrumentation.core.verdict import Outcome, Reason, Verdict
from rendezvous_monitors.positions import cover, redis
from rendezvous_testing.simulation.sidecars import Channel, Sidecar
from rendezvous_testing.simulation.stores import Node, Store
from rendezvous_testing.simulation.truth import Ground, Truth
from rendezvous_testing.simulation.world import Future, Task, World


class Miss(AssertionError):
    """A read with a good verdict did not see a write that it depends on."""


@dataclass(frozen=True)
class Habits:
    """How applications behave in one run; probabilities per step."""

    context_bytes: int = 512
    outbox_events: int = 20_000
    steps_max: int = 4
    depth_max: int = 3
    lose_request: float = 0.02
    lose_response: float = 0.05
    write_unanswered: float = 0.02
    write_unplaced: float = 0.02
    budget_s: float = 3.0


@dataclass
class Scope:
    """A task's place: its cell, branch and truth."""

    cell: Cell
    bid: Bid
    zone: tuple[int, ...]
    truth: Truth


class Application:
    """One process, again and again: ``life`` counts its incarnations."""

    def __init__(
        self,
        world: World,
        ground: Ground,
        name: str,
        region: str,
        sidecar: Sidecar,
        stores: list[Store],
        habits: Habits,
    ) -> None:
        self._world = world
        self._ground = ground
        self.name = name
        self.region = region
        self.sidecar = sidecar
        self._stores = stores
        self._habits = habits
        self.peers: list[Application] = []
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
        rng = self._world.rng
        self.up = True
        self.life += 1
        self.outbox = Outbox(Incarnation(word(rng.getrandbits(64))), self._habits.outbox_events)
        self.lineage = cover.Lineage()
        self._channel: Channel | None = None
        self._cells: dict[Rid, Cell] = {}
        self._truths: dict[Rid, Truth] = {}
        self._questions: dict[int, Future] = {}
        self._number = 0
        self._bids = rng.getrandbits(63)
        self._pump()

    def crash(self) -> None:
        """kill -9."""
        self._world.say(f"{self.name}: killed")
        self.up = False
        self.life += 1
        if self._channel is not None:
            self.sidecar.process_died(self._channel)
            self._channel = None

    def alive(self) -> Callable[[], bool]:
        """Whether the incarnation of now still lives, to be asked later."""
        life = self.life
        return lambda: self.up and self.life == life

    # --- the channel (what Link does) -----------------------------------------------

    def _pump(self) -> None:
        alive = self.alive()

        def tick() -> None:
            if alive():
                if self._channel is None and self.sidecar.up:
                    self._connect()
                self._send()
                self._world.after(0.05, tick)

        tick()

    def _connect(self) -> None:
        life = self.life
        owner = self

        class Peer:
            def packet(self, raw: bytes) -> None:
                if owner.up and owner.life == life:
                    owner.receive(raw)

            def hung_up(self) -> None:
                if owner.up and owner.life == life and owner._channel is opened:
                    owner._channel = None
                    owner.outbox.channel_lost()

        opened = self.sidecar.open_channel(Peer())
        self._channel = opened
        self.outbox.channel_lost()
        hello = Hello(self.outbox.incarnation, 1, self.name, self.region)
        opened.up.send(channel.encode(hello))

    def _send(self) -> None:
        pipe = self._channel
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
            future = self._questions.pop(message.number, None)
            if future is not None:
                answer = codec.decode(message.context) if message.context else None
                future.set(Resolution(message.status, answer))
        elif isinstance(message, Lineages):
            for entry in message.entries:
                self.lineage.learn(entry.old, entry.new, entry.fork)

    def event(self, cell: Cell, bid: Bid, body: Body) -> bool:
        """Report an event; whether it was numbered."""
        kind, raw = encode_body(body)
        seq = self.outbox.append(cell.lane, kind, rid_bytes(cell.rid), bid, raw)
        if not seq:
            return False
        origin = self.outbox.origins[cell.lane]
        self.events[origin, seq] = (cell.rid, bid, body)
        cell.saw_event(origin, seq, int(self._world.now))
        self._send()
        return True

    def _new_bid(self) -> Bid:
        self._bids += 1
        return Bid(self._bids)

    # --- requests -------------------------------------------------------------------

    def begin_request(self) -> None:
        """A request from outside."""
        rid = Rid(text_of(self._world.rng.randbytes(16)))
        cell = self._cells.setdefault(rid, Cell(rid))
        scope = Scope(cell, ROOT_BID, (), self._truths.setdefault(rid, set()))
        self._world.start(self._work(scope, self._habits.depth_max), self.alive())

    def serve(self, text: str, truth: Truth, depth: int, done: Callable[[str, Truth], None]) -> Task:
        """A call arrives."""
        context = codec.decode(text)
        rid = context.rid
        cell = self._cells.setdefault(rid, Cell(rid))
        known = self._truths.setdefault(rid, set())
        known |= truth
        cell.merge(context)
        bid = context.branch
        self._ground.under[bid] = known
        self.event(cell, bid, Adopt(self.name, self.region))
        scope = Scope(cell, bid, context.zone, known)
        yield from self._work(scope, depth)
        reply = self._encode(scope, bid)
        carried = set(scope.truth)
        self._ground.under[bid] = carried
        known_now = cell.cut(ROOT_BID, (), self.outbox.acks)
        own = self.outbox.origins[cell.lane]
        frontier = close_frontier(known_now, own, unregistered=bool(cell.unregistered))
        self._say(scope, f"close: {frontier}")
        self.event(cell, bid, Close(frontier, self.region))
        done(reply, carried)

    def _encode(self, scope: Scope, bid: Bid) -> str:
        cut = scope.cell.cut(bid, scope.zone, self.outbox.acks)
        keep = frozenset(scope.cell.unregistered)
        return codec.encode(cut, limit_bytes=self._habits.context_bytes, keep=keep)

    def _work(self, scope: Scope, depth: int) -> Task:
        rng = self._world.rng
        for _ in range(rng.randint(1, self._habits.steps_max)):
            yield rng.random() * 0.02
            step = rng.random()
            if step < 0.35:
                yield from self._write(scope)
            elif step < 0.65:
                yield from self._read(scope)
            elif depth and step < 0.9:
                yield from self._call(scope, depth - 1)
            elif depth:
                self._message(scope, depth - 1)

    def _write(self, scope: Scope) -> Task:
        world, habits = self._world, self._habits
        store = world.rng.choice(self._stores)
        wrote = self._ground.new_write(store.name)
        cell = scope.cell
        yield 0.001
        seen = store.primary.epoch
        if world.chance(habits.write_unanswered):
            if world.chance(0.5):
                world.after(world.rng.random() * 0.2, lambda: store.write(wrote))
                scope.truth.add(wrote)
            self._say(scope, f"write {wrote.number} of {store.name} is not answered")
            cell.mark_unknown(seen, unanswered=True)
            self.event(cell, self._new_bid(), Unknown(seen, True))
            return
        epoch, value = store.write(wrote)
        scope.truth.add(wrote)
        self._say(scope, f"write {wrote.number} of {store.name} at {value}")
        if world.chance(habits.write_unplaced):
            cell.mark_unknown(seen, unanswered=False)
            self.event(cell, self._new_bid(), Unknown(seen, False))
            return
        cell.wrote(epoch, value)
        if self.event(cell, self._new_bid(), Write(epoch, value)):
            cell.unregistered.discard(epoch)
        else:
            cell.unregistered.add(epoch)

    def _message(self, scope: Scope, depth: int) -> None:
        peer, bid = self._world.rng.choice(self.peers), self._new_bid()
        zone = scope.cell.next_child_zone(scope.zone)
        self.event(scope.cell, bid, Open(Work.MESSAGE, scope.bid, "", peer.name, peer.region))
        self._ground.parents[bid] = scope.bid
        text = codec.encode(
            scope.cell.cut(bid, zone, self.outbox.acks),
            limit_bytes=self._habits.context_bytes,
            keep=frozenset(scope.cell.unregistered),
        )
        truth = set(scope.truth)

        def deliver() -> None:
            if peer.up:
                self._world.start(peer.serve(text, truth, depth, lambda *_: None), peer.alive())

        self._world.after(self._world.rng.random() * 0.1, deliver)

    def _call(self, scope: Scope, depth: int) -> Task:
        world, habits, cell = self._world, self._habits, scope.cell
        peer, bid = world.rng.choice(self.peers), self._new_bid()
        registered = self.event(cell, bid, Open(Work.RPC, scope.bid, "", peer.name, peer.region))
        self._ground.parents[bid] = scope.bid
        text, truth, answer = self._encode(scope, bid), set(scope.truth), Future()
        self._say(scope, f"call {bid:x} to {peer.name}: {text}")
        if not peer.up:
            yield 0.001
            if registered:
                self.event(cell, bid, Fail())
            return

        def reply(text: str, truth: Truth) -> None:
            if not world.chance(habits.lose_response):
                world.after(0.002 * world.rng.random(), lambda: answer.set((text, truth)))

        def deliver() -> None:
            if peer.up:
                world.start(peer.serve(text, truth, depth, reply), peer.alive())

        if not world.chance(habits.lose_request):
            world.after(0.002 * world.rng.random(), deliver)
        world.after(0.3 + world.rng.random(), lambda: answer.set(None))
        result = yield answer
        if result is None:
            self._say(scope, f"call {bid:x} timed out")
            scope.truth.add(bid)  # whatever the callee has done, or still does, is meant too
            if registered:
                cell.unresolved.add(bid)
            else:
                cell.flags |= Flags.INCOMPLETE
            return
        scope.truth |= result[1]
        cell.merge(codec.decode(result[0]))
        self._say(scope, f"call {bid:x} answered: {result[0]}")

    def _say(self, scope: Scope, what: str) -> None:
        self._world.say(f"{self.name} {scope.cell.rid[:4]} {scope.bid:x}: {what}")

    # --- reads ----------------------------------------------------------------------

    def _read(self, scope: Scope) -> Task:
        rng = self._world.rng
        store = rng.choice(self._stores)
        node = store.primary if rng.random() < 0.1 else store.replicas[self.region]
        known = set(scope.truth)
        if not scope.cell.depends:
            self._judge(scope, node, store, known, None)
            return
        verdict = yield from self._barrier(scope, node)
        self._judge(scope, node, store, known, verdict)

    def _barrier(self, scope: Scope, node: Node) -> Task:
        world, cell = self._world, scope.cell
        program = read_barrier(
            cell,
            redis.KIND,
            self._cover,
            branch=scope.bid,
            remembered=None,
            repeatable=True,
            no_wait=Reason.NONE,
            budget_s=self._habits.budget_s,
        )
        reply: Reply = None
        while True:
            try:
                effect = program.send(reply)
            except StopIteration as stop:
                return stop.value
            match effect:
                case AskNode() | AskAndRead():
                    yield 0.0003
                    reply = self._ask(node)
                case Wait(targets, seconds):
                    began = world.now
                    while world.now - began < seconds:
                        yield 0.005
                        applied = self._ask(node)
                        covers = [self._cover(applied, s, v) for s, v in targets]
                        if not {cover.Cover.NO, cover.Cover.UNKNOWN} & set(covers):
                            break
                    reply = Waited(world.now - began)
                case Resolve():
                    reply = yield from self._resolve(scope)

    def _ask(self, node: Node) -> redis.Applied:
        applied = node.applied()
        if applied.previous is not None and self.lineage.learn(
            applied.previous, applied.store, applied.fork
        ):
            kind, raw = encode_body(Lineage(applied.previous, applied.store, applied.fork))
            self.outbox.append(0, kind, rid_bytes(NO_RID), 0, raw)
            self._send()
        return applied

    def _cover(self, applied: Applied, store: StoreKey, value: int) -> cover.Cover:
        assert isinstance(applied, redis.Applied)
        return redis.covers(applied, store, value, self.lineage)

    def _resolve(self, scope: Scope) -> Task:
        assert needs_resolve(scope.cell, scope.bid)
        cell = scope.cell
        now = int(self._world.now)
        asked = question_about(cell.cut(scope.bid, scope.zone, self.outbox.acks), scope.bid)
        pipe = self._channel
        if pipe is None or pipe.paused or self.outbox.waiting:
            yield 0.01
            return Resolution(None, None)
        self._number += 1
        future = self._questions[self._number] = Future()
        text = codec.encode(asked, limit_bytes=4000)
        pipe.up.send(channel.encode(Ask(self._number, 1000, text)))
        number = self._number
        self._world.after(1.0, lambda: future.set(None))
        resolution = yield future
        self._questions.pop(number, None)
        if resolution is None:
            self._say(scope, "resolve: no answer")
            return Resolution(None, None)
        self._say(scope, f"resolve: {text} -> {resolution.status.name} {resolution.answer}")
        if resolution.status is channel.Status.ANSWERED and resolution.answer is not None:
            cell.resolved(resolution.answer, asked, now)
        return resolution

    def _judge(
        self, scope: Scope, node: Node, store: Store, known: Truth, verdict: Verdict | None
    ) -> None:
        self.reads += 1
        text = verdict.text if verdict is not None else "no verdict"
        self._say(scope, f"read {node.name} at {node.value}: {text}")
        if verdict is not None:
            self.verdicts[verdict.text] += 1
            if verdict.outcome is Outcome.UNPROTECTED:
                return
        wanted = {w for w in self._ground.expand(known, scope.bid) if w.store == store.name}
        missing = wanted - node.shows
        if missing:
            raise Miss(
                f"{self.name} read {node.name} in request {scope.cell.rid}: {text}, but "
                f"{len(missing)} writes are missing: {sorted(w.number for w in missing)}"
            )
