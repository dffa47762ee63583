"""Real servers under the launcher, each in a process of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rendezvous_testing.channel_listener import ChannelListener
from rendezvous_testing.instrumented import BIN, Caller, Service, environment
from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Processes

HERE = Path(__file__).parent
Serve = Callable[[str, list[str]], Service]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a command, ``{port}`` replaced, and wait until it listens; once per name and module."""
    folder = tmp_path_factory.mktemp("served")
    started: dict[str, Service] = {}
    listeners: list[ChannelListener] = []
    with Processes(folder) as processes:

        def start(name: str, command: list[str]) -> Service:
            if name not in started:
                port = free_port()
                listener = ChannelListener(str(folder / f"{name}.sock")).__enter__()
                listeners.append(listener)
                arguments = [one.replace("{port}", str(port)) for one in command]
                process = processes.start(
                    name,
                    [str(BIN / "rendezvous-instrument"), "--service", "callee", *arguments],
                    environment=environment(
                        HERE, RENDEZVOUS_SIDECAR=listener.path, RENDEZVOUS_LOG="1"
                    ),
                    directory=HERE,
                )
                process.wait_for_port(port)
                started[name] = Service(port, listener, process)
            return started[name]

        yield start
    for listener in listeners:
        listener.__exit__(None, None, None)


@pytest.fixture
def caller() -> Caller:
    return Caller()
