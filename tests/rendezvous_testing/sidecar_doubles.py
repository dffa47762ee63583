"""Doubles for tests of the sidecar: a *fake* metadata server, and a simple stand-in for what the
instrumentation does at the channel. Run as a program, this file is such a process.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable

import grpc.aio

from rendezvous_api import channel, event
from rendezvous_api.channel import Acked, Answered, Ask, Events, Hello, Status, ToProcess
from rendezvous_api.event import Event, Write
from rendezvous_api.ids import Bid, Incarnation, LogId, Rid, StoreKey, origin_of, word, word_value
from rendezvous_api.limits import PACKET_BYTES_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1.rendezvous_pb2_grpc import SidecarsServicer, add_SidecarsServicer_to_server

RID = Rid("B" * 21 + "A")
STORE = StoreKey("rAAAAAAAAAAA")
PATIENCE_S = 20.0
"""Seconds after which a test gives up; nothing is expected to take nearly as long."""


def write(seq: int, *, lane: int = 0, value: int | None = None) -> Event:
    """A write event; by default its value is its seq."""
    return Event(lane, seq, RID, Bid(1), Write(STORE, seq if value is None else value))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to come."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # in another process: nobody sets an event
            await asyncio.sleep(0.01)


async def metric_becomes(port: int, name: str, value: float) -> None:
    """Wait until a sidecar's metric has a value that it is bound to get."""
    async with asyncio.timeout(PATIENCE_S):
        while await metric(port, name) != value:  # noqa: ASYNC110  # in another process
            await asyncio.sleep(0.02)


class RunningSidecar:
    """``python -m rendezvous_sidecar`` with a socket of its own."""

    def __init__(self, path: str, servers: str, *flags: str) -> None:
        self.path = path
        self._arguments = ["--socket", path, "--server", servers, *flags]
        self._child: asyncio.subprocess.Process | None = None

    @property
    def started(self) -> bool:
        """Whether there is a process."""
        return self._child is not None

    @property
    def child(self) -> asyncio.subprocess.Process:
        """Its process, once started."""
        assert self._child is not None
        return self._child

    async def start(self) -> "RunningSidecar":
        """Start it and wait until its socket is open."""
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rendezvous_sidecar",
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            line = await self._child.stdout.readline()
        if line != f"listening on {self.path}\n".encode():
            _, errors = await self._child.communicate()
            raise AssertionError(errors.decode())
        return self

    async def end(self, number: signal.Signals | None = signal.SIGTERM) -> tuple[int, str]:
        """Signal it (or not) and wait: its exit code and what it logged."""
        if number is not None and self.child.returncode is None:
            self.child.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, errors.decode()


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and body of a GET from the health port of a sidecar on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        raw = await reader.read()
    writer.close()
    head, _, body = raw.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body


async def metric(port: int, name: str) -> float:
    """The value of one metric of a sidecar, by its name without the prefix."""
    _, body = await get(port, "/metrics")
    for line in body.splitlines():
        if line.startswith(f"rendezvous_sidecar_{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class FakeServer(SidecarsServicer):
    """A metadata server reduced to its dialogue with sidecars: applies runs in order per origin,
    acknowledges, gives successors where it lacks predecessors. Keeps no requests at all."""

    def __init__(self, log: str = "FakeLogAAAA", *, acks: bool = True) -> None:
        self.log = LogId(log)
        self.acks = acks
        self.refuse = False
        self.applied: dict[tuple[int, int], list[int]] = {}
        """Per origin (incarnation, lane): the written values in seq order."""
        self.follows: dict[tuple[int, int], tuple[int, int]] = {}
        """Per successor's origin: (the predecessor's incarnation, its last seq)."""
        self.ended: list[int] = []
        self.leased: set[int] = set()
        self.questions: list[pb.Question] = []
        self.streams = 0
        self.address = ""
        self._index = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str = "127.0.0.1:0") -> "FakeServer":
        """Serve at ``address``; the one that came of it is ``self.address``."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        add_SidecarsServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def stop(self) -> None:
        """End all streams and free the port; what was applied stays."""
        if self._server is not None:
            await self._server.stop(grace=None)
            self._server = None

    async def Connect(
        self, request_iterator: AsyncIterator[pb.FromSidecar], context: object
    ) -> AsyncIterator[pb.ToSidecar]:
        self.streams += 1
        async for message in request_iterator:
            for reply in self.replies(message):
                yield reply

    def replies(self, message: pb.FromSidecar) -> list[pb.ToSidecar]:
        """What the fake says to one message of a sidecar."""
        match message.WhichOneof("message"):
            case "hello":
                return [pb.ToSidecar(welcome=pb.Welcome(version=1, log=self.log, lease_ms=10_000))]
            case "batch":
                return self._apply(message.batch)
            case "question":
                self.questions.append(message.question)
                answer = pb.Answer(
                    number=message.question.number,
                    status=Status.ANSWERED,
                    context=message.question.context,
                )
                return [pb.ToSidecar(answer=answer)]
            case "lease":
                self.leased.update(message.lease.incarnations)
            case "ended":
                self.ended.append(message.ended.incarnation)
            case _:
                pass
        return []

    def _follower(self, incarnation: int, lane: int, after: int) -> tuple[int, int]:
        """Who goes on right after ``after``: a successor that has everything up to there, else a
        new one. With the seq that it follows."""
        for (successor, its_lane), (origin, start) in self.follows.items():
            reached = start + len(self.applied.get((successor, its_lane), []))
            if (origin, its_lane) == (incarnation, lane) and start <= after <= reached:
                return start, successor
        return after, (word_value(self.log) + (len(self.follows) + 1) * 2**32) % 2**64

    def _apply(self, batch: pb.Batch) -> list[pb.ToSidecar]:
        if self.refuse:
            return [pb.ToSidecar(refused=pb.Refused(batch=batch.number, reason="told to"))]
        replies: list[pb.ToSidecar] = []
        ack = pb.Ack(log=self.log)
        at = 0
        for run in batch.runs:
            values = list(batch.write_values[at : at + run.count])
            at += run.count
            key, first = (run.incarnation, run.lane), run.first
            applied = self.applied.get(key, [])
            if first > len(applied) + 1:
                after, successor = self._follower(run.incarnation, run.lane, first - 1)
                replies.append(
                    pb.ToSidecar(
                        successor=pb.Successor(
                            incarnation=run.incarnation,
                            lane=run.lane,
                            after=after,
                            successor=successor,
                        )
                    )
                )
                self.follows[successor, run.lane] = (run.incarnation, after)
                continue
            self.applied[key] = applied[: first - 1] + values + applied[first - 1 + len(values) :]
            ack.incarnations.append(run.incarnation)
            ack.lanes.append(run.lane)
            ack.seqs.append(len(self.applied[key]))
        self._index += 1
        ack.index = self._index
        if self.acks and ack.seqs:
            replies.append(pb.ToSidecar(ack=ack))
        return replies


class FakeProcess:
    """The channel's other end: numbers events, keeps them until acknowledged, resends."""

    def __init__(self, path: str, incarnation: int) -> None:
        self.path = path
        self.incarnation = incarnation
        self.acked = 0
        self.answers: dict[int, Answered] = {}
        self._outbox: list[Event] = []
        self._seq = 0
        self._socket: socket.socket | None = None

    @property
    def name(self) -> Incarnation:
        """Its incarnation as channels name it."""
        return Incarnation(word(self.incarnation))

    def fileno(self) -> int:
        """The descriptor of the open channel."""
        assert self._socket is not None
        return self._socket.fileno()

    async def connect(self) -> None:
        """Open a channel, say hello and send what is not acknowledged."""
        self.close()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(self._socket, self.path)
        await self.send(channel.encode(hello(self.name)))
        for raw in packets(self._outbox):
            await self.send(channel.encode(Events(raw)))

    async def write(self, count: int) -> None:
        """Report ``count`` more writes."""
        events = [write(self._seq + 1 + i) for i in range(count)]
        self._seq += count
        self._outbox += events
        for raw in packets(events):
            await self.send(channel.encode(Events(raw)))

    async def send(self, packet: bytes) -> None:
        """Send one packet of any content."""
        assert self._socket is not None
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self._socket, packet)

    async def receive(self) -> ToProcess | None:
        """The sidecar's next message; None once it has closed the channel."""
        assert self._socket is not None
        async with asyncio.timeout(PATIENCE_S):
            try:
                raw = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
            except ConnectionResetError:
                return None
        if not raw:
            return None
        message = channel.decode_to_process(raw)
        if isinstance(message, Acked):
            for _, seq, _, _ in message.entries:
                self.acked = max(self.acked, seq)
            self._outbox = [kept for kept in self._outbox if kept.seq > self.acked]
        elif isinstance(message, Answered):
            self.answers[message.number] = message
        return message

    async def acknowledged(self) -> int:
        """Receive until every event is acknowledged; the last seq."""
        while self.acked < self._seq:
            assert await self.receive() is not None, "the sidecar closed the channel"
        return self.acked

    async def ask(self, number: int, budget_ms: int = 10_000) -> Answered:
        """Ask about the test's request at this process's own frontier; the answer."""
        await self.put_question(number, budget_ms=budget_ms)
        return await self.answer(number)

    async def put_question(
        self,
        number: int,
        *,
        of: "FakeProcess | None" = None,
        seq: int | None = None,
        budget_ms: int = 10_000,
    ) -> None:
        """Ask about the test's request at the frontier ``of``:``seq``, by default one's own. No two
        questions are equal."""
        of = of or self
        seq = max(1, of._seq) if seq is None else seq
        now = int(time.time()) + number
        context = f"1.{RID}.s{origin_of(of.name, 0)}~{seq:x}.t{now:x}"
        await self.send(channel.encode(Ask(number, budget_ms, context)))

    async def answer(self, number: int) -> Answered:
        """Receive until the answer to question ``number`` is there."""
        while number not in self.answers:
            assert await self.receive() is not None, "the sidecar closed the channel"
        return self.answers[number]

    def close(self) -> None:
        """Close the channel."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def hello(name: Incarnation) -> Hello:
    """The first message of this very process."""
    return Hello(name, os.getpid(), "service", "eu")


def packets(events: list[Event]) -> list[bytes]:
    """Events encoded, cut so that each piece fits a packet."""
    out: list[bytes] = []
    piece = b""
    for entry in events:
        raw = event.encode(entry)
        if len(piece) + len(raw) >= PACKET_BYTES_MAX:
            out.append(piece)
            piece = b""
        piece += raw
    return [*out, piece] if piece else out


async def _main(path: str, incarnation: int, count: int, then: str) -> None:
    process = FakeProcess(path, incarnation)
    await process.connect()
    await process.write(count)
    if then == "wait":
        await process.acknowledged()
        print(f"acked {process.acked}", flush=True)
    else:  # "hang": until it is killed
        print(f"sent {count}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
