"""What the instrumented processes say of their reads: the files in ``RENDEZVOUS_STATS_DIR``."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class NotVerdicts(Exception):
    """A file in the folder is not what an instrumented process writes."""


@dataclass(slots=True)
class Verdicts:
    """Verdicts of dependent reads. ``waited`` reads are protected ones that had to wait (in observe
    mode: would have had to); ``waited_ms`` maps a quantile's name to milliseconds, of the process
    that waited longest."""

    protected: int = 0
    waited: int = 0
    unprotected: Counter[str] = field(default_factory=Counter[str])
    counters: Counter[str] = field(default_factory=Counter[str])
    waited_ms: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def reads(self) -> int:
        """Dependent reads in all."""
        return self.protected + self.waited + self.unprotected.total()

    def since(self, before: "Verdicts") -> "Verdicts":
        """What came after ``before``, an earlier sum over the same folder."""
        return Verdicts(
            self.protected - before.protected,
            self.waited - before.waited,
            self.unprotected - before.unprotected,
            self.counters - before.counters,
            self.waited_ms,
        )

    def add(self, raw: Mapping[str, Any]) -> None:
        """Add what one process has written."""
        verdicts = raw["verdicts"]
        self.protected += int(verdicts["protected"])
        self.waited += int(verdicts["waited"])
        self.unprotected.update({str(k): int(v) for k, v in verdicts["unprotected"].items()})
        self.counters.update({str(k): int(v) for k, v in raw.get("counters", {}).items()})
        for quantile, value in raw.get("waited_ms", {}).items():
            self.waited_ms[quantile] = max(float(value), self.waited_ms.get(quantile, 0.0))


def read_verdicts(folder: Path) -> Verdicts:
    """The sum over all processes that have run with this folder, ended ones too.

    Raises :class:`NotVerdicts` and names the file.
    """
    total = Verdicts()
    for path in sorted(folder.glob("*.json")):
        try:
            total.add(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise NotVerdicts(f"{path.name}: {exc!r}") from exc
    return total
