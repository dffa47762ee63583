"""What a run measured, and whether it was as it must be. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rendezvous_testing.demo.verdicts import Verdicts

OPERATIONS_PER_POST = 7
"""HTTP sent twice and received three times, one write, one read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered post. Times in seconds of this machine's one monotonic clock."""

    sent_at: float
    answered_at: float
    written_at: float
    asked_at: float
    read_at: float
    found: bool

    @property
    def latency_ms(self) -> float:
        """What the writer's client waited."""
        return (self.answered_at - self.sent_at) * 1000

    @property
    def window_ms(self) -> float:
        """Consistency window: from the post's write in eu to its read in us."""
        return (self.read_at - self.written_at) * 1000

    @property
    def around_read_ms(self) -> float:
        """The client's latency without the reader's read, in which a barrier may wait."""
        return (self.answered_at - self.sent_at - self.read_at + self.asked_at) * 1000


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds spent under load, and resident memory at its end."""

    cpu_s: float = 0.0
    rss_bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_s + other.cpu_s, self.rss_bytes + other.rss_bytes)


@dataclass(slots=True)
class Run:
    """One run's outcome. ``kind`` says what must hold; ``lost`` are calls in flight to, or refused
    by, a killed service; ``serial`` are the posts sent one at a time; ``broken`` says which process
    ended of itself, or did not come back."""

    name: str
    kind: str
    samples: list[Sample] = field(default_factory=list[Sample])
    serial: list[Sample] = field(default_factory=list[Sample])
    errors: list[str] = field(default_factory=list[str])
    lost: int = 0
    kills: list[str] = field(default_factory=list[str])
    broken: list[str] = field(default_factory=list[str])
    seconds: float = 0.0
    usage: dict[str, Usage] = field(default_factory=dict[str, Usage])
    verdicts: Verdicts | None = None

    @property
    def inconsistent(self) -> int:
        """Reads that did not find the post whose notification they followed."""
        return sum(not sample.found for sample in self.samples)

    @property
    def cpu_us_per_operation(self) -> float:
        """CPU microseconds of the three services per operation of a post."""
        operations = max(1, len(self.samples)) * OPERATIONS_PER_POST
        return self.usage.get("services", Usage()).cpu_s / operations * 1e6


def quantile(values: Iterable[float], fraction: float) -> float:
    """Nearest-rank quantile; NaN of nothing."""
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def failures(run: Run) -> list[str]:
    """What must not have happened in this run, one sentence each; empty when all is well."""
    out: list[str] = list(run.broken)
    if run.errors:
        out.append(f"{len(run.errors)} application errors, the first: {run.errors[0]}")
    if not run.samples:
        out.append("no post was answered")
    if run.kind == "plain":
        return out
    verdicts = run.verdicts or Verdicts()
    wanted = len(run.samples) + len(run.serial)
    if verdicts.reads < wanted:
        out.append(f"{wanted - verdicts.reads} of {wanted} dependent reads got no verdict")
    if run.kind == "observe":
        return out
    missed = run.inconsistent + sum(not sample.found for sample in run.serial)
    if missed:
        out.append(f"{missed} inconsistent reads")
    if verdicts.unprotected and run.kind == "enforce":
        reasons = ", ".join(f"{reason} {n}" for reason, n in verdicts.unprotected.items())
        out.append(f"{verdicts.unprotected.total()} unprotected reads: {reasons}")
    return out
