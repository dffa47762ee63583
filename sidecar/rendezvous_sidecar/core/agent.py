"""The agent: what a sidecar does, as one deterministic state machine.

Give it what happened (``steps.Step``) with the time, and perform what it says (``steps.Effect``) in
order. It owns every event between its acceptance from a process and a server's ack (law 3), the
translation to successors (law 2) and all open questions. It never waits and never reads a clock:
:meth:`Agent.due` says when it wants a ``Tick``.

A lane that a server refuses, or under one seq of which two different events come, is given up
loudly: its events are dropped and counted, later ones too, and nothing of it is acknowledged from
there on, so that no context takes them for safe. A question about what was given up is answered
``lost_tail`` at once.
"""

from dataclasses import dataclass
from typing import assert_never

from rendezvous_api import channel
from rendezvous_api.channel import Ask, Counted, Hello
from rendezvous_api.errors import MalformedMessage, RemoteError
from rendezvous_api.event import decode_body, split
from rendezvous_api.ids import Incarnation, LogId, Origin, origin_of, word, word_value
from rendezvous_api.limits import SIDECAR_EVENTS_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar import limits
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.lane import Lane
from rendezvous_sidecar.core.lineages import KnownLineages
from rendezvous_sidecar.core.outgoing import Outgoing
from rendezvous_sidecar.core.questions import Questions
from rendezvous_sidecar.core.source import Source
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
    Tick,
)

PROTOCOL_VERSION = 1
"""The version of ``rendezvous.v1`` that this sidecar speaks."""


@dataclass(slots=True)
class _Channel:
    """A process's channel; ``source`` once it has said Hello."""

    pid: int
    source: Source | None = None


class Agent:
    """``step`` is the whole interface, beside :meth:`due` and what there is to observe."""

    def __init__(
        self, sidecar: int, region: str, now: float, linger_s: float = limits.LINGER_S
    ) -> None:
        """``sidecar``: 64 random bits, drawn once per sidecar process. ``now``: seconds of any
        clock that only grows; the same one in every ``step``.
        ``linger_s``: how long events wait for company."""
        self._desk = Desk()
        self.counts = self._desk.counts
        self.held = 0
        """Events that no server has acknowledged."""
        self.paused = False
        """Whether the buffer is full, so that no process is read."""
        self._hello = pb.FromSidecar(
            hello=pb.Hello(version=PROTOCOL_VERSION, sidecar=sidecar, region=region)
        )
        self._channels: dict[int, _Channel] = {}
        self._sources: dict[int, Source] = {}
        self._routes: dict[tuple[int, int], tuple[Source, Lane]] = {}
        self._outgoing = Outgoing(linger_s)
        self._log = ""
        """The log of the last server that welcomed a stream."""
        self._questions = Questions(self._desk, now)
        self._lineages = KnownLineages()
        self._counted: dict[tuple[str, str], int] = {}
        """What ended processes have counted."""
        self._owing: dict[Source, float] = {}
        self._leaving: dict[Source, float] = {}
        self._left: dict[Source, None] = {}
        self._opened_at = now
        self._lease_s = limits.LEASE_RENEWAL_S
        self._lease_due = now

    # What there is to observe.

    @property
    def connected(self) -> bool:
        """Whether a server has welcomed the current stream."""
        return self._desk.connected

    @property
    def processes(self) -> int:
        """Open channels."""
        return len(self._channels)

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
        return not (self.held or self._owing or self._leaving or self._left)

    def due(self) -> float | None:
        """When the agent wants a ``Tick``; None if only when something happens."""
        dues = [*self._owing.values(), *self._leaving.values()]
        question = self._questions.due()
        if question is not None:
            dues.append(question)
        if self._desk.stream is not None and not self.connected:
            dues.append(self._opened_at + limits.WELCOME_WAIT_S)
        if self.connected and self._sources:
            dues.append(self._lease_due)
        lingering = self._outgoing.due()
        if lingering is not None and self.connected:
            dues.append(lingering)
        waiting_since = self._outgoing.waiting_since()
        if waiting_since is not None:
            dues.append(waiting_since + limits.ACK_WAIT_S)
        return min(dues, default=None)

    # What happens.

    def step(self, step: Step, now: float) -> list[Effect]:
        """Take one step and say what to do."""
        match step:
            case Packet(process, raw, pid):
                self._on_packet(process, raw, pid, now)
            case StreamMessage(stream, message):
                if stream == self._desk.stream:
                    self._on_message(message, now)
            case Tick():
                pass
            case Connected(process, pid):
                self._on_connected(process, pid)
            case Closed(process):
                self._drop_channel(process, now)
            case StreamUp(stream):
                self._on_up(stream, now)
            case StreamDown(stream):
                if stream == self._desk.stream:
                    self._on_down(now)
            case _:
                assert_never(step)
        self._on_time(now)
        self._pump(now)
        self._settle_left()
        out, self._desk.out = self._desk.out, []
        return out

    def _on_time(self, now: float) -> None:
        if self._owing:
            for source in [source for source, due in self._owing.items() if due <= now]:
                self._pass_acks(source, now)
        if self._leaving:
            for source in [source for source, due in self._leaving.items() if due <= now]:
                del self._leaving[source]
                self._left[source] = None
        self._questions.on_time(now)
        if self._desk.stream is None:
            return
        if not self.connected:
            if now >= self._opened_at + limits.WELCOME_WAIT_S:
                self._rotate("the server does not welcome this sidecar", now)
            return
        waiting_since = self._outgoing.waiting_since()
        if waiting_since is not None and now >= waiting_since + limits.ACK_WAIT_S:
            self._rotate("the server does not acknowledge", now)
        elif self._sources and now >= self._lease_due:
            self._renew_lease(now)

    # Processes.

    def _on_connected(self, process: int, pid: int) -> None:
        if len(self._channels) >= limits.PROCESSES_MAX:
            self.counts[Count.CHANNELS_REFUSED] += 1
            self._desk.warn(f"more than {limits.PROCESSES_MAX} channels: one is closed")
            self._desk.out.append(Close(process))
            return
        self._channels[process] = _Channel(pid)
        if self.paused:
            self._desk.out.append(Pause(process))

    def _drop_channel(self, process: int, now: float) -> None:
        channel_ = self._channels.pop(process, None)
        if channel_ is None:
            return
        source = channel_.source
        self._questions.without(process)
        if source is not None and source.process == process:
            source.process = None
            self._owing.pop(source, None)
            self._leaving[source] = now + limits.ENDED_GRACE_S

    def _on_packet(self, process: int, raw: bytes, pid: int, now: float) -> None:
        channel_ = self._channels.get(process)
        if channel_ is None:
            return
        if pid and channel_.pid and pid != channel_.pid:
            # A fork wrote to the socket that it inherited; its parent is not to suffer.
            self.counts[Count.PACKETS_STALE] += 1
            return
        try:
            if raw[:1] == channel.EVENTS_PREFIX:
                self._on_events(_said_hello(channel_), raw, now)
                return
            message = channel.decode_to_sidecar(raw)
            if isinstance(message, Ask):
                _said_hello(channel_)
                self._questions.ask(process, message, now)
            elif isinstance(message, Counted):
                _said_hello(channel_).counted = dict(message.entries)
            elif isinstance(message, Hello):
                self._on_hello(process, channel_, message, now)
        except RemoteError as exc:
            self.counts[Count.CHANNELS_MALFORMED] += 1
            self._desk.warn(f"a process (pid {channel_.pid}) is cut off: {exc}")
            self._close(process, now)

    def _close(self, process: int, now: float) -> None:
        self._desk.out.append(Close(process))
        self._drop_channel(process, now)

    def _on_hello(self, process: int, channel_: _Channel, hello: Hello, now: float) -> None:
        incarnation = word_value(hello.incarnation)
        if channel_.source is not None:
            if channel_.source.incarnation != incarnation:
                raise MalformedMessage("a second incarnation on one channel")
            return
        pid = channel_.pid or hello.pid
        source = self._sources.get(incarnation)
        if source is None:
            source = self._sources[incarnation] = Source(incarnation, pid)
        elif source.pid != pid:
            self.counts[Count.CHANNELS_STALE] += 1
            self._desk.warn(f"pid {pid} speaks as pid {source.pid}: a stale fork, turned away")
            self._close(process, now)
            return
        elif source.process is not None:
            self._close(source.process, now)  # the process knows better that it is gone
        self._leaving.pop(source, None)
        self._left.pop(source, None)
        source.process = process
        source.service = hello.service
        channel_.source = source
        for lane in source.lanes.values():
            source.owe_all(lane)
        if source.owes_acks:
            self._owing[source] = now
        for message in self._lineages.all():
            self._desk.tell(process, message)

    def _on_events(self, source: Source, raw: bytes, now: float) -> None:
        for kind, number, seq, rid, bid, encoded in split(raw[1:]):
            item = (kind, rid, bid, decode_body(kind, encoded), len(encoded))
            lane = source.lanes.get(number)
            if lane is None:
                lane = source.lanes[number] = Lane(source.incarnation, number, seq)
                self._routes[source.incarnation, number] = (source, lane)
            if lane.broken_from is not None:
                if seq > lane.received:
                    lane.received = lane.sent = seq
                    self.counts[Count.EVENTS_REFUSED] += 1
                continue
            if seq == lane.received + 1:
                lane.accept(item)
                self.held += 1
                self.counts[Count.EVENTS_ACCEPTED] += 1
                self._outgoing.ready(lane)
            elif seq > lane.received:
                raise MalformedMessage(f"lane {number}: {seq} after {lane.received}")
            else:
                self._on_repeat(source, lane, seq, item, now)
        if self.held >= SIDECAR_EVENTS_MAX and not self.paused:
            self.paused = True
            self._desk.out.extend(Pause(process) for process in self._channels)

    def _on_repeat(
        self, source: Source, lane: Lane, seq: int, item: tuple[object, ...], now: float
    ) -> None:
        self.counts[Count.EVENTS_REPEATED] += 1
        held = lane.at(seq)
        if held is None:
            source.owe(lane)  # acknowledged already; the process has not heard of it
            if source.owes_acks:
                self._owe(source, now)
        elif held != item:
            self.counts[Count.CONFLICTS] += 1
            self._break(lane, f"two different events came under seq {seq}")

    def _break(self, lane: Lane, reason: str) -> None:
        lost = lane.give_up()
        self.held -= lost
        self.counts[Count.LANES_BROKEN] += 1
        self.counts[Count.EVENTS_REFUSED] += lost
        self._outgoing.settle(lane)
        name = word(lane.owner)
        self._questions.lost[_origin(lane)] = lane.broken_from or 1
        self._desk.warn(
            f"lane {lane.number} of incarnation {name} is given up from seq "
            f"{lane.broken_from}, {lost} events lost: {reason}"
        )
        self._resume()

    def _resume(self) -> None:
        if self.paused and self.held <= limits.BUFFER_RESUME_EVENTS:
            self.paused = False
            self._desk.out.extend(Resume(process) for process in self._channels)

    # The server.

    def _on_up(self, stream: int, now: float) -> None:
        if self._desk.stream is not None:
            self._on_down(now)
        self.counts[Count.STREAMS_OPENED] += 1
        self._desk.stream = stream
        self._opened_at = now
        self._desk.out.append(Send(stream, self._hello))

    def _on_down(self, now: float) -> None:
        if self.connected:
            self._desk.connected = False
            self._questions.disconnected(now)
        self._desk.stream = None
        self._outgoing.restart()
        for source in self._sources.values():
            for lane in source.lanes.values():
                if lane.held:
                    lane.rewind()
                    self._outgoing.ready(lane)

    def _rotate(self, reason: str, now: float) -> None:
        assert self._desk.stream is not None
        self._desk.out.append(Rotate(self._desk.stream, reason))
        self._on_down(now)

    def _on_message(self, message: pb.ToSidecar, now: float) -> None:
        kind = message.WhichOneof("message")
        if self.connected == (kind == "welcome"):
            self.counts[Count.SERVER_MALFORMED] += 1
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
                self._on_successor(message.successor)
            case "lineages":
                self._on_lineages(message.lineages)
            case "refused":
                self._on_refused(message.refused)
            case None:
                self.counts[Count.SERVER_MALFORMED] += 1  # a newer server's message

    def _on_welcome(self, welcome: pb.Welcome, now: float) -> None:
        if welcome.version != PROTOCOL_VERSION or not _is_log(welcome.log):
            self.counts[Count.SERVER_MALFORMED] += 1
            self._rotate(
                f"the server speaks version {welcome.version}, log {welcome.log[:16]!r}", now
            )
            return
        self.counts[Count.STREAMS_WELCOMED] += 1
        if welcome.log != self._log:
            self._log = welcome.log
            for source in self._sources.values():
                for lane in source.lanes.values():
                    lane.start_anew()
                    self._reroute(source, lane)
        self._desk.connected = True
        self._lease_s = limits.LEASE_RENEWAL_S
        if welcome.lease_ms:
            self._lease_s = min(self._lease_s, welcome.lease_ms / 3000)
        if self._sources:
            self._renew_lease(now)
        self._questions.connected(now)

    def _renew_lease(self, now: float) -> None:
        self._lease_due = now + self._lease_s
        names = [name for source in self._sources.values() for name in source.names()]
        self._desk.send(pb.FromSidecar(lease=pb.Lease(incarnations=names)))

    def _on_ack(self, ack: pb.Ack, now: float) -> None:
        if not _is_log(ack.log) or not len(ack.incarnations) == len(ack.lanes) == len(ack.seqs):
            self.counts[Count.SERVER_MALFORMED] += 1
            return
        log, freed = LogId(ack.log), 0
        told: dict[Source, None] = {}
        for incarnation, number, seq in zip(ack.incarnations, ack.lanes, ack.seqs, strict=True):
            route = self._routes.get((incarnation, number))
            if route is None:
                continue
            source, lane = route
            count = lane.acknowledge(incarnation, seq, log, ack.index)
            self._outgoing.settle(lane)
            if count:
                freed += count
                source.owe(lane)
                told[source] = None
        self.held -= freed
        self.counts[Count.EVENTS_ACKED] += freed
        for source in told:
            self._owe(source, now)
        self._resume()

    def _owe(self, source: Source, now: float) -> None:
        if source.process is not None and source not in self._owing:
            self._owing[source] = max(now, source.acked_at + limits.ACK_PAUSE_S)

    def _pass_acks(self, source: Source, now: float) -> None:
        del self._owing[source]
        if source.process is not None and source.owes_acks:
            self._desk.tell(source.process, source.take_acks(now))

    def _on_successor(self, successor: pb.Successor) -> None:
        route = self._routes.get((successor.incarnation, successor.lane))
        if route is None:
            return
        source, lane = route
        self.counts[Count.SUCCESSORS] += 1
        if not lane.succeed(successor.incarnation, successor.after, successor.successor):
            self._break(lane, f"the server wants what follows {successor.after}, freed long ago")
            return
        self._reroute(source, lane)
        self._outgoing.settle(lane)
        self._outgoing.ready(lane)

    def _reroute(self, source: Source, lane: Lane) -> None:
        """Hand the acks of all names that the lane has now to it, and of no other."""
        names = set(lane.names)
        for name in names - lane.known_as:
            self._routes[name, lane.number] = (source, lane)
        for name in lane.known_as - names:
            del self._routes[name, lane.number]
        lane.known_as = names

    def _on_refused(self, refused: pb.Refused) -> None:
        self.counts[Count.BATCHES_REFUSED] += 1
        reason = refused.reason[:200]
        self._desk.warn(f"batch {refused.batch} was refused: {reason}")
        lane = self._outgoing.refused(refused.batch)
        if lane is not None and lane.broken_from is None:
            self._break(lane, f"refused: {reason}")

    def _on_lineages(self, lineages: pb.Lineages) -> None:
        try:
            news = self._lineages.learn(lineages)
        except (ValueError, RemoteError):
            self.counts[Count.SERVER_MALFORMED] += 1
            return
        for process, channel_ in self._channels.items():
            if channel_.source is not None:
                for message in news:
                    self._desk.tell(process, message)

    # Sending.

    def _pump(self, now: float) -> None:
        if self._desk.stream is None or not self.connected:
            return
        hurry = bool(len(self._questions))
        while (batch := self._outgoing.next_batch(now, hurry=hurry)) is not None:
            self.counts[Count.BATCHES_SENT] += 1
            self._desk.out.append(Send(self._desk.stream, pb.FromSidecar(batch=batch)))

    def _settle_left(self) -> None:
        """Tell the server of processes that are gone and all of whose events it has."""
        for source in list(self._left):
            if source.held:
                continue
            if self.connected:
                for name in source.names():
                    self._desk.send(pb.FromSidecar(ended=pb.Ended(incarnation=name)))
                self.counts[Count.PROCESSES_ENDED] += 1
                self._forget(source)
            elif len(self._left) > limits.ENDED_WAITING_MAX:
                self._forget(source)

    def counted(self) -> dict[tuple[str, str], int]:
        """What processes have counted, the ended ones too: by (service, name)."""
        total = dict(self._counted)
        for source in self._sources.values():
            _add(total, source)
        return total

    def _forget(self, source: Source) -> None:
        _add(self._counted, source)
        del self._left[source]
        del self._sources[source.incarnation]
        for lane in source.lanes.values():
            self._questions.lost.pop(_origin(lane), None)
            for name in lane.known_as:
                del self._routes[name, lane.number]


def _add(total: dict[tuple[str, str], int], source: Source) -> None:
    for name, value in source.counted.items():
        key = (source.service, name)
        if key in total or len(total) < limits.COUNTS_KEPT_MAX:
            total[key] = total.get(key, 0) + value


def _origin(lane: Lane) -> Origin:
    return origin_of(Incarnation(word(lane.owner)), lane.number)


def _said_hello(channel_: _Channel) -> Source:
    if channel_.source is None:
        raise MalformedMessage("the first message is not a hello")
    return channel_.source


def _is_log(text: str) -> bool:
    try:
        word_value(text)
    except RemoteError:
        return False
    return True
