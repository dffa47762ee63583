"""requests with a real server on loopback; what it reports is recorded, not sent."""

import dataclasses
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import requests.sessions

from rendezvous_api import codec
from rendezvous_api.carrier import members_in
from rendezvous_api.cell import Cell
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Body, Fail, Opaque, Open, Work, decode_body
from rendezvous_api.ids import Bid, Rid, text_of
from rendezvous_instrumentation.patches import requests_client
from rendezvous_instrumentation.shell import calls, http
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import Process, process
from rendezvous_testing.instrumented import STORE


class Handler(BaseHTTPRequestHandler):
    """``/speaks``, ``/mute``, ``/continues``, ``/hangs``, ``/garbage``, and ``/redirects/TO``."""

    received: list[tuple[str, list[str], list[Context]]]

    def do_GET(self) -> None:
        baggage = self.headers.get_all("baggage", [])
        contexts = [codec.decode(member) for one in baggage for member in members_in(one)]
        self.received.append((self.path, baggage, contexts))
        kind = self.path.split("/")[1]
        if kind == "hangs":
            self.rfile.read(1)  # until the client goes
            return
        self.send_response(303 if kind == "redirects" else 200)
        if kind == "redirects":
            port = self.connection.getsockname()[1]
            host, path = self.path.removeprefix("/redirects/").split("/", 1)
            self.send_header("location", f"http://{host}:{port}/{path}")
        if kind == "garbage":
            self.send_header("rdv", "garbage")
        elif contexts and kind != "mute":
            flags = Flags.CONTINUES if kind == "continues" else Flags(0)
            value = 8 if kind == "redirects" else 5
            asked = contexts[0]
            answer = Context(asked.rid, asked.branch, positions={STORE: value}, flags=flags)
            self.send_header("rdv", codec.encode(answer))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server:
    """The server's address, and what it received: (path, baggage headers, contexts)."""

    def __init__(self) -> None:
        self.received: list[tuple[str, list[str], list[Context]]] = []
        handler = type("Recording", (Handler,), {"received": self.received})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.port: int = self._http.server_address[1]

    def url(self, path: str, host: str = "localhost") -> str:
        return f"http://{host}:{self.port}/{path}"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Bid, Body]]:
    """What the process reports; only ``localhost`` may see contexts, no peer is known."""
    us = process()
    events: list[tuple[Bid, Body]] = []

    def event(self: Process, cell: Cell, bid: Bid, kind: int, raw: bytes) -> bool:
        events.append((bid, decode_body(kind, raw)))
        return True

    monkeypatch.setattr(Process, "encoded_event", event)
    monkeypatch.setattr(us, "config", dataclasses.replace(us.config, propagate_to=("localhost",)))
    monkeypatch.setattr(us, "_speakers", set[str]())
    monkeypatch.setattr(calls, "_allowed", {})
    adapter = requests.sessions.HTTPAdapter
    monkeypatch.setattr(adapter, "send", adapter.send)
    requests_client.apply(requests.sessions)
    return events


@pytest.fixture
def session(reported: object) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def scope() -> Iterator[Scope]:
    scope = Scope(cell_of(Rid(text_of(os.urandom(16)))), Bid(77))
    token = SCOPE.set(scope)
    yield scope
    SCOPE.reset(token)


Reported = list[tuple[Bid, Body]]


def opened(reported: Reported) -> list[Bid]:
    for _, body in reported:
        if isinstance(body, Open):
            assert (body.work, body.parent) == (Work.RPC, 77)
    return [bid for bid, body in reported if isinstance(body, Open)]


def test_a_call_carries_the_context_and_learns_the_callees(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    response = session.get(server.url("speaks"), headers={"baggage": "user=1;p=2, b = 3"})
    (bid,) = opened(reported)
    ((_, (baggage,), (context,)),) = server.received
    assert (context.rid, context.branch) == (scope.cell.rid, bid)
    assert baggage.split(",", 1)[1] == "user=1;p=2, b = 3"
    assert scope.cell.positions == {STORE: 5}
    assert not scope.cell.unresolved
    assert (response.text, response.status_code) == ("ok", 200)
    assert response.request.headers["baggage"] == "user=1;p=2, b = 3"


def test_without_a_request_nothing_is_added(
    server: Server, session: requests.Session, reported: Reported
) -> None:
    session.get(server.url("speaks"))
    assert server.received == [("/speaks", [], [])]
    assert reported == []


def test_a_prepared_request_sent_again_tells_nothing_of_the_first_request(
    server: Server, session: requests.Session, scope: Scope
) -> None:
    prepared = session.prepare_request(requests.Request("GET", server.url("speaks")))
    session.send(prepared)
    SCOPE.set(None)
    session.send(prepared)
    assert [baggage for _, baggage, _ in server.received][1] == []


def test_a_peer_that_never_answered_with_a_context_is_opaque(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    session.get(server.url("mute"))
    (bid,) = opened(reported)
    assert reported[-1] == (bid, Opaque())
    assert not scope.cell.unresolved


def test_a_peer_that_speaks_and_now_does_not_leaves_the_call_unresolved(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    session.get(server.url("speaks"))
    session.get(server.url("mute"))
    assert scope.cell.unresolved == {opened(reported)[1]}


@pytest.mark.parametrize("path", ["continues", "garbage"])
def test_a_call_whose_answer_is_not_all_is_unresolved(
    server: Server, session: requests.Session, scope: Scope, reported: Reported, path: str
) -> None:
    assert session.get(server.url(path)).text == "ok"
    assert scope.cell.unresolved == set(opened(reported))


def test_headers_are_learnt_before_a_streamed_body_is_read(
    server: Server, session: requests.Session, scope: Scope
) -> None:
    with session.get(server.url("speaks"), stream=True) as response:
        assert scope.cell.positions == {STORE: 5}
        assert response.raw.read() == b"ok"


def test_each_hop_of_a_redirect_is_a_branch_and_the_next_one_knows_what_it_wrote(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    response = session.post(server.url("redirects/localhost/speaks"), data=b"x")
    assert [one.status_code for one in response.history] == [303]
    (_, _, (first,)), (_, _, (second,)) = server.received
    assert [first.branch, second.branch] == opened(reported)
    assert first.positions == {}
    assert second.positions == {STORE: 8}
    assert scope.cell.positions == {STORE: 8}


def test_a_redirect_out_of_the_allow_list_takes_nothing_along(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    session.get(server.url("redirects/127.0.0.1/mute"), headers={"baggage": "a=1"})
    assert [baggage for _, baggage, _ in server.received][1] == ["a=1"]
    assert len(opened(reported)) == 1


@pytest.mark.parametrize(("others", "sent"), [(",a=1", ["a=1"]), ("", [])])
def test_what_a_tracer_propagates_of_us_is_hidden_from_hosts_outside(
    server: Server, session: requests.Session, others: str, sent: list[str]
) -> None:
    header = "rdv=1.AAAAAAAAAAAAAAAAAAAAAA" + others
    response = session.get(server.url("mute", "127.0.0.1"), headers={"baggage": header})
    assert server.received == [("/mute", sent, [])]
    assert response.request.headers["baggage"] == header


def test_a_call_that_could_not_connect_was_never_sent(
    session: requests.Session, scope: Scope, reported: Reported
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://localhost:{taken.getsockname()[1]}/")
    (bid,) = opened(reported)
    assert reported[-1] == (bid, Fail())
    assert not scope.cell.unresolved


def test_with_retries_nobody_knows_what_an_earlier_attempt_did(
    session: requests.Session, scope: Scope, reported: Reported
) -> None:
    session.mount("http://", requests.sessions.HTTPAdapter(max_retries=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://localhost:{taken.getsockname()[1]}/")
    assert scope.cell.unresolved == set(opened(reported))


def test_a_call_that_timed_out_is_unresolved(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    with pytest.raises(requests.ReadTimeout):
        session.get(server.url("hangs"), timeout=0.2)
    assert scope.cell.unresolved == set(opened(reported))


def test_bytes_are_headers_too(
    server: Server, session: requests.Session, scope: Scope, reported: Reported
) -> None:
    response = session.get(server.url("speaks"), headers={"baggage": b"a=1"})
    ((_, (baggage,), (context,)),) = server.received
    assert baggage.endswith(",a=1")
    assert context.branch == opened(reported)[0]
    assert list(response.request.headers.values()).count(b"a=1") == 1  # type: ignore[arg-type]


def test_a_failure_of_ours_is_counted_and_fails_nobody(
    server: Server,
    session: requests.Session,
    scope: Scope,
    reported: Reported,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def put(headers: object, call: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(http, "put", put)
    before = process().stats.counters["failed"]
    assert session.get(server.url("speaks")).text == "ok"
    assert server.received == [("/speaks", [], [])]
    assert process().stats.counters["failed"] == before + 1
    assert [body for _, body in reported][1:] == [Opaque()]
