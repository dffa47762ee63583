"""The channel to the sidecar: inline sends from whoever has an event, one thread for the rest.

An event goes out in the call that reports it, or with the next context that leaves, by one
non-blocking send; but at most every ``FLUSH_S``, since each send wakes the sidecar, which on a busy
machine takes the application's core. What is left behind goes with the next one or is sent by the
thread within ``ACTIVE_S``, and always before a question. Should the process die in between, whoever
holds a context that names the lost events is told ``lost_tail``, as for anything that died unsent.
The thread connects, reads acks and answers, sends what could not be sent inline, and reconnects.

``_socket`` and ``_thread`` directly: nothing that an application may monkey-patch, and no import that
it would feel.
"""

import os
import time
from _socket import (
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SO_RCVTIMEO,
    SOCK_SEQPACKET,
    SOL_SOCKET,
)
from _socket import socket as raw_socket
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from struct import pack

from rendezvous_api import channel
from rendezvous_api.errors import MalformedMessage
from rendezvous_api.limits import PACKET_BYTES_MAX
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_instrumentation.limits import (
    ACK_PAUSE_S,
    ACTIVE_S,
    FLUSH_S,
    RECONNECT_S_MAX,
    RECONNECT_S_MIN,
)
from rendezvous_instrumentation.shell.stats import Stats

_READ_BYTES = 65_536
_TICK_S = 0.5
_QUIET_ROUNDS = 10
"""Rounds of the thread without a new event until it waits in ``recv`` for long again."""


class Link:
    """One incarnation's channel. ``path`` empty: there is no sidecar, events stay in the outbox."""

    def __init__(
        self,
        path: str,
        outbox: Outbox,
        hello: channel.Hello,
        stats: Stats,
        on_message: Callable[[channel.ToProcess], None],
        on_tick: Callable[[], None],
    ) -> None:
        self.path = path
        self.connected = False
        self._outbox = outbox
        self._hello = hello
        self._stats = stats
        self._on_message = on_message
        self._on_tick = on_tick
        self._lock = allocate_lock()
        self._socket: raw_socket | None = None
        self._started = False
        self._stopped = False
        self._asked = 0
        self._events = 0
        self._sent_at = 0.0
        self._ticked_at = 0.0
        self._hurry = allocate_lock()
        self._hurry.acquire()

    def event(self, lane: int, kind: int, rid: bytes, bid: int, body: bytes) -> int:
        """Number an event and queue it, and send it if sending is due; its seq, or 0 (refused)."""
        with self._lock:
            seq = self._outbox.append(lane, kind, rid, bid, body)
            self._events += 1
            sock = self._socket
            if sock is not None and time.monotonic() - self._sent_at >= FLUSH_S:
                self._send_some(sock)
        if not self._started:
            self._start()
        return seq

    def flush(self, *, now: bool = False) -> None:
        """Send what is queued, if sending is due (or ``now``) and as far as the socket takes it."""
        if self._outbox.waiting and (now or time.monotonic() - self._sent_at >= FLUSH_S):
            with self._lock:
                if self._socket is not None:
                    self._send_some(self._socket)

    def ask(self, message: channel.Ask) -> bool:
        """Send a question; whether it went out. Events before it go first: it is about them."""
        with self._lock:
            sock = self._socket
            if sock is None:
                sent = False
            else:
                while self._outbox.waiting and self._send_some(sock):
                    pass
                sent = not self._outbox.waiting and self._try_send(sock, channel.encode(message))
                if sent:
                    self._asked += 1
                    if self._hurry.locked():
                        self._hurry.release()
        if not self._started:
            self._start()
        return sent

    def tell(self, message: channel.Counted) -> bool:
        """Send what can be sent again later; whether it went out."""
        with self._lock:
            return self._socket is not None and self._try_send(
                self._socket, channel.encode(message)
            )

    def close(self) -> None:
        """Give the socket back. The outbox keeps what was not acknowledged."""
        self._stopped = True
        self._drop()

    def _send_some(self, sock: raw_socket) -> bool:
        raw = self._outbox.take(PACKET_BYTES_MAX)
        if not raw:
            return False
        self._sent_at = time.monotonic()
        if self._try_send(sock, channel.EVENTS_PREFIX + raw):
            return True
        self._outbox.put_back(raw)
        return False

    def _try_send(self, sock: raw_socket, packet: bytes) -> bool:
        try:
            sock.send(packet, MSG_DONTWAIT | MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def _start(self) -> None:
        with self._lock:
            if self._started or self._stopped:
                return
            self._started = True
        start_new_thread(self._run, ())

    def _run(self) -> None:
        pause_s = RECONNECT_S_MIN
        while not self._stopped:
            if self.path and self._connect():
                pause_s = RECONNECT_S_MIN
                try:
                    self._read_until_lost()
                finally:
                    self._drop()
            self._tick()
            time.sleep(pause_s if self.path else _TICK_S)
            pause_s = min(pause_s * 2, RECONNECT_S_MAX)

    def _connect(self) -> bool:
        try:
            sock = raw_socket(AF_UNIX, SOCK_SEQPACKET)
        except OSError:
            return False
        try:
            sock.connect(self.path)
            sock.send(channel.encode(self._hello), MSG_NOSIGNAL)
            _wait_in_recv(sock, _TICK_S)
        except OSError:
            sock.close()
            return False
        with self._lock:
            if self._stopped:
                sock.close()
                return False
            self._outbox.channel_lost()
            self._asked = 0
            self._socket = sock
            self.connected = True
        self._stats.count("channel_connected")
        return True

    def _read_until_lost(self) -> None:
        sock = self._socket
        events, quiet, active = self._events, 0, False
        while sock is not None and not self._stopped:
            idle = events == self._events and not self._outbox.waiting
            quiet = quiet + 1 if idle else 0
            events = self._events
            if active is not (quiet < _QUIET_ROUNDS):
                active = not active
                _wait_in_recv(sock, ACTIVE_S if active else _TICK_S)
            with self._lock:
                for _ in range(64):
                    if not self._outbox.waiting or not self._send_some(sock):
                        break
            try:
                packet = sock.recv(_READ_BYTES)
            except BlockingIOError:
                self._tick()
                continue
            except OSError:
                return
            if not packet:
                return
            try:
                message = channel.decode_to_process(packet)
            except MalformedMessage:
                self._stats.count("channel_garbage")
                return
            if isinstance(message, channel.Acked):
                with self._lock:
                    for entry in message.entries:
                        self._outbox.acked(*entry)
                if not self._asked:
                    # Acks are in no hurry, and each wakes this thread beside the application's.
                    self._hurry.acquire(timeout=ACK_PAUSE_S)
            else:
                if isinstance(message, channel.Answered):
                    with self._lock:
                        self._asked = max(0, self._asked - 1)
                self._hand_over(message)

    def _drop(self) -> None:
        with self._lock:
            sock, self._socket = self._socket, None
            self.connected = False
            if sock is not None:
                self._outbox.channel_lost()
        if sock is not None:
            sock.close()

    def _hand_over(self, message: channel.ToProcess) -> None:
        try:
            self._on_message(message)
        except Exception:  # the thread must live: nobody would reconnect
            self._stats.count("failed")

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked_at < _TICK_S * 0.9:
            return
        self._ticked_at = now
        try:
            self._on_tick()
        except Exception:
            self._stats.count("failed")


def _wait_in_recv(sock: raw_socket, seconds: float) -> None:
    """How long ``recv`` waits. Not settimeout(): with it CPython polls before every send,
    MSG_DONTWAIT or not."""
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, pack("ll", 0, int(seconds * 1e6)))


def identity() -> tuple[int, bytes]:
    """This process's pid and 64 random bits for an incarnation."""
    return os.getpid(), os.urandom(8)
