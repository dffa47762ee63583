"""The agent: what a sidecar does, as one deterministic state machine.

Give it what happened (``steps.Step``) with the time, and perform what it says (``steps.Effect``) in
order. It never waits and never reads a clock: :meth:`Agent.due` says when it wants a ``Tick``.

Here steps are handed to whom they concern: ``processes`` on one side, ``upstream`` (the server) on the
other, and between them ``custody`` of the events and the open ``questions``. ``upstream`` knows
``processes``, both know ``custody``, and none is known the other way; all write to one ``desk``.
"""

from typing import assert_never

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar import limits
from rendezvous_sidecar.core.buffer import Buffer
from rendezvous_sidecar.core.custody import Custody
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.outgoing import Outgoing
from rendezvous_sidecar.core.processes import Processes
from rendezvous_sidecar.core.questions import Questions
from rendezvous_sidecar.core.steps import (
    Closed,
    Connected,
    Effect,
    Packet,
    Step,
    StreamDown,
    StreamMessage,
    StreamUp,
    Tick,
)
from rendezvous_sidecar.core.upstream import PROTOCOL_VERSION, Upstream


class Agent:
    """``step`` is the whole interface, beside :meth:`due` and what there is to observe."""

    def __init__(
        self, sidecar: int, region: str, now: float, linger_s: float = limits.LINGER_S
    ) -> None:
        """``sidecar``: 64 random bits, drawn once per sidecar process. ``now``: seconds of any
        clock that only grows; the same one in every ``step``.
        ``linger_s``: how long events wait for company."""
        desk = self._desk = Desk()
        self.counts = desk.counts
        buffer = self._buffer = Buffer(desk)
        outgoing = self._outgoing = Outgoing(linger_s)
        questions = self._questions = Questions(desk, now)
        custody = Custody(desk, buffer, outgoing, questions)
        processes = self._processes = Processes(desk, buffer, custody, questions)
        hello = pb.Hello(version=PROTOCOL_VERSION, sidecar=sidecar, region=region)
        self._upstream = Upstream(hello, desk, custody, processes, outgoing, questions, now)

    # What there is to observe.

    @property
    def held(self) -> int:
        """Events that no server has acknowledged."""
        return self._buffer.held

    @property
    def paused(self) -> bool:
        """Whether the buffer is full, so that no process is read."""
        return self._buffer.paused

    @property
    def connected(self) -> bool:
        """Whether a server has welcomed the current stream."""
        return self._desk.connected

    @property
    def processes(self) -> int:
        """Open channels."""
        return len(self._processes)

    @property
    def questions(self) -> int:
        """Questions without an answer."""
        return len(self._questions)

    @property
    def in_flight(self) -> int:
        """Batches that the server has not wholly acknowledged."""
        return self._outgoing.in_flight

    @property
    def drained(self) -> bool:
        """Whether nothing is held, owed to a process, or to be told of one that ended."""
        return not self.held and self._processes.settled

    def counted(self) -> dict[tuple[str, str], int]:
        """What processes have counted, the ended ones too: by (service, name)."""
        return self._processes.counted()

    def due(self) -> float | None:
        """When the agent wants a ``Tick``; None if only when something happens."""
        dues = [*self._processes.dues(), *self._upstream.dues()]
        question = self._questions.due()
        if question is not None:
            dues.append(question)
        return min(dues, default=None)

    # What happens.

    def step(self, step: Step, now: float) -> list[Effect]:
        """Take one step and say what to do."""
        match step:
            case Packet(process, raw, pid):
                self._processes.said(process, raw, pid, now)
            case StreamMessage(stream, message):
                if stream == self._desk.stream:
                    self._upstream.said(message, now)
            case Tick():
                pass
            case Connected(process, pid):
                self._processes.connected(process, pid)
            case Closed(process):
                self._processes.closed(process, now)
            case StreamUp(stream):
                self._upstream.up(stream, now)
            case StreamDown(stream):
                if stream == self._desk.stream:
                    self._upstream.down(now)
            case _:
                assert_never(step)
        self._processes.on_time(now)
        self._questions.on_time(now)
        self._upstream.on_time(now)
        self._upstream.pump(now)
        self._processes.settle_left()
        out, self._desk.out = self._desk.out, []
        return out
