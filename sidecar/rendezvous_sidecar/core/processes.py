"""The processes: their channels, what they say and what they are told, and their end."""

from collections.abc import Iterator
from dataclasses import dataclass

from rendezvous_api import channel
from rendezvous_api.channel import Ask, Counted, Hello
from rendezvous_api.errors import MalformedMessage, RemoteError
from rendezvous_api.ids import word_value
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar import limits
from rendezvous_sidecar.core.buffer import Buffer
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.custody import Custody
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.lineages import KnownLineages
from rendezvous_sidecar.core.questions import Questions
from rendezvous_sidecar.core.source import Source
from rendezvous_sidecar.core.steps import Close


@dataclass(slots=True)
class _Channel:
    """A process's channel; ``source`` once it has said Hello."""

    pid: int
    source: Source | None = None


class Processes:
    """All open channels, and the sources whose channel ended until a server was told of it."""

    def __init__(self, desk: Desk, buffer: Buffer, custody: Custody, questions: Questions) -> None:
        self._desk = desk
        self._buffer = buffer
        self._custody = custody
        self._questions = questions
        self._lineages = KnownLineages()
        self._channels: dict[int, _Channel] = {}
        self._counted: dict[tuple[str, str], int] = {}
        """What ended processes have counted."""
        self._owing: dict[Source, float] = {}
        """Who is to be sent acks, and when."""
        self._leaving: dict[Source, float] = {}
        """Whose channel ended, and when that counts as the end of the process."""
        self._left: dict[Source, None] = {}
        """Whose end a server is to be told."""

    def __len__(self) -> int:
        """Open channels."""
        return len(self._channels)

    @property
    def settled(self) -> bool:
        """Whether nothing is owed to a process, or to be told of one that ended."""
        return not (self._owing or self._leaving or self._left)

    def counted(self) -> dict[tuple[str, str], int]:
        """What processes have counted, the ended ones too: by (service, name)."""
        total = dict(self._counted)
        for source in self._custody.sources.values():
            _add(total, source)
        return total

    # Channels.

    def connected(self, process: int, pid: int) -> None:
        """A process opened a channel."""
        if len(self._channels) >= limits.PROCESSES_MAX:
            self._desk.counts[Count.CHANNELS_REFUSED] += 1
            self._desk.warn(f"more than {limits.PROCESSES_MAX} channels: one is closed")
            self._desk.out.append(Close(process))
            return
        self._channels[process] = _Channel(pid)
        self._buffer.enter(process)

    def closed(self, process: int, now: float) -> None:
        """A channel ended."""
        channel_ = self._channels.pop(process, None)
        if channel_ is None:
            return
        self._buffer.leave(process)
        source = channel_.source
        self._questions.without(process)
        if source is not None and source.process == process:
            source.process = None
            self._owing.pop(source, None)
            self._leaving[source] = now + limits.ENDED_GRACE_S

    def _close(self, process: int, now: float) -> None:
        self._desk.out.append(Close(process))
        self.closed(process, now)

    def said(self, process: int, raw: bytes, pid: int, now: float) -> None:
        """A packet came on a channel. Whoever does not speak as agreed is cut off."""
        channel_ = self._channels.get(process)
        if channel_ is None:
            return
        if pid and channel_.pid and pid != channel_.pid:
            # A fork wrote to the socket that it inherited; its parent is not to suffer.
            self._desk.counts[Count.PACKETS_STALE] += 1
            return
        try:
            if raw[:1] == channel.EVENTS_PREFIX:
                source = _said_hello(channel_)
                self._custody.accept(source, raw[1:])
                self.owe(source, now)
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
            self._desk.counts[Count.CHANNELS_MALFORMED] += 1
            self._desk.warn(f"a process (pid {channel_.pid}) is cut off: {exc}")
            self._close(process, now)

    def _on_hello(self, process: int, channel_: _Channel, hello: Hello, now: float) -> None:
        incarnation = word_value(hello.incarnation)
        if channel_.source is not None:
            if channel_.source.incarnation != incarnation:
                raise MalformedMessage("a second incarnation on one channel")
            return
        pid = channel_.pid or hello.pid
        sources = self._custody.sources
        source = sources.get(incarnation)
        if source is None:
            source = sources[incarnation] = Source(incarnation, pid)
        elif source.pid != pid:
            self._desk.counts[Count.CHANNELS_STALE] += 1
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

    # What they are told.

    def owe(self, source: Source, now: float) -> None:
        """Send the process the acks that it is due, if any, soon."""
        if source.owes_acks and source.process is not None and source not in self._owing:
            self._owing[source] = max(now, source.acked_at + limits.ACK_PAUSE_S)

    def _pass_acks(self, source: Source, now: float) -> None:
        del self._owing[source]
        if source.process is not None and source.owes_acks:
            self._desk.tell(source.process, source.take_acks(now))

    def learn(self, lineages: pb.Lineages) -> None:
        """Tell every process what is news. Raises a ``RemoteError`` or ValueError if the message
        is not of the agreed form."""
        news = self._lineages.learn(lineages)
        for process, channel_ in self._channels.items():
            if channel_.source is not None:
                for message in news:
                    self._desk.tell(process, message)

    # Time, and the end of a process.

    def dues(self) -> Iterator[float]:
        """When :meth:`on_time` has something to do."""
        yield from self._owing.values()
        yield from self._leaving.values()

    def on_time(self, now: float) -> None:
        """Pass on the acks that are due; who has not come back by now has ended."""
        if self._owing:
            for source in [source for source, due in self._owing.items() if due <= now]:
                self._pass_acks(source, now)
        if self._leaving:
            for source in [source for source, due in self._leaving.items() if due <= now]:
                del self._leaving[source]
                self._left[source] = None

    def settle_left(self) -> None:
        """Tell the server of processes that are gone and all of whose events it has."""
        for source in list(self._left):
            if source.held:
                continue
            if self._desk.connected:
                for name in source.names():
                    self._desk.send(pb.FromSidecar(ended=pb.Ended(incarnation=name)))
                self._desk.counts[Count.PROCESSES_ENDED] += 1
                self._forget(source)
            elif len(self._left) > limits.ENDED_WAITING_MAX:
                self._forget(source)

    def _forget(self, source: Source) -> None:
        _add(self._counted, source)
        del self._left[source]
        self._custody.forget(source)


def _add(total: dict[tuple[str, str], int], source: Source) -> None:
    for name, value in source.counted.items():
        key = (source.service, name)
        if key in total or len(total) < limits.COUNTS_KEPT_MAX:
            total[key] = total.get(key, 0) + value


def _said_hello(channel_: _Channel) -> Source:
    if channel_.source is None:
        raise MalformedMessage("the first message is not a hello")
    return channel_.source
