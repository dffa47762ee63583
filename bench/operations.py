"""The measured operations: one class per library, each giving the times of ``count`` operations in ns.

Imported in the measured process only, after the instrumentation of its side has been installed.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from time import perf_counter_ns
from typing import Any

Between = Callable[[Any], None]
"""Called, outside the measured time, before each operation with the connection pool in use."""

LOOP = asyncio.new_event_loop()


def nothing(pool: Any) -> None:
    """Nothing between operations."""


class Operation:
    """One kind of call. ``between`` gets what :attr:`pool` is."""

    pool: Any = None

    def run(self, count: int, between: Between) -> list[int]:
        """Do it ``count`` times; each one's time in ns."""
        raise NotImplementedError


class Sync(Operation):
    """An operation that is a plain function."""

    def __init__(self, pool: Any, once: Callable[[], Any]) -> None:
        self.pool = pool
        self._once = once

    def run(self, count: int, between: Between) -> list[int]:
        times: list[int] = []
        once, pool = self._once, self.pool
        for _ in range(count):
            between(pool)
            began = perf_counter_ns()
            once()
            times.append(perf_counter_ns() - began)
        return times


class Async(Operation):
    """An operation that is a coroutine function; the batch runs in one task."""

    def __init__(self, pool: Any, once: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.pool = pool
        self._once = once

    def run(self, count: int, between: Between) -> list[int]:
        return LOOP.run_until_complete(self._batch(count, between))

    async def _batch(self, count: int, between: Between) -> list[int]:
        times: list[int] = []
        once, pool = self._once, self.pool
        for _ in range(count):
            between(pool)
            began = perf_counter_ns()
            await once()
            times.append(perf_counter_ns() - began)
        return times


class HttpServer(Operation):
    """aiohttp's server. The requests come from the coordinating process, which takes the times."""

    def __init__(self) -> None:
        self.port = 0
        self._left = 0
        self._served = asyncio.Event()

    async def start(self) -> None:
        """Serve on a free port."""
        from aiohttp import web

        async def answer(request: web.Request) -> web.Response:
            self._left -= 1
            if self._left == 0:
                LOOP.call_soon(self._served.set)
            return web.Response(text="ok")

        application = web.Application()
        application.router.add_get("/", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = int(runner.addresses[0][1])

    def run(self, count: int, between: Between) -> list[int]:
        self._left = count
        self._served.clear()
        LOOP.run_until_complete(self._until_served())
        return []

    async def _until_served(self) -> None:
        await self._served.wait()
        await asyncio.sleep(0.002)  # the last answer is on its way


def redis_sync() -> dict[str, Operation]:
    """GET and SET on the primary, synchronous client."""
    import redis

    client = redis.Redis(port=int(os.environ["BENCH_PRIMARY"]))
    client.set("bench", "x" * 16)
    return {
        "redis GET": Sync(client.connection_pool, lambda: client.get("bench")),
        "redis SET": Sync(client.connection_pool, lambda: client.set("bench", "x" * 16)),
    }


def redis_async() -> dict[str, Operation]:
    """GET and SET on the primary, asyncio client."""
    import redis.asyncio as redis

    client: Any = redis.Redis(port=int(os.environ["BENCH_PRIMARY"]))
    return {
        "redis.asyncio GET": Async(client.connection_pool, lambda: client.get("bench")),
        "redis.asyncio SET": Async(client.connection_pool, lambda: client.set("bench", "x" * 16)),
    }


def aiohttp_client() -> dict[str, Operation]:
    """GET / of the peer, body read."""
    import aiohttp

    url = f"http://127.0.0.1:{os.environ['BENCH_HTTP']}/"

    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    session = LOOP.run_until_complete(make())

    async def once() -> None:
        async with session.get(url) as response:
            await response.read()

    return {"aiohttp client": Async(session, once)}


def aiohttp_server() -> dict[str, Operation]:
    """One request handled."""
    server = HttpServer()
    LOOP.run_until_complete(server.start())
    return {"aiohttp server": server}


def requests_client() -> dict[str, Operation]:
    """GET / of the peer."""
    import requests

    url = f"http://127.0.0.1:{os.environ['BENCH_HTTP']}/"
    session = requests.Session()
    return {"requests": Sync(session, lambda: session.get(url))}


def grpc_sync() -> dict[str, Operation]:
    """One unary call of the peer."""
    import grpc

    channel: Any = grpc.insecure_channel(f"127.0.0.1:{os.environ['BENCH_GRPC']}")
    call: Any = channel.unary_unary("/bench.Bench/Echo")
    return {"grpc unary": Sync(channel, lambda: call(b"x"))}


LIBRARIES: dict[str, Callable[[], dict[str, Operation]]] = {
    "redis_sync": redis_sync,
    "redis_async": redis_async,
    "aiohttp_client": aiohttp_client,
    "aiohttp_server": aiohttp_server,
    "requests_client": requests_client,
    "grpc_sync": grpc_sync,
}
"""Our patch's name → its operations. A library without a patch is not measured."""


def operations() -> dict[str, Operation]:
    """All operations whose library we patch, made ready."""
    made: dict[str, Operation] = {}
    for patch, make in LIBRARIES.items():
        if find_spec(f"rendezvous_instrumentation.patches.{patch}") is not None:
            made |= make()
    return made
