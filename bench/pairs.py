"""Samples taken in turns, and what they say: pure arithmetic, no clock.

The processes that are compared take turns in short rounds. A figure is the median, over the rounds,
of the difference between one round's two medians: what slows the whole machine for longer than a
round hits both sides of a pair and falls out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` (not empty) lie."""
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))]


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return percentile(values, 0.5)


@dataclass(slots=True)
class Turn:
    """One turn of one side: each operation's time on the clock, and CPU per operation, in µs."""

    wall_us: list[float]
    cpu_us: float


@dataclass(slots=True)
class Side:
    """All turns of one side, in order."""

    turns: list[Turn] = field(default_factory=list[Turn])

    @property
    def wall_us(self) -> list[float]:
        """All operations' times."""
        return [value for turn in self.turns for value in turn.wall_us]

    @property
    def cpu_us(self) -> float:
        """CPU per operation: the median of the turns."""
        return median([turn.cpu_us for turn in self.turns])


@dataclass(frozen=True, slots=True)
class Added:
    """What one side takes beyond another, per operation, in µs: the median of the rounds' differences
    of p50, the quartiles of these, the difference of p99 over everything, and of CPU; and the ratio
    of the p50s."""

    p50_us: float
    low_us: float
    high_us: float
    p99_us: float
    cpu_us: float
    ratio: float


def added(bare: Side, other: Side) -> Added:
    """``other`` against ``bare``, round by round."""
    pairs = list(zip(bare.turns, other.turns, strict=True))
    walls = [median(b.wall_us) - median(a.wall_us) for a, b in pairs]
    cpus = [b.cpu_us - a.cpu_us for a, b in pairs]
    before, after = bare.wall_us, other.wall_us
    return Added(
        median(walls),
        percentile(walls, 0.25),
        percentile(walls, 0.75),
        percentile(after, 0.99) - percentile(before, 0.99),
        median(cpus),
        median(after) / median(before),
    )
