"""Who is connected, and who asked what: where the core's sends go."""

import asyncio
from collections import deque
from itertools import count
from typing import assert_never

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import (
    Acked,
    Answered,
    LineagesLearnt,
    QuestionId,
    Send,
    StreamId,
    Succeeded,
)
from rendezvous_server.limits import STREAM_QUEUE_MAX
from rendezvous_server.shell import outgoing


class Connection:
    """One sidecar stream's outgoing side: a bounded queue of encoded messages."""

    def __init__(self, stream: StreamId) -> None:
        self.stream = stream
        self.questions: dict[int, QuestionId] = {}
        """The sidecar's number → ours."""
        self.overrun = False
        """It let more than ``STREAM_QUEUE_MAX`` messages pile up, and is to be cut off."""
        self._queue: deque[bytes] = deque()
        self._filled = asyncio.Event()
        self._finished = False

    def put(self, message: bytes) -> None:
        """Queue an encoded ``ToSidecar``."""
        if len(self._queue) >= STREAM_QUEUE_MAX:
            self.overrun = True
        else:
            self._queue.append(message)
        self._filled.set()

    def finish(self) -> None:
        """Nothing more comes: :meth:`get` ends once the queue is empty."""
        self._finished = True
        self._filled.set()

    async def get(self) -> bytes | None:
        """The next message to write; ``None`` at the end, or on overrun."""
        while not self.overrun:
            if self._queue:
                return self._queue.popleft()
            if self._finished:
                return None
            self._filled.clear()
            await self._filled.wait()
        return None


Asker = tuple[Connection, int] | asyncio.Future[pb.Answer]


class Connections:
    """All streams and all askers of one server."""

    def __init__(self) -> None:
        self._streams: dict[StreamId, Connection] = {}
        self._askers: dict[QuestionId, Asker] = {}
        self._next_stream = count(1)
        self._next_question = count(1)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self) -> Connection:
        """A new stream's connection."""
        connection = Connection(StreamId(next(self._next_stream)))
        self._streams[connection.stream] = connection
        return connection

    def close(self, connection: Connection) -> list[QuestionId]:
        """A stream ended. Returns the questions that nobody waits for any more."""
        self._streams.pop(connection.stream, None)
        left = list(connection.questions.values())
        for question in left:
            self._askers.pop(question, None)
        return left

    def finish(self) -> None:
        """Nothing more will be sent on any stream."""
        for connection in self._streams.values():
            connection.finish()

    def asked(self, asker: Asker) -> QuestionId:
        """A new question; its answer goes to ``asker``."""
        question = QuestionId(next(self._next_question))
        self._askers[question] = asker
        if isinstance(asker, tuple):
            asker[0].questions[asker[1]] = question
        return question

    def cancelled(self, question: QuestionId) -> None:
        """The asker has gone."""
        asker = self._askers.pop(question, None)
        if isinstance(asker, tuple):
            asker[0].questions.pop(asker[1], None)

    def perform(self, send: Send) -> None:
        """Send what the core wants sent. What has nobody to go to is dropped."""
        match send:
            case Acked(stream=stream):
                self._put(stream, outgoing.ack(send))
            case Succeeded(stream=stream):
                self._put(stream, outgoing.successor(send))
            case Answered(question=question):
                self._answer(question, send)
            case LineagesLearnt(entries):
                message = outgoing.lineages(entries)
                for connection in self._streams.values():
                    connection.put(message)
            case _:
                assert_never(send)

    def perform_on(self, connection: Connection, send: Send) -> None:
        """Send to one new stream what concerns all."""
        if isinstance(send, LineagesLearnt):
            connection.put(outgoing.lineages(send.entries))
        else:
            self.perform(send)

    def _put(self, stream: StreamId, message: bytes) -> None:
        connection = self._streams.get(stream)
        if connection is not None:
            connection.put(message)

    def _answer(self, question: QuestionId, answered: Answered) -> None:
        asker = self._askers.pop(question, None)
        if isinstance(asker, tuple):
            connection, number = asker
            connection.questions.pop(number, None)
            reply = pb.ToSidecar(answer=outgoing.answer(answered, number))
            connection.put(reply.SerializeToString())
        elif asker is not None and not asker.done():
            asker.set_result(outgoing.answer(answered, 0))
