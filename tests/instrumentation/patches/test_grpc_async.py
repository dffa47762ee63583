"""grpc.aio's client: what a call's end tells, and call objects that stay the library's own."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import Any

import grpc
import grpc.aio
import pytest

from rendezvous_api.carrier import members_in
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_testing.grpc_peer import NAMES
from rendezvous_testing.grpc_play import connect_aio, counted, instrumented, peer, position, request

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@pytest.fixture(scope="module", autouse=True)
def patched() -> Iterator[None]:
    with instrumented():
        yield


@pytest.fixture(scope="module", params=["sync", "async", "mixed"])
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with peer(request.param) as address:
        yield address


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    with peer("async", "plain") as address:
        yield address


async def _requests(text: str) -> AsyncIterator[bytes]:
    yield b"first"
    yield text.encode()


def _start(channel: Any, kind: str, text: str, **options: Any) -> Any:
    name = NAMES[KINDS.index(kind)]
    stub = getattr(channel, kind)(f"/{options.pop('service', 'test.Kinds')}/{name}")
    return stub(_requests(text) if kind.startswith("stream") else text.encode(), **options)


async def _call(channel: Any, kind: str, text: str, **options: Any) -> Any:
    call = _start(channel, kind, text, **options)
    return [one async for one in call][-1] if kind.endswith("stream") else await call


@pytest.mark.parametrize("kind", KINDS)
async def test_the_caller_learns_all_that_the_callee_did(target: str, kind: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            assert await _call(channel, kind, "write:10") == b"write:10"
            assert position(scope) == (12 if kind.endswith("stream") else 10)
            assert not scope.cell.unresolved
            seen = json.loads(await _call(channel, kind, "see", timeout=30))
            assert seen["rid"] == scope.cell.rid
            assert 0 < seen["remaining"] < 60


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["abort", "raise"])
async def test_errors_stay_the_users_and_tell_too(target: str, kind: str, verb: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await _call(channel, kind, f"{verb}:20")
            if verb == "abort":
                assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
                assert error.value.details() == "as the user says"
            else:
                assert error.value.code() is grpc.StatusCode.UNKNOWN
                assert "the handler's own" in (error.value.details() or "")
            trailing: Any = error.value.trailing_metadata()
            assert "user" in [key for key, _ in trailing]
            assert position(scope) == 20
            assert not scope.cell.unresolved


@pytest.mark.parametrize("kind", KINDS)
async def test_call_objects_are_the_librarys_own(target: str, kind: str) -> None:
    name = f"{NAMES[KINDS.index(kind)]}Call"
    done: list[Any] = []
    async with connect_aio(target) as channel:
        with request():
            call = _start(channel, kind, "user")
            assert type(call) is getattr(import_module("grpc.aio._call"), name)
            call.add_done_callback(done.append)
            if kind.endswith("stream"):
                assert await call.read() == b"user"
                assert await call.read() == b"user"
                assert await call.read() is grpc.aio.EOF
            else:
                assert await call == b"user"
            assert await call.code() is grpc.StatusCode.OK
            assert await call.details() == ""
            assert [key for key, _ in await call.trailing_metadata()] == ["user", "rdv"]
            assert done == [call]
            assert call.done() and not call.cancel() and not call.cancelled()


async def test_writers_and_readers(target: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            call: Any = channel.stream_stream("/test.Kinds/StreamStream")()
            await call.write(b"first")
            await call.write(b"write:30")
            await call.done_writing()
            assert await call.read() == b"write:30"
            assert position(scope) >= 30
            assert await call.read() == b"write:30"
            assert await call.read() is grpc.aio.EOF
            assert position(scope) == 32
            assert not scope.cell.unresolved


async def test_between_first_message_and_end_a_stream_is_unresolved(target: str) -> None:
    """DESIGN §2 "After the response": a streamed body says ``continues``."""
    async with connect_aio(target) as channel:
        with request() as scope:
            stream = _start(channel, "unary_stream", "write:40")
            assert await stream.read() == b"write:40"
            assert position(scope) >= 40
            await stream.read()
            await stream.read()
            assert position(scope) == 42
            assert not scope.cell.unresolved


async def test_no_context_no_answer(target: str) -> None:
    async with connect_aio(target) as channel:
        call = _start(channel, "unary_stream", "user")
        assert [one async for one in call] == [b"user", b"user"]
        assert [key for key, _ in await call.trailing_metadata()] == ["user"]
        assert not tuple(await call.initial_metadata())


@pytest.mark.parametrize("kind", KINDS)
async def test_deadlines_and_cancels_leave_the_branch_unresolved(target: str, kind: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await _call(channel, kind, "sleep:30", timeout=0.1)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert len(scope.cell.unresolved) == 1
            call = _start(channel, kind, "sleep")
            await asyncio.sleep(0)
            assert call.cancel()
            assert len(scope.cell.unresolved) == 2
            with pytest.raises(asyncio.CancelledError):
                if kind.endswith("stream"):
                    await call.read()
                else:
                    await call
            assert await call.code() is grpc.StatusCode.CANCELLED


async def test_a_dropped_call_is_unresolved(target: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            call = _start(channel, "unary_stream", "sleep")
            await call.wait_for_connection()
            del call
            gc.collect()
            await asyncio.sleep(0)
            gc.collect()
    assert len(scope.cell.unresolved) == 1


async def test_a_cancelled_task_cancels_its_call(target: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(_call(channel, "unary_unary", "sleep"), 0.1)
            assert len(scope.cell.unresolved) == 1


async def test_knowledge_gained_in_gather(target: str) -> None:
    async with connect_aio(target) as channel:
        with request() as scope:
            await asyncio.gather(*(_call(channel, "unary_unary", f"write:{n}") for n in (71, 72)))
            assert position(scope) == 72


@pytest.mark.parametrize("kind", KINDS)
async def test_a_peer_that_does_not_speak_is_opaque(plain: str, kind: str) -> None:
    async with connect_aio(plain) as channel:
        with request() as scope:
            before = counted("calls_opaque")
            assert await _call(channel, kind, "write:1") == b"write:1"
            with pytest.raises(grpc.aio.AioRpcError):
                await _call(channel, kind, "raise")
            assert counted("calls_opaque") == before + 2
            assert not scope.cell.unresolved


async def test_metadata_and_baggage_of_the_user_are_untouched(target: str) -> None:
    baggage = "a=1;p=2, b = x%20y"
    pairs = (("k", "v"), ("baggage", baggage), ("k", "w"))
    async with connect_aio(target) as channel:
        with request():
            for given in (pairs, list(pairs), grpc.aio.Metadata(*pairs)):
                seen = json.loads(await _call(channel, "unary_unary", "see", metadata=given))
                mine = [pair for pair in seen["metadata"] if pair[0] in ("k", "baggage")]
                ours = members_in(dict(seen["metadata"])["baggage"])[0]
                merged = ["baggage", f"rdv={ours},{baggage}"]
                assert sorted(mine) == sorted([["k", "v"], merged, ["k", "w"]])
            assert isinstance(given, grpc.aio.Metadata)
            assert given["baggage"] == baggage


async def test_nothing_sent(target: str) -> None:
    async with connect_aio("127.0.0.1:1") as channel:
        with request() as scope:
            for kind in KINDS:
                with pytest.raises(grpc.aio.AioRpcError):
                    await _call(channel, kind, "write:1")
            assert not scope.cell.unresolved
    closed = connect_aio(target)
    await closed.close()
    with request() as scope:
        with pytest.raises(grpc.aio.UsageError):
            _start(closed, "unary_unary", "write:1")
        assert not scope.cell.unresolved


async def test_our_own_services_are_ignored(target: str) -> None:
    async with connect_aio(target) as channel:
        with request():
            own = await _call(channel, "unary_unary", "see", service="rendezvous.v1.Ignored")
            assert json.loads(own)["rid"] is None
            assert "baggage" not in dict(json.loads(own)["metadata"])


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc, unused-ignore]
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(client_call_details, request_iterator)


async def test_interceptors_of_the_user_lie_outside_ours(target: str) -> None:
    mine = [_UnaryUnary(), _StreamStream()]
    async with connect_aio(target, None, None, mine) as channel:
        with request() as scope:
            assert await _call(channel, "unary_unary", "write:60") == b"write:60"
            assert position(scope) == 60
            assert await _call(channel, "stream_stream", "write:61") == b"write:61"
            assert position(scope) == 63
            assert not scope.cell.unresolved


async def test_a_server_in_this_process_with_interceptors_of_its_own() -> None:
    """Positional arguments; interceptor, handler and late work all see the call's scope."""
    scopes: list[Any] = []

    class Interceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc, unused-ignore]
        async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
            scopes.append(SCOPE.get())
            return await continuation(handler_call_details)

    async def handler(request: bytes, context: Any) -> bytes:
        scopes.append(SCOPE.get())
        assert context.code() is None and context.peer().startswith("ipv4:127.0.0.1:")
        return request

    handlers = grpc.method_handlers_generic_handler(
        "t.T", {"M": grpc.unary_unary_rpc_method_handler(handler)}
    )
    server = grpc.aio.server(None, [handlers], [Interceptor()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with connect_aio(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary("/t.T/M")(b"x")
        assert await call == b"x"
    await server.stop(None)
    assert scopes[0] is scopes[1] is not None
    assert scopes[0].over
    assert SCOPE.get() is None
