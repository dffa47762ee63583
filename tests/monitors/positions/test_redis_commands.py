"""What each command does to data, against the command table of a real server."""

from pathlib import Path

import pytest

from rendezvous_monitors.positions.redis_commands import Effect, effect
from rendezvous_testing.processes import Processes
from rendezvous_testing.valkey import start_server

OF_NO_DATA = ("lolwut", "memory|usage", "memory", "object")
"""What the server calls a read although no value comes of it."""

READ, WRITE, BOTH, NEITHER = Effect.READ, Effect.WRITE, Effect.BOTH, Effect.NEITHER


@pytest.mark.parametrize(
    ("command", "does"),
    [
        (("GET", "k"), READ),
        ((b"get", b"k"), READ),
        (("SET", "k", "v"), WRITE),
        (("SET", "k", "v", "EX", 10), WRITE),
        (("SET", "k", "v", b"get"), BOTH),
        (("SET", "k", "v", "NX"), BOTH),
        (("SET", "GET", "NX"), WRITE),
        (("INCR", "k"), BOTH),
        (("GETDEL", "k"), BOTH),
        (("EVAL", "return 1", 0), BOTH),
        (("EVAL_RO", "return 1", 0), READ),
        (("MODULE.UNHEARD-OF", "k"), BOTH),
        (("SCRIPT EXISTS", "sha"), NEITHER),
        (("CLIENT SETNAME", "n"), NEITHER),
        (("SWAPDB", 0, 1), WRITE),
        (("", "k"), BOTH),
        ((bytearray(b"GET"), "k"), BOTH),
    ],
)
def test_effects(command: tuple[object, ...], does: Effect) -> None:
    for _ in range(2):  # the second time from memory
        assert effect(command[0], command[1:]) is does


def test_no_command_that_a_real_server_calls_a_write_is_taken_for_less(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        server = start_server(processes, "server")
        table = server.ask("COMMAND")
    assert isinstance(table, list) and len(table) > 200
    for entry in table:
        assert isinstance(entry, list)
        name, _, flags = entry[:3]
        assert isinstance(name, str) and isinstance(flags, list)
        does = effect(name)
        if "write" in flags:
            assert does & WRITE, name
        if "readonly" in flags and name not in OF_NO_DATA:
            assert does & READ, name
