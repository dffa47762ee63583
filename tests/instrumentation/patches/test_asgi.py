"""The ASGI entry, with uvicorn, FastAPI and an application without any library."""

import http.client
import socket
from collections.abc import Callable
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Adopt, Body, Close, Open, Work, Write
from rendezvous_api.ids import Rid
from rendezvous_instrumentation.patches import asgi
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_testing.instrumented import BIN, STORE, Caller, Reply, Service

Serve = Callable[[str, list[str]], Service]


@pytest.fixture
def fastapi(serve: Serve) -> Service:
    command = [str(BIN / "uvicorn"), "asgi_apps:app", "--port", "{port}"]
    return serve("fastapi", [*command, "--ws", "none"])


@pytest.fixture
def bare(serve: Serve) -> Service:
    return serve("bare", [str(BIN / "uvicorn"), "asgi_apps:bare", "--port", "{port}"])


def closed(bodies: list[Body]) -> bool:
    return any(isinstance(body, Close) for body in bodies)


def context_of(reply: Reply) -> Context:
    context = reply.context
    assert context is not None
    return context


@pytest.mark.parametrize(("path", "value"), [("/plain", 7), ("/sync", 8)])
def test_a_whole_response_answers_with_what_its_handler_wrote(
    fastapi: Service, caller: Caller, path: str, value: int
) -> None:
    reply = fastapi.get(path, {"baggage": f"user=1;p=2,rdv={caller.text}, b = %20x"})
    context = context_of(reply)
    assert (context.rid, context.branch) == (caller.rid, caller.bid)
    assert context.positions == {STORE: value}
    assert not context.flags & Flags.CONTINUES
    assert (reply.report["rid"], reply.report["bid"]) == (caller.rid, caller.bid)
    assert fastapi.bodies(caller.rid, closed) == [Adopt("callee", ""), Write(STORE, value), Close()]


def test_below_us_our_member_is_first_and_the_users_others_are_to_the_letter(
    fastapi: Service, caller: Caller
) -> None:
    headers = [("baggage", f"user=1;p=2,rdv={caller.text}, b = %20x"), ("Baggage", "c=3")]
    first, second = fastapi.get("/plain", headers).report["baggage"]
    member, others = first.split(",", 1)
    shown = codec.decode(member.removeprefix("rdv="))
    assert (shown.rid, shown.branch) == (caller.rid, 0)  # nobody below may close our branch
    assert others == "user=1;p=2, b = %20x"
    assert second == "c=3"


def test_a_plain_header_is_shown_as_baggage(fastapi: Service, caller: Caller) -> None:
    (baggage,) = fastapi.get("/plain", {"rdv": caller.text}).report["baggage"]
    assert codec.decode(baggage.removeprefix("rdv=")).rid == caller.rid


@pytest.mark.parametrize("baggage", ["a=1, b=2 ", "rdv=garbage,a=1", "rdv=2.what-comes,a=1"])
def test_without_a_context_headers_are_untouched(fastapi: Service, baggage: str) -> None:
    reply = fastapi.get("/plain", {"baggage": baggage})
    assert reply.context is None
    assert reply.report["baggage"] == [baggage.strip()]  # uvicorn strips; nobody else does
    assert reply.report["rid"] is not None


def test_a_trace_without_a_context_is_joined(fastapi: Service) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    reply = fastapi.get("/plain", {"traceparent": trace})
    assert reply.report["rid"] == "CvdlGRbNQ92ESOshHIAxnA"
    assert reply.context is None


def test_a_stream_says_that_it_continues_and_closes_at_its_end(
    fastapi: Service, caller: Caller
) -> None:
    reply = fastapi.get("/stream", {"rdv": caller.text})
    context = context_of(reply)
    assert context.flags & Flags.CONTINUES
    assert not context.positions
    assert reply.report["bid"] == caller.bid
    assert fastapi.bodies(caller.rid, closed) == [Adopt("callee", ""), Write(STORE, 9), Close()]


def test_background_tasks_are_a_branch_of_their_own_in_a_child_zone(
    fastapi: Service, caller: Caller
) -> None:
    context = context_of(fastapi.get("/background", {"rdv": caller.text}))
    assert not context.flags & Flags.CONTINUES
    assert not context.positions
    adopt, close, opened, write, *rest = fastapi.bodies(
        caller.rid, lambda bodies: len([b for b in bodies if isinstance(b, Close)]) == 2
    )
    assert (adopt, close, write) == (Adopt("callee", ""), Close(), Write(STORE, 10))
    assert opened == Open(Work.TASK, caller.bid, ":0", "callee")
    assert rest == [Close()]


def test_an_error_is_the_applications_own_and_answers_too(fastapi: Service, caller: Caller) -> None:
    reply = fastapi.get("/error", {"rdv": caller.text})
    assert (reply.status, reply.body) == (500, b"Internal Server Error")
    assert context_of(reply).branch == caller.bid
    fastapi.process.wait_for_line("RuntimeError: the application's own")
    assert fastapi.bodies(caller.rid, closed) == [Adopt("callee", ""), Close()]


def test_headers_of_an_event_stream_are_not_held(fastapi: Service, caller: Caller) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fastapi.port, timeout=20)
    connection.request("GET", "/events", headers={"rdv": caller.text})
    header = connection.getresponse().getheader("rdv")  # comes before any event does
    connection.close()
    assert header is not None
    assert codec.decode(header).flags & Flags.CONTINUES
    assert closed(fastapi.bodies(caller.rid, closed))


def test_any_application_under_uvicorn_is_entered(bare: Service, caller: Caller) -> None:
    context = context_of(bare.get("/", {"rdv": caller.text}))
    assert context.positions == {STORE: 5}
    assert context.flags & Flags.CONTINUES  # it did not say how long its body is


def test_an_application_under_gunicorns_own_asgi_worker_is_entered(
    serve: Serve, caller: Caller
) -> None:
    command = [str(BIN / "gunicorn"), "--worker-class", "asgi", "--bind", "127.0.0.1:{port}"]
    reply = serve("gunicorn-asgi", [*command, "asgi_apps:app"]).get("/plain", {"rdv": caller.text})
    assert context_of(reply).positions == {STORE: 7}
    assert reply.report["bid"] == caller.bid


def test_a_body_of_the_promised_length_is_complete(bare: Service, caller: Caller) -> None:
    context = context_of(bare.get("/length", {"rdv": caller.text}))
    assert not context.flags & Flags.CONTINUES


def test_what_a_streamed_body_writes_is_reported_before_its_branch_closes(
    bare: Service, caller: Caller
) -> None:
    context = context_of(bare.get("/chunks", {"rdv": caller.text}))
    assert context.positions == {STORE: 5}
    written = [Write(STORE, 5), Write(STORE, 6)]
    assert bare.bodies(caller.rid, closed) == [Adopt("callee", ""), *written, Close()]


def test_a_response_cut_after_its_headers_is_cut_as_without_us(
    bare: Service, caller: Caller
) -> None:
    with pytest.raises(http.client.HTTPException) as plain:
        bare.get("/cut")
    with pytest.raises(http.client.HTTPException) as entered:
        bare.get("/cut", {"rdv": caller.text})
    assert type(entered.value) is type(plain.value)
    assert bare.bodies(caller.rid, closed) == [Adopt("callee", ""), Write(STORE, 5), Close()]


def test_requests_of_one_connection_do_not_mix(fastapi: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fastapi.port, timeout=20)
    seen: set[Rid] = set()
    for _ in range(3):
        one = Caller()
        connection.request("GET", "/plain", headers={"rdv": one.text})
        response = connection.getresponse()
        response.read()
        seen.add(codec.decode(response.headers["rdv"]).rid)
    connection.close()
    assert len(seen) == 3


def test_a_client_that_goes_away_leaves_no_open_branch(fastapi: Service, caller: Caller) -> None:
    with socket.create_connection(("127.0.0.1", fastapi.port)) as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: x\r\nrdv: {caller.text}\r\n\r\n".encode())
        assert sock.recv(100)
    assert fastapi.bodies(caller.rid, closed)[-1] == Close()


async def test_a_websocket_is_adopted_and_its_messages_are_its_own(caller: Caller) -> None:
    sent: list[Any] = []
    inside: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.append(SCOPE.get())
        await send({"type": "websocket.accept"})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"rdv", caller.text.encode())]
    scope = {"type": "websocket", "headers": headers}
    await asgi.application(app)(scope, None, send)
    assert sent == [{"type": "websocket.accept"}]
    assert [(one.cell.rid, one.bid, one.over) for one in inside] == [(caller.rid, caller.bid, True)]
    assert SCOPE.get() is None


async def test_other_kinds_of_scope_pass(caller: Caller) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((dict(scope), receive, send, SCOPE.get()))

    await asgi.application(app)({"type": "lifespan"}, 1, 2)
    assert seen == [({"type": "lifespan"}, 1, 2, None)]
