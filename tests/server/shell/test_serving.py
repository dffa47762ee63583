"""A real server process, spoken to over gRPC."""

import asyncio
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rendezvous_api.channel import Status
from rendezvous_api.codec import decode
from rendezvous_api.event import Close, Fail, Lineage, Open, Work, Write
from rendezvous_api.ids import ROOT_BID, StoreKey, rid_from_bytes, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc
from rendezvous_server.core.keys import NO_RID
from rendezvous_testing.batches import Told, ToldRun, batch_of, message_of
from rendezvous_testing.ports import free_port
from rendezvous_testing.server_process import ServerProcess, SidecarEnd, raw_stream

R = b"r" * 16
STORE = StoreKey("rSTORE")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess() as process:
        yield process


@pytest.fixture
async def channel(server: ServerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield channel


def question(number: int, fields: str, budget_ms: int = 5000) -> pb.FromSidecar:
    text = f"1.{rid_from_bytes(R)}{fields}"
    return pb.FromSidecar(question=pb.Question(number=number, budget_ms=budget_ms, context=text))


def batch(number: int, *runs: ToldRun) -> pb.FromSidecar:
    return message_of(batch_of(number, *runs))


def origin(incarnation: int, lane: int) -> str:
    return f"{word(incarnation)}{lane:x}"


async def status(channel: grpc.aio.Channel) -> pb.StatusReply:
    return await rpc.QueriesStub(channel).Status(pb.StatusRequest())


async def until_held(channel: grpc.aio.Channel, questions: int) -> None:
    for _ in range(1000):
        if (await status(channel)).questions_held == questions:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"never {questions} questions held")


async def test_a_stream_from_hello_to_answer(channel: grpc.aio.Channel) -> None:
    sidecar = SidecarEnd(channel)
    welcome = await sidecar.hello()
    assert welcome.version == 1 and len(welcome.log) == 11 and welcome.lease_ms == 10_000
    await sidecar.send(question(7, f".s{origin(5, 3)}~3.x{word(9)}"))
    opened = Open(Work.WRITE, ROOT_BID, "", "svc", "eu", "tag")
    told: list[Told] = [(R, 9, opened), (R, 9, Write(STORE, 41)), (R, 9, Close("", "eu"))]
    await sidecar.send(batch(1, (5, 3, 1, told)))
    ack, answer = sorted(
        [await sidecar.read(), await sidecar.read()], key=lambda m: m.WhichOneof("message") or ""
    )
    assert (ack.ack.log, ack.ack.index) == (welcome.log, 1)
    assert (list(ack.ack.incarnations), list(ack.ack.lanes), list(ack.ack.seqs)) == ([5], [3], [3])
    context = decode(answer.answer.context)
    assert (answer.answer.number, answer.answer.status) == (7, Status.ANSWERED)
    assert dict(context.positions) == {STORE: 41} and dict(context.logs) == {welcome.log: 1}
    shown = await rpc.QueriesStub(channel).Show(pb.ShowRequest(rid=rid_from_bytes(R)))
    assert shown.known and dict(shown.positions) == {STORE: 41}
    [branch] = shown.branches
    assert (branch.state, branch.work, branch.service) == ("closed", "write", "svc")
    now = await status(channel)
    assert (now.log, now.index, now.events, now.requests) == (welcome.log, 1, 3, 1)


async def test_a_successor_is_named_and_what_is_resent_under_it_is_applied(
    channel: grpc.aio.Channel,
) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(batch(1, (5, 3, 9, [(R, 1, Write(STORE, 1))])))
    named = (await sidecar.read()).successor
    assert (named.incarnation, named.lane, named.after) == (5, 3, 8) and named.successor
    await sidecar.send(batch(2, (named.successor, 3, 1, [(R, 1, Write(STORE, 1))])))
    assert list((await sidecar.read()).ack.incarnations) == [named.successor]
    await sidecar.send(question(1, f".s{origin(5, 3)}~9"))
    assert (await sidecar.read()).answer.status == Status.LOST_TAIL


async def test_an_ended_process_answers_who_waits_for_it(channel: grpc.aio.Channel) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(pb.FromSidecar(lease=pb.Lease(incarnations=[5])))
    await sidecar.send(question(1, f".s{origin(5, 3)}~1"))
    await sidecar.send(pb.FromSidecar(ended=pb.Ended(incarnation=5)))
    assert (await sidecar.read()).answer.status == Status.LOST_TAIL


async def test_a_question_times_out_and_a_cancelled_one_is_let_go_of(
    channel: grpc.aio.Channel,
) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(question(1, f".s{origin(5, 3)}~1", budget_ms=60_000))
    await sidecar.send(question(2, f".s{origin(5, 3)}~1", budget_ms=20))
    answer = (await sidecar.read()).answer
    assert (answer.number, answer.status) == (2, Status.TIMED_OUT)
    assert (await status(channel)).questions_held == 1
    await sidecar.send(pb.FromSidecar(cancel=pb.CancelQuestion(number=1)))
    await sidecar.send(question(3, ""))
    assert (await sidecar.read()).answer.number == 3
    assert (await status(channel)).questions_held == 0


async def test_a_unary_caller_that_goes_away_leaves_nothing_behind(
    channel: grpc.aio.Channel,
) -> None:
    call = rpc.QueriesStub(channel).Resolve(question(1, f".s{origin(5, 3)}~1", 60_000).question)
    await until_held(channel, 1)
    call.cancel()
    await until_held(channel, 0)


async def test_a_stream_that_breaks_takes_its_questions_along(channel: grpc.aio.Channel) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(question(1, f".s{origin(5, 3)}~1", 60_000))
    await until_held(channel, 1)
    sidecar.call.cancel()
    await until_held(channel, 0)


async def test_lineages_reach_all_streams(channel: grpc.aio.Channel) -> None:
    one, other = SidecarEnd(channel, 1), SidecarEnd(channel, 2)
    await one.hello()
    await other.hello()
    told = Lineage(STORE, StoreKey("rNEW"), 8)
    await one.send(batch(1, (5, 3, 1, [(NO_RID, 0, told)])))
    lineages = (await other.read()).lineages
    assert (list(lineages.olds), list(lineages.news), list(lineages.forks)) == (
        [STORE],
        ["rNEW"],
        [8],
    )
    late = SidecarEnd(channel, 3)
    await late.hello()
    assert list((await late.read()).lineages.forks) == [8]


async def test_a_bad_batch_is_refused_with_its_number_and_the_stream_lives_on(
    channel: grpc.aio.Channel,
) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    bad = pb.FromSidecar(batch=pb.Batch(number=77, kinds=b"\x01\x02"))
    await sidecar.send(bad)
    refused = (await sidecar.read()).refused
    assert refused.batch == 77 and "runs" in refused.reason
    await sidecar.send(batch(1, (5, 3, 1, [(R, 1, Fail())])))
    assert (await sidecar.read()).ack.index == 1
    await sidecar.send(batch(2, (5, 3, 1, [(R, 2, Fail())])))
    assert "two different events" in (await sidecar.read()).refused.reason


async def test_a_malformed_question_is_refused_and_ended(channel: grpc.aio.Channel) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(pb.FromSidecar(question=pb.Question(number=4, context="garbage")))
    assert "question 4" in (await sidecar.read()).refused.reason
    answer = (await sidecar.read()).answer
    assert (answer.number, answer.status) == (4, Status.UNREACHABLE)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await rpc.QueriesStub(channel).Resolve(pb.Question(context="garbage"))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError):
        await rpc.QueriesStub(channel).Show(pb.ShowRequest(rid="garbage"))


@pytest.mark.parametrize(
    "first", [b"\xff\xff\xff", b"", pb.FromSidecar(hello=pb.Hello(version=9)).SerializeToString()]
)
async def test_a_stream_that_does_not_begin_with_hello_is_turned_away(
    channel: grpc.aio.Channel, first: bytes
) -> None:
    call = raw_stream(channel)
    await call.write(first)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await status(channel)).events == 0


async def test_garbage_within_a_stream_is_refused_and_ends_it(channel: grpc.aio.Channel) -> None:
    call = raw_stream(channel)
    await call.write(pb.FromSidecar(hello=pb.Hello(version=1)).SerializeToString())
    await call.read()
    await call.write(b"\xff\xff\xff")
    refused: Any = await call.read()
    assert pb.ToSidecar.FromString(refused).refused.reason
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_oversized_message_ends_its_stream_only(channel: grpc.aio.Channel) -> None:
    sidecar = SidecarEnd(channel)
    await sidecar.hello()
    await sidecar.send(pb.FromSidecar(batch=pb.Batch(rids=bytes(5 * 1024 * 1024))))
    with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
        await sidecar.read()
    assert (await status(channel)).requests == 0


async def test_garbage_on_the_port_harms_nobody(
    server: ServerProcess, channel: grpc.aio.Channel
) -> None:
    host, _, port = server.address.rpartition(":")
    for garbage in (b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 50, b"", b"PRI * HTTP/2.0\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(garbage)
    sidecar = SidecarEnd(channel)
    assert (await sidecar.hello()).log


def almost_a_batch(columns: tuple[bytes, bytes, list[int], list[int]]) -> bytes:
    kinds, rids, requests, bids = columns
    message = pb.Batch(
        runs=[pb.Run(incarnation=1, lane=1, first=1, count=max(len(kinds), 1))],
        kinds=kinds,
        rids=rids,
        requests=requests,
        bids=bids,
    )
    return pb.FromSidecar(batch=message).SerializeToString()


def test_random_messages_never_bring_the_server_down() -> None:
    numbers = st.lists(st.integers(0, 3), max_size=3)
    columns = st.tuples(
        st.binary(max_size=3), st.sampled_from((b"", R, R + b"x")), numbers, numbers
    )
    message = st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=40).map(lambda raw: b"\x12" + bytes([len(raw)]) + raw),
        columns.map(almost_a_batch),
    )
    messages = st.lists(message, max_size=6)

    async def play(address: str, raw: list[bytes]) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            call = raw_stream(channel)
            await call.write(pb.FromSidecar(hello=pb.Hello(version=1)).SerializeToString())
            await call.read()
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it may end early
                for message in raw:
                    await call.write(message)
                await call.done_writing()
                while isinstance(await call.read(), bytes):
                    pass
            assert (await status(channel)).log

    with ServerProcess() as server:

        @given(messages)
        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def random(raw: list[bytes]) -> None:
            asyncio.run(play(server.address, raw))

        random()
        assert server.terminate() == (0, "")


async def test_sigterm_acknowledges_what_was_read_and_ends_cleanly() -> None:
    with ServerProcess() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            sidecar = SidecarEnd(channel)
            await sidecar.hello()
            await sidecar.send(batch(1, (5, 3, 1, [(R, 1, Fail())])))
            assert (await sidecar.read()).ack.index == 1
            assert await asyncio.to_thread(server.terminate) == (0, "")
            assert await sidecar.call.read() is grpc.aio.EOF


def test_metrics_and_health_over_http() -> None:
    port = free_port()
    with ServerProcess("--metrics-port", str(port), "--region", "eu"):
        base = f"http://127.0.0.1:{port}"

        def get(path: str) -> str:
            with urllib.request.urlopen(base + path, timeout=5) as reply:
                return str(reply.read().decode())

        assert get("/healthz") == "ok\n" and get("/readyz") == "ready\n"
        metrics = get("/metrics")
        assert 'region="eu"' in metrics
        assert "rendezvous_server_events_total 0.0" in metrics
        with pytest.raises(HTTPError) as missing:
            get("/nothing")
        missing.value.close()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(b"\x00" * 20_000)
        assert get("/healthz") == "ok\n"


async def test_grpc_health_and_reflection(channel: grpc.aio.Channel) -> None:
    untyped: Any = channel
    assert await untyped.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"  # serving
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    reflect = untyped.stream_stream(reflection)()
    await reflect.write(b"\x3a\x00")  # list the services
    assert b"rendezvous.v1.Sidecars" in await reflect.read()
    await reflect.done_writing()
    assert await reflect.read() is grpc.aio.EOF


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=r"--listen.*cannot listen there"):
            ServerProcess("--listen", f"127.0.0.1:{port}")
