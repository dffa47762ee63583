"""The demo's results as one table, and as JSON."""

import math
import os
import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from rich.table import Table

from rendezvous_testing.demo.options import Options
from rendezvous_testing.demo.result import OPERATIONS_PER_POST, Run, failures, quantile

OBSERVED = "observed"
"""The reason of reads that mode observe let pass where enforce would have waited."""

_ROLES = ("services", "sidecars", "metadata server", "stores and link")


def table(runs: list[Run]) -> Table:
    """One column a run, one row a measure; rows that say nothing of any run are left out."""
    machine = f"{os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}"
    caption = f"{machine}; added: compared with plain"
    out = Table(
        title="Post-Notification", title_justify="left", caption=caption, caption_justify="left"
    )
    out.add_column("", no_wrap=True)
    for run in runs:
        out.add_column(run.name, justify="right")
    baseline = next((run for run in runs if run.kind == "plain"), None)

    def row(label: str, cell: Callable[[Run], str]) -> None:
        cells = [cell(run) for run in runs]
        if any(cells):
            out.add_row(label, *(cell or "-" for cell in cells))

    def added(value: Callable[[Run], float]) -> Callable[[Run], str]:
        def cell(run: Run) -> str:
            if baseline is None or run is baseline:
                return ""
            return f"{value(run) - value(baseline):+.0f} µs"

        return cell

    row("posts answered", lambda run: f"{len(run.samples):,}")
    row("inconsistent reads", _inconsistent)
    row("application errors", lambda run: str(len(run.errors)))
    if any(run.kills for run in runs):
        row("kills", lambda run: str(len(run.kills)))
        row("calls lost to the kills", lambda run: str(run.lost))
    out.add_section()
    row("reads protected, nothing to wait for", lambda run: _verdict(run, "protected"))
    row("reads protected after waiting", lambda run: _verdict(run, "waited"))
    row("reads that would have waited", _would_have_waited)
    row("reads unprotected", _unprotected)
    row("barrier wait p50 / p99", _waits)
    out.add_section()
    row("posts per second", lambda run: f"{len(run.samples) / max(run.seconds, 1e-9):.0f}")
    row("writer latency p50 / p99", lambda run: _pair([s.latency_ms for s in run.samples]))
    row("consistency window p50 / p99", lambda run: _pair([s.window_ms for s in run.samples]))
    row(
        "one post alone, its read aside, p50",
        lambda run: f"{quantile((s.around_read_ms for s in run.serial), 0.5):.2f} ms",
    )
    row("  added per operation", added(_around_read_us_per_operation))
    row("services' CPU per operation", lambda run: f"{run.cpu_us_per_operation:.0f} µs")
    row("  added per operation", added(lambda run: run.cpu_us_per_operation))
    out.add_section()
    for role in _ROLES:
        row(f"CPU under load: {role}", partial(_cpu, role))
    for role in _ROLES:
        row(f"memory: {role}", partial(_memory, role))
    return out


def as_json(runs: list[Run], options: Options) -> dict[str, Any]:
    """All that the table shows, the windows themselves, and what was wrong. NaN becomes null."""
    settings = {key: str(v) if key in ("json", "plot") else v for key, v in asdict(options).items()}
    return {
        "settings": settings,
        "machine": {
            "cpus": os.cpu_count(),
            "load_1min": os.getloadavg()[0],
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "runs": [_run_json(run) for run in runs],
    }


def _run_json(run: Run) -> dict[str, Any]:
    verdicts = run.verdicts
    return {
        "name": run.name,
        "kind": run.kind,
        "posts": len(run.samples),
        "inconsistent": run.inconsistent,
        "errors": run.errors,
        "lost_to_kills": run.lost,
        "kills": run.kills,
        "failures": failures(run),
        "seconds": round(run.seconds, 3),
        "verdicts": None
        if verdicts is None
        else {
            "protected": verdicts.protected,
            "waited": verdicts.waited,
            "unprotected": dict(verdicts.unprotected),
            "counters": dict(verdicts.counters),
            "waited_ms": verdicts.waited_ms,
        },
        "latency_ms": _quantiles([s.latency_ms for s in run.samples]),
        "window_ms": _quantiles([s.window_ms for s in run.samples]),
        "serial_around_read_ms": _quantiles([s.around_read_ms for s in run.serial]),
        "cpu_us_per_operation": round(run.cpu_us_per_operation, 1),
        "usage": {role: asdict(used) for role, used in run.usage.items()},
        "windows_ms": [round(s.window_ms, 3) for s in run.samples],
        "found": [s.found for s in run.samples],
    }


def _quantiles(values: list[float]) -> dict[str, float | None]:
    pairs = {f"p{q * 100:g}": quantile(values, q) for q in (0.5, 0.9, 0.99)}
    return {name: None if math.isnan(v) else round(v, 3) for name, v in pairs.items()}


def _around_read_us_per_operation(run: Run) -> float:
    middle = quantile((s.around_read_ms for s in run.serial), 0.5)
    return middle * 1000 / (OPERATIONS_PER_POST - 1)


def _inconsistent(run: Run) -> str:
    share = 100 * run.inconsistent / max(1, len(run.samples))
    colour = "red" if run.inconsistent else "green"
    return f"[{colour}]{run.inconsistent:,} ({share:.1f} %)[/]"


def _verdict(run: Run, name: str) -> str:
    return "" if run.verdicts is None else f"{getattr(run.verdicts, name):,}"


def _would_have_waited(run: Run) -> str:
    if run.kind != "observe" or run.verdicts is None:
        return ""
    return f"{run.verdicts.unprotected[OBSERVED]:,}"


def _unprotected(run: Run) -> str:
    if run.verdicts is None:
        return ""
    reasons = run.verdicts.unprotected
    if run.kind == "observe":
        reasons = reasons - Counter({OBSERVED: reasons[OBSERVED]})
    return ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items())) or "0"


def _waits(run: Run) -> str:
    waited = run.verdicts.waited_ms if run.verdicts is not None else {}
    if not waited.get("p99") or "p50" not in waited:
        return ""
    return f"{waited['p50']:.1f} / {waited['p99']:.1f} ms"


def _pair(values: list[float]) -> str:
    return f"{quantile(values, 0.5):.1f} / {quantile(values, 0.99):.1f} ms"


def _cpu(role: str, run: Run) -> str:
    return f"{run.usage[role].cpu_s:.2f} s" if role in run.usage else ""


def _memory(role: str, run: Run) -> str:
    return f"{run.usage[role].rss_bytes / 1e6:.0f} MB" if role in run.usage else ""
