"""One command on a Redis or Valkey server, over a plain socket: no client library that a test
might have patched."""

import socket
from io import BufferedReader

from rendezvous_testing.limits import PROBE_S

Reply = str | int | None | list["Reply"]


class StoreError(Exception):
    """The server answered with an error."""


def ask(port: int, *command: str) -> Reply:
    """Send ``command`` to the loopback ``port`` on a connection of its own; return the reply.

    Raises :class:`StoreError` for an error reply and :class:`OSError` if nobody answers.
    """
    with socket.create_connection(("127.0.0.1", port), PROBE_S) as connection:
        parts = [part.encode() for part in command]
        connection.sendall(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
        )
        with connection.makefile("rb") as stream:
            return _read(stream)


def _read(stream: BufferedReader) -> Reply:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection")
    kind, rest = line[:1], line[1:-2].decode()
    match kind:
        case b"+":
            return rest
        case b"-":
            raise StoreError(rest)
        case b":":
            return int(rest)
        case b"$":
            size = int(rest)
            return None if size < 0 else stream.read(size + 2)[:-2].decode()
        case b"*":
            return [_read(stream) for _ in range(int(rest))]
        case _:
            raise StoreError(f"not a RESP2 reply: {line[:32]!r}")
