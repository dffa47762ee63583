"""Several reads held at once; what happens to a held read when it is cancelled or its node promoted."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rendezvous_testing.inside import Inside, Start
from rendezvous_testing.redis_clients import Clients
from rendezvous_testing.replicated import Replicated, eventually, replicated


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with replicated(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture(autouse=True)
def level(pair: Replicated) -> Iterator[None]:
    pair.primary.ask("FLUSHALL")
    pair.wait_until_level()
    yield
    pair.link.heal()
    pair.wait_until_level()


@pytest.fixture
async def sync() -> AsyncIterator[Clients]:
    clients = Clients("sync")
    yield clients
    await clients.close()


@pytest.fixture
async def aio() -> AsyncIterator[Clients]:
    clients = Clients("asyncio")
    yield clients
    await clients.close()


READS = 6


def last_commands(pair: Replicated) -> list[str]:
    """What each connection of the replica was last used for."""
    text = pair.replica.ask("CLIENT", "LIST")
    assert isinstance(text, str)
    return re.findall(r" cmd=(\S+)", text)


async def held(us: Inside, reads: int) -> None:
    """Wait until that many reads are held."""
    await asyncio.to_thread(eventually, lambda: us.us.held == reads)


async def test_reads_held_for_one_node_share_one_question(
    start: Start, pair: Replicated, aio: Clients
) -> None:
    us = start()
    primary, replica = aio.to(pair.primary.port), aio.to(pair.replica.port)
    with us.request() as cell:
        await asyncio.gather(*(replica.ping() for _ in range(READS)))
        pair.link.cut()
        await primary.mset({f"k{n}": str(n) for n in range(READS)})
        began = time.monotonic()
        reading = asyncio.gather(*(replica.get(f"k{n}") for n in range(READS)))
        await held(us, READS)
        await asyncio.to_thread(eventually, lambda: last_commands(pair).count("info") == 1)
        # One leads and polls; the others have asked once, each with its read, and sleep.
        assert last_commands(pair).count("get") == READS - 1
        pair.link.heal()
        assert await reading == [str(n) for n in range(READS)]
        # Reads held at the same time use the request's budget up once.
        assert 0 < cell.waited_s <= time.monotonic() - began
    assert us.verdicts() == {"waited": READS}
    assert us.us.held == 0


async def test_two_connections_to_one_address_verify_each_for_itself(
    start: Start, pair: Replicated, sync: Clients
) -> None:
    us = start()
    primary, replica = sync.to(pair.primary.port), sync.to(pair.replica.port)
    other = sync.to(pair.replica.port)
    with us.request(), ThreadPoolExecutor(2) as pool:
        pair.link.cut()
        primary.set("both", "text")
        futures = [pool.submit(client.get, "both") for client in (replica, other)]
        eventually(lambda: us.us.held == 2)
        pair.link.heal()
        assert [future.result() for future in futures] == ["text", "text"]
        pair.questions_at_replica()
        assert replica.get("both") == other.get("both") == "text"
        assert pair.questions_at_replica() == 0  # both connections know their node by themselves
    assert us.verdicts() == {"waited": 2, "protected": 2}


async def test_synchronous_and_asyncio_reads_are_held_together(
    start: Start, pair: Replicated, sync: Clients, aio: Clients
) -> None:
    us = start()
    primary = sync.to(pair.primary.port)
    slow, quick = sync.to(pair.replica.port), aio.to(pair.replica.port)
    with us.request():
        pair.link.cut()
        primary.set("mixed", "text")
        reads = [asyncio.to_thread(slow.get, "mixed"), quick.get("mixed")]
        reading = asyncio.gather(*reads)
        await held(us, 2)
        pair.link.heal()
        assert await reading == ["text", "text"]
    assert us.verdicts() == {"waited": 2}


async def test_a_bulkhead_of_half_the_pool_lets_the_others_pass(
    start: Start, pair: Replicated, aio: Clients
) -> None:
    us = start()
    primary = aio.to(pair.primary.port)
    replica = aio.to(pair.replica.port, max_connections=4)
    with us.request():
        pair.link.cut()
        await primary.set("narrow", "text")
        reading = [asyncio.create_task(replica.get("narrow")) for _ in range(2)]
        await held(us, 2)
        assert await replica.get("narrow") is None
        pair.link.heal()
        assert await asyncio.gather(*reading) == ["text", "text"]
    assert us.verdicts() == {"waited": 2, "unprotected{bulkhead}": 1}


async def test_a_cancelled_read_leaves_its_connection_and_its_place_in_order(
    start: Start, pair: Replicated, aio: Clients
) -> None:
    us = start()
    primary = aio.to(pair.primary.port)
    replica = aio.to(pair.replica.port)
    with us.request():
        pair.link.cut()
        await primary.set("cancelled", "text")
        first, second = (asyncio.create_task(replica.get("cancelled")) for _ in range(2))
        await held(us, 2)
        first.cancel()  # the one that leads
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await replica.get("cancelled")
        assert us.us.held == 1
        pair.link.heal()
        assert await second == "text"  # the lead was handed over
        assert await replica.get("cancelled") == "text"
        assert await replica.ping() is True
    assert us.us.held == 0
    assert us.verdicts()["waited"] == 1


async def test_a_write_cancelled_before_its_answer_is_unknown(
    start: Start, pair: Replicated, aio: Clients
) -> None:
    us = start()
    primary, replica = aio.to(pair.primary.port), aio.to(pair.replica.port)
    with us.request() as cell:
        await primary.set("known", "1")
        (store,) = cell.positions
        pair.primary.ask("CLIENT", "PAUSE", "10000", "WRITE")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await primary.set("cancelled", "1")
        pair.primary.ask("CLIENT", "UNPAUSE")
        assert cell.unknown == {store: True}
        await replica.get("cancelled")
    assert us.verdicts() == {"unprotected{unknown_write}": 1}


async def test_knowledge_gained_in_tasks_threads_and_executors_reaches_the_request(
    start: Start, pair: Replicated, sync: Clients, aio: Clients
) -> None:
    us = start()
    primary, quick = sync.to(pair.primary.port), aio.to(pair.primary.port)
    replica = aio.to(pair.replica.port)
    loop = asyncio.get_running_loop()

    class Subclass(threading.Thread):
        def run(self) -> None:
            primary.set("subclass", "1")

    async def child(key: str) -> None:
        await quick.set(key, "1")

    def thread(of: threading.Thread) -> None:
        of.start()
        of.join()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its worker was started outside of any request
        ways: dict[str, Any] = {
            "gather": lambda: asyncio.gather(child("gather")),
            "wait_for": lambda: asyncio.wait_for(child("wait_for"), 5),
            "create_task": lambda: asyncio.create_task(child("create_task")),
            "run_in_executor": lambda: loop.run_in_executor(
                None, primary.set, "run_in_executor", "1"
            ),
            "to_thread": lambda: asyncio.to_thread(primary.set, "to_thread", "1"),
            "pool": lambda: asyncio.wrap_future(pool.submit(primary.set, "pool", "1")),
        }
        for key, way in ways.items():
            with us.request() as cell:
                await way()
                assert cell.positions, key
                assert await replica.get(key) == "1", key
        threads = {
            "thread": threading.Thread(target=primary.set, args=("thread", "1")),
            "timer": threading.Timer(0, primary.set, ("timer", "1")),
            "subclass": Subclass(),
        }
        for key, one in threads.items():
            with us.request() as cell:
                thread(one)
                assert cell.positions, key
                assert await replica.get(key) == "1", key
    assert sum(us.verdicts().values()) == len(ways) + len(threads)
    assert us.verdicts().keys() <= {"waited", "protected"}
    assert us.counted("unattributed") == 0


async def test_a_pool_thread_that_a_request_starts_does_not_work_for_it_for_ever(
    start: Start, pair: Replicated, sync: Clients
) -> None:
    us = start()
    primary = sync.to(pair.primary.port)
    with ThreadPoolExecutor(1) as pool:
        with us.request() as first:
            pool.submit(int).result()
        with us.request() as second:
            pool.submit(primary.set, "second", "1").result()
            assert second.positions and not first.positions
        pool.submit(primary.set, "nobody", "1").result()
    assert us.counted("unattributed") == 1
