"""The load generator tells an application's errors from calls that a kill has cost."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from rendezvous_testing.demo.load import Gate, Load, Outcome
from rendezvous_testing.ports import free_port

Answer = Callable[[int], Awaitable[web.StreamResponse]]

GOOD = {"written_at": 1.0, "notified": {"asked_at": 1.1, "read_at": 1.2, "found": True}}


@asynccontextmanager
async def writer(answer: Answer, port: int) -> AsyncGenerator[None]:
    """A writer whose n-th answer is ``answer(n)``."""
    count = 0

    async def create_post(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        return await answer(count)

    app = web.Application()
    app.add_routes([web.post("/posts", create_post)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_every_post_is_sent_once_and_at_most_so_many_at_a_time() -> None:
    at_once = most = 0

    async def answer(number: int) -> web.StreamResponse:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.005)
        at_once -= 1
        return web.json_response(GOOD)

    seen: list[int] = []
    port = free_port()
    async with writer(answer, port), Load(f"http://127.0.0.1:{port}", "t") as load:
        outcome = await load.run(20, concurrency=4, progress=lambda now: seen.append(now.done))
    assert (len(outcome.samples), outcome.errors, outcome.lost) == (20, [], 0)
    assert most == 4
    assert seen == list(range(1, 21))
    assert outcome.samples[0].found and outcome.samples[0].read_at == 1.2


async def test_a_bad_status_and_a_wrong_answer_are_errors_even_while_the_gate_is_closed() -> None:
    async def answer(number: int) -> web.StreamResponse:
        if number == 1:
            return web.Response(status=500, text="boom")
        return web.json_response({"written_at": 1.0})

    port = free_port()
    async with writer(answer, port), Load(f"http://127.0.0.1:{port}", "t") as load:
        load.gate.close()
        outcome = await load.run(2, concurrency=1)
    assert outcome.errors[0] == "post t-1: HTTP 500: boom"
    assert "not the answer of a writer" in outcome.errors[1]
    assert outcome.lost == 0


async def test_a_refused_call_is_an_error_unless_we_had_killed_the_service() -> None:
    port = free_port()
    async with Load(f"http://127.0.0.1:{port}", "t") as load:
        outcome = await load.run(1, concurrency=1)
        assert len(outcome.errors) == 1 and outcome.lost == 0

        refused, all_sent = asyncio.Event(), asyncio.Event()

        class Watched(Gate):
            async def wait(self) -> None:
                refused.set()
                await super().wait()

        async def answer(number: int) -> web.StreamResponse:
            if number == 2:
                all_sent.set()
            return web.json_response(GOOD)

        load.gate = Watched()
        load.gate.close()
        outcome = Outcome()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run(3, concurrency=1, outcome=outcome))
            await refused.wait()
            async with writer(answer, port):
                load.gate.open()
                await all_sent.wait()
    assert (outcome.lost, len(outcome.samples), outcome.errors) == (1, 2, [])


def test_a_gate_excuses_calls_that_touch_the_time_it_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("rendezvous_testing.demo.load.time.monotonic", lambda: now)
    gate = Gate()
    assert not gate.excuses(0.0, 1.0)
    now = 10.0
    gate.close()
    assert gate.excuses(5.0, 11.0) and not gate.excuses(5.0, 9.0)
    now = 20.0
    gate.open()
    assert gate.excuses(19.0, 25.0) and gate.excuses(5.0, 30.0)
    assert not gate.excuses(21.0, 22.0) and not gate.excuses(1.0, 2.0)
