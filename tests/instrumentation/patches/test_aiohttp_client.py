"""aiohttp's client with a real server on loopback; what it reports is recorded, not sent."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Iterator

import aiohttp
import aiohttp.client
import pytest
from aiohttp import web

from rendezvous_api import codec
from rendezvous_api.carrier import members_in
from rendezvous_api.cell import Cell
from rendezvous_api.context import Context
from rendezvous_api.event import Body, Opaque, Open, decode_body
from rendezvous_api.ids import Bid, Rid, text_of
from rendezvous_instrumentation.patches import aiohttp_client
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import Process, process
from rendezvous_testing.instrumented import STORE

Reported = list[tuple[Bid, Body]]


class Server:
    """``/speaks``, ``/mute``, ``/hangs``, ``/drops-once`` and ``/redirects/HOST/PATH``."""

    def __init__(self) -> None:
        self.received: list[tuple[str, list[str], list[Context]]] = []
        self.port = 0

    def url(self, path: str, host: str = "localhost") -> str:
        return f"http://{host}:{self.port}/{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        baggage = request.headers.getall("baggage", [])
        contexts = [codec.decode(member) for one in baggage for member in members_in(one)]
        self.received.append((request.path, baggage, contexts))
        kind, _, rest = request.path.lstrip("/").partition("/")
        if kind == "hangs":
            await asyncio.Event().wait()
        if kind == "drops-once" and len(self.received) == 2 and request.transport is not None:
            request.transport.abort()
        headers = dict[str, str]()
        if kind == "redirects":
            host, _, path = rest.partition("/")
            headers["location"] = self.url(path, host)
        if contexts and kind != "mute":
            asked = contexts[0]
            positions = {STORE: 8 if kind == "redirects" else 5}
            headers["rdv"] = codec.encode(Context(asked.rid, asked.branch, positions=positions))
        return web.Response(text="ok", status=303 if kind == "redirects" else 200, headers=headers)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Reported:
    """What the process reports; only ``localhost`` may see contexts, no peer is known."""
    us = process()
    events: Reported = []

    def event(self: Process, cell: Cell, bid: Bid, kind: int, raw: bytes) -> bool:
        events.append((bid, decode_body(kind, raw)))
        return True

    monkeypatch.setattr(Process, "encoded_event", event)
    monkeypatch.setattr(us, "config", dataclasses.replace(us.config, propagate_to=("localhost",)))
    monkeypatch.setattr(us, "_speakers", set[str]())
    monkeypatch.setattr(calls, "_allowed", {})
    module = aiohttp.client
    monkeypatch.setattr(module.ClientSession, "_request", vars(module.ClientSession)["_request"])
    monkeypatch.setattr(module.ClientRequest, "send", module.ClientRequest.send)
    monkeypatch.setattr(module.ClientResponse, "start", module.ClientResponse.start)
    aiohttp_client.apply(module)
    return events


@pytest.fixture
async def session(reported: object) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def scope() -> Iterator[Scope]:
    yield Scope(cell_of(Rid(text_of(os.urandom(16)))), Bid(77))
    SCOPE.set(None)


def opened(reported: Reported) -> list[Bid]:
    return [bid for bid, body in reported if isinstance(body, Open)]


async def test_a_call_carries_the_context_and_learns_the_callees(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    async with session.get(server.url("speaks"), headers={"baggage": "a=1;p=2, b = 3"}) as reply:
        assert scope.cell.positions == {STORE: 5}
        assert await reply.text() == "ok"
    ((_, (baggage,), (context,)),) = server.received
    assert [context.branch] == opened(reported)
    assert baggage.split(",", 1)[1] == "a=1;p=2, b = 3"
    assert not scope.cell.unresolved


async def test_without_a_request_nothing_is_added(
    server: Server, session: aiohttp.ClientSession, reported: Reported
) -> None:
    await session.get(server.url("speaks"))
    assert (server.received, reported) == ([("/speaks", [], [])], [])


async def test_each_hop_of_a_redirect_is_a_branch_and_the_next_one_knows_what_it_wrote(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    await session.post(server.url("redirects/localhost/speaks"))
    (_, _, (first,)), (_, _, (second,)) = server.received
    assert [first.branch, second.branch] == opened(reported)
    assert (first.positions, second.positions) == ({}, {STORE: 8})
    assert not scope.cell.unresolved


async def test_a_redirect_out_of_the_allow_list_takes_nothing_along(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    headers = {"baggage": "rdv=1.AAAAAAAAAAAAAAAAAAAAAA,a=1"}  # as a tracer passes it on
    await session.get(server.url("redirects/127.0.0.1/mute"), headers=headers)
    (_, _, (first,)), (_, baggage, _) = server.received
    assert [first.branch] == opened(reported)
    assert baggage == ["a=1"]


async def test_a_mute_peer_is_opaque_until_it_has_spoken(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    await session.get(server.url("mute"))
    assert [body for _, body in reported][1:] == [Opaque()]
    await session.get(server.url("speaks"))
    await session.get(server.url("mute"))
    assert scope.cell.unresolved == {opened(reported)[2]}


async def test_a_call_that_timed_out_is_unresolved(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    with pytest.raises(TimeoutError):
        await session.get(server.url("hangs"), timeout=aiohttp.ClientTimeout(0.2))
    assert scope.cell.unresolved == set(opened(reported))


async def test_an_attempt_that_is_repeated_is_one_branch(
    server: Server, session: aiohttp.ClientSession, scope: Scope, reported: Reported
) -> None:
    SCOPE.set(scope)
    async with session.get(server.url("mute")) as reply:  # leaves a connection to be dropped
        await reply.read()
    async with session.get(server.url("drops-once")) as reply:
        assert await reply.text() == "ok"
    (_, _, _), (_, _, (lost,)), (_, _, (repeated,)) = server.received
    assert lost.branch == repeated.branch == opened(reported)[1]
    assert not scope.cell.unresolved


async def test_a_call_that_could_not_connect_leaves_nothing(
    session: aiohttp.ClientSession, scope: Scope, reported: Reported, unused_tcp_port: int
) -> None:
    SCOPE.set(scope)
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(f"http://localhost:{unused_tcp_port}/")
    assert reported == []
    assert not scope.cell.unresolved
