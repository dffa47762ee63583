"""Chance for scenarios: there is none. Delays are what they are on average, ids only differ."""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_STRIDE = 0x9E3779B97F4A7C15F39CC0605CEDC835
"""An odd number: its multiples are distinct, and far from one another."""


class Steady(random.Random):
    """Draws ids, and nothing else, so that no scenario depends on who draws how often."""

    def __init__(self) -> None:
        super().__init__(0)
        self._drawn = 0

    def getrandbits(self, k: int, /) -> int:
        """The next id."""
        self._drawn += 1
        return (self._drawn * _STRIDE >> max(0, 128 - k)) & ((1 << k) - 1)

    def randbytes(self, n: int) -> bytes:
        """The next id as bytes."""
        return self.getrandbits(8 * n).to_bytes(n, "big")

    def random(self) -> float:
        """The middle."""
        return 0.5

    def randint(self, a: int, b: int) -> int:
        """10, as far as the bounds allow it."""
        return min(max(10, a), b)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        """The least."""
        return 0 if stop is None else start

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        """The first."""
        return seq[0]

    def uniform(self, a: float, b: float) -> float:
        """The middle."""
        return (a + b) / 2
