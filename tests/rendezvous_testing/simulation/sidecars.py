"""A sidecar: the real agent, its channels, and one stream that fails over between servers."""

from collections.abc import Callable
from typing import Protocol

from rendezvous_api.channel import encode
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import StreamId
from rendezvous_sidecar.core import steps
from rendezvous_sidecar.core.agent import Agent
from rendezvous_testing.simulation.network import Pipe
from rendezvous_testing.simulation.servers import Server
from rendezvous_testing.simulation.world import World

LINGER_S = 0.02
"""Seconds that a simulated sidecar's events wait for company: the scenarios' transcripts depend on it."""


class Peer(Protocol):
    """The process's end of a channel."""

    name: str

    def packet(self, raw: bytes) -> None: ...
    def hung_up(self) -> None: ...


class Channel:
    """One channel: packets to the sidecar and back."""

    def __init__(self, world: World, sidecar: "Sidecar", number: int, peer: Peer) -> None:
        self.number = number
        self.paused = False
        self.peer = peer
        life = sidecar.life

        def to_sidecar(raw: bytes) -> None:
            if sidecar.life == life:
                sidecar.step(steps.Packet(number, raw, 0))

        up, down = (peer.name, sidecar.name), (sidecar.name, peer.name)
        self.up = Pipe(world, to_sidecar, 0.0002, ends=up, capacity=8)
        self.down = Pipe(world, peer.packet, 0.0002, ends=down)


class Sidecar:
    """``step`` performs what the agent says. ``life`` counts its incarnations."""

    def __init__(self, world: World, name: str, servers: list[Server], net: "Network") -> None:
        self._world = world
        self.name = name
        self._servers = servers
        self._net = net
        self.up = False
        self.life = 0
        self._number = 0
        self._at = world.rng.randrange(len(servers))
        self._channels: dict[int, Channel] = {}
        self._stream: _Stream | None = None
        self.start()

    def start(self) -> None:
        """Begin, with an empty memory."""
        self._world.say(f"{self.name}: started")
        self.up = True
        self.agent = Agent(self._world.rng.getrandbits(64), "eu", self._world.now, LINGER_S)
        self._channels = {}
        self._stream = None
        self._dial(0.001)
        self._tick()

    def crash(self) -> None:
        """kill -9: its memory is gone, its sockets close."""
        self._world.say(f"{self.name}: killed")
        self.up = False
        self.life += 1
        for channel in self._channels.values():
            channel.up.cut = channel.down.cut = True
            self._world.after(0.0001, channel.peer.hung_up)
        self._channels = {}
        if self._stream is not None:
            self._stream.cut()
            self._stream = None

    def _tick(self) -> None:
        life = self.life

        def tick() -> None:
            if self.life == life and self.up:
                due = self.agent.due()
                if due is not None and due <= self._world.now:
                    self.step(steps.Tick())
                self._world.after(0.01, tick)

        tick()

    def open_channel(self, peer: Peer) -> Channel:
        """A process connects."""
        self._number += 1
        channel = Channel(self._world, self, self._number, peer)
        self._channels[channel.number] = channel
        self.step(steps.Connected(channel.number, 0))
        return channel

    def process_died(self, channel: Channel) -> None:
        """The process is gone; what it had sent is read to the end first."""
        channel.down.cut = True
        life = self.life

        def ended() -> None:
            if self.life == life and self._channels.pop(channel.number, None) is not None:
                self.step(steps.Closed(channel.number))

        channel.up.end(ended)

    def step(self, step: steps.Step) -> None:
        """Give the agent a step and do what it says."""
        if not self.up:
            return
        for effect in self.agent.step(step, self._world.now):
            match effect:
                case steps.Tell(process, message):
                    channel = self._channels.get(process)
                    if channel is not None:
                        channel.down.send(encode(message))
                case steps.Send(stream, message):
                    if self._stream is not None and self._stream.number == stream:
                        self._stream.up.send(message)
                case steps.Close(process):
                    channel = self._channels.pop(process, None)
                    if channel is not None:
                        channel.up.cut = channel.down.cut = True
                        self._world.after(0.0001, channel.peer.hung_up)
                case steps.Pause(process):
                    if process in self._channels:
                        self._channels[process].paused = True
                case steps.Resume(process):
                    if process in self._channels:
                        self._channels[process].paused = False
                case steps.Rotate(stream, _):
                    if self._stream is not None and self._stream.number == stream:
                        self._stream.cut()
                        self.stream_down(self._stream)
                case steps.Warn(text):
                    self._world.say(f"{self.name}: warns: {text}")

    # --- the stream -----------------------------------------------------------------

    def _dial(self, delay_s: float) -> None:
        life = self.life

        def dial() -> None:
            if self.life != life or not self.up or self._stream is not None:
                return
            self._at = (self._at + 1) % len(self._servers)
            server = self._servers[self._at]
            if not server.up or self._net.parted(self.name, server.name):
                self._dial(0.05 + 0.1 * self._world.rng.random())
                return
            self._number += 1
            self._stream = _Stream(self._world, self, server, self._number)
            self._net.streams.append(self._stream)
            self.step(steps.StreamUp(self._stream.number))

        self._world.after(delay_s, dial)

    def stream_down(self, stream: "_Stream") -> None:
        """The stream has broken, as far as this side can tell."""
        if self._stream is stream and self.up:
            self._stream = None
            self.step(steps.StreamDown(stream.number))
            self._dial(0.02 + 0.1 * self._world.rng.random())


class _Stream:
    """One gRPC stream: two pipes, and each side's knowledge of its end."""

    def __init__(self, world: World, sidecar: Sidecar, server: Server, number: int) -> None:
        self._world = world
        self.number = number
        self.sidecar = sidecar
        self.server = server
        self._life = server.life
        self._id: StreamId | None = None
        self.ended = False
        delay_s = world.rng.choice([0.0005, 0.005, 0.05])
        up, down = (sidecar.name, server.name), (server.name, sidecar.name)
        self.up = Pipe(world, self._at_server, delay_s, ends=up)
        self.down = Pipe(world, self._at_sidecar, delay_s, ends=down)

    def _at_server(self, message: pb.FromSidecar) -> None:
        if not self.server.up or self.server.life != self._life:
            return
        if message.WhichOneof("message") == "hello":
            self._id = self.server.connect(message.hello.sidecar, self.down.send)
        elif self._id is not None:
            self.server.receive(self._id, message)

    def _at_sidecar(self, message: pb.ToSidecar) -> None:
        self.sidecar.step(steps.StreamMessage(self.number, message))

    def cut(self) -> None:
        """Nothing passes any more; both sides learn it, each in its own time."""
        if self.ended:
            return
        self.ended = True
        self.up.cut = self.down.cut = True
        rng = self._world.rng
        self._world.after(rng.random() * 0.2, lambda: self.sidecar.stream_down(self))
        life = self._life

        def server_learns() -> None:
            if self._id is not None and self.server.life == life:
                self.server.disconnect(self._id)

        self._world.after(rng.random() * 1.0, server_learns)


class Network:
    """Who cannot reach whom, and all streams."""

    def __init__(self) -> None:
        self.streams: list[_Stream] = []
        self._parted: set[tuple[str, str]] = set()

    def part(self, sidecar: str, server: str) -> None:
        """Cut a sidecar off from a server."""
        self._parted.add((sidecar, server))
        self.cut_streams(lambda s: s.sidecar.name == sidecar and s.server.name == server)

    def heal(self) -> None:
        """Everybody reaches everybody again."""
        self._parted.clear()

    def parted(self, sidecar: str, server: str) -> bool:
        """Whether the way is cut."""
        return (sidecar, server) in self._parted

    def cut_streams(self, which: Callable[[_Stream], bool]) -> None:
        """Break streams, and forget those that have ended."""
        for stream in self.streams:
            if not stream.ended and which(stream):
                stream.cut()
        self.streams = [stream for stream in self.streams if not stream.ended]
