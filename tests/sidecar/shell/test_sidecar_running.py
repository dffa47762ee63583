"""A real sidecar process with real sockets and streams, at a fake server (``FakeServer``)."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rendezvous_api.channel import Status
from rendezvous_testing import sidecar_doubles
from rendezvous_testing.sidecar_doubles import (
    PATIENCE_S,
    FakeProcess,
    FakeServer,
    RunningSidecar,
    free_port,
    get,
    metric_becomes,
    until,
)

NewSidecar = Callable[..., RunningSidecar]
NewProcess = Callable[[], FakeProcess]


async def local_process(
    path: str, incarnation: int, count: int, then: str
) -> asyncio.subprocess.Process:
    """A process of its own that reports ``count`` writes."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        sidecar_doubles.__file__,
        path,
        str(incarnation),
        str(count),
        then,
        stdout=asyncio.subprocess.PIPE,
    )


async def line_of(child: asyncio.subprocess.Process) -> bytes:
    assert child.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return await child.stdout.readline()


async def test_a_process_is_acknowledged_answered_and_missed(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    sidecar = await new_sidecar(server.address).start()
    process = new_process()
    await process.connect()
    await process.write(3)
    assert await process.acknowledged() == 3
    assert server.applied[process.incarnation, 0] == [1, 2, 3]
    assert (await process.ask(7)).status is Status.ANSWERED
    assert process.incarnation in server.leased
    process.close()
    await until(lambda: server.ended == [process.incarnation])
    code, _ = await sidecar.end()
    assert code == 0


async def test_a_killed_process_is_read_to_its_end_and_another_does_not_notice(
    server: FakeServer, new_sidecar: NewSidecar
) -> None:
    sidecar = await new_sidecar(server.address).start()
    killed = await local_process(sidecar.path, 0xA, 3000, "hang")
    assert await line_of(killed) == b"sent 3000\n"
    killed.kill()
    await killed.wait()
    other = await local_process(sidecar.path, 0xB, 2000, "wait")
    assert await line_of(other) == b"acked 2000\n"
    await other.wait()
    await until(lambda: set(server.ended) == {0xA, 0xB})
    assert server.applied[0xA, 0] == list(range(1, 3001))
    assert server.applied[0xB, 0] == list(range(1, 2001))


async def test_it_starts_and_accepts_events_with_no_server_and_delivers_them_later(
    new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    port = free_port()
    await new_sidecar(f"127.0.0.1:{port}").start()
    process = new_process()
    await process.connect()
    await process.write(10)
    assert (await process.ask(1)).status is Status.UNREACHABLE
    server = await FakeServer().start(f"127.0.0.1:{port}")
    assert await process.acknowledged() == 10
    assert server.applied[process.incarnation, 0] == list(range(1, 11))
    await server.stop()


async def test_a_server_restart_loses_nothing(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    await new_sidecar(server.address).start()
    process = new_process()
    await process.connect()
    await process.write(5)
    await process.acknowledged()
    for _ in range(2):
        await server.stop()
        await process.write(5)
        await server.start(server.address)
        await process.acknowledged()
    assert server.applied[process.incarnation, 0] == list(range(1, 16))
    assert server.streams == 3


async def test_failover_to_the_other_server_and_back_under_successors(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    other = await FakeServer("FakeLogBBBA").start()
    await new_sidecar(f"{server.address},{other.address}").start()
    process = new_process()
    await process.connect()
    await process.write(5)
    await process.acknowledged()
    await server.stop()
    await process.write(5)
    assert await process.acknowledged() == 10
    ((first, predecessor),) = other.follows.items()
    assert predecessor == (process.incarnation, 5)
    assert other.applied[first] == [6, 7, 8, 9, 10]
    await server.start(server.address)
    await other.stop()
    await process.write(5)
    assert await process.acknowledged() == 15
    ((second, predecessor),) = server.follows.items()
    assert predecessor == (process.incarnation, 10)
    assert server.applied[second] == [11, 12, 13, 14, 15]


async def test_a_killed_sidecar_is_resent_what_it_had_not_delivered(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    sidecar = await new_sidecar(server.address).start()
    process = new_process()
    await process.connect()
    await process.write(5)
    await process.acknowledged()
    await server.stop()
    await process.write(5)
    await sidecar.end(signal.SIGKILL)
    await server.start(server.address)
    await sidecar.start()  # over the dead one's socket file
    await process.connect()
    assert await process.acknowledged() == 10
    assert server.applied[process.incarnation, 0] == list(range(1, 11))


async def test_sigterm_drains_and_ends_with_0(
    new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    port = free_port()
    sidecar = await new_sidecar(f"127.0.0.1:{port}").start()
    process = new_process()
    await process.connect()
    await process.write(2000)
    sidecar.child.send_signal(signal.SIGTERM)
    server = await FakeServer().start(f"127.0.0.1:{port}")
    code, errors = await sidecar.end(None)
    assert (code, "undelivered" in errors) == (0, False)
    assert server.applied[process.incarnation, 0] == list(range(1, 2001))
    assert not Path(sidecar.path).exists()  # noqa: ASYNC240
    await server.stop()


async def test_it_ends_by_itself_after_its_parent_and_all_channels(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    parent = await asyncio.create_subprocess_exec("sleep", "60")
    sidecar = await new_sidecar(server.address, "--parent-pid", str(parent.pid)).start()
    process = new_process()
    await process.connect()
    parent.kill()
    await parent.wait()
    await process.write(5)
    assert await process.acknowledged() == 5
    assert sidecar.child.returncode is None
    process.close()
    code, _ = await sidecar.end(None)
    assert code == 0
    assert server.ended == [process.incarnation]


async def test_health_tells_alive_from_ready(new_sidecar: NewSidecar) -> None:
    port, health = free_port(), free_port()
    await new_sidecar(f"127.0.0.1:{port}", "--metrics-port", str(health)).start()
    assert (await get(health, "/healthz"))[0] == 200
    assert (await get(health, "/readyz"))[0] == 503
    assert (await get(health, "/elsewhere"))[0] == 404
    server = await FakeServer().start(f"127.0.0.1:{port}")
    await metric_becomes(health, "connected", 1)
    assert (await get(health, "/readyz"))[0] == 200
    await server.stop()
