"""The sidecar's agent on a stage: what tests say to it, and its effects as lines of a diagram.

``> p1`` goes to process 1, ``> s1`` to the server of stream 1. Incarnations are single hexadecimal
digits. A run reads ``a/0 1-3``: incarnation a, lane 0, seqs 1 to 3.
"""

from collections.abc import Iterable

from rendezvous_api import channel, event
from rendezvous_api.channel import Acked, Answered, Ask, Events, Hello, Lineages, ToProcess
from rendezvous_api.event import Event, Write
from rendezvous_api.ids import Bid, Incarnation, Rid, StoreKey, origin_of, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.agent import Agent
from rendezvous_sidecar.core.steps import (
    Close,
    Closed,
    Connected,
    Effect,
    Packet,
    Pause,
    Resume,
    Rotate,
    Send,
    Step,
    StreamDown,
    StreamMessage,
    StreamUp,
    Tell,
    Tick,
    Warn,
)

LOG_A, LOG_B, LOG_C = word(0xA), word(0xB), word(0xC)
_LOGS = {LOG_A: "A", LOG_B: "B", LOG_C: "C"}
RID = Rid("B" * 21 + "A")
STORE = StoreKey("rAAAAAAAAAAA")


class Play:
    """One agent, its clock, and everything that it has sent."""

    def __init__(self, linger_s: float = 0.0) -> None:
        self.now = 100.0
        self.agent = Agent(sidecar=0x51DE, region="eu", now=self.now, linger_s=linger_s)
        self.batches: list[pb.Batch] = []

    def do(self, step: Step) -> list[str]:
        """One step: the effects as lines, warnings left out."""
        lines: list[str] = []
        for effect in self.agent.step(step, self.now):
            if isinstance(effect, Send) and effect.message.HasField("batch"):
                self.batches.append(effect.message.batch)
            if not isinstance(effect, Warn):
                lines.append(line_of(effect))
        return lines

    def after(self, seconds: float) -> list[str]:
        """Let time pass, with a tick whenever the agent wants one and at the end."""
        until, lines = self.now + seconds, list[str]()
        while (due := self.agent.due()) is not None and due <= until:
            self.now = max(self.now, due)
            lines += self.do(Tick())
            again = self.agent.due()
            assert again is None or again > due, "the agent asks for the same tick for ever"
        self.now = until
        return lines + self.do(Tick())

    # Processes.

    def process(self, number: int, incarnation: int, pid: int = 7) -> list[str]:
        """A process connects and says hello."""
        lines = self.do(Connected(number, pid))
        hello = Hello(Incarnation(word(incarnation)), pid, "svc", "eu")
        return lines + self.packet(number, channel.encode(hello))

    def packet(self, number: int, raw: bytes, pid: int = 0) -> list[str]:
        return self.do(Packet(number, raw, pid))

    def writes(
        self, number: int, first: int, last: int, lane: int = 0, salt: int = 0, pid: int = 0
    ) -> list[str]:
        """Process ``number`` reports writes ``first`` to ``last`` in one packet."""
        raw = b"".join(
            event.encode(Event(lane, seq, RID, Bid(1), Write(STORE, 1000 * salt + seq)))
            for seq in range(first, last + 1)
        )
        return self.packet(number, channel.encode(Events(raw)), pid)

    def asks(
        self, process: int, number: int, incarnation: int, seq: int, budget_ms: int = 1000
    ) -> list[str]:
        """A process asks at the frontier ``incarnation``/0:``seq``."""
        return self.packet(process, channel.encode(Ask(number, budget_ms, ask(incarnation, seq))))

    def closes(self, number: int) -> list[str]:
        return self.do(Closed(number))

    # The server.

    def up(self, stream: int, log: str = LOG_A) -> list[str]:
        """A stream begins and is welcomed."""
        lines = self.do(StreamUp(stream))
        return lines + self.welcome(stream, log)

    def welcome(self, stream: int, log: str = LOG_A, version: int = 1) -> list[str]:
        return self.says(stream, welcome=pb.Welcome(version=version, log=log))

    def down(self, stream: int) -> list[str]:
        return self.do(StreamDown(stream))

    def acks(
        self,
        stream: int,
        incarnation: int,
        seq: int,
        index: int,
        *,
        lane: int = 0,
        log: str = LOG_A,
    ) -> list[str]:
        ack = pb.Ack(log=log, index=index, incarnations=[incarnation], lanes=[lane], seqs=[seq])
        return self.says(stream, ack=ack)

    def succeeds(
        self, stream: int, incarnation: int, after: int, successor: int, lane: int = 0
    ) -> list[str]:
        message = pb.Successor(incarnation=incarnation, lane=lane, after=after, successor=successor)
        return self.says(stream, successor=message)

    def says(
        self,
        stream: int,
        *,
        welcome: pb.Welcome | None = None,
        ack: pb.Ack | None = None,
        answer: pb.Answer | None = None,
        successor: pb.Successor | None = None,
        lineages: pb.Lineages | None = None,
        refused: pb.Refused | None = None,
    ) -> list[str]:
        message = pb.ToSidecar(
            welcome=welcome,
            ack=ack,
            answer=answer,
            successor=successor,
            lineages=lineages,
            refused=refused,
        )
        return self.do(StreamMessage(stream, message))

    def refuses(self, stream: int, batch: int) -> list[str]:
        return self.says(stream, refused=pb.Refused(batch=batch, reason="it is bad"))


def ask(incarnation: int, seq: int) -> str:
    """The context of a question at a frontier of one event."""
    return f"1.{RID}.s{origin_of(Incarnation(word(incarnation)), 0)}~{seq:x}"


def line_of(effect: Effect) -> str:
    """One effect as one line."""
    match effect:
        case Tell(process, message):
            return f"> p{process} {_told(message)}"
        case Send(stream, message):
            return f"> s{stream} {_sent(message)}"
        case Close(process):
            return f"close p{process}"
        case Pause(process):
            return f"pause p{process}"
        case Resume(process):
            return f"resume p{process}"
        case Rotate(stream, _):
            return f"rotate s{stream}"
        case Warn(text):
            return f"warn {text}"


def _told(message: ToProcess) -> str:
    match message:
        case Acked(entries):
            acks = [f"{lane}:{seq} in {_LOGS[log]}:{index}" for lane, seq, log, index in entries]
            return "acked " + ", ".join(acks)
        case Answered(number, status, _):
            return f"answered {number} {status.name}"
        case Lineages(entries):
            return "lineages " + ", ".join(f"{e.old}->{e.new}@{e.fork}" for e in entries)


def _sent(message: pb.FromSidecar) -> str:
    match message.WhichOneof("message"):
        case "batch":
            return f"batch {message.batch.number}: {_runs(message.batch.runs)}"
        case "question":
            return f"question {message.question.number} within {message.question.budget_ms} ms"
        case "lease":
            return "lease " + " ".join(f"{name:x}" for name in message.lease.incarnations)
        case "ended":
            return f"ended {message.ended.incarnation:x}"
        case "cancel":
            return f"cancel {message.cancel.number}"
        case "hello":
            return "hello"
        case None:
            return "nothing"


def _runs(runs: Iterable[pb.Run]) -> str:
    return ", ".join(
        f"{run.incarnation:x}/{run.lane} {run.first}-{run.first + run.count - 1}" for run in runs
    )
