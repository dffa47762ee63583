"""``/healthz``, ``/readyz`` and Prometheus ``/metrics`` over HTTP/1.1."""

import asyncio
from collections.abc import Callable

from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.limits import HEALTH_REQUEST_BYTES_MAX, HEALTH_REQUEST_S

_PREFIX = "rendezvous_sidecar"

Reply = tuple[int, str]
"""Status code and body."""


def metrics_text(
    counts: dict[Count, int],
    gauges: dict[str, float],
    counted: dict[tuple[str, str], int] | None = None,
) -> str:
    """Counters and gauges in Prometheus's text format. ``counted``: what processes have counted,
    by (service, name); the number to watch is unprotected by dependent reads."""
    lines: list[str] = []
    for count in Count:
        name = f"{_PREFIX}_{count.value}_total"
        lines += [f"# TYPE {name} counter", f"{name} {counts.get(count, 0)}"]
    for gauge, value in gauges.items():
        lines += [f"# TYPE {_PREFIX}_{gauge} gauge", f"{_PREFIX}_{gauge} {value:g}"]
    lines += _counted_lines(counted or {})
    return "\n".join(lines) + "\n"


def _counted_lines(counted: dict[tuple[str, str], int]) -> list[str]:
    reads = ["# TYPE rendezvous_dependent_reads_total counter"]
    others = ["# TYPE rendezvous_process_total counter"]
    for (service, name), value in sorted(counted.items()):
        label = service.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        kind, _, verdict = name.partition(".")
        if kind == "reads":
            verdict, _, reason = verdict.partition(".")
            labels = f'service="{label}",verdict="{verdict}",reason="{reason}"'
            reads.append(f"rendezvous_dependent_reads_total{{{labels}}} {value}")
        else:
            others.append(f'rendezvous_process_total{{service="{label}",what="{name}"}} {value}')
    return reads + others


async def serve_health(
    host: str, port: int, routes: dict[str, Callable[[], Reply]]
) -> asyncio.Server:
    """A server that answers GET on ``routes``. Raises OSError if the port cannot be had."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HEALTH_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_response(head, routes))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=HEALTH_REQUEST_BYTES_MAX)


def _response(head: bytes, routes: dict[str, Callable[[], Reply]]) -> bytes:
    method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    route = routes.get(rest.partition(" ")[0].partition("?")[0])
    if method not in ("GET", "HEAD"):
        status, body = 405, "only GET\n"
    elif route is None:
        status, body = 404, "try " + " ".join(routes) + "\n"
    else:
        status, body = route()
    raw = body.encode()
    lines = (
        f"HTTP/1.1 {status} {'OK' if status == 200 else 'No'}",
        "Content-Type: text/plain; version=0.0.4; charset=utf-8",
        f"Content-Length: {len(raw)}",
        "Connection: close",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (raw if method == "GET" else b"")
