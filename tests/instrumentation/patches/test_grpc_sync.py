"""grpc's client and server: what a call's end tells, for every kind of call."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from rendezvous_api.carrier import members_in
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.process import process
from rendezvous_testing.grpc_peer import NAMES
from rendezvous_testing.grpc_play import connect, counted, instrumented, peer, position, request

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
WAYS = ("call", "with_call", "future")
CALLS = [
    (kind, way) for kind in KINDS for way in WAYS if way == "call" or not kind.endswith("_stream")
]


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
    with peer("sync", "plain") as address:
        yield address


def _call(channel: Any, kind: str, text: str, way: str = "call", **options: Any) -> Any:
    name = NAMES[KINDS.index(kind)]
    stub = getattr(channel, kind)(f"/{options.pop('service', 'test.Kinds')}/{name}")
    sent: Any = iter([b"first", text.encode()]) if kind.startswith("stream") else text.encode()
    if way == "call":
        result = stub(sent, **options)
        return list(result)[-1] if kind.endswith("stream") else result
    if way == "with_call":
        return stub.with_call(sent, **options)[0]
    return stub.future(sent, **options).result()


@pytest.mark.parametrize(("kind", "way"), CALLS)
def test_the_caller_learns_all_that_the_callee_did(target: str, kind: str, way: str) -> None:
    with connect(target) as channel, request() as scope:
        assert _call(channel, kind, "write:10", way) == b"write:10"
        assert position(scope) == (12 if kind.endswith("stream") else 10)
        assert not scope.cell.unresolved


@pytest.mark.parametrize("kind", KINDS)
def test_the_callee_works_for_the_callers_request(target: str, kind: str) -> None:
    with connect(target) as channel, request() as scope:
        seen = json.loads(_call(channel, kind, "see", timeout=30))
        assert seen["rid"] == scope.cell.rid
        assert 0 < seen["remaining"] < 60
        assert json.loads(_call(channel, kind, "see"))["remaining"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ["abort", "raise"])
def test_errors_stay_the_users_and_tell_too(target: str, kind: str, verb: str) -> None:
    with connect(target) as channel, request() as scope:
        with pytest.raises(grpc.RpcError) as error:
            _call(channel, kind, f"{verb}:20")
        call: Any = error.value
        if verb == "abort":
            assert call.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert call.details() == "as the user says"
        else:
            assert call.code() is grpc.StatusCode.UNKNOWN
            assert "the handler's own" in call.details()
        assert dict(call.trailing_metadata())["user"] == f"{verb}ed".replace("eed", "ed")
        assert position(scope) == 20
        assert not scope.cell.unresolved


@pytest.mark.parametrize("kind", KINDS)
def test_trailers_of_the_user_come_with_ours(target: str, kind: str) -> None:
    name = NAMES[KINDS.index(kind)]
    with connect(target) as channel, request():
        stub = getattr(channel, kind)(f"/test.Kinds/{name}")
        sent: Any = iter([b"user"]) if kind.startswith("stream") else b"user"
        if kind.endswith("stream"):
            call = stub(sent)
            assert issubclass(type(call), grpc.Call) and issubclass(type(call), grpc.Future)
            assert list(call) == [b"user", b"user"]
        else:
            _, call = stub.with_call(sent)
        assert [key for key, _ in call.trailing_metadata()] == ["user", "rdv"]
        assert call.code() is grpc.StatusCode.OK


def test_no_context_no_answer(target: str) -> None:
    with connect(target) as channel:
        _, call = channel.unary_unary("/test.Kinds/UnaryUnary").with_call(b"user")
        assert [key for key, _ in call.trailing_metadata()] == ["user"]
        stream: Any = channel.unary_stream("/test.Kinds/UnaryStream")(b"user")
        assert list(stream) == [b"user", b"user"]
        assert not stream.initial_metadata()


@pytest.mark.parametrize(("kind", "way"), CALLS)
def test_a_deadline_leaves_the_branch_unresolved(target: str, kind: str, way: str) -> None:
    with connect(target) as channel, request() as scope:
        with pytest.raises(grpc.RpcError) as error:
            _call(channel, kind, "sleep:30", way, timeout=0.1)
        call: Any = error.value
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(scope.cell.unresolved) == 1


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_stream"])
def test_a_cancelled_call_is_unresolved_at_once(target: str, kind: str) -> None:
    name = NAMES[KINDS.index(kind)]
    with connect(target) as channel, request() as scope:
        stub = getattr(channel, kind)(f"/test.Kinds/{name}")
        sent: Any = iter([b"sleep"]) if kind.startswith("stream") else b"sleep"
        call = stub.future(sent) if kind == "unary_unary" else stub(sent)
        assert not scope.cell.unresolved
        assert call.cancel()
        assert len(scope.cell.unresolved) == 1
        assert call.cancelled()


@pytest.mark.parametrize("single", [True, False])
def test_a_dropped_stream_is_unresolved(target: str, single: bool) -> None:
    options = [("SingleThreadedUnaryStream", int(single))]
    with connect(target, options=options) as channel, request() as scope:
        stream: Any = channel.unary_stream("/test.Kinds/UnaryStream")(b"sleep")
        assert not scope.cell.unresolved
        del stream
        assert len(scope.cell.unresolved) == 1


@pytest.mark.parametrize("single", [True, False])
def test_between_first_message_and_end_a_stream_is_unresolved(target: str, single: bool) -> None:
    """DESIGN §2 "After the response": a streamed body says ``continues``."""
    options = [("SingleThreadedUnaryStream", int(single))]
    with connect(target, options=options) as channel, request() as scope:
        stream: Any = channel.unary_stream("/test.Kinds/UnaryStream")(b"write:40")
        assert next(stream) == b"write:40"
        assert position(scope) >= 40
        assert len(scope.cell.unresolved) == 1
        assert list(stream) == [b"write:40"]
        assert position(scope) == 42
        assert not scope.cell.unresolved


@pytest.mark.parametrize("kind", KINDS)
def test_a_peer_that_does_not_speak_is_opaque(plain: str, kind: str) -> None:
    with connect(plain) as channel, request() as scope:
        before = counted("calls_opaque")
        assert _call(channel, kind, "write:1") == b"write:1"
        assert counted("calls_opaque") == before + 1
        with pytest.raises(grpc.RpcError):
            _call(channel, kind, "raise")
        assert counted("calls_opaque") == before + 2
        assert not scope.cell.unresolved
        with pytest.raises(grpc.RpcError):
            _call(channel, kind, "sleep", timeout=0.1)
        assert len(scope.cell.unresolved) == 1


def test_metadata_and_baggage_of_the_user_are_untouched(target: str) -> None:
    baggage = "a=1;p=2, b = x%20y"
    pairs = (("k", "v"), ("baggage", baggage), ("blob-bin", b"\x00\xff"), ("k", "w"))
    with connect(target) as channel, request():
        for given in (pairs, list(pairs), iter(pairs)):
            seen = json.loads(_call(channel, "unary_unary", "see", metadata=given))["metadata"]
            mine = [[key, value] for key, value in seen if key in ("k", "blob-bin", "baggage")]
            ours = members_in(mine[1][1])[0]
            assert mine == [
                ["k", "v"],
                ["baggage", f"rdv={ours},{baggage}"],
                ["blob-bin", str(b"\x00\xff")],
                ["k", "w"],
            ]


def test_too_much_metadata_goes_without_ours(target: str) -> None:
    with connect(target) as channel, request() as scope:
        large = (("k", "v" * 7_120),)
        seen = json.loads(_call(channel, "unary_unary", "see", metadata=large))["metadata"]
        assert "baggage" not in dict(seen)
        assert len(scope.cell.unresolved) == 1


def test_without_a_connection_nothing_was_sent() -> None:
    with connect("127.0.0.1:1") as channel, request() as scope:
        for kind, way in CALLS:
            with pytest.raises(grpc.RpcError) as error:
                _call(channel, kind, "write:1", way)
            call: Any = error.value
            assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert not scope.cell.unresolved


def test_with_a_retry_policy_a_refused_connection_proves_nothing() -> None:
    options = [("grpc.service_config", "{}")]
    with connect("127.0.0.1:2", options=options) as channel, request() as scope:
        with pytest.raises(grpc.RpcError):
            _call(channel, "unary_unary", "write:1")
        assert len(scope.cell.unresolved) == 1


def test_a_call_that_is_refused_was_never_sent(target: str) -> None:
    channel = connect(target)
    stub = channel.unary_unary("/test.Kinds/UnaryUnary", request_serializer=str.encode)
    with request() as scope:
        with pytest.raises(grpc.RpcError):
            stub(b"not a str")
        channel.close()
        with pytest.raises(ValueError, match="closed channel"):
            stub("write:1")
        assert not scope.cell.unresolved


def test_requests_and_callbacks_run_for_the_request(target: str) -> None:
    seen: list[Any] = []
    called = threading.Event()

    def requests() -> Iterator[bytes]:
        seen.append(SCOPE.get())
        yield b"write:50"

    def on_done(_: Any) -> None:
        seen.append(SCOPE.get())
        called.set()

    with connect(target) as channel, request() as scope:
        future = channel.stream_unary("/test.Kinds/StreamUnary").future(requests())
        future.add_done_callback(on_done)
        assert future.result() == b"write:50"
        assert called.wait(10)
        assert seen == [scope, scope]


def test_channel_threads_are_not_the_requests_work(target: str) -> None:
    with connect(target) as channel, request():
        stream: Any = channel.unary_stream("/test.Kinds/UnaryStream")(b"write:1")
        scopes = [thread.__dict__.get("_rendezvous_scope") for thread in threading.enumerate()]
        assert set(scopes) == {None}
        assert len(list(stream)) == 2


def test_our_own_services_are_ignored(target: str) -> None:
    with connect(target) as channel, request() as scope:
        own = _call(channel, "unary_unary", "see", service="rendezvous.v1.Ignored")
        seen = json.loads(own)
        assert seen["rid"] is None
        assert "baggage" not in dict(seen["metadata"])
        assert not scope.cell.unresolved


def test_interceptors_of_the_user_lie_outside_ours(target: str) -> None:
    class Interceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
        def intercept_unary_unary(
            self, continuation: Any, client_call_details: Any, request: Any
        ) -> Any:
            assert client_call_details.metadata == (("k", "v"),)
            return continuation(client_call_details, request)

    with connect(target) as channel, request() as scope:
        intercepted = grpc.intercept_channel(channel, Interceptor())
        _call(intercepted, "unary_unary", "write:60", metadata=(("k", "v"),))
        assert position(scope) == 60


def test_unknown_methods_are_not_found(target: str) -> None:
    with connect(target) as channel, request() as scope:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/test.Kinds/Nothing")(b"")
        call: Any = error.value
        assert call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert position(scope) == 0


def test_unix_sockets_are_local(tmp_path: Any) -> None:
    with connect(f"unix:{tmp_path}/none.sock") as channel, request():
        before = counted("calls_outside")
        with pytest.raises(grpc.RpcError):
            _call(channel, "unary_unary", "write:1")
        assert counted("calls_outside") == before


def test_what_a_future_tells_is_known_before_its_result(target: str) -> None:
    with connect(target) as channel, request() as scope:
        stub = channel.unary_unary("/test.Kinds/UnaryUnary")
        for number in range(100, 200):
            stub.future(b"write:%d" % number).result()
            assert position(scope) == number


@pytest.mark.parametrize("broken", ["encoded", "zone_text"])
def test_failures_of_ours_are_swallowed(
    target: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    before = counted("failed")
    with connect(target) as channel, request() as scope:
        monkeypatch.setattr(calls, broken, fail)
        for kind, way in CALLS:
            assert _call(channel, kind, "write:1", way) == b"write:1"
        assert position(scope) == 0
        monkeypatch.undo()
        assert counted("failed") == before + len(CALLS)
        process().stats.counters["failed"] = before


def test_a_failing_end_leaves_the_branch_unresolved(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("ours")

    before = counted("failed")
    with connect(target) as channel, request() as scope:
        monkeypatch.setattr(calls.Call, "answered", fail)
        for kind, way in CALLS:
            assert _call(channel, kind, "write:1", way) == b"write:1"
        assert len(scope.cell.unresolved) == len(CALLS)
        process().stats.counters["failed"] = before


def test_servers_of_this_process_pool_and_non_blocking_handlers() -> None:
    """A handler that sends its responses later, from a thread of its own."""
    scopes: list[Any] = []

    def handler(sent: bytes, context: Any, send: Any) -> None:
        scopes.append(SCOPE.get())
        context.set_trailing_metadata((("user", "t"),))
        for response in (sent, sent, None):
            send(response)

    handler.experimental_non_blocking = True  # type: ignore[attr-defined]
    pool = ThreadPoolExecutor(1)
    server = grpc.server(pool)
    methods: dict[str, Any] = {"M": grpc.unary_stream_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with connect(f"127.0.0.1:{port}") as channel:
        with request() as scope:
            stream = channel.unary_stream("/t.T/M")(b"x")
            assert list(stream) == [b"x", b"x"]
            assert [key for key, _ in stream.trailing_metadata()] == ["user", "rdv"]
            assert not scope.cell.unresolved
        assert list(channel.unary_stream("/t.T/M")(b"x")) == [b"x", b"x"]
    assert pool.submit(SCOPE.get).result() is None
    server.stop(0).wait()
    pool.shutdown()
    assert [one.over for one in scopes] == [True, True]
    assert scopes[0].cell is scope.cell
    assert scopes[1].cell is not scope.cell


def test_too_many_calls_are_refused_and_closed() -> None:
    entered = threading.Event()
    release = threading.Event()

    def handler(sent: bytes, _: Any) -> bytes:
        entered.set()
        release.wait(10)
        return sent

    server = grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=1)
    methods: dict[str, Any] = {"M": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with connect(f"127.0.0.1:{port}") as channel, request() as scope:
        first = channel.unary_unary("/t.T/M").future(b"x")
        assert entered.wait(10)
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/t.T/M")(b"x")
        call: Any = error.value
        assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        release.set()
        assert first.result() == b"x"
        assert len(scope.cell.unresolved) == 1
    server.stop(0).wait()


def test_a_server_that_goes_away_leaves_the_branch_unresolved() -> None:
    entered = threading.Event()
    release = threading.Event()

    def handler(sent: bytes, _: Any) -> bytes:
        entered.set()
        release.wait(10)
        return sent

    server = grpc.server(ThreadPoolExecutor(1))
    methods: dict[str, Any] = {"M": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with connect(f"127.0.0.1:{port}") as channel, request() as scope:
        future = channel.unary_unary("/t.T/M").future(b"x")
        assert entered.wait(10)
        stopped = server.stop(0)
        with pytest.raises(grpc.RpcError) as error:
            future.result()
        call: Any = error.value
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert len(scope.cell.unresolved) == 1
        release.set()
        stopped.wait()
