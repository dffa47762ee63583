"""Failovers under a request: the replica is promoted, a write is lost, servers come back empty."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rendezvous_testing.inside import Start
from rendezvous_testing.redis_clients import Clients, of
from rendezvous_testing.replicated import Replicated, eventually, replicated


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Replicated]:
    with replicated(tmp_path, delay_s=0.002) as pair:
        yield pair


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    clients = Clients("asyncio")
    yield clients
    await clients.close()


async def test_a_write_that_the_promoted_node_has_is_protected(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell:
        await of(primary.set("kept", "text"))
        pair.wait_until_level()
        pair.replica.promote()
        assert await of(replica.get("kept")) == "text"
        await of(replica.set("kept", "more"))
        assert len(cell.positions) == 2  # one epoch each
        assert await of(replica.get("kept")) == "more"
    assert us.verdicts() == {"protected": 2}


async def test_a_write_that_the_promoted_node_never_had_is_lost_at_once(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell:
        pair.link.cut()
        await of(primary.set("gone", "text"))
        pair.replica.promote()
        assert await of(replica.get("gone")) is None
        assert cell.waited_s == 0
    assert us.verdicts() == {"unprotected{lost}": 1}


def test_a_read_that_is_held_when_its_node_is_promoted_is_let_go(
    start: Start, pair: Replicated
) -> None:
    us = start(budget=30)
    clients = Clients("sync")
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), ThreadPoolExecutor(1) as pool:
        pair.link.cut()
        primary.set("held", "text")
        reading = pool.submit(replica.get, "held")
        eventually(lambda: us.us.held == 1)
        pair.replica.promote()
        assert reading.result() is None
    primary.close()
    replica.close()
    assert us.verdicts() == {"unprotected{lost}": 1}


async def test_a_primary_that_came_back_empty_has_lost_what_it_had(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)
    with us.request():
        await of(primary.set("memory", "text"))
        pair.primary.restart()
        assert await of(primary.get("memory")) is None
    # The first attempt, on the connection that the restart broke, returned nothing.
    assert us.verdicts().get("unprotected{lost}") == 1


async def test_a_replica_that_took_a_new_copy_of_another_history_has_lost_the_old_one(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request():
        await of(primary.set("copy", "text"))
        assert await of(replica.get("copy")) == "text"
        pair.primary.restart()
        eventually(
            lambda: (
                pair.primary.replication()["master_replid"]
                == pair.replica.replication()["master_replid"]
            )
        )
        pair.replica.wait_until_linked()
        assert await of(replica.get("copy")) is None
    assert us.verdicts().get("unprotected{lost}") == 1


async def test_a_write_after_the_failover_is_waited_for_at_a_node_that_has_yet_to_follow(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(budget=0.05)
    primary, promoted = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request():
        await of(primary.set("before", "1"))
        pair.wait_until_level()
    pair.replica.promote()
    with us.request():
        await of(promoted.set("after", "1"))
        assert await of(primary.get("after")) is None  # the old primary still lives in its epoch
        pair.primary.follow(pair.replica.port)
        pair.primary.wait_until_linked()
    assert us.verdicts() == {"unprotected{budget}": 1}
