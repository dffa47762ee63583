"""Random runs of one agent between processes that resend and two fake servers that come and go.

Checked: once the faults stop, every event that a process numbered is applied exactly once, in order,
under its own name or a successor's; the process knows it; and nothing is held or in flight.
Not checked here: questions, and what servers do with holes (see the simulation).
"""

from collections import deque
from random import Random

import pytest

from rendezvous_api import channel
from rendezvous_api.channel import Acked, Answered, Ask, Events, Hello
from rendezvous_api.event import Event, Write, encode
from rendezvous_api.ids import Bid, Incarnation, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.agent import Agent
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.steps import (
    Close,
    Closed,
    Connected,
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
from rendezvous_testing.sidecar_doubles import RID, STORE, FakeServer
from rendezvous_testing.sidecar_play import ask

LANES: tuple[int, ...] = (0, 7)


class Sender:
    """A process: outboxes per lane, freed by acks alone; channels lose what was not read."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.number = 0
        self.numbered = dict.fromkeys(LANES, 0)
        self.acked = dict.fromkeys(LANES, 0)
        self.wire: deque[bytes] = deque()
        self.answered: set[int] = set()

    def write(self, lane: int) -> None:
        self.numbered[lane] += 1
        self._put(lane, self.numbered[lane])

    def _put(self, lane: int, seq: int) -> None:
        event = Event(lane, seq, RID, Bid(1), Write(STORE, seq))
        self.wire.append(channel.encode(Events(encode(event))))

    def reconnect(self, number: int) -> None:
        self.number = number
        self.wire.clear()
        self.wire.append(channel.encode(Hello(Incarnation(word(self.incarnation)), 7)))
        for lane in LANES:
            for seq in range(self.acked[lane] + 1, self.numbered[lane] + 1):
                self._put(lane, seq)

    def take(self, message: channel.ToProcess) -> None:
        if isinstance(message, Acked):
            for lane, seq, _, _ in message.entries:
                assert seq <= self.numbered[lane], "an event was acknowledged before it was made"
                self.acked[lane] = max(self.acked[lane], seq)
        elif isinstance(message, Answered):
            self.answered.add(message.number)


class World:
    """The agent, its processes, its servers, and messages under way in both directions."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.agent = Agent(1, "eu", self.now)
        self.servers = [FakeServer(word(0xA)), FakeServer(word(0xB))]
        self.senders = [Sender(0xA), Sender(0xB)]
        self.channels = 0
        self.stream = 0
        self.server: FakeServer | None = None
        self.up: deque[pb.FromSidecar] = deque()
        self.down: deque[pb.ToSidecar] = deque()
        self.asked = 0
        for sender in self.senders:
            self.reconnect(sender)

    def do(self, step: Step) -> None:
        for effect in self.agent.step(step, self.now):
            match effect:
                case Tell(process, message):
                    for sender in self.senders:
                        if sender.number == process:
                            sender.take(message)
                case Send(stream, message):
                    if stream == self.stream and self.server is not None:
                        self.up.append(message)
                case Rotate():
                    self.drop_stream()
                case Close() | Pause() | Resume() | Warn():
                    pass

    def reconnect(self, sender: Sender) -> None:
        if sender.number:
            self.do(Closed(sender.number))
        self.channels += 1
        self.do(Connected(self.channels, 7))
        sender.reconnect(self.channels)

    def drop_stream(self) -> None:
        """The stream ends; what was under way in either direction is lost from some point on."""
        if self.server is None:
            return
        for _ in range(self.random.randrange(len(self.up) + 1)):
            self.server.replies(self.up.popleft())  # arrived, but the reply is lost
        self.server = None
        self.up.clear()
        self.down.clear()
        self.do(StreamDown(self.stream))

    def open_stream(self, server: FakeServer) -> None:
        self.drop_stream()
        self.stream += 1
        self.server = server
        self.do(StreamUp(self.stream))

    def move(self) -> None:
        """Something happens, mostly something ordinary."""
        sender = self.random.choice(self.senders)
        roll = self.random.random()
        if roll < 0.3:
            sender.write(self.random.choice(LANES))
        elif roll < 0.55:
            self.deliver_packet(sender)
        elif roll < 0.75:
            self.deliver_up()
        elif roll < 0.9:
            self.deliver_down()
        elif roll < 0.93:
            self.now += self.random.random() / 10
            self.do(Tick())
        elif roll < 0.95:
            self.reconnect(sender)
        elif roll < 0.97:
            self.drop_stream()
        elif roll < 0.985:
            self.open_stream(self.random.choice(self.servers))
        else:
            self.asked += 1
            context = ask(sender.incarnation, self.random.randrange(1, 20))
            sender.wire.append(channel.encode(Ask(self.asked, 500, context)))

    def deliver_packet(self, sender: Sender) -> None:
        if sender.wire:
            self.do(Packet(sender.number, sender.wire.popleft(), 7))

    def deliver_up(self) -> None:
        if self.up and self.server is not None:
            self.down.extend(self.server.replies(self.up.popleft()))

    def deliver_down(self) -> None:
        if self.down:
            self.do(StreamMessage(self.stream, self.down.popleft()))

    def heal(self) -> None:
        """No more faults: deliver everything until nothing moves."""
        self.open_stream(self.servers[0])
        for _ in range(10_000):
            for sender in self.senders:
                self.deliver_packet(sender)
            self.deliver_up()
            self.deliver_down()
            self.now += 0.01
            self.do(Tick())
            if not (self.up or self.down or any(sender.wire for sender in self.senders)):
                if self.agent.drained and not self.agent.questions:
                    return
        raise AssertionError("it does not come to rest")

    def applied(self, incarnation: int, lane: int) -> set[int]:
        """The seqs of a process's lane that servers applied, each once per log and in order: under
        its own name from 1 on, under a successor's from where that follows."""
        union: set[int] = set()
        for server in self.servers:
            stretches = [(0, server.applied.get((incarnation, lane), []))]
            for (successor, its_lane), (origin, after) in server.follows.items():
                if (origin, its_lane) == (incarnation, lane):
                    stretches.append((after, server.applied.get((successor, its_lane), [])))
            values = [value for _, stretch in stretches for value in stretch]
            assert len(values) == len(set(values)), "one log has an event twice"
            for after, stretch in stretches:
                assert stretch == list(range(after + 1, after + 1 + len(stretch)))
            union.update(values)
        return union


@pytest.mark.parametrize("block", range(4))
def test_every_event_is_applied_once_and_in_order_whatever_happens(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        world = World(seed)
        for _ in range(400):
            world.move()
        world.heal()
        assert world.agent.held == 0, seed
        assert world.agent.in_flight == 0, seed
        assert world.agent.counts[Count.LANES_BROKEN] == 0, seed
        assert world.agent.counts[Count.CHANNELS_MALFORMED] == 0, seed
        for sender in world.senders:
            assert sender.acked == sender.numbered, seed
            for lane in LANES:
                last = sender.numbered[lane]
                assert world.applied(sender.incarnation, lane) == set(range(1, last + 1)), seed
