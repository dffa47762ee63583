"""What the measured process talks to: real servers on loopback, started for one run."""

import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Processes
from rendezvous_testing.valkey import start_server

REPLICATION_DELAY_MS = 10
"""One way; the replica's link goes through the delay proxy."""
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Ports on loopback, and the sidecar's socket."""

    processes: Processes
    folder: Path
    primary: int
    replica: int
    http: int
    grpc: int
    sidecar: str

    def environment(self) -> dict[str, str]:
        """What a measured process must know."""
        own = {name: value for name, value in os.environ.items() if name[:11] != "RENDEZVOUS_"}
        own |= {
            "PYTHONHASHSEED": "0",
            "BENCH_PRIMARY": str(self.primary),
            "BENCH_REPLICA": str(self.replica),
            "BENCH_HTTP": str(self.http),
            "BENCH_GRPC": str(self.grpc),
            "OTEL_SERVICE_NAME": "bench",
        }
        return own


@contextmanager
def surroundings() -> Generator[Surroundings]:
    """Valkey with a replica behind the delay proxy, a peer, a metadata server and a sidecar."""
    with TemporaryDirectory(prefix="rendezvous-bench-") as name:
        folder = Path(name)
        with Processes(folder) as processes:
            primary = start_server(processes, "primary")
            link = free_port()
            command = [sys.executable, "-m", "rendezvous_testing.delay_proxy"]
            command += ["--listen", f"127.0.0.1:{link}", "--target", f"127.0.0.1:{primary.port}"]
            command += ["--delay-ms", str(REPLICATION_DELAY_MS)]
            processes.start("link", command).wait_for_port(link)
            replica = start_server(processes, "replica", link_port=link)
            replica.wait_until_linked()
            peer = processes.start("peer", [sys.executable, str(HERE / "peer.py")])
            http, grpc = peer.wait_for_line("listening on").split()[-2:]
            server, path = free_port(), str(folder / "sidecar.sock")
            command = [sys.executable, "-m", "rendezvous_server"]
            processes.start("server", [*command, "--listen", f"127.0.0.1:{server}"]).wait_for_port(
                server
            )
            command = [sys.executable, "-m", "rendezvous_sidecar", "--socket", path]
            command += ["--server", f"127.0.0.1:{server}"]
            processes.start("sidecar", command).wait_for_line("connected to")
            yield Surroundings(
                processes, folder, primary.port, replica.port, int(http), int(grpc), path
            )


class RawClient:
    """Sends one ready-made HTTP request after another on one connection and reads the answers whole."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> bytes:
        """The answer, head and body; its body is the word ``ok``."""
        self._socket.sendall(request)
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            more = self._socket.recv(65_536)
            if not more:
                raise ConnectionError(f"the measured server closed the connection: {answer!r}")
            answer += more
        return answer

    def close(self) -> None:
        """End the connection."""
        self._socket.close()
