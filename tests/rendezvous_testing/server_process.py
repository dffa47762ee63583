"""A real metadata server process, and the sidecar's end of a stream to it."""

import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc


class ServerProcess:
    """``python -m rendezvous_server`` on a free port; killed at the end if it still runs."""

    def __init__(self, *flags: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rendezvous_server", "--listen", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            _, err = self._process.communicate()
            raise AssertionError(f"no server: {line!r} {err}")
        self.address = line.split()[-1]
        self.pid = self._process.pid

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.communicate()

    def terminate(self) -> tuple[int, str]:
        """SIGTERM; returns the exit code and what was written to stderr."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Wait for its end; returns the exit code and what was written to stderr."""
        _, err = self._process.communicate(timeout=20)
        return self._process.returncode, err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self.kill()


def raw_stream(channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
    """A sidecar stream of bytes, for what no sidecar would send."""
    untyped: Any = channel
    call: grpc.aio.StreamStreamCall[bytes, bytes] = untyped.stream_stream(
        "/rendezvous.v1.Sidecars/Connect"
    )()
    return call


class SidecarEnd:
    """The sidecar's end of one stream."""

    def __init__(self, channel: grpc.aio.Channel, sidecar: int = 1) -> None:
        self.call = rpc.SidecarsStub(channel).Connect()
        self.sidecar = sidecar

    async def hello(self) -> pb.Welcome:
        """Begin."""
        await self.send(pb.FromSidecar(hello=pb.Hello(version=1, sidecar=self.sidecar)))
        return (await self.read()).welcome

    async def send(self, message: pb.FromSidecar) -> None:
        """Send one message."""
        await self.call.write(message)

    async def read(self) -> pb.ToSidecar:
        """The next message from the server."""
        message = await self.call.read()
        assert isinstance(message, pb.ToSidecar), "the stream ended"
        return message
