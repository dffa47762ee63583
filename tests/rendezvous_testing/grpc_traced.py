"""A program that OpenTelemetry traces: gRPC calls to itself, sync and asyncio, with user baggage.

``python -m rendezvous_testing.grpc_traced (without|before|after)`` prints as JSON what its spans
and handlers saw. ``before`` and ``after``: Rendezvous is installed before or after OpenTelemetry.
"""

import asyncio
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import grpc
import grpc.aio
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rendezvous_api.ids import Rid, text_of
from rendezvous_instrumentation.install import install
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import process

_seen: dict[str, list[Any]] = {"handlers": [], "results": [], "spans": []}


def main() -> None:
    """Run; see the module's text."""
    when = sys.argv[1]
    if when == "before":
        install()
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    instrumentors = import_module("opentelemetry.instrumentation.grpc")
    for name in ("Client", "Server"):
        getattr(instrumentors, f"GrpcInstrumentor{name}")().instrument()
        getattr(instrumentors, f"GrpcAioInstrumentor{name}")().instrument()
    if when == "after":
        install()
    context.attach(baggage.set_baggage("user", "it's"))
    rid = text_of(os.urandom(16))
    if when != "without":
        SCOPE.set(Scope(cell_of(Rid(rid))))
    _call_sync()
    asyncio.run(_call_async())
    spans = exporter.get_finished_spans()
    names = {
        span.context.span_id: f"{span.name} {span.kind.name}" for span in spans if span.context
    }
    for span in spans:
        parent = names.get(span.parent.span_id) if span.parent else None
        _seen["spans"].append([span.name, span.kind.name, parent, span.status.status_code.name])
    _seen["spans"].sort(key=str)
    rids = {one.pop("rid") for one in _seen["handlers"]}
    failed = process().stats.counters["failed"]
    print(json.dumps({**_seen, "carried": rids == {rid}, "failed": failed}))


def _connect(target: str) -> Any:
    return grpc.insecure_channel(target)


def _connect_aio(target: str) -> Any:
    return grpc.aio.insecure_channel(target)


def _note() -> None:
    scope = SCOPE.get()
    members = {key: value for key, value in baggage.get_all().items() if key != "rdv"}
    rid = scope.cell.rid if scope is not None else None
    traced = trace.get_current_span().get_span_context().is_valid
    _seen["handlers"].append({"baggage": members, "traced": traced, "rid": rid})


def _result(value: Any, trailing: Any, code: Any = None) -> None:
    mine = [[key, one] for key, one in trailing or () if key != "rdv"]
    _seen["results"].append([str(value), mine, str(code)])


def _unary(request: bytes, servicer: Any) -> bytes:
    _note()
    servicer.set_trailing_metadata((("user", "trailer"),))
    if request == b"abort":
        servicer.abort(grpc.StatusCode.NOT_FOUND, "the user's")
    return request


def _stream(request: bytes, servicer: Any) -> Any:
    _note()
    servicer.set_trailing_metadata((("user", "trailer"),))
    yield request
    yield request


async def _unary_async(request: bytes, servicer: Any) -> bytes:
    _note()
    servicer.set_trailing_metadata((("user", "trailer"),))
    if request == b"abort":
        await servicer.abort(grpc.StatusCode.NOT_FOUND, "the user's")
    return request


async def _stream_async(request: bytes, servicer: Any) -> Any:
    for response in _stream(request, servicer):
        yield response


def _handlers(unary: Any, stream: Any) -> Any:
    return [
        grpc.method_handlers_generic_handler(
            "t.T",
            {
                "Unary": grpc.unary_unary_rpc_method_handler(unary),
                "Stream": grpc.unary_stream_rpc_method_handler(stream),
            },
        )
    ]


def _call_sync() -> None:
    server = grpc.server(ThreadPoolExecutor(4), handlers=_handlers(_unary, _stream))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with _connect(f"127.0.0.1:{port}") as channel:
        stub = channel.unary_unary("/t.T/Unary")
        response, call = stub.with_call(b"x", metadata=(("k", "v"),))
        _result(response, call.trailing_metadata())
        future = stub.future(b"x")
        _result(future.result(), future.trailing_metadata(), future.code())
        try:
            stub(b"abort")
        except grpc.RpcError as exc:
            error: Any = exc
            _result(error.details(), error.trailing_metadata(), error.code())
        _result(list(channel.unary_stream("/t.T/Stream")(b"x")), None)
    server.stop(0).wait()


async def _call_async() -> None:
    server = grpc.aio.server(handlers=_handlers(_unary_async, _stream_async))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with _connect_aio(f"127.0.0.1:{port}") as channel:
        stub: Any = channel.unary_unary("/t.T/Unary")
        call = stub(b"x")
        _result(await call, await call.trailing_metadata(), await call.code())
        try:
            await stub(b"abort")
        except grpc.aio.AioRpcError as exc:
            _result(exc.details(), exc.trailing_metadata(), exc.code())
        stream: Any = channel.unary_stream("/t.T/Stream")(b"x")
        _result([one async for one in stream], None)
    await server.stop(None)


if __name__ == "__main__":
    main()
