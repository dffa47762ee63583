"""Counters of this process, and the statistics file that a demo or an operator reads."""

import json
import os
from _thread import allocate_lock
from collections import Counter, deque

from rendezvous_api.limits import COUNTS_MAX
from rendezvous_instrumentation.core.verdict import Outcome, Verdict
from rendezvous_instrumentation.limits import WAITS_REMEMBERED


class Stats:
    """Verdicts by reason, other counters by name, and how long held reads waited."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.counters: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._waits_s: deque[float] = deque(maxlen=WAITS_REMEMBERED)
        self._lock = allocate_lock()
        self._written = ""

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counters[name] += by

    def verdict(self, verdict: Verdict, waited_s: float) -> None:
        """One dependent read got its verdict."""
        with self._lock:
            self.verdicts[verdict.outcome.value] += 1
            if verdict.outcome is Outcome.UNPROTECTED:
                self.reasons[verdict.reason.value] += 1
            if waited_s:
                self._waits_s.append(waited_s)

    def protected(self) -> None:
        """As :meth:`verdict` for the most frequent one."""
        with self._lock:
            self.verdicts["protected"] += 1

    def entries(self) -> tuple[tuple[str, int], ...]:
        """All counts by name, as the sidecar is told them (``channel.Counted``)."""
        with self._lock:
            counts = {
                f"reads.{name}": count
                for name, count in self.verdicts.items()
                if name != Outcome.UNPROTECTED.value
            }
            counts |= {f"reads.unprotected.{name}": count for name, count in self.reasons.items()}
            counts |= self.counters
        return tuple(counts.items())[:COUNTS_MAX]

    def snapshot(self) -> dict[str, object]:
        """All of it, as the statistics file has it; durations in milliseconds."""
        with self._lock:
            waits = sorted(self._waits_s)
            return {
                "service": self.service,
                "pid": os.getpid(),
                "verdicts": {
                    "protected": self.verdicts["protected"],
                    "waited": self.verdicts["waited"],
                    "unprotected": dict(self.reasons),
                },
                "counters": dict(self.counters),
                "waited_ms": {
                    "p50": _percentile_ms(waits, 0.50),
                    "p99": _percentile_ms(waits, 0.99),
                },
            }

    def write(self, folder: str) -> None:
        """Write the statistics file, whole or not at all; unchanged figures are not written again."""
        text = json.dumps(self.snapshot())
        if text == self._written:
            return
        path = os.path.join(folder, f"{self.service or 'service'}-{os.getpid()}.json")
        try:
            with open(path + ".part", "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(path + ".part", path)
            self._written = text
        except OSError:
            self.counters["stats_unwritten"] += 1


def _percentile_ms(ordered: list[float], share: float) -> float:
    return round(ordered[int(share * (len(ordered) - 1))] * 1000, 3) if ordered else 0.0
