"""A gRPC server for tests, as a process of its own: all four kinds of calls, sync or asyncio.

``python -m rendezvous_testing.grpc_peer (sync|async|mixed) [plain]`` prints its port, then serves until its
standard input ends. ``mixed``: sync handlers in an asyncio server. ``plain``: without Rendezvous.

A request is ``verb`` or ``verb:number``. Each handler first notes a write at position ``number`` in
its request's cell, then does what ``verb`` says; streamed responses are two, with a write more
before the second and after it: the last position is ``number + 2``.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rendezvous_api.ids import StoreKey

STORE = StoreKey("r" + "A" * 11)
SLEEP_S = 0.5
NAMES = ("UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream")


def main() -> None:
    """Serve; see the module's text."""
    kind, plain = sys.argv[1], "plain" in sys.argv[2:]
    if not plain:
        from rendezvous_instrumentation.install import install

        install()
    if kind == "sync":
        _serve_sync()
    else:
        asyncio.run(_serve_async(mixed=kind == "mixed"))


def _wrote(number: int) -> None:
    from rendezvous_instrumentation.shell.current import SCOPE

    scope = SCOPE.get()
    if scope is not None and number:
        scope.cell.wrote(STORE, number)


def _seen(context: Any) -> bytes:
    """What a handler can see: its metadata, its scope, and the baggage that OpenTelemetry found."""
    from rendezvous_instrumentation.shell.current import SCOPE

    scope = SCOPE.get()
    seen: dict[str, Any] = {
        "metadata": [[key, str(value)] for key, value in context.invocation_metadata()],
        "rid": scope.cell.rid if scope is not None else None,
        "remaining": scope.deadline - time.monotonic() if scope and scope.deadline else None,
        "type": type(context).__name__,
    }
    if "opentelemetry.baggage" in sys.modules:
        from opentelemetry import baggage, trace

        seen["baggage"] = dict(baggage.get_all())
        seen["trace"] = f"{trace.get_current_span().get_span_context().trace_id:032x}"
    return json.dumps(seen).encode()


def _split(request: bytes) -> tuple[str, int]:
    verb, _, number = request.decode().partition(":")
    return verb, int(number or 0)


def _act(request: bytes, context: Any) -> bytes:
    verb, number = _split(request)
    _wrote(number)
    if verb == "sleep":
        time.sleep(SLEEP_S)
    if verb == "raise":
        context.set_trailing_metadata((("user", "raised"),))
        raise ValueError("the handler's own")
    if verb == "abort":
        _abort(context)
    if verb == "user":
        context.set_trailing_metadata((("user", "kept"),))
    return _seen(context) if verb == "see" else request


def _abort(context: Any) -> Any:
    import grpc

    context.set_trailing_metadata((("user", "aborted"),))
    return context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as the user says")


async def _act_async(request: bytes, context: Any) -> bytes:
    verb, number = _split(request)
    if verb == "sleep":
        _wrote(number)
        await asyncio.sleep(SLEEP_S)
    if verb == "abort":
        _wrote(number)
        await _abort(context)
    return _act(b"sent" if verb == "sleep" else request, context)


def _unary_unary(request: bytes, context: Any) -> bytes:
    return _act(request, context)


def _unary_stream(request: bytes, context: Any) -> Iterator[bytes]:
    _, number = _split(request)
    response = _act(request, context)
    yield response
    _wrote(number + 1)
    yield response
    _wrote(number + 2)


def _stream_unary(requests: Iterator[bytes], context: Any) -> bytes:
    return _act(list(requests)[-1], context)


def _stream_stream(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    yield from _unary_stream(list(requests)[-1], context)


async def _async_unary_unary(request: bytes, context: Any) -> bytes:
    return await _act_async(request, context)


async def _async_unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
    _, number = _split(request)
    response = await _act_async(request, context)
    yield response
    _wrote(number + 1)
    yield response
    _wrote(number + 2)


async def _async_stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return await _act_async([one async for one in requests][-1], context)


async def _async_stream_stream(requests: Any, context: Any) -> None:
    """The reader-writer style."""
    import grpc.aio

    last = b""
    while (request := await context.read()) is not grpc.aio.EOF:
        last = request
    async for response in _async_unary_stream(last, context):
        await context.write(response)


def _handlers(*behaviors: Callable[..., Any]) -> Any:
    import grpc

    makers: tuple[Callable[..., Any], ...] = (
        grpc.unary_unary_rpc_method_handler,
        grpc.unary_stream_rpc_method_handler,
        grpc.stream_unary_rpc_method_handler,
        grpc.stream_stream_rpc_method_handler,
    )
    return [
        grpc.method_handlers_generic_handler(
            service,
            {
                name: make(behavior)
                for name, make, behavior in zip(NAMES, makers, behaviors, strict=True)
            },
        )
        for service in ("test.Kinds", "rendezvous.v1.Ignored")
    ]


_SYNC = (_unary_unary, _unary_stream, _stream_unary, _stream_stream)
_ASYNC = (_async_unary_unary, _async_unary_stream, _async_stream_unary, _async_stream_stream)


def _serve_sync() -> None:
    import grpc

    server = grpc.server(ThreadPoolExecutor(8), handlers=_handlers(*_SYNC))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0).wait()


async def _serve_async(*, mixed: bool) -> None:
    import grpc.aio

    handlers = _handlers(*(_SYNC if mixed else _ASYNC))
    server = grpc.aio.server(ThreadPoolExecutor(8), handlers=handlers)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    main()
