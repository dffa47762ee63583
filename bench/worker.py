"""The measured process: ``worker.py bare|idle|patched|otel``. Reads orders, one JSON object a line, from its
standard input, and answers each with one line.

``bare`` has nothing installed; ``idle`` and ``patched`` have Rendezvous, and ``idle`` never sees a request
(else what a request left in the contexts of open connections would count as live); ``otel`` has
OpenTelemetry's own instrumentation of the same libraries with its SDK recording and its batch
processor, whose exporter drops.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def _install_rendezvous() -> None:
    from rendezvous_instrumentation.install import install

    install()


def _install_otel() -> None:
    from opentelemetry import trace
    from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
    from opentelemetry.instrumentation.aiohttp_server import (  # pyright: ignore[reportMissingTypeStubs]
        AioHttpServerInstrumentor,
    )
    from opentelemetry.instrumentation.grpc import (  # pyright: ignore[reportMissingTypeStubs]
        GrpcInstrumentorClient,
    )
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from opentelemetry.instrumentation.requests import RequestsInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Drop(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Drop()))
    trace.set_tracer_provider(provider)
    instrumentors: list[Any] = [
        AioHttpClientInstrumentor,
        AioHttpServerInstrumentor,
        GrpcInstrumentorClient,
        RedisInstrumentor,
        RequestsInstrumentor,
    ]
    for instrumentor in instrumentors:
        instrumentor().instrument()


INSTALL: dict[str, Callable[[], None]] = {
    "bare": lambda: None,
    "idle": _install_rendezvous,
    "patched": _install_rendezvous,
    "otel": _install_otel,
}


@contextmanager
def _request() -> Generator[Any]:
    """A request of its own, as an entry point opens one."""
    from rendezvous_instrumentation.shell.entries import enter

    entry = enter([])
    entry.begin()
    try:
        yield entry
    finally:
        entry.end()
        entry.leave()


def _forget_applied(pool: Any) -> None:
    """A connection that knows nothing of its node: the next dependent read must ask."""
    for connection in pool._available_connections:
        connection.__dict__.pop("_rendezvous_memory", None)


def _parts() -> Any:
    return import_module("parts")


def main(side: str) -> None:
    """Obey until the standard input ends."""
    INSTALL[side]()
    parts: Any = _parts() if side == "patched" else ()
    from operations import Operation, nothing, operations

    table = operations()

    def run(operation: Operation, situation: str, count: int) -> tuple[list[int], int]:
        between = _forget_applied if situation == "asks" else nothing
        began = time.process_time_ns()
        times = operation.run(count, between)
        return times, time.process_time_ns() - began

    for line in sys.stdin:
        order = json.loads(line)
        name, situation, count = order["name"], order["situation"], order["count"]
        if name == "?":
            server: Any = table.get("aiohttp server")
            answer = {"operations": list(table), "port": server.port if server else 0}
        elif name in table:
            operation = table[name]
            if situation in ("outside", "carried"):
                times, cpu = run(operation, situation, count)
            else:
                with _request():
                    if situation in ("covered", "asks"):
                        table[name.replace("GET", "SET")].run(1, nothing)
                        operation.run(1, nothing)
                    times, cpu = run(operation, situation, count)
            answer = {"times": times, "cpu": cpu}
        else:
            answer = {"times": parts.run_part(name, count), "cpu": 0}
        if parts:
            parts.settle()
        print(json.dumps(answer), flush=True)
    os._exit(0)  # no library's complaints about what was left open


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    main(sys.argv[1])
