"""An application process of random habits: each request is a task of random steps.

It writes, reads at the local replica, calls another process, sends it a message; what its shell does
around the cores is in ``shells`` and ``reads``.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rendezvous_testing.simulation.reads import head, read
from rendezvous_testing.simulation.shells import Bounds, Reply, Scope, Shell
from rendezvous_testing.simulation.sidecars import Sidecar
from rendezvous_testing.simulation.stores import Store
from rendezvous_testing.simulation.truth import Ground, Truth
from rendezvous_testing.simulation.world import Future, Task, World


@dataclass(frozen=True)
class Habits(Bounds):
    """How applications behave in one run; probabilities per step."""

    steps_max: int = 4
    depth_max: int = 3
    lose_request: float = 0.02
    lose_response: float = 0.05
    write_unanswered: float = 0.02
    write_unplaced: float = 0.02
    stream: float = 0.1
    """A response that goes on after its headers."""
    background: float = 0.1
    """Work that goes on after the response."""
    head: float = 0.05
    """Asking a primary for its head."""
    link: float = 0.1
    """A request that continues an earlier one of its process."""


class Application(Shell):
    """One process, its work drawn from the world's chance."""

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
        self._stores = stores
        self._habits = habits
        self.peers: list[Application] = []
        self._last: Scope | None = None
        super().__init__(world, ground, name, region, sidecar, habits)

    def begin_request(self) -> None:
        """A request from outside."""
        scope = self.begin()
        if self._last is not None and self.world.chance(self._habits.link):
            self.link(scope, self._last)
        self._last = scope
        self.world.start(self._work(scope, self._habits.depth_max), self.alive())

    def serve(
        self, text: str, truth: Truth, depth: int, done: Callable[[str, Truth], None]
    ) -> Task:
        """A call arrives."""
        scope = self.adopt(text, truth)
        yield from self._work(scope, depth)
        rng, habits = self.world.rng, self._habits
        fate = rng.random()
        if fate < habits.stream:
            done(*self.answer(scope, continues=True))
            yield from self._work(scope, depth)
            self.close(scope)
            return
        done(*self.answer(scope))
        if fate < habits.stream + habits.background:
            behind = self.go_on(scope)
            yield from self._work(behind, depth)
            self.close(behind)

    def _work(self, scope: Scope, depth: int) -> Task:
        rng = self.world.rng
        for _ in range(rng.randint(1, self._habits.steps_max)):
            yield rng.random() * 0.02
            if scope.cell.unknown and rng.random() < self._habits.head:
                head(self, scope, rng.choice(self._stores).primary)
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
        world, habits = self.world, self._habits
        store = world.rng.choice(self._stores)
        yield 0.001
        if world.chance(habits.write_unanswered):
            happens = world.chance(0.5)
            after_s = world.rng.random() * 0.2 if happens else 0.0
            self.write(scope, store, Reply.NONE, happens=happens, after_s=after_s)
        elif world.chance(habits.write_unplaced):
            self.write(scope, store, Reply.UNPLACED)
        else:
            self.write(scope, store, Reply.PLACED)

    def _read(self, scope: Scope) -> Task:
        rng = self.world.rng
        store = rng.choice(self._stores)
        node = store.primary if rng.random() < 0.1 else store.replicas[self.region]
        yield from read(self, scope, store, node)

    def _message(self, scope: Scope, depth: int) -> None:
        peer = self.world.rng.choice(self.peers)
        sent = self.message(scope, peer.name, peer.region)

        def deliver() -> None:
            if peer.up:
                task = peer.serve(sent.text, sent.truth, depth, _to_nobody)
                self.world.start(task, peer.alive())

        self.world.after(self.world.rng.random() * 0.1, deliver)

    def _call(self, scope: Scope, depth: int) -> Task:
        world, habits = self.world, self._habits
        peer = world.rng.choice(self.peers)
        call = self.call(scope, peer.name, peer.region)
        answer = Future()
        if not peer.up:
            yield 0.001
            self.never_sent(scope, call)
            return

        def reply(text: str, truth: Truth) -> None:
            if not world.chance(habits.lose_response):
                world.after(0.002 * world.rng.random(), lambda: answer.set((text, truth)))

        def deliver() -> None:
            if peer.up:
                world.start(peer.serve(call.text, call.truth, depth, reply), peer.alive())

        if not world.chance(habits.lose_request):
            world.after(0.002 * world.rng.random(), deliver)
        world.after(0.3 + world.rng.random(), lambda: answer.set(None))
        result = yield answer
        if result is None:
            self.unanswered(scope, call)
        else:
            self.answered(scope, call, *result)


def _to_nobody(text: str, truth: Truth) -> None:
    """Nobody waits for a message's answer."""
