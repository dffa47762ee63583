"""A *fake* sidecar for tests of the instrumentation: takes channels and remembers what came."""

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rendezvous_api import channel, event
from rendezvous_api.channel import Events, Hello
from rendezvous_api.event import Event

_PATIENCE_S = 20.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Heard:
    """One event, and who reported it."""

    sender: Hello
    event: Event


class ChannelListener:
    """Listens at ``path`` for the length of a ``with`` block. Answers nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.hellos: list[Hello] = []
        self.heard: list[Heard] = []
        self._who: dict[socket.socket, Hello] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wake_in, self._wake_out = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.write(self._wake_out, b"x")
        self._thread.join()
        for sock in [*self._who, self._listener]:
            sock.close()
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    def wait_for(self, wanted: Callable[[list[Heard]], bool]) -> list[Heard]:
        """Wait until what was heard is as ``wanted``; all of it."""
        deadline = time.monotonic() + _PATIENCE_S
        while not wanted(self.heard):
            assert time.monotonic() < deadline, f"heard only {self.heard}, {self.hellos}"
            time.sleep(_POLL_S)
        return list(self.heard)

    def wait_for_hellos(self, wanted: Callable[[list[Hello]], bool]) -> list[Hello]:
        """As :meth:`wait_for`, for processes."""
        self.wait_for(lambda heard: wanted(self.hellos))
        return list(self.hellos)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == self._wake_in:
                    return
                if key.fileobj is self._listener:
                    sock, _ = self._listener.accept()
                    self._selector.register(sock, selectors.EVENT_READ)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)

    def _read(self, sock: socket.socket) -> None:
        try:
            packet = sock.recv(65_536)
        except OSError:
            packet = b""
        if not packet:
            self._selector.unregister(sock)
            self._who.pop(sock, None)
            sock.close()
            return
        message = channel.decode_to_sidecar(packet)
        if isinstance(message, Hello):
            self._who[sock] = message
            self.hellos.append(message)
        elif isinstance(message, Events):
            sender = self._who[sock]
            self.heard += [Heard(sender, one) for one in event.decode(message.raw)]
