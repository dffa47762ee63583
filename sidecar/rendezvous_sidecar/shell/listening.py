"""The socket that processes find the sidecar by: one sidecar per path, stale files replaced."""

import fcntl
import os
import socket
import stat
from collections.abc import Generator
from contextlib import contextmanager

from rendezvous_api.errors import BadConfig

_OWNER_ONLY, _OWNER_AND_GROUP = 0o600, 0o660
_BACKLOG = 128


@contextmanager
def listening(path: str, group: int | None) -> Generator[socket.socket, None, None]:
    """A listening SOCK_SEQPACKET socket at ``path``, removed at the end. Raises
    :class:`BadConfig` if another sidecar answers there, or something else is in the way."""
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BadConfig("--socket", path, f"cannot lock {path}.lock: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BadConfig("--socket", path, "another sidecar holds it") from exc
        _clear(path)
        listener = _bound(path, group)
        inode = os.stat(path).st_ino
        try:
            yield listener
        finally:
            listener.close()
            _unlink(path, inode)
    finally:
        os.close(lock)  # which frees the lock; its file stays, or two could hold "it"


def _clear(path: str) -> None:
    """Remove what a sidecar that died left behind."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BadConfig("--socket", path, "something that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as exc:  # EPROTOTYPE: a stream socket; EAGAIN: its backlog is full
            raise BadConfig("--socket", path, f"it is in use ({exc.strerror})") from exc
    raise BadConfig("--socket", path, "another sidecar answers there")


def _bound(path: str, group: int | None) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    # Inherited by accepted sockets: every packet then says who sent it, which shows forks.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as exc:
        listener.close()
        raise BadConfig("--socket", path, f"cannot bind: {exc.strerror}") from exc
    finally:
        os.umask(mask)
    try:
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, _OWNER_AND_GROUP)
        else:
            os.chmod(path, _OWNER_ONLY)
    except OSError as exc:
        listener.close()
        os.unlink(path)
        raise BadConfig("--group", str(group), f"cannot give the socket to it: {exc}") from exc
    listener.listen(_BACKLOG)
    return listener


def _unlink(path: str, inode: int) -> None:
    try:
        if os.stat(path).st_ino == inode:
            os.unlink(path)
    except FileNotFoundError:
        pass
