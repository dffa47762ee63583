"""The sidecar stream: hello first, then batches, questions and signs of life.

Messages come as bytes and are parsed here, so that a batch can be stored as it came, and what
cannot be parsed is refused with a reason.
"""

import asyncio
import time
from collections import Counter
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from rendezvous_api.channel import Status
from rendezvous_api.errors import RemoteError
from rendezvous_api.limits import LEASE_S, NAME_BYTES_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.limits import HELLO_S, STREAMS_MAX
from rendezvous_server.shell import outgoing
from rendezvous_server.shell.columns import columns
from rendezvous_server.shell.connections import Connection, Connections
from rendezvous_server.shell.driver import Driver

VERSION = 1
_Context = grpc.aio.ServicerContext[bytes, bytes]


class Sidecars:
    """Serves ``rendezvous.v1.Sidecars``."""

    def __init__(self, driver: Driver, connections: Connections, counters: Counter[str]) -> None:
        self._driver = driver
        self._core = driver.core
        self._connections = connections
        self._counters = counters
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Read no stream any further. What was read is still taken through and acknowledged."""
        self._closing.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """To be added to a gRPC server."""
        made: Any = grpc  # without codecs: bytes in, bytes out, which the stubs cannot say
        connect = made.stream_stream_rpc_method_handler(self._connect)
        handler: grpc.GenericRpcHandler = made.method_handlers_generic_handler(
            "rendezvous.v1.Sidecars", {"Connect": connect}
        )
        return handler

    async def _connect(self, _: object, context: _Context) -> None:
        if len(self._connections) >= STREAMS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many sidecar streams")
        try:
            first = await asyncio.wait_for(_next(context), HELLO_S)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello")
        if first is None:
            return
        try:
            hello = pb.FromSidecar.FromString(first)
        except DecodeError:
            hello = pb.FromSidecar()
        if hello.WhichOneof("message") != "hello" or hello.hello.version != VERSION:
            self._counters["garbage"] += 1
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"the first message must be a hello of version {VERSION}",
            )
        if len(hello.hello.region) > NAME_BYTES_MAX:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the region's name is too long")
        connection = self._connections.open()
        connection.put(self._welcome())
        try:
            effects = self._core.connect(connection.stream, hello.hello.sidecar, time.time())
            for send in effects.send:
                self._connections.perform_on(connection, send)
            fault = await self._serve(connection, context)
        finally:
            for question in self._connections.close(connection):
                self._core.cancel(question)
            self._core.disconnect(connection.stream, time.time())
        if fault is not None:
            await context.abort(*fault)

    def _welcome(self) -> bytes:
        welcome = pb.Welcome(version=VERSION, log=self._core.log, lease_ms=int(LEASE_S * 1000))
        return pb.ToSidecar(welcome=welcome).SerializeToString()

    async def _serve(
        self, connection: Connection, context: _Context
    ) -> tuple[grpc.StatusCode, str] | None:
        """Read and write until either side ends. Returns the fault that ended it, if any."""
        reading = asyncio.create_task(self._read(connection, context))
        writing = asyncio.create_task(_write(connection, context))
        closing = asyncio.create_task(self._closing.wait())
        tasks: set[asyncio.Task[Any]] = {reading, writing, closing}
        try:
            await asyncio.wait({reading, writing, closing}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and not reading.cancelled():
                fault = reading.result()
                if fault is not None:
                    connection.finish()
                    await asyncio.wait({writing}, timeout=1)
                    return fault
            if closing.done() and not writing.done():
                reading.cancel()
                await writing
            if connection.overrun:
                return grpc.StatusCode.RESOURCE_EXHAUSTED, "answers and acks are not being read"
            return None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(
        self, connection: Connection, context: _Context
    ) -> tuple[grpc.StatusCode, str] | None:
        while True:
            raw = await _next(context)
            if raw is None:
                return None
            try:
                message = pb.FromSidecar.FromString(raw)
            except DecodeError as exc:
                self._counters["garbage"] += 1
                connection.put(outgoing.refused(0, f"not a message of rendezvous.v1: {exc}"))
                return grpc.StatusCode.INVALID_ARGUMENT, "not a message of rendezvous.v1"
            if message.WhichOneof("message") == "batch":
                self._batch(connection, message.batch, raw)
                await self._driver.room()
            else:
                try:
                    self._other(connection, message)
                except RemoteError as exc:
                    self._counters["refused"] += 1
                    connection.put(outgoing.refused(0, str(exc)))

    def _batch(self, connection: Connection, batch: pb.Batch, raw: bytes) -> None:
        try:
            self._driver.admit(connection.stream, columns(batch), raw)
        except RemoteError as exc:
            self._counters["refused"] += 1
            connection.put(outgoing.refused(batch.number, str(exc)))

    def _other(self, connection: Connection, message: pb.FromSidecar) -> None:
        core, now = self._core, time.time()
        match message.WhichOneof("message"):
            case "question":
                self._question(connection, message.question, now)
            case "cancel":
                question = connection.questions.get(message.cancel.number)
                if question is not None:
                    self._connections.cancelled(question)
                    core.cancel(question)
            case "lease":
                core.lease(connection.stream, message.lease.incarnations, now)
            case "ended":
                self._driver.perform(core.ended(connection.stream, message.ended.incarnation, now))
            case _:
                self._counters["garbage"] += 1
                connection.put(outgoing.refused(0, "a message of no known kind"))

    def _question(self, connection: Connection, asked: pb.Question, now: float) -> None:
        core, number = self._core, asked.number
        core.lease(connection.stream, (), now)
        if number in connection.questions:
            connection.put(outgoing.refused(0, f"question {number} is being asked already"))
            return
        question = self._connections.asked((connection, number))
        try:
            self._driver.perform(core.ask(question, asked.context, asked.budget_ms / 1000, now))
        except RemoteError as exc:
            self._counters["refused"] += 1
            self._connections.cancelled(question)
            connection.put(outgoing.refused(0, f"question {number}: {exc}"))
            reply = pb.Answer(number=number, status=int(Status.UNREACHABLE))
            connection.put(pb.ToSidecar(answer=reply).SerializeToString())


async def _next(context: _Context) -> bytes | None:
    """The next message; ``None`` at the end of the stream."""
    read: Any = await context.read()
    return read if isinstance(read, bytes) else None


async def _write(connection: Connection, context: _Context) -> None:
    while (message := await connection.get()) is not None:
        await context.write(message)
