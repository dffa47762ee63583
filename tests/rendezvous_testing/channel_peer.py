"""A *fake* sidecar that a test plays by hand: it reads and answers only when it is told to."""

import socket
from collections.abc import Generator
from contextlib import closing, contextmanager

from rendezvous_api import channel, event
from rendezvous_api.channel import Ask, Counted, Events, Hello, ToProcess, ToSidecar
from rendezvous_api.event import Event

PATIENCE_S = 20.0
"""Seconds after which a test gives up."""


class Peer:
    """One accepted channel; its first packet was ``hello``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.settimeout(PATIENCE_S)
        hello = self.read()
        assert isinstance(hello, Hello)
        self.hello = hello

    def read(self) -> ToSidecar:
        """The next packet, but for counts, which come whenever they like (:meth:`read_counts`)."""
        while isinstance(message := self._next(), Counted):
            pass
        return message

    def read_counts(self) -> dict[str, int]:
        """The next counts; other packets before them are read over."""
        while not isinstance(message := self._next(), Counted):
            pass
        return dict(message.entries)

    def _next(self) -> ToSidecar:
        packet = self._sock.recv(65_536)
        if not packet:
            raise EOFError
        return channel.decode_to_sidecar(packet)

    def read_events(self, count: int) -> list[Event]:
        """At least ``count`` events; nothing else may come in between."""
        events: list[Event] = []
        while len(events) < count:
            message = self.read()
            assert isinstance(message, Events)
            events += event.decode(message.raw)
        return events

    def read_ask(self) -> Ask:
        """The next question; events before it are read over."""
        while True:
            message = self.read()
            if isinstance(message, Ask):
                return message

    def send(self, message: ToProcess) -> None:
        """Tell the process something."""
        self._sock.send(channel.encode(message))

    def send_raw(self, packet: bytes) -> None:
        """Send what may be garbage."""
        self._sock.send(packet)

    def close(self) -> None:
        """End this channel."""
        self._sock.close()


class Listener:
    """The socket that processes connect to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(path)
        self._socket.listen(8)
        self._socket.settimeout(PATIENCE_S)
        self._peers: list[Peer] = []

    def accept(self) -> Peer:
        """The next process."""
        peer = Peer(self._socket.accept()[0])
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        """End all channels."""
        for peer in self._peers:
            peer.close()
        self._socket.close()


@contextmanager
def listening(path: str) -> Generator[Listener]:
    """A listener at ``path``."""
    with closing(Listener(path)) as listener:
        yield listener
