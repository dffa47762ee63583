"""Real sidecars as subprocesses, fake servers in the test's own loop."""

import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rendezvous_testing.sidecar_doubles import FakeProcess, FakeServer, RunningSidecar


@pytest.fixture
def socket_path() -> Iterator[str]:
    """Short, since a socket's path has little room."""
    with tempfile.TemporaryDirectory(prefix="rdv") as directory:
        yield str(Path(directory) / "s")


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    fake = await FakeServer().start()
    yield fake
    await fake.stop()


@pytest.fixture
async def new_sidecar(socket_path: str) -> AsyncIterator[Callable[..., RunningSidecar]]:
    made: list[RunningSidecar] = []

    def make(servers: str, *flags: str) -> RunningSidecar:
        made.append(RunningSidecar(socket_path, servers, *flags))
        return made[-1]

    yield make
    for sidecar in made:
        if sidecar.started and sidecar.child.returncode is None:
            await sidecar.end(signal.SIGKILL)


@pytest.fixture
def new_process(socket_path: str) -> Iterator[Callable[[], FakeProcess]]:
    made: list[FakeProcess] = []

    def make() -> FakeProcess:
        made.append(FakeProcess(socket_path, int.from_bytes(os.urandom(8), "big")))
        return made[-1]

    yield make
    for process in made:
        process.close()
