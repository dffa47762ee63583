"""The server's side: the stream, its welcome, the lease, the server's messages, and the batches."""

from collections.abc import Iterator

from rendezvous_api.errors import RemoteError
from rendezvous_api.ids import LogId, word_value
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar import limits
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.custody import Custody
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.outgoing import Outgoing
from rendezvous_sidecar.core.processes import Processes
from rendezvous_sidecar.core.questions import Questions
from rendezvous_sidecar.core.steps import Rotate, Send

PROTOCOL_VERSION = 1
"""The version of ``rendezvous.v1`` that this sidecar speaks."""


class Upstream:
    """One stream at a time, to one server after another."""

    def __init__(
        self,
        hello: pb.Hello,
        desk: Desk,
        custody: Custody,
        processes: Processes,
        outgoing: Outgoing,
        questions: Questions,
        now: float,
    ) -> None:
        self._hello = pb.FromSidecar(hello=hello)
        self._desk = desk
        self._custody = custody
        self._processes = processes
        self._outgoing = outgoing
        self._questions = questions
        self._log = ""
        """The log of the last server that welcomed a stream."""
        self._opened_at = now
        self._lease_s = limits.LEASE_RENEWAL_S
        self._lease_due = now

    # The stream.

    def up(self, stream: int, now: float) -> None:
        """A new stream can be written to."""
        if self._desk.stream is not None:
            self.down(now)
        self._desk.counts[Count.STREAMS_OPENED] += 1
        self._desk.stream = stream
        self._opened_at = now
        self._desk.out.append(Send(stream, self._hello))

    def down(self, now: float) -> None:
        """The stream is gone."""
        if self._desk.connected:
            self._desk.connected = False
            self._questions.disconnected(now)
        self._desk.stream = None
        self._custody.rewind()

    def _rotate(self, reason: str, now: float) -> None:
        assert self._desk.stream is not None
        self._desk.out.append(Rotate(self._desk.stream, reason))
        self.down(now)

    # What the server says.

    def said(self, message: pb.ToSidecar, now: float) -> None:
        """A message came on the stream."""
        kind = message.WhichOneof("message")
        if self._desk.connected == (kind == "welcome"):
            self._desk.counts[Count.SERVER_MALFORMED] += 1
            self._rotate("the server does not begin with a welcome, or says it twice", now)
            return
        match kind:
            case "ack":
                self._on_ack(message.ack, now)
            case "answer":
                self._questions.answered(message.answer)
            case "welcome":
                self._on_welcome(message.welcome, now)
            case "successor":
                name = message.successor
                self._custody.succeed(name.incarnation, name.lane, name.after, name.successor)
            case "lineages":
                self._on_lineages(message.lineages)
            case "refused":
                self._on_refused(message.refused)
            case None:
                self._desk.counts[Count.SERVER_MALFORMED] += 1  # a newer server's message

    def _on_welcome(self, welcome: pb.Welcome, now: float) -> None:
        if welcome.version != PROTOCOL_VERSION or not _is_log(welcome.log):
            self._desk.counts[Count.SERVER_MALFORMED] += 1
            self._rotate(
                f"the server speaks version {welcome.version}, log {welcome.log[:16]!r}", now
            )
            return
        self._desk.counts[Count.STREAMS_WELCOMED] += 1
        if welcome.log != self._log:
            self._log = welcome.log
            self._custody.start_anew()
        self._desk.connected = True
        self._lease_s = limits.LEASE_RENEWAL_S
        if welcome.lease_ms:
            self._lease_s = min(self._lease_s, welcome.lease_ms / 3000)
        if self._custody.sources:
            self._renew_lease(now)
        self._questions.connected(now)

    def _on_ack(self, ack: pb.Ack, now: float) -> None:
        if not _is_log(ack.log) or not len(ack.incarnations) == len(ack.lanes) == len(ack.seqs):
            self._desk.counts[Count.SERVER_MALFORMED] += 1
            return
        entries = zip(ack.incarnations, ack.lanes, ack.seqs, strict=True)
        for source in self._custody.acknowledge(entries, LogId(ack.log), ack.index):
            self._processes.owe(source, now)

    def _on_refused(self, refused: pb.Refused) -> None:
        self._desk.counts[Count.BATCHES_REFUSED] += 1
        reason = refused.reason[:200]
        self._desk.warn(f"batch {refused.batch} was refused: {reason}")
        self._custody.refused(refused.batch, reason)

    def _on_lineages(self, lineages: pb.Lineages) -> None:
        try:
            self._processes.learn(lineages)
        except (ValueError, RemoteError):
            self._desk.counts[Count.SERVER_MALFORMED] += 1

    # Time, the lease and the batches.

    def dues(self) -> Iterator[float]:
        """When :meth:`on_time` or :meth:`pump` has something to do."""
        connected = self._desk.connected
        if self._desk.stream is not None and not connected:
            yield self._opened_at + limits.WELCOME_WAIT_S
        if connected and self._custody.sources:
            yield self._lease_due
        lingering = self._outgoing.due()
        if lingering is not None and connected:
            yield lingering
        waiting_since = self._outgoing.waiting_since()
        if waiting_since is not None:
            yield waiting_since + limits.ACK_WAIT_S

    def on_time(self, now: float) -> None:
        """Leave a server that is silent; renew the lease with one that is not."""
        if self._desk.stream is None:
            return
        if not self._desk.connected:
            if now >= self._opened_at + limits.WELCOME_WAIT_S:
                self._rotate("the server does not welcome this sidecar", now)
            return
        waiting_since = self._outgoing.waiting_since()
        if waiting_since is not None and now >= waiting_since + limits.ACK_WAIT_S:
            self._rotate("the server does not acknowledge", now)
        elif self._custody.sources and now >= self._lease_due:
            self._renew_lease(now)

    def _renew_lease(self, now: float) -> None:
        self._lease_due = now + self._lease_s
        self._desk.send(pb.FromSidecar(lease=pb.Lease(incarnations=self._custody.names())))

    def pump(self, now: float) -> None:
        """Send what batches are to be sent now."""
        if self._desk.stream is None or not self._desk.connected:
            return
        hurry = bool(len(self._questions))
        while (batch := self._outgoing.next_batch(now, hurry=hurry)) is not None:
            self._desk.counts[Count.BATCHES_SENT] += 1
            self._desk.out.append(Send(self._desk.stream, pb.FromSidecar(batch=batch)))


def _is_log(text: str) -> bool:
    try:
        word_value(text)
    except RemoteError:
        return False
    return True
