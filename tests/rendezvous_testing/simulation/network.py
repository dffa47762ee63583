"""Connections: in order within one, any delay between two; they break, and what was under way is lost
or, for a channel whose process has died, still read to its end."""

from collections.abc import Callable
from typing import Any

from rendezvous_testing.simulation.world import World

Receive = Callable[[Any], None]


class Pipe:
    """One direction of one connection. At most ``capacity`` messages are under way."""

    def __init__(
        self,
        world: World,
        receive: Receive,
        delay_s: float,
        *,
        ends: tuple[str, str],
        capacity: int = 10_000,
    ) -> None:
        self._world = world
        self._ends = ends
        self._receive = receive
        self._delay_s = delay_s
        self._capacity = capacity
        self._last = 0.0
        self._under_way = 0
        self.cut = False

    @property
    def full(self) -> bool:
        """Whether a message more would not be taken."""
        return self._under_way >= self._capacity

    def send(self, message: Any) -> None:
        """Deliver later, in order; never, once the connection is cut."""
        world = self._world
        arrival = world.now + self._delay_s * (0.5 + world.rng.random())
        self._last = max(self._last, arrival)
        self._under_way += 1
        world.after(self._last - world.now, lambda: self._deliver(message))

    def _deliver(self, message: Any) -> None:
        self._under_way -= 1
        if not self.cut:
            self._world.tap(*self._ends, message)
            self._receive(message)

    def end(self, ended: Callable[[], None]) -> None:
        """After all that is under way, ``ended`` is called: the other side reads to the end."""
        self._world.after(max(0.0, self._last - self._world.now) + 1e-6, ended)
