"""A TCP proxy that makes a loopback connection as slow as one between regions.

Each chunk is released ``delay ± jitter`` after it came, each direction by itself, never before the
chunk ahead of it. ``cut`` is a partition: silence, in which TCP keeps what was sent; ``heal`` ends
it; ``reset`` breaks the connections. Run it as a process (``python -m
rendezvous_testing.delay_proxy``) where its timing matters, as a :class:`DelayProxy` where a test
wants to cut.
"""

import argparse
import asyncio
import random
import signal
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType
from typing import Self, cast

from rendezvous_testing.limits import IN_FLIGHT_BYTES_MAX, READY_S

_CLOSING_TURNS = 5


@dataclass
class Link:
    """What all connections of one proxy share. Times in seconds; ``seed`` makes the draws of
    delays repeatable."""

    delay_s: float
    jitter_s: float = 0.0
    seed: int = 0
    cut: bool = False
    pipes: set["Pipe"] = field(default_factory=set["Pipe"])

    def __post_init__(self) -> None:
        if not 0 <= self.jitter_s <= self.delay_s:
            raise ValueError(f"jitter {self.jitter_s} s must lie between 0 and {self.delay_s} s")
        self._random = random.Random(self.seed)

    def draw(self) -> float:
        """The delay of one chunk."""
        return self.delay_s + self._random.uniform(-self.jitter_s, self.jitter_s)


class End(Enum):
    """How one direction, or the whole connection, ends; it queues behind the data."""

    EOF = auto()
    CLOSE = auto()
    RESET = auto()


class Pipe(asyncio.Protocol):
    """One end of a proxied connection: what it receives goes to ``peer``, later."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[float, bytes | End]] = deque()
        self._queued_bytes = 0
        self._last_release = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.peer: Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._link.pipes.add(self)

    def connect_to(self, peer: "Pipe") -> None:
        """Join two ends; what came before is on its way from now."""
        self.peer, peer.peer = peer, self
        self.release()
        peer.release()

    def data_received(self, data: bytes) -> None:
        self._queued_bytes += len(data)
        self._append(data)
        if self._queued_bytes > IN_FLIGHT_BYTES_MAX and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._append(End.EOF)
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.pipes.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.peer is not None:
            # What is on its way still arrives, then the peer learns of the end.
            self._append(End.CLOSE if exc is None else End.RESET)

    def abort(self) -> None:
        """Break the connection at once, so that its client sees a reset."""
        self._queue.clear()
        if self._transport is not None:
            # Without lingering, closing sends RST where it would send FIN.
            connection = cast(socket.socket, self._transport.get_extra_info("socket"))
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _append(self, data: bytes | End) -> None:
        release = max(self._last_release, self._loop.time() + self._link.draw())
        self._last_release = release
        self._queue.append((release, data))
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and self.peer is not None and not self._link.cut:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._queue[0][0], self.release)

    def release(self) -> None:
        """Hand on what is due."""
        if self.peer is None or self._link.cut:
            return
        now = self._loop.time()
        while self._queue and self._queue[0][0] <= now:
            _, data = self._queue.popleft()
            self.peer.write(data)
            if isinstance(data, bytes):
                self._queued_bytes -= len(data)
        if self._queued_bytes <= IN_FLIGHT_BYTES_MAX and self._transport is not None:
            self._transport.resume_reading()
        self._schedule()

    def write(self, data: bytes | End) -> None:
        """Send on this end, or end it."""
        if self._transport is None or self._transport.is_closing():
            return
        match data:
            case End.EOF:
                if self._transport.can_write_eof():
                    self._transport.write_eof()
            case End.CLOSE:
                self._transport.close()
            case End.RESET:
                self.abort()
            case _:
                self._transport.write(data)


async def serve(link: Link, *, listen_port: int, target_port: int) -> asyncio.Server:
    """Listen on the loopback ``listen_port`` and proxy each connection to ``target_port``."""
    loop = asyncio.get_running_loop()
    opening: set[asyncio.Task[None]] = set()

    async def connect(near: Pipe) -> None:
        try:
            _, far = await loop.create_connection(lambda: Pipe(link), "127.0.0.1", target_port)
        except OSError:
            near.abort()
        else:
            near.connect_to(far)

    class Accepted(Pipe):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(connect(self))
            opening.add(task)
            task.add_done_callback(opening.discard)

    return await loop.create_server(lambda: Accepted(link), "127.0.0.1", listen_port)


class DelayProxy:
    """The proxy in a thread of its own, with its controls. Use it as a context manager."""

    def __init__(
        self,
        *,
        target_port: int,
        listen_port: int = 0,
        delay_s: float,
        jitter_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.port = listen_port
        self._target_port = target_port
        self._link = Link(delay_s, jitter_s, seed)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stopping = asyncio.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="delay-proxy", daemon=True)

    def cut(self) -> None:
        """Nothing passes any more; connections stay."""
        self._call(lambda: setattr(self._link, "cut", True))

    def heal(self) -> None:
        """What waited goes on, and everything after it."""

        def go_on() -> None:
            self._link.cut = False
            for pipe in tuple(self._link.pipes):
                pipe.release()

        self._call(go_on)

    def reset(self) -> None:
        """Break all connections; new ones are taken."""

        def break_all() -> None:
            for pipe in tuple(self._link.pipes):
                pipe.abort()

        self._call(break_all)

    def set_delay(self, delay_s: float, jitter_s: float = 0.0) -> None:
        """Delay chunks that come from now on by this much."""
        checked = Link(delay_s, jitter_s)

        def change() -> None:
            self._link.delay_s, self._link.jitter_s = checked.delay_s, checked.jitter_s

        self._call(change)

    def _call(self, action: Callable[[], None]) -> None:
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        if not done.wait(READY_S):
            raise TimeoutError("the delay proxy's loop does not answer")

    def _run(self) -> None:
        async def live() -> None:
            try:
                server = await serve(
                    self._link, listen_port=self.port, target_port=self._target_port
                )
            except OSError as exc:
                self._failure = exc
                self._started.set()
                return
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await self._stopping.wait()
            server.close()
            # A few turns of the loop: connections just accepted become pipes, and aborted
            # transports close their sockets.
            for _ in range(_CLOSING_TURNS):
                for pipe in tuple(self._link.pipes):
                    pipe.abort()
                await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(live())

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._stopping.set)
        self._thread.join(READY_S)


def _port(address: str) -> int:
    host, _, port = address.rpartition(":")
    if host != "127.0.0.1":
        raise argparse.ArgumentTypeError(f"{address!r}: want 127.0.0.1:PORT")
    return int(port)


def main(argv: list[str] | None = None) -> int:
    """Run the proxy until SIGTERM or SIGINT. Prints ``listening on …`` when ready."""
    parser = argparse.ArgumentParser(prog="delay_proxy", description=main.__doc__)
    parser.add_argument("--listen", type=_port, required=True, metavar="127.0.0.1:PORT")
    parser.add_argument("--target", type=_port, required=True, metavar="127.0.0.1:PORT")
    parser.add_argument("--delay-ms", type=float, required=True)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        link = Link(options.delay_ms / 1000, options.jitter_ms / 1000, options.seed)
    except ValueError as exc:
        parser.error(str(exc))

    async def live() -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        server = await serve(link, listen_port=options.listen, target_port=options.target)
        print(f"listening on 127.0.0.1:{options.listen}", flush=True)
        await stopping.wait()
        server.close()

    asyncio.run(live())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
