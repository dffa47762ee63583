"""The stream to a server: one at a time, for ever, over all configured servers."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from rendezvous_api.v1.rendezvous_pb2 import FromSidecar, ToSidecar
from rendezvous_sidecar.core.steps import Step, StreamDown, StreamMessage, StreamUp
from rendezvous_sidecar.limits import (
    BACK_OFF_MAX_S,
    BACK_OFF_MIN_S,
    KEEPALIVE_MS,
    KEEPALIVE_TIMEOUT_MS,
    STREAM_LIFE_S,
)

if TYPE_CHECKING:
    from grpc.aio import StreamStreamCall

_log = logging.getLogger("rendezvous.sidecar.uplink")


class Uplink:
    """Opens streams and carries messages. The agent decides what a stream is worth (``rotate``)."""

    def __init__(self, servers: tuple[str, ...], take: Callable[[Step], None]) -> None:
        self.server = ""
        """The server of the current stream."""
        self._servers = servers
        self._take = take
        self._stream = 0
        self._welcomed = False
        self._urgent: deque[FromSidecar] = deque()
        self._batches: deque[FromSidecar] = deque()
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._finishing = False
        self._reason = ""
        self._told = ""

    def send(self, stream: int, message: FromSidecar) -> None:
        """Queue a message; questions and whatever else is small overtake batches."""
        if stream == self._stream:
            is_batch = message.WhichOneof("message") == "batch"
            (self._batches if is_batch else self._urgent).append(message)
            self._wake.set()

    def rotate(self, stream: int, reason: str) -> None:
        """End a stream; the next one follows by itself."""
        if stream == self._stream:
            self._welcomed = False  # whatever it was worth: the next server's turn
            self._reason = reason
            self._over.set()

    def finish(self) -> None:
        """Send what is queued and end the stream; :meth:`run` returns once the server has, too."""
        self._finishing = True
        self._wake.set()

    async def run(self) -> None:
        """Keep a stream open until cancelled, or :meth:`finish`.

        A server whose stream broke is tried once more before the next one, because a restart is
        likelier than a loss; back-off begins after a round in which nobody welcomed us.
        """
        at, failed, pause = 0, 0, BACK_OFF_MIN_S
        while not self._finishing:
            if await self._serve(self._servers[at]):
                failed, pause = 0, BACK_OFF_MIN_S
                continue
            at = (at + 1) % len(self._servers)
            failed += 1
            if failed >= len(self._servers):
                failed = 0
                await asyncio.sleep(pause * (1 - random.random() / 2))
                pause = min(pause * 2, BACK_OFF_MAX_S)

    async def _serve(self, server: str) -> bool:
        """One stream from beginning to end: whether it was of use."""
        import grpc.aio  # here, because it takes longer to load than all the rest together

        from rendezvous_api.v1.rendezvous_pb2_grpc import SidecarsStub

        loop = asyncio.get_running_loop()
        began = loop.time()
        self._stream += 1
        stream = self._stream
        self.server, self._welcomed, self._reason = server, False, ""
        self._urgent.clear()
        self._batches.clear()
        self._over.clear()
        options = (
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 0),
            ("grpc.use_local_subchannel_pool", 1),  # a new stream is a new connection
        )
        async with grpc.aio.insecure_channel(server, options=options) as connection:
            call = SidecarsStub(connection).Connect(self._outgoing(stream))
            self._take(StreamUp(stream))
            reading = asyncio.create_task(self._read(stream, call))
            over = asyncio.create_task(self._over.wait())
            try:
                await asyncio.wait((reading, over), return_when=asyncio.FIRST_COMPLETED)
            finally:
                reading.cancel()
                over.cancel()
                call.cancel()
                _, error = await asyncio.gather(over, reading, return_exceptions=True)
                self._take(StreamDown(stream))
        if not self._finishing:
            self._say(server, error)
        return self._welcomed and loop.time() - began >= STREAM_LIFE_S

    async def _read(self, stream: int, call: "StreamStreamCall[FromSidecar, ToSidecar]") -> None:
        async for message in call:
            if not self._welcomed and message.WhichOneof("message") == "welcome":
                self._welcomed = True
                self._told = ""
                _log.info("connected to %s", self.server)
            self._take(StreamMessage(stream, message))

    async def _outgoing(self, stream: int) -> AsyncGenerator[FromSidecar, None]:
        while stream == self._stream:
            while self._urgent or self._batches:
                yield (self._urgent or self._batches).popleft()
            if self._finishing:
                return
            self._wake.clear()
            await self._wake.wait()

    def _say(self, server: str, error: BaseException | None) -> None:
        """Log why a stream ended, unless that is just what was said last."""
        import grpc.aio

        if self._reason:
            reason = self._reason
        elif isinstance(error, grpc.aio.AioRpcError):
            reason = f"{error.code().name}: {error.details()}"
        else:
            reason = f"the stream ended: {error}" if error else "the server ended the stream"
        text = f"{server}: {reason}"
        _log.log(logging.DEBUG if text == self._told else logging.WARNING, "no server: %s", text)
        self._told = text
