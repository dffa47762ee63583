"""The real sidecar at the real metadata server, both as processes of their own."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from rendezvous_api import channel, codec, event
from rendezvous_api.channel import Acked, Events, Status
from rendezvous_api.event import Close, Event
from rendezvous_api.ids import Bid
from rendezvous_testing.sidecar_doubles import (
    PATIENCE_S,
    RID,
    STORE,
    FakeProcess,
    RunningSidecar,
    free_port,
    metric,
    metric_becomes,
)

NewSidecar = Callable[..., RunningSidecar]
NewProcess = Callable[[], FakeProcess]


class RealServer:
    """``python -m rendezvous_server``; with the memory log it forgets everything when killed."""

    def __init__(self) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._child: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rendezvous_server", "--listen", self.address
        )

    async def kill(self) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
            await self._child.wait()


@pytest.fixture
async def real_server() -> AsyncIterator[RealServer]:
    server = RealServer()
    await server.start()
    yield server
    await server.kill()


async def test_events_are_applied_and_a_question_is_answered_from_them(
    real_server: RealServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    await new_sidecar(real_server.address).start()
    process = new_process()
    await process.connect()
    await process.write(1500)
    assert await process.acknowledged() == 1500
    answer = await process.ask(1)
    assert answer.status is Status.ANSWERED
    context = codec.decode(answer.context)
    assert context.rid == RID
    assert context.positions == {STORE: 1500}


async def test_a_question_waits_for_events_that_are_still_on_their_way(
    real_server: RealServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    await new_sidecar(real_server.address, "--metrics-port", str(health)).start()
    await metric_becomes(health, "connected", 1)
    asker, writer = new_process(), new_process()
    await asker.connect()
    await writer.connect()
    await writer.write(1)
    await writer.acknowledged()
    await asker.put_question(1, of=writer, seq=3)
    await writer.write(2)
    answer = await asker.answer(1)
    assert answer.status is Status.ANSWERED
    assert codec.decode(answer.context).positions == {STORE: 3}


async def test_a_server_that_lost_its_log_goes_on_with_successors(
    real_server: RealServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    await new_sidecar(real_server.address, "--metrics-port", str(health)).start()
    process = new_process()
    await process.connect()
    logs: set[str] = set()
    for round_ in range(3):
        await process.write(10)
        while process.acked < 10 * (round_ + 1):
            message = await process.receive()
            assert isinstance(message, Acked)
            logs.update(log for _, _, log, _ in message.entries)
        if round_ < 2:
            await real_server.kill()
            await real_server.start()
    assert len(logs) == 3
    assert await metric(health, "successors_total") == 2
    assert await metric(health, "batches_refused_total") == 0
    assert await metric(health, "lanes_broken_total") == 0


async def test_what_a_killed_process_never_sent_is_lost_at_once(
    real_server: RealServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    await new_sidecar(real_server.address).start()
    asker, killed = new_process(), new_process()
    await asker.connect()
    await killed.connect()
    await killed.write(3)
    await killed.acknowledged()
    await asker.put_question(1, of=killed, seq=4, budget_ms=int(PATIENCE_S * 1000))
    killed.close()
    assert (await asker.answer(1)).status is Status.LOST_TAIL


async def test_an_event_that_the_server_refuses_takes_its_lane_alone_with_it(
    real_server: RealServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    await new_sidecar(real_server.address, "--metrics-port", str(health)).start()
    bad, good = new_process(), new_process()
    await bad.connect()
    await good.connect()
    for lane in (0, 1):
        event_ = Event(lane, 1, RID, Bid(1), Close("x" if lane == 0 else ""))
        await bad.send(channel.encode(Events(event.encode(event_))))
    await good.write(10)
    assert await good.acknowledged() == 10
    message = await bad.receive()
    assert isinstance(message, Acked)
    assert [(lane, seq) for lane, seq, _, _ in message.entries] == [(1, 1)]
    await metric_becomes(health, "lanes_broken_total", 1)
    assert await metric(health, "events_refused_total") == 1
    assert await metric(health, "events_held") == 0
