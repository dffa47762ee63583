"""A replicated store on virtual time, judged by the real rules of ``rendezvous_monitors``."""

from collections import deque
from dataclasses import dataclass, field

from rendezvous_api.ids import StoreKey, word
from rendezvous_monitors.positions.redis import Applied
from rendezvous_testing.simulation.world import World


@dataclass(frozen=True, slots=True)
class Wrote:
    """One write that happened: ground truth, never seen by the cores."""

    number: int
    store: str


@dataclass
class Node:
    """One node: the writes that it shows, and its place in the history."""

    name: str
    primary: bool
    epoch: StoreKey
    value: int = 0
    previous: StoreKey | None = None
    fork: int = -1
    shows: set[Wrote] = field(default_factory=set[Wrote])
    lag_s: float = 0.05
    cut: bool = False
    loading: bool = False
    """Whether it is loading a new copy, so that nothing can be said of it."""
    coming: deque[tuple[float, StoreKey, int, Wrote]] = field(
        default_factory=deque[tuple[float, StoreKey, int, Wrote]]
    )
    """What replication will bring, in order."""

    def applied(self) -> Applied:
        """What the node answers when asked."""
        return Applied(
            self.epoch,
            self.value,
            self.primary,
            not self.cut,
            self.loading,
            self.previous,
            self.fork,
        )


class Store:
    """A primary and replicas; replication is in order, each replica with a lag of its own."""

    def __init__(self, world: World, name: str, regions: list[str]) -> None:
        self._world = world
        self.name = name
        epoch = self._epoch()
        self.primary = Node(f"{name}/primary", True, epoch)
        self.replicas = {region: Node(f"{name}/{region}", False, epoch) for region in regions}
        for node in self.replicas.values():
            node.lag_s = world.rng.uniform(0.001, 0.3)
        self._log: list[tuple[int, Wrote]] = []
        self.moves: list[tuple[StoreKey, StoreKey, int]] = []
        """Epoch changes: what whoever is connected sees."""

    def _epoch(self) -> StoreKey:
        return StoreKey("r" + word(self._world.rng.getrandbits(64)))

    def write(self, wrote: Wrote) -> tuple[StoreKey, int]:
        """Carry a write out; its epoch and position."""
        primary = self.primary
        primary.value += self._world.rng.randint(1, 90)
        primary.shows.add(wrote)
        epoch, value = primary.epoch, primary.value
        self._log.append((value, wrote))
        for node in self.replicas.values():
            if node is not primary:
                self._replicate(node, epoch, value, wrote)
        return epoch, value

    def _replicate(self, node: Node, epoch: StoreKey, value: int, wrote: Wrote) -> None:
        node.coming.append((self._world.now + node.lag_s, epoch, value, wrote))

        def arrive() -> None:
            while node.coming and node.coming[0][0] <= self._world.now + 1e-9:
                if node.cut:
                    self._world.after(0.05, arrive)
                    return
                _, of, upto, one = node.coming.popleft()
                if node.epoch == of and node.value < upto and not node.primary:
                    node.value = upto
                    node.shows.add(one)

        self._world.after(node.lag_s, arrive)

    def fail_over(self, region: str | None = None) -> None:
        """The primary dies; one replica is promoted with what it has; the others follow it, and each
        names as the fork how far it had come itself."""
        region = region or self._world.rng.choice(sorted(self.replicas))
        promoted = self.replicas[region]
        if promoted.primary:
            return
        old, fork, new = promoted.epoch, promoted.value, self._epoch()
        self._world.say(f"{self.name}: {promoted.name} is promoted at {fork}")
        promoted.primary, promoted.cut = True, False
        self._log = [entry for entry in self._log if entry[1] in promoted.shows]
        for node in self.replicas.values():
            node.epoch, node.previous, node.fork = new, old, fork
            if node is not promoted:
                node.primary = False
                # A full copy of the new primary, in no time: what it had beyond the fork is gone.
                node.value = node.fork = min(node.value, fork)
                node.shows = {w for w in node.shows if w in promoted.shows}
                node.coming.clear()
                self._catch_up(node)
        self.primary = promoted
        self.moves.append((old, new, fork))

    def _catch_up(self, node: Node) -> None:
        for value, wrote in self._log:
            if value > node.value:
                self._replicate(node, node.epoch, value, wrote)
