"""Virtual time: a heap of what is to happen, one seeded source of chance, and tasks."""

import heapq
import random
from collections.abc import Callable, Generator
from typing import Any

Tap = Callable[[str, str, object], None]
"""Told what passes: sender, receiver (the same one, for what stays inside), and what."""

Task = Generator["float | Future", Any, Any]
"""A task yields seconds to sleep or a future to wait for, and is sent the future's value."""


class Future:
    """A value that comes later; ``None`` after a time-out."""

    __slots__ = ("_wake", "done", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._wake: Callable[[], None] | None = None

    def set(self, value: Any) -> None:
        """Give the value; later ones are ignored."""
        if not self.done:
            self.done, self.value = True, value
            if self._wake is not None:
                self._wake()

    def then(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once the value is here."""
        self._wake = wake
        if self.done:
            wake()


def _nobody(sender: str, receiver: str, message: object) -> None:
    """Nobody listens."""


class World:
    """Clock, chance and agenda of one run."""

    def __init__(self, seed: int, *, trace: bool) -> None:
        self.rng = random.Random(seed)
        self.now = 1_000_000.0
        self.lines: list[str] = []
        self.tasks = 0
        """Tasks that have begun and not ended."""
        self.tap: Tap = _nobody
        self._trace = trace
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def say(self, text: str) -> None:
        """Add a line to the trace."""
        if self._trace:
            self.lines.append(f"{self.now - 1_000_000:9.4f}  {text}")

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Have something done later."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._count, do))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        agenda = self._agenda
        while agenda and agenda[0][0] <= end:
            self.now, _, do = heapq.heappop(agenda)
            do()
        self.now = end

    def start(self, task: Task, alive: Callable[[], bool]) -> None:
        """Run a task for as long as ``alive``: a crashed process's tasks simply stop."""
        self.tasks += 1
        self._step(task, alive, None)

    def _step(self, task: Task, alive: Callable[[], bool], value: Any) -> None:
        if not alive():
            self.tasks -= 1
            return
        try:
            wanted = task.send(value)
        except StopIteration:
            self.tasks -= 1
            return
        if isinstance(wanted, Future):
            future = wanted
            future.then(lambda: self.after(0, lambda: self._step(task, alive, future.value)))
        else:
            self.after(wanted, lambda: self._step(task, alive, None))

    def chance(self, probability: float) -> bool:
        """Whether something with this probability happens now."""
        return self.rng.random() < probability
