"""Reads at a real replica, synchronous and asyncio: held until what the request wrote is visible."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from rendezvous_instrumentation.shell.current import Scope, live_cells
from rendezvous_instrumentation.shell.reads import BarrierTimeout
from rendezvous_testing.inside import Start
from rendezvous_testing.redis_clients import Clients, of
from rendezvous_testing.replicated import Replicated, replicated


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    with replicated(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


@pytest.fixture(params=["sync", "asyncio"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[Clients]:
    clients = Clients(request.param)
    yield clients
    await clients.close()


@pytest.fixture(autouse=True)
def level(pair: Replicated) -> Iterator[None]:
    pair.primary.ask("FLUSHALL")
    pair.wait_until_level()
    yield
    pair.link.heal()
    pair.wait_until_level()


# --- a dependent read ---------------------------------------------------------------------


async def test_a_dependent_read_waits_until_its_write_is_visible(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(primary.set("post", "text"))
        assert await of(replica.get("post")) == "text"
    assert us.verdicts() == {"waited": 1}


async def test_a_dependent_read_of_what_is_applied_is_protected(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request():
        await of(primary.set("applied", "text"))
        pair.wait_until_level()
        assert await of(replica.get("applied")) == "text"
        pair.questions_at_replica()
        assert await of(replica.get("applied")) == "text"
        assert pair.questions_at_replica() == 0  # within APPLIED_MEMORY nobody is asked again
    assert us.verdicts() == {"protected": 2}


async def test_own_writes_are_protected_at_the_primary_without_a_question(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)
    with us.request():
        await of(primary.set("own", "text"))
        assert await of(primary.get("own")) == "text"
    assert us.verdicts() == {"protected": 1}


async def test_a_read_in_a_request_that_wrote_nothing_gets_no_verdict(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    replica = clients.to(pair.replica.port)
    with us.request():
        pair.questions_at_replica()
        assert await of(replica.get("nothing")) is None
        assert pair.questions_at_replica() == 0
    assert us.verdicts() == {}


async def test_nothing_is_recorded_and_asked_where_there_is_no_request(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.questions_at_replica()
    await of(primary.set("outside", "text"))
    await of(replica.get("outside"))
    pipeline = replica.pipeline()
    pipeline.get("outside")
    await of(pipeline.execute())
    assert us.verdicts() == {} and not us.us.stats.counters
    assert us.us.outbox.size == 0
    assert pair.questions_at_replica() == 0


async def test_a_write_without_a_request_is_added_to_every_live_request(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell, pair.lagging(us):
        with us.scope(None):
            await of(primary.set("behind", "text"))
        assert cell.positions
        assert await of(replica.get("behind")) == "text"
    assert us.counted("unattributed") == 1
    assert us.verdicts() == {"waited": 1}


@pytest.mark.parametrize("options", [{"protocol": 3}, {"decode_responses": False}, {"db": 3}])
async def test_a_dependent_read_waits_whatever_the_connection_speaks(
    start: Start, pair: Replicated, clients: Clients, options: dict[str, Any]
) -> None:
    us = start()
    primary = clients.to(pair.primary.port, **options)
    replica = clients.to(pair.replica.port, **options)
    with us.request(), pair.lagging(us):
        await of(primary.hset("h", mapping={"field": "väl"}))
        plain = options.get("decode_responses", True)
        expected = {"field": "väl"} if plain else {b"field": "väl".encode()}
        assert await of(replica.hgetall("h")) == expected
    assert us.verdicts() == {"waited": 1}


async def test_valkeys_own_client_waits_too(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port, valkey=True)
    replica = clients.to(pair.replica.port, valkey=True)
    with us.request(), pair.lagging(us):
        await of(primary.set("valkey", "text"))
        assert await of(replica.get("valkey")) == "text"
    with us.request(), pair.lagging(us):
        pipeline = primary.pipeline()
        pipeline.incr("valkey:count")
        assert await of(pipeline.execute()) == [1]
        assert await of(replica.get("valkey:count")) == "1"
    assert us.verdicts() == {"waited": 2}


async def test_single_connection_clients_and_blocking_pools_wait_too(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port, single_connection_client=True)
    replica = clients.to(pair.replica.port, single_connection_client=True)
    for text in ("text", "more"):
        with us.request(), pair.lagging(us):
            await of(primary.set("single", text))
            assert await of(replica.get("single")) == text
    assert us.verdicts() == {"waited": 2}


async def test_a_health_check_that_is_due_comes_before_the_question(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)
    replica = clients.to(pair.replica.port, health_check_interval=60)
    with us.request(), pair.lagging(us):
        await of(primary.set("health", "text"))
        assert await of(replica.get("health")) == "text"
        (connection,) = replica.connection_pool._available_connections
        connection.next_health_check = -1
        assert await of(replica.get("health")) == "text"
        assert connection.next_health_check > 0
    assert us.verdicts() == {"waited": 1, "protected": 1}


# --- pipelines, transactions, scripts -------------------------------------------------------


@pytest.mark.parametrize("transaction", [True, False])
async def test_pipelines_write_and_read(
    start: Start, pair: Replicated, clients: Clients, transaction: bool
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell, pair.lagging(us):
        writing = primary.pipeline(transaction=transaction)
        writing.set("p:1", "one")
        writing.incr("p:count")
        results = await of(writing.execute())
        assert results[0] is True and isinstance(results[1], int)
        head = int(pair.primary.replication()["master_repl_offset"])
        assert list(cell.positions.values()) == [head]  # of the whole of it, not of its inside
        reading = replica.pipeline(transaction=transaction)
        reading.get("p:1")
        reading.get("p:count")
        assert await of(reading.execute()) == ["one", str(results[1])]
    assert us.verdicts() == {"waited": 1}


async def test_a_pipeline_with_one_error_has_written_the_rest(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        pipeline = primary.pipeline(transaction=False)
        pipeline.set("half", "done")
        pipeline.lpush("half", "wrong type")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await of(pipeline.execute())
        assert await of(replica.get("half")) == "done"
    assert us.verdicts() == {"waited": 1}


async def test_multi_with_watch_reads_its_own_write_and_says_when_it_lost(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(primary.set("watched", "1"))
        async with _Pipeline(primary) as pipeline:
            await of(pipeline.watch("watched"))
            assert await of(pipeline.get("watched")) == "1"
            pipeline.multi()
            pipeline.set("watched", "2")
            assert await of(pipeline.execute()) == [True]
        assert await of(replica.get("watched")) == "2"
        async with _Pipeline(primary) as pipeline:
            await of(pipeline.watch("watched"))
            pair.primary.ask("SET", "watched", "3")
            pipeline.multi()
            pipeline.set("watched", "4")
            with pytest.raises(redis.WatchError):
                await of(pipeline.execute())
    assert us.verdicts() == {"protected": 1, "waited": 1}


class _Pipeline:
    """A pipeline that is reset at the end, in both worlds."""

    def __init__(self, client: Any) -> None:
        self._pipeline = client.pipeline()

    async def __aenter__(self) -> Any:
        return self._pipeline

    async def __aexit__(self, *error: object) -> None:
        await of(self._pipeline.reset())


async def test_a_transaction_begun_by_hand_has_the_results_it_has_without_us(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    client = clients.to(pair.primary.port, single_connection_client=True)
    replica = clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(client.set("before", "1"))
        assert await of(client.execute_command("MULTI"))
        await of(client.execute_command("SET", "by-hand", "1"))
        await of(client.execute_command("GET", "by-hand"))
        results = await of(client.execute_command("EXEC"))
        assert len(results) == 2 and results[1] == "1"
        assert await of(replica.get("by-hand")) == "1"
        assert await of(client.get("by-hand")) == "1"
    assert us.verdicts() == {"waited": 1, "protected": 2}


async def test_scripts_write_at_the_primary_and_read_at_the_replica(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(primary.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "s", "text"))
        assert await of(replica.eval("return redis.call('GET', KEYS[1])", 1, "s")) == "text"
        # A replica that takes no writes was not written to, whatever the script might have done.
        assert await of(replica.get("s")) == "text"
    assert us.verdicts() == {"waited": 1, "protected": 1}


async def test_a_script_that_fails_half_way_has_written(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        with pytest.raises(redis.ResponseError, match="stop here"):
            await of(
                primary.eval(
                    "redis.call('SET', KEYS[1], 'half'); return redis.error_reply('stop here')",
                    1,
                    "script:half",
                )
            )
        assert await of(replica.get("script:half")) == "half"
    assert us.verdicts() == {"waited": 1}


async def test_a_statement_that_is_both_read_and_write_is_carried_out_once(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)
    with us.request() as cell:
        await of(primary.set("taken", "value"))
        cell.positions = {store: value - 1 for store, value in cell.positions.items()}
        assert await of(primary.incr("n")) == 1
        assert await of(primary.getdel("taken")) == "value"
        assert await of(primary.set("n", "7", get=True)) == "1"
    assert pair.primary.ask("GET", "n") == "7"
    assert us.verdicts() == {"protected": 3}


async def test_a_both_statement_is_held_before_it_is_sent_at_all(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(primary.rpush("queue", "a"))
        with pytest.raises(redis.ReadOnlyError):
            await of(replica.lpop("queue"))  # refused after the wait; nothing was written
        assert await of(replica.lrange("queue", 0, -1)) == ["a"]
    assert us.verdicts() == {"waited": 1, "protected": 1}


async def test_a_stream_read_is_sent_once(start: Start, pair: Replicated, clients: Clients) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    before = _calls(pair, "xread")
    with us.request(), pair.lagging(us):
        await of(primary.xadd("stream", {"k": "v"}, id="*"))
        found = await of(replica.xread({"stream": "0"}))
        assert found
    assert _calls(pair, "xread") == before + 1
    assert us.verdicts() == {"waited": 1}


def _calls(pair: Replicated, command: str) -> int:
    text = pair.replica.ask("INFO", "commandstats")
    assert isinstance(text, str)
    for line in text.splitlines():
        if line.startswith(f"cmdstat_{command}:calls="):
            return int(line.partition("=")[2].partition(",")[0])
    return 0


# --- unknown is never nothing ----------------------------------------------------------------


async def test_an_error_reply_wrote_nothing(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)
    pair.primary.ask("SET", "text", "x")
    with us.request() as cell:
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await of(primary.lpush("text", "y"))
        assert not cell.positions and not cell.unknown
        replica = clients.to(pair.replica.port)
        with pytest.raises(redis.ReadOnlyError):
            await of(replica.set("text", "y"))
        assert not cell.positions and not cell.unknown
        assert await of(primary.get("text")) == "x"
    assert us.verdicts() == {}


async def test_an_error_in_the_clients_own_callback_comes_after_the_write(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)

    def broken(response: object, **options: object) -> object:
        raise ValueError("the application's own")

    primary.set_response_callback("HSET", broken)
    with us.request() as cell, pair.lagging(us):
        with pytest.raises(ValueError, match="the application's own"):
            await of(primary.hset("callback", "field", "value"))
        assert cell.positions
        assert await of(replica.hget("callback", "field")) == "value"
    assert us.verdicts() == {"waited": 1}


async def test_a_question_that_an_acl_forbids_is_forbidden_and_its_writes_are_unknown(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    for server in (pair.primary, pair.replica):
        server.ask("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info")
    login: dict[str, Any] = {"username": "app", "password": "secret"}
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    dumb_primary = clients.to(pair.primary.port, **login)
    dumb_replica = clients.to(pair.replica.port, **login)
    with us.request() as cell:
        await of(primary.set("acl", "1"))
        assert await of(dumb_replica.get("acl")) in (None, "1")
        await of(dumb_replica.get("acl"))  # not asked again, said again
        assert us.verdicts() == {"unprotected{forbidden}": 2}
        await of(dumb_primary.set("acl", "2"))
        assert cell.unknown == {"r": False}
        await of(replica.get("acl"))
    assert us.verdicts() == {"unprotected{forbidden}": 2, "unprotected{unknown_write}": 1}


async def test_a_write_that_is_not_answered_is_unknown(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port, socket_timeout=0.2, retry=clients.no_retry())
    other, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell:
        await of(primary.set("known", "1"))
        (store,) = cell.positions
        pair.primary.ask("CLIENT", "PAUSE", "400", "WRITE")
        with pytest.raises(redis.TimeoutError):
            await of(primary.set("unanswered", "1"))
        assert cell.unknown == {store: True}  # the store is known from the connection's last answer
        await of(replica.get("unanswered"))
        pair.primary.ask("CLIENT", "UNPAUSE")
        await of(other.set("later", "1"))
        await of(other.get("unanswered"))  # even a later head proves nothing of it
    assert us.verdicts() == {"unprotected{unknown_write}": 2}


# --- budgets ----------------------------------------------------------------------------------


async def test_a_used_up_budget_is_said_and_later_reads_of_the_request_do_not_wait_again(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(budget=0.1)
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.link.cut()
    with us.request() as cell:
        await of(primary.set("cut", "text"))
        assert await of(replica.get("cut")) is None
        waited_s = cell.waited_s
        assert waited_s > 0
        assert await of(replica.get("cut")) is None
        assert cell.waited_s == waited_s
        pair.link.heal()
        pair.wait_until_level()
        assert await of(replica.get("cut")) == "text"
    assert us.verdicts() == {"unprotected{budget}": 2, "protected": 1}


async def test_on_timeout_error_raises_what_no_driver_takes_for_its_own(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(budget=0.05, on_timeout="error")
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.link.cut()
    with us.request():
        await of(primary.set("cut", "text"))
        with pytest.raises(BarrierTimeout, match="RENDEZVOUS_BUDGET"):
            await of(replica.get("cut"))
        pair.link.heal()
        pair.wait_until_level()
        assert await of(replica.get("cut")) == "text"
    assert us.verdicts() == {"unprotected{budget}": 1, "protected": 1}  # and no retry in between


async def test_observe_never_waits_and_says_what_it_would_have_done(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(mode="observe")
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.link.cut()
    with us.request() as cell:
        await of(primary.set("observed", "text"))
        assert await of(replica.get("observed")) is None
        assert cell.waited_s == 0
        pair.link.heal()
        pair.wait_until_level()
        assert await of(replica.get("observed")) == "text"
    assert us.verdicts() == {"unprotected{observed}": 1, "protected": 1}
    assert us.counted("would_have_waited") == 1


async def test_a_full_bulkhead_lets_reads_pass(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(max_held=0)
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.link.cut()
    with us.request():
        await of(primary.set("full", "text"))
        assert await of(replica.get("full")) is None
    assert us.verdicts() == {"unprotected{bulkhead}": 1}


# --- the application is what it was without us -------------------------------------------------


async def test_results_and_errors_are_the_librarys_own(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        await of(primary.lpush("list", "x"))
        with pytest.raises(redis.ResponseError) as caught:
            await of(replica.get("list"))
        names = [entry.name for entry in caught.traceback]
        assert "read_response" in names  # the place where the library raised it
        assert str(caught.value).startswith("WRONGTYPE")
        assert caught.value.__context__ is None and caught.value.__cause__ is None
        assert await of(replica.lrange("list", 0, -1)) == ["x"]
    assert us.verdicts() == {"waited": 1, "protected": 1}


async def test_a_connection_that_the_server_closed_is_made_anew_by_the_library(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request():
        await of(primary.set("again", "text"))
        assert await of(replica.get("again")) == "text"
        pair.replica.ask("CLIENT", "KILL", "TYPE", "normal")
        assert await of(replica.get("again")) == "text"
    # What returned nothing, on the connection that broke, was no read and has no verdict.
    assert not any(verdict.startswith("unprotected") for verdict in us.verdicts())


async def test_a_read_whose_budget_the_callers_deadline_caps(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    pair.link.cut()
    with us.request() as cell:
        await of(primary.set("deadline", "text"))
        scope = Scope(cell)
        scope.deadline = time.monotonic() + 0.05
        with us.scope(scope):
            assert await of(replica.get("deadline")) is None
        assert cell.waited_s < us.us.config.budget_s
    assert us.verdicts() == {"unprotected{budget}": 1}


async def test_work_done_after_the_response_reads_as_a_branch_of_its_own(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request() as cell, pair.lagging(us):
        scope = Scope(cell)
        scope.over = True
        with us.scope(scope):
            await of(primary.set("background", "text"))
            assert await of(replica.get("background")) == "text"
        assert scope.zone == (0,) and cell.positions
    assert us.verdicts() == {"waited": 1}


async def test_with_track_reads_what_was_read_is_waited_for_too(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start(track_reads="1")
    primary, replica = clients.to(pair.primary.port), clients.to(pair.replica.port)
    with us.request(), pair.lagging(us):
        pair.primary.ask("SET", "others", "text")  # a write of nobody's request
        assert await of(primary.get("others")) == "text"
        assert await of(primary.pipeline(transaction=False).get("others").execute()) == ["text"]
        assert await of(replica.get("others")) == "text"
    assert us.verdicts()["waited"] == 1
    with us.request(), pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await of(primary.hget("others", "field"))
    with us.request():
        assert await of(primary.get("others")) == "text"  # replies are in step after the error


async def test_a_connection_opened_in_a_request_does_not_keep_the_request_alive(
    start: Start, pair: Replicated, clients: Clients
) -> None:
    us = start()
    primary = clients.to(pair.primary.port)

    async def request() -> None:
        with us.request():
            await of(primary.set("first", "opens the connection"))

    await asyncio.create_task(request())
    gc.collect()
    assert not live_cells()
