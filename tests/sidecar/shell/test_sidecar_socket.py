"""The socket file: who may use it, and who may have it."""

import os
import socket
import stat

import pytest

from rendezvous_api.errors import BadConfig
from rendezvous_sidecar.shell.listening import listening


def test_only_the_owner_may_use_it(socket_path: str) -> None:
    with listening(socket_path, None):
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600
    assert not os.path.exists(socket_path)


def test_a_group_may_be_let_in(socket_path: str) -> None:
    with listening(socket_path, os.getgid()):
        assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o660
        assert os.stat(socket_path).st_gid == os.getgid()


def test_a_file_that_a_dead_sidecar_left_is_replaced(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(socket_path)
    assert os.path.exists(socket_path)
    with listening(socket_path, None), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(socket_path)


def test_a_socket_that_answers_is_left_alone(socket_path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(socket_path)
        other.listen()
        with (
            pytest.raises(BadConfig, match="another sidecar answers"),
            listening(socket_path, None),
        ):
            pass
        assert os.path.exists(socket_path)


def test_there_is_one_sidecar_per_path(socket_path: str) -> None:
    with listening(socket_path, None):
        with pytest.raises(BadConfig, match="another sidecar holds it"):
            with listening(socket_path, None):
                pass
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(socket_path)


def test_a_file_that_is_no_socket_is_left_alone(socket_path: str) -> None:
    with open(socket_path, "w") as precious:
        precious.write("data")
    with pytest.raises(BadConfig, match="not a socket"), listening(socket_path, None):
        pass
    with open(socket_path) as precious:
        assert precious.read() == "data"


def test_a_lock_that_cannot_be_had_is_said(socket_path: str) -> None:
    os.mkdir(f"{socket_path}.lock")
    with pytest.raises(BadConfig, match="cannot lock"), listening(socket_path, None):
        pass
