"""Prometheus metrics and health over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rendezvous_server.core import Core
from rendezvous_server.core.view import totals
from rendezvous_server.limits import HTTP_REQUEST_BYTES_MAX, HTTP_TIMEOUT_S

_EVENTS = ("repeated", "held_back", "superseded")
_HAPPENINGS = (
    "admitted",
    "asked",
    "branches_expired",
    "cancelled",
    "garbage",
    "holes",
    "lapsed",
    "refused",
    "successors",
)


class ServerMetrics(Collector):
    """Reads the core when asked."""

    def __init__(self, core: Core, region: str) -> None:
        self._core = core
        self._region = region

    def collect(self) -> Iterator[Metric]:
        """All metrics, from numbers that the core keeps anyway."""
        core, now = self._core, totals(self._core)
        info = GaugeMetricFamily("rendezvous_server_info", "Always 1.", labels=("log", "region"))
        info.add_metric((core.log, self._region), 1)
        yield info
        for name, what, value in (
            ("index", "Up to where the log is applied.", now.index),
            ("requests", "Requests remembered.", now.requests),
            ("open_branches", "Branches neither closed nor expired.", now.open_branches),
            ("questions_held", "Questions waiting.", now.questions_held),
            ("events_held_back", "Events waiting for predecessors.", now.events_held_back),
            ("origins", "Origins remembered.", now.origins),
            ("streams", "Sidecar streams.", now.streams),
        ):
            yield GaugeMetricFamily("rendezvous_server_" + name, what, value)
        yield CounterMetricFamily("rendezvous_server_events", "Events applied.", now.events)
        yield CounterMetricFamily(
            "rendezvous_server_forgotten", "Requests forgotten when idle.", core.forgotten
        )
        odd = CounterMetricFamily(
            "rendezvous_server_odd_events", "Events not simply applied.", labels=("what",)
        )
        for name in _EVENTS:
            odd.add_metric((name,), core.counters[name])
        yield odd
        happenings = CounterMetricFamily(
            "rendezvous_server_happenings", "What else has happened.", labels=("what",)
        )
        for name in _HAPPENINGS:
            happenings.add_metric((name,), core.counters[name])
        yield happenings
        answers = CounterMetricFamily(
            "rendezvous_server_answers", "Questions ended, by status.", labels=("status",)
        )
        for name, value in sorted(core.counters.items()):
            if name.startswith("status_"):
                answers.add_metric((name.removeprefix("status_"),), value)
        yield answers


class Health:
    """What ``/readyz`` says."""

    ready = False


class HttpPort:
    """A very small HTTP server: GET of three paths, one request a connection."""

    def __init__(self, core: Core, region: str, health: Health) -> None:
        self._health = health
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ServerMetrics(core, region))
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises :class:`OSError`."""
        self._server = await asyncio.start_server(
            self._serve, host, port, limit=HTTP_REQUEST_BYTES_MAX
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HTTP_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = self._answer(head.split(b"\r\n", 1)[0].split(b" "))
                writer.write(
                    b"HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    b"Content-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(body)) + body
                )
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that does not speak HTTP, or went away
        finally:
            writer.close()

    def _answer(self, request: list[bytes]) -> tuple[bytes, bytes]:
        match request:
            case [b"GET", b"/metrics", _]:
                return b"200 OK", generate_latest(self._registry)
            case [b"GET", b"/healthz", _]:
                return b"200 OK", b"ok\n"
            case [b"GET", b"/readyz", _]:
                if self._health.ready:
                    return b"200 OK", b"ready\n"
                return b"503 Service Unavailable", b"starting or stopping\n"
            case [b"GET", _, _]:
                return b"404 Not Found", b"/metrics, /healthz, /readyz\n"
            case _:
                return b"400 Bad Request", b"\n"
