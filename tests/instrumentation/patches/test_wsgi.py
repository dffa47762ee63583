"""The WSGI entry, with gunicorn, werkzeug, a server that nobody patches, and in-process drives."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Adopt, Body, Close, Write
from rendezvous_instrumentation.patches import wsgi
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_testing.instrumented import BIN, STORE, Caller, Reply, Service

Serve = Callable[[str, list[str]], Service]
GUNICORN = [str(BIN / "gunicorn"), "--bind", "127.0.0.1:{port}"]
FLASKS = {
    "gunicorn": [*GUNICORN, "wsgi_apps:app"],
    "gthread": [*GUNICORN, "--threads", "2", "wsgi_apps:app"],
    "unpatched": [sys.executable, "wsgi_apps.py", "wsgiref", "{port}"],
    "werkzeug": [sys.executable, "wsgi_apps.py", "werkzeug", "{port}"],
    "wsgi-in-asgi": [
        *(str(BIN / "uvicorn"), "wsgi_apps:app"),
        *("--interface", "wsgi", "--port", "{port}"),
    ],
}


@pytest.fixture(params=[name for name in FLASKS])
def flask(serve: Serve, request: pytest.FixtureRequest) -> Service:
    return serve(request.param, FLASKS[request.param])


@pytest.fixture
def bare(serve: Serve) -> Service:
    return serve("bare-wsgi", [*GUNICORN, "wsgi_apps:bare"])


def closed(bodies: list[Body]) -> bool:
    return any(isinstance(body, Close) for body in bodies)


def context_of(reply: Reply) -> Context:
    context = reply.context
    assert context is not None
    return context


def test_a_whole_response_answers_with_what_its_handler_wrote(
    flask: Service, caller: Caller
) -> None:
    reply = flask.get("/plain", {"baggage": f"user=1;p=2,rdv={caller.text}, b = %20x"})
    context = context_of(reply)
    assert (context.rid, context.branch) == (caller.rid, caller.bid)
    assert context.positions == {STORE: 7}
    assert not context.flags & Flags.CONTINUES
    assert (reply.report["rid"], reply.report["bid"]) == (caller.rid, caller.bid)
    member, others = reply.report["baggage"][0].split(",", 1)
    shown = codec.decode(member.removeprefix("rdv="))
    assert (shown.rid, shown.branch) == (caller.rid, 0)  # nobody below may close our branch
    assert others == "user=1;p=2, b = %20x"
    assert flask.bodies(caller.rid, closed) == [Adopt("callee", ""), Write(STORE, 7), Close()]


def test_without_a_context_headers_are_untouched(flask: Service) -> None:
    reply = flask.get("/plain", {"baggage": "a=1, rdv=garbage"})
    assert reply.context is None
    assert reply.report["baggage"] == ["a=1, rdv=garbage"]
    assert reply.report["rid"] is not None


def test_what_teardown_functions_write_is_in_the_answer(flask: Service, caller: Caller) -> None:
    context = context_of(flask.get("/teardown", {"rdv": caller.text}))
    assert context.positions == {STORE: 8}


def test_a_stream_says_that_it_continues_and_closes_at_its_end(
    flask: Service, caller: Caller
) -> None:
    reply = flask.get("/stream", {"rdv": caller.text})
    assert context_of(reply).flags & Flags.CONTINUES
    assert reply.report["bid"] == caller.bid
    assert flask.bodies(caller.rid, closed) == [Adopt("callee", ""), Write(STORE, 9), Close()]


def test_an_error_is_the_applications_own_and_answers_too(flask: Service, caller: Caller) -> None:
    reply = flask.get("/error", {"rdv": caller.text})
    assert reply.status == 500
    assert b"The server encountered an internal error" in reply.body
    assert context_of(reply).branch == caller.bid
    flask.process.wait_for_line("RuntimeError: the application's own")


@pytest.mark.parametrize(("path", "value"), [("/list", 5), ("/counted", 4)])
def test_lists_and_single_items_are_whole(
    bare: Service, caller: Caller, path: str, value: int
) -> None:
    reply = bare.get(path, {"rdv": caller.text})
    context = context_of(reply)
    assert context.positions == {STORE: value}
    assert not context.flags & Flags.CONTINUES
    assert reply.report["bid"] == caller.bid
    if path == "/counted":
        bare.process.wait_for_line("closed")


def test_a_generator_application_runs_in_the_scope(bare: Service, caller: Caller) -> None:
    reply = bare.get("/lazy", {"rdv": caller.text})
    assert reply.report["bid"] == caller.bid
    context = context_of(reply)
    assert context.positions == {STORE: 6}
    assert context.flags & Flags.CONTINUES


def test_the_write_callable_sends_what_is_known_then(bare: Service, caller: Caller) -> None:
    reply = bare.get("/write", {"rdv": caller.text})
    context = context_of(reply)
    assert reply.report["bid"] == caller.bid
    assert context.positions == {STORE: 5}
    assert context.flags & Flags.CONTINUES
    assert bare.bodies(caller.rid, closed)[-2:] == [Write(STORE, 6), Close()]


def test_headers_can_be_replaced_before_they_are_sent(bare: Service, caller: Caller) -> None:
    reply = bare.get("/again", {"rdv": caller.text})
    assert reply.status == 503
    names = [name for name, _ in reply.headers]
    assert "X-Second" in names
    assert "X-First" not in names
    assert context_of(reply).branch == caller.bid


def test_a_second_start_is_refused_as_the_server_does(bare: Service, caller: Caller) -> None:
    assert bare.get("/twice").report == {"refused": "AssertionError"}
    assert bare.get("/twice", {"rdv": caller.text}).report == {"refused": "AssertionError"}


def test_files_are_sent_by_the_server(bare: Service, caller: Caller) -> None:
    reply = bare.get("/file", {"rdv": caller.text})
    assert b"Applications for tests of the WSGI entry" in reply.body
    assert not context_of(reply).flags & Flags.CONTINUES


def test_a_file_wrapper_reaches_the_server_as_it_is(caller: Caller) -> None:
    class FileWrapper:
        pass

    body = FileWrapper()

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    started: list[Any] = []

    def started_with(status: str, headers: Any) -> None:
        started.append(headers)

    environ = {"wsgi.file_wrapper": FileWrapper, "HTTP_RDV": caller.text}
    returned = wsgi.application(app)(environ, started_with)
    assert returned is body
    assert [name for name, _ in started[0]] == ["rdv"]


def test_an_exception_after_the_first_chunk_reaches_the_server(caller: Caller) -> None:
    class Own(Exception):
        pass

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"1"
        try:
            raise Own
        except Own:
            start_response("500 Oops", [], sys.exc_info())

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        if exc_info is not None:  # headers are out: PEP 3333 wants the application's error raised
            raise exc_info[1]

    body = wsgi.application(app)({"HTTP_RDV": caller.text}, start_response)
    assert next(body) == b"1"
    with pytest.raises(Own):
        next(body)
    body.close()
    assert SCOPE.get() is None


def test_an_application_that_fails_fails_with_its_own_error(caller: Caller) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        wsgi.application(app)({"HTTP_RDV": caller.text}, None)
    assert SCOPE.get() is None


def test_a_body_is_closed_once_and_before_it_is_read(caller: Caller) -> None:
    closes: list[str] = []

    class Items:
        def __iter__(self) -> Iterator[bytes]:
            yield b""

        def close(self) -> None:
            closes.append(SCOPE.get().cell.rid)  # type: ignore[union-attr]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Items()

    wsgi.application(app)({"HTTP_RDV": caller.text}, None).close()
    assert closes == [caller.rid]
