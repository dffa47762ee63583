"""Peers that misbehave at a real sidecar's socket, and a buffer that fills."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rendezvous_api import channel, limits
from rendezvous_api.channel import Events
from rendezvous_testing.sidecar_doubles import (
    PATIENCE_S,
    FakeProcess,
    FakeServer,
    RunningSidecar,
    free_port,
    metric,
    metric_becomes,
    packets,
    write,
)

NewSidecar = Callable[..., RunningSidecar]
NewProcess = Callable[[], FakeProcess]


async def test_a_garbage_peer_is_counted_and_closed_and_nobody_else(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    sidecar = await new_sidecar(server.address, "--metrics-port", str(health)).start()
    process = new_process()
    await process.connect()
    for raw in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(50_000), b"\x02" + b"\xff" * 65_600):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as garbage:
            garbage.settimeout(PATIENCE_S)
            garbage.connect(sidecar.path)
            garbage.send(raw)
            loop = asyncio.get_running_loop()
            end = await loop.run_in_executor(None, lambda: _read_end(garbage))
            assert end == b""
    await process.write(5)
    assert await process.acknowledged() == 5
    assert await metric(health, "channels_malformed_total") == 3


def _read_end(peer: socket.socket) -> bytes:
    try:
        return peer.recv(100)
    except ConnectionResetError:
        return b""


async def test_a_fork_that_writes_to_the_inherited_socket_does_not_harm_its_parent(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    await new_sidecar(server.address, "--metrics-port", str(health)).start()
    process = new_process()
    await process.connect()
    await process.write(3)
    (raw,) = packets([write(4, value=666)])
    stale = channel.encode(Events(raw))
    program = (
        "import socket, sys; "
        "socket.socket(fileno=int(sys.argv[1])).send(bytes.fromhex(sys.argv[2]))"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        str(process.fileno()),
        stale.hex(),
        pass_fds=(process.fileno(),),
    )
    assert await child.wait() == 0
    await process.write(3)
    assert await process.acknowledged() == 6
    assert server.applied[process.incarnation, 0] == [1, 2, 3, 4, 5, 6]
    assert await metric(health, "packets_stale_total") == 1


async def test_a_fork_that_connects_with_its_parents_incarnation_is_turned_away(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    health = free_port()
    sidecar = await new_sidecar(server.address, "--metrics-port", str(health)).start()
    process = new_process()
    await process.connect()
    await process.write(3)
    await process.acknowledged()
    program = (
        "import socket, sys; "
        "peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
        "peer.connect(sys.argv[1]); peer.send(bytes.fromhex(sys.argv[2])); "
        "sys.exit(len(peer.recv(100)))"
    )
    hello = channel.encode(channel.Hello(process.name, os.getpid()))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, sidecar.path, hello.hex(), stderr=subprocess.DEVNULL
    )
    await child.wait()
    await process.write(3)
    assert await process.acknowledged() == 6
    assert await metric(health, "channels_stale_total") == 1
    assert await metric(health, "processes") == 1


async def test_a_full_buffer_stops_reading_and_loses_nothing(
    new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    port, health = free_port(), free_port()
    await new_sidecar(f"127.0.0.1:{port}", "--metrics-port", str(health)).start()
    process = new_process()
    await process.connect()
    count = limits.SIDECAR_EVENTS_MAX + 30_000
    writing = asyncio.create_task(process.write(count))
    await metric_becomes(health, "reading_paused", 1)
    assert not writing.done()
    held = await metric(health, "events_held")
    assert limits.SIDECAR_EVENTS_MAX <= held < count
    server = await FakeServer().start(f"127.0.0.1:{port}")
    await writing
    assert await process.acknowledged() == count
    assert server.applied[process.incarnation, 0] == list(range(1, count + 1))
    await metric_becomes(health, "reading_paused", 0)
    await server.stop()


async def test_a_process_that_does_not_read_delays_nobody(
    server: FakeServer, new_sidecar: NewSidecar, new_process: NewProcess
) -> None:
    await new_sidecar(server.address).start()
    silent, other = new_process(), new_process()
    await silent.connect()
    await other.connect()
    for number in range(2000):  # their answers fill its socket
        await silent.put_question(number)
    await other.write(5)
    assert await other.acknowledged() == 5
    await silent.write(5)
    assert await silent.acknowledged() == 5  # the last ack is there, whatever else was dropped


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_turned_away_unless_allowed(
    server: FakeServer, new_sidecar: NewSidecar, socket_path: str
) -> None:
    nobody = 65534
    program = (
        "import os, socket, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); "
        "os.setuid(int(sys.argv[2])); "
        "peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
        "peer.settimeout(20); peer.connect(sys.argv[1]); "
        "peer.send(b'x'); peer.recv(100)"
    )
    Path(socket_path).parent.chmod(0o711)
    health = free_port()
    flags = ("--metrics-port", str(health), "--group", str(nobody))

    async def visit() -> None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            socket_path,
            str(nobody),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await child.wait()

    sidecar = await new_sidecar(server.address, *flags).start()
    await visit()
    assert await metric(health, "strangers") == 1
    assert await metric(health, "channels_malformed_total") == 0
    await sidecar.end()
    await new_sidecar(server.address, *flags, "--allow-uid", str(nobody)).start()
    await visit()
    assert await metric(health, "strangers") == 0
    assert await metric(health, "channels_malformed_total") == 1
