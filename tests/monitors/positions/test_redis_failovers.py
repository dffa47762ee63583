"""Positions through real failovers: what INFO alone tells, and what others have to tell."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rendezvous_api.ids import StoreKey
from rendezvous_monitors.positions.cover import Cover, Lineage
from rendezvous_monitors.positions.redis import Applied, covers, parse
from rendezvous_testing.processes import Processes
from rendezvous_testing.replicated import eventually
from rendezvous_testing.valkey import ValkeyServer, start_server

Start = Callable[..., ValkeyServer]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Start]:
    with Processes(tmp_path) as processes:

        def start(name: str, follows: ValkeyServer | None = None) -> ValkeyServer:
            started = start_server(
                processes, name, link_port=follows.port if follows is not None else None
            )
            if follows is not None:
                started.wait_until_linked()
            return started

        yield start


def applied(node: ValkeyServer) -> Applied:
    answer = node.ask("INFO", "replication")
    assert isinstance(answer, str)
    found = parse(answer.replace("\n", "\r\n").replace("\r\r", "\r").encode())
    assert found is not None
    return found


def write(node: ValkeyServer, key: str) -> tuple[StoreKey, int]:
    node.ask("SET", key, "1")
    at = applied(node)
    assert at.primary
    return at.store, at.value


def reaches(node: ValkeyServer, position: tuple[StoreKey, int], lineage: Lineage) -> None:
    eventually(lambda: covers(applied(node), *position, lineage) is Cover.YES)


def learn(lineage: Lineage, node: ValkeyServer) -> None:
    """As the instrumentation does from every answer."""
    at = applied(node)
    if at.previous is not None:
        lineage.learn(at.previous, at.store, at.fork)


def test_a_failover_with_a_write_lost_and_a_write_kept(server: Start) -> None:
    first = server("first")
    second = server("second", first)
    lineage = Lineage()
    kept = write(first, "kept")
    reaches(second, kept, lineage)
    second.ask("REPLICAOF", "NO", "ONE")
    lost = write(first, "lost")
    new = write(second, "new")
    promoted = applied(second)
    assert promoted.primary and promoted.store != kept[0] and promoted.previous == kept[0]
    assert covers(promoted, *kept, lineage) is Cover.YES
    assert covers(promoted, *lost, lineage) is Cover.LOST
    assert second.ask("GET", "lost") is None
    # The old primary, seen by one who knows of the failover, and by one who does not.
    assert covers(applied(first), *new, lineage) is Cover.UNRELATED
    learn(lineage, second)
    assert covers(applied(first), *new, lineage) is Cover.NO
    # It follows: a copy of the new history, without the lost write.
    first.follow(second.port)
    first.wait_until_linked()
    reaches(first, new, lineage)
    assert covers(applied(first), *lost, lineage) is Cover.LOST
    assert first.ask("GET", "lost") is None and first.ask("GET", "kept") == "1"


def test_two_failovers_in_a_row_and_a_replica_of_a_replica(server: Start) -> None:
    first = server("first")
    second = server("second", first)
    third = server("third", second)  # a replica of a replica counts in the same epoch
    from_info, told = Lineage(), Lineage()
    oldest = write(first, "oldest")
    reaches(third, oldest, from_info)
    assert applied(third).store == oldest[0]
    second.promote()
    middle = write(second, "middle")
    reaches(third, middle, from_info)
    learn(from_info, third)  # a replica passes its primary's failover on
    told.learn(oldest[0], middle[0], applied(second).fork)
    third.promote()
    newest = write(third, "newest")
    at = applied(third)
    learn(from_info, third)
    assert len({oldest[0], middle[0], newest[0]}) == 3
    for lineage in (from_info, told):
        for position in (oldest, middle, newest):
            assert covers(at, *position, lineage) is Cover.YES
        store, value = oldest
        assert covers(at, store, value + 10_000, lineage) is Cover.LOST
    assert covers(at, *oldest, Lineage()) is Cover.UNRELATED  # one hop is all that INFO remembers


def test_a_sibling_that_lagged_takes_the_promoted_nodes_word(server: Start) -> None:
    first = server("first")
    second, third = server("second", first), server("third", first)
    lineage = Lineage()
    common = write(first, "common")
    reaches(second, common, lineage)
    reaches(third, common, lineage)
    third.ask("REPLICAOF", "127.0.0.1", "1")  # it gets nothing more
    late = write(first, "late")
    reaches(second, late, lineage)
    second.promote()
    third.follow(second.port)
    third.wait_until_linked()
    eventually(lambda: third.ask("GET", "late") == "1")
    sibling, promoted = applied(third), applied(second)
    assert sibling.store == promoted.store
    if sibling.previous is not None:  # else it took a whole copy
        assert sibling.fork < late[1] <= promoted.fork
    learn(lineage, third)
    learn(lineage, second)
    eventually(lambda: covers(applied(third), *late, lineage) is Cover.YES)


def test_a_restarted_server_is_another_store_until_somebody_joins_them(server: Start) -> None:
    node = server("node")
    before = write(node, "before")
    node.restart()
    after = applied(node)
    assert after.store != before[0] and after.previous is None
    assert covers(after, *before, Lineage()) is Cover.UNRELATED
    lineage = Lineage()
    lineage.learn(before[0], after.store, 0)  # as who sees one endpoint change its epoch
    assert covers(after, *before, lineage) is Cover.LOST
