"""The delay proxy delays, keeps order, and can be cut; it loses and invents nothing."""

import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rendezvous_testing.delay_proxy import DelayProxy, Link, main
from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Processes


class Echo:
    """Sends back what it gets; after the sender's end it says ``bye``."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                connection.sendall(b"bye")
            except ConnectionError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as echo:
        yield echo


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


def exactly(connection: socket.socket, size: int) -> bytes:
    out = b""
    while len(out) < size:
        data = connection.recv(size - len(out))
        if not data:
            raise EOFError(f"ended after {len(out)} bytes")
        out += data
    return out


def test_bytes_arrive_whole_and_in_order_in_both_directions(echo: Echo) -> None:
    sent = random.Random(1).randbytes(3_000_000)
    with DelayProxy(target_port=echo.port, delay_s=0.002, jitter_s=0.002, seed=1) as proxy:
        with connect(proxy.port) as connection:
            sender = threading.Thread(target=connection.sendall, args=(sent,))
            sender.start()
            received = exactly(connection, len(sent))
            sender.join()
    assert received == sent


def test_nothing_arrives_before_its_delay(echo: Echo) -> None:
    with DelayProxy(target_port=echo.port, delay_s=0.05) as proxy:
        with connect(proxy.port) as connection:
            begin = time.monotonic()
            connection.sendall(b"x")
            exactly(connection, 1)
            there_and_back = 2 * 0.05 - 0.001  # the loop's clock resolution
            assert time.monotonic() - begin >= there_and_back


def test_an_end_of_sending_passes_and_the_other_direction_goes_on(echo: Echo) -> None:
    with DelayProxy(target_port=echo.port, delay_s=0.001) as proxy:
        with connect(proxy.port) as connection:
            connection.sendall(b"last words")
            connection.shutdown(socket.SHUT_WR)
            assert exactly(connection, 13) == b"last wordsbye"
            assert connection.recv(1) == b""


def test_a_reset_passes_behind_the_data() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        with DelayProxy(target_port=port, delay_s=0.001) as proxy, connect(proxy.port) as near:
            near.sendall(b"x")
            far, _ = listener.accept()
            with far:
                exactly(far, 1)
                far.sendall(b"last")
                assert exactly(near, 4) == b"last"
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with pytest.raises(ConnectionResetError):
                near.recv(1)


def test_cut_is_silence_and_heal_lets_everything_through(echo: Echo) -> None:
    with DelayProxy(target_port=echo.port, delay_s=0.0) as proxy:
        with connect(proxy.port) as connection:
            connection.sendall(b"before")
            assert exactly(connection, 6) == b"before"
            proxy.cut()
            connection.sendall(b"during")
            connection.settimeout(0.1)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)
            proxy.heal()
            assert exactly(connection, 6) == b"during"


def test_reset_breaks_connections_and_takes_new_ones(echo: Echo) -> None:
    with DelayProxy(target_port=echo.port, delay_s=0.0) as proxy:
        with connect(proxy.port) as connection:
            connection.sendall(b"x")
            exactly(connection, 1)
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                exactly(connection, 1)
        with connect(proxy.port) as connection:
            connection.sendall(b"again")
            assert exactly(connection, 5) == b"again"


def test_a_target_that_is_away_breaks_the_connection() -> None:
    with DelayProxy(target_port=free_port(), delay_s=0.0) as proxy:
        with connect(proxy.port) as connection:
            with pytest.raises(ConnectionResetError):
                exactly(connection, 1)


def test_a_taken_port_is_an_error_at_once(echo: Echo) -> None:
    with pytest.raises(OSError):
        with DelayProxy(target_port=1, listen_port=echo.port, delay_s=0.0):
            pass


def test_delays_are_repeatable_and_within_bounds() -> None:
    draws = [Link(0.06, 0.02, seed=7).draw() for _ in range(2)]
    assert draws[0] == draws[1]
    link = Link(0.06, 0.02, seed=7)
    many = [link.draw() for _ in range(1000)]
    assert 0.04 <= min(many) < 0.045 and 0.075 < max(many) <= 0.08


def test_bad_settings_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="jitter"):
        Link(0.01, 0.02)
    flags = ["--listen", "127.0.0.1:1", "--target", "127.0.0.1:2", "--delay-ms", "1"]
    with pytest.raises(SystemExit):
        main([*flags, "--jitter-ms", "2"])
    with pytest.raises(SystemExit):
        main(["--listen", "0.0.0.0:1", *flags[2:]])
    assert "want 127.0.0.1:PORT" in capsys.readouterr().err


def test_it_runs_as_a_process(echo: Echo, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "rendezvous_testing.delay_proxy", "--delay-ms", "1"]
    command += ["--listen", f"127.0.0.1:{port}", "--target", f"127.0.0.1:{echo.port}"]
    with Processes(tmp_path) as processes:
        process = processes.start("proxy", command)
        process.wait_for_line("listening on")
        with connect(port) as connection:
            connection.sendall(b"x")
            assert exactly(connection, 1) == b"x"
        process.stop()
        assert process.wait() == 0
