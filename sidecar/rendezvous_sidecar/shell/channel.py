"""One process's channel: a non-blocking SOCK_SEQPACKET socket on the event loop."""

import asyncio
import socket
from collections.abc import Callable
from struct import Struct

from rendezvous_api.channel import ToProcess
from rendezvous_sidecar.core.mailbox import Mailbox
from rendezvous_sidecar.core.steps import Closed, Packet, Step
from rendezvous_sidecar.limits import READ_BYTES_MAX, READ_PACKETS_MAX

_CREDENTIALS = Struct("=iII")  # pid, uid, gid
_ANCILLARY_BYTES = socket.CMSG_SPACE(_CREDENTIALS.size)


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """(pid, uid) of who connected, as the kernel says. pid 0: of another pid namespace."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


class Channel:
    """Reads packets into ``take`` and sends what ``tell`` gives, never waiting for the process."""

    def __init__(self, connection: socket.socket, process: int, take: Callable[[Step], None]):
        self.dropped = 0
        """Messages that found the mailbox full, or the process gone."""
        self._socket = connection
        self._fd = connection.fileno()
        self._process = process
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._mailbox = Mailbox()
        self._reading = False
        self._writing = False
        self._deaf = False
        self.resume()

    def resume(self) -> None:
        """Read packets as they come."""
        if self._fd >= 0 and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._readable)

    def pause(self) -> None:
        """Leave further packets in the socket: once it is full the process's outbox fills."""
        if self._fd >= 0 and self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def read_all(self) -> None:
        """Take what the process has already sent, unless reading is paused."""
        while self._reading and self._read_some():
            pass

    def _readable(self) -> None:
        self._read_some()

    def _read_some(self) -> bool:
        """Read a share of packets; whether there may be more."""
        for _ in range(READ_PACKETS_MAX):
            if not self._reading:
                return False
            try:
                raw, ancillary, flags, _ = self._socket.recvmsg(READ_BYTES_MAX, _ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                return False
            except ConnectionResetError:
                # Told once; what the process sent before it is still to be read.
                self._deaf = True
                continue
            except OSError:
                raw, ancillary, flags = b"", [], 0
            if not raw:
                self.close()
                self._take(Closed(self._process))
                return False
            if flags & socket.MSG_TRUNC:
                raw = b""  # too long to be ours: refused like any other garbage
            self._take(Packet(self._process, raw, _sender(ancillary)))
        return True

    def tell(self, message: ToProcess) -> None:
        """Send, now or when the process has read; an ack overwrites an older one."""
        if self._deaf or not self._mailbox.put(message):
            self.dropped += 1
        elif not self._writing:
            self._flush()

    def _flush(self) -> None:
        while (packet := self._mailbox.first()) is not None:
            try:
                self._socket.send(packet)
            except (BlockingIOError, InterruptedError):
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._fd, self._flush)
                return
            except OSError:
                self._deaf = True  # gone: reading will find the end
                break
            self._mailbox.sent()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """End the channel. Harmless when repeated."""
        if self._fd >= 0:
            self.pause()
            if self._writing:
                self._loop.remove_writer(self._fd)
                self._writing = False
            self._fd = -1
            self._deaf = True
            self._socket.close()


def _sender(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, raw in ancillary:
        if (
            level == socket.SOL_SOCKET
            and kind == socket.SCM_CREDENTIALS
            and len(raw) == _CREDENTIALS.size
        ):
            return int(_CREDENTIALS.unpack(raw)[0])
    return 0
