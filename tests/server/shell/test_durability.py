"""What was acknowledged survives: the sqlite log, its snapshots, and kill -9 of a real server."""

import asyncio
import pickle
import random
import resource
import sqlite3
from pathlib import Path

import grpc
import grpc.aio
import pytest

from rendezvous_api.channel import Status
from rendezvous_api.codec import decode
from rendezvous_api.errors import BadConfig
from rendezvous_api.event import Open, Work, Write
from rendezvous_api.ids import ROOT_BID, StoreKey, rid_from_bytes, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc
from rendezvous_server.core import Batched, Core, Entry, Expired, Follows, Holed, Moved, StreamId
from rendezvous_server.core.keys import key_of
from rendezvous_server.core.view import joined_state
from rendezvous_server.shell import recovery
from rendezvous_server.shell.columns import columns
from rendezvous_server.shell.logs.sqlite import SqliteLog
from rendezvous_server.shell.records import entry_of, record_of, record_of_batch
from rendezvous_server.shell.recovery import Unreadable, keep_snapshots, recover
from rendezvous_testing.batches import Told, batch_of, message_of
from rendezvous_testing.server_process import ServerProcess, SidecarEnd

R = b"r" * 16
STORE = StoreKey("rSTORE")


def told(seq: int) -> Told:
    """Event ``seq`` of the test's process."""
    return R, seq, Write(STORE, seq)


@pytest.mark.parametrize(
    "entry",
    [
        Holed(1.5, ((key_of(2**64 - 1, 15), 2**62),)),
        Moved(1.5, 2**64 - 1),
        Follows(1.5, key_of(8, 1), key_of(9, 1), 7),
        Expired(1.5, ((R, 2**64 - 1), (bytes(range(16)), 1))),
    ],
)
def test_a_record_says_its_entry(entry: Holed | Moved | Follows | Expired) -> None:
    assert entry_of(record_of(entry)) == entry


def test_a_batchs_record_says_its_entry() -> None:
    message = message_of(batch_of(3, (5, 2, 1, [told(1), told(2)]), (6, 2, 1, [told(3)])))
    entry = Batched(1.5, columns(message.batch), frozenset({1}))
    record = record_of_batch(entry, message.SerializeToString())
    assert entry_of(record) == entry


def test_a_record_of_another_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a record"):
        entry_of(b'J["future",1]')


async def test_the_log_keeps_its_id_its_records_and_its_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = SqliteLog(path)
    assert await log.append([b"a", b"b"]) == 2
    assert await log.append([b"c"]) == 3
    await log.close()
    again = SqliteLog(path)
    assert again.id == log.id
    assert list(again.read(0)) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert list(again.read(2)) == [(3, b"c")]
    assert await again.append([b"d"]) == 4
    await again.close()
    other = SqliteLog(str(tmp_path / "other.db"))
    assert other.id != log.id
    await other.close()


async def test_a_snapshot_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = SqliteLog(path)
    await log.append([b"a", b"b", b"c"])
    await log.keep_snapshot_part(1, b"one")
    await log.keep_snapshot_part(1, b"two")
    await log.finish_snapshot(1)
    await log.keep_snapshot_part(3, b"cut short")
    await log.close()
    again = SqliteLog(path)
    index, parts = again.snapshot()
    assert (index, list(parts)) == (1, [b"one", b"two"])
    assert list(again.read(index)) == [(2, b"b"), (3, b"c")]
    await again.keep_snapshot_part(3, b"three")
    await again.finish_snapshot(3)
    await again.close()
    last = SqliteLog(path)
    index, parts = last.snapshot()
    assert (index, list(parts), list(last.read(0))) == (3, [b"three"], [])
    assert await last.append([b"d"]) == 4
    await last.close()


async def test_a_log_in_use_and_a_file_that_is_none_are_clear_errors(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    log = SqliteLog(str(path))
    await log.append([b"a"])
    with pytest.raises(BadConfig, match="no other server uses"):
        SqliteLog(str(path))
    await log.close()
    path.write_text("this is not a database, but long enough to be looked at " * 50)
    with pytest.raises(BadConfig, match="--path"):
        SqliteLog(str(path))
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as database:
        database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        database.execute("INSERT INTO meta VALUES ('format', '2'), ('snapshot', '0')")
    database.close()
    with pytest.raises(BadConfig, match="format"):
        SqliteLog(str(newer))


async def test_snapshots_are_taken_and_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "SNAPSHOT_RECORDS", 10)
    path = str(tmp_path / "log.db")
    log = SqliteLog(path)
    core = Core(log.id)
    core.connect(StreamId(1), 1, 1.0)

    async def send(first: int) -> None:
        batch = batch_of(1, (5, 2, first, [told(first), (R, first, Open(Work.RPC, ROOT_BID))]))
        entry: Entry | None = core.admit(StreamId(1), batch, 1.0).entry
        assert isinstance(entry, Batched)
        record = record_of_batch(entry, message_of(batch).SerializeToString())
        core.apply(await log.append([record]), entry)

    for number in range(12):
        await send(2 * number + 1)
    keeping = asyncio.create_task(keep_snapshots(core, log, interval_s=0.001))
    for _ in range(1000):
        if not list(log.read(0)):
            break
        await asyncio.sleep(0.005)
    keeping.cancel()
    assert log.snapshot()[0] == 12
    await send(25)
    await log.close()
    again = SqliteLog(path)
    recovered = recover(again)
    assert [index for index, _ in again.read(0)] == [13]
    assert joined_state(recovered) == joined_state(core)
    assert recovered.index == 13 and recovered.requests.open == core.requests.open
    await again.close()


async def test_a_snapshot_that_holds_more_than_plain_values_is_not_loaded(tmp_path: Path) -> None:
    log = SqliteLog(str(tmp_path / "log.db"))
    await log.append([b"a"])
    await log.keep_snapshot_part(1, pickle.dumps(Path("/")))
    await log.finish_snapshot(1)
    with pytest.raises(Unreadable, match="does not hold"):
        recover(log)
    await log.close()


async def test_a_log_that_cannot_be_read_is_a_clear_error(tmp_path: Path) -> None:
    path = str(tmp_path / "log.db")
    log = SqliteLog(path)
    await log.append([b"Bspoilt"])
    await log.close()
    with pytest.raises(AssertionError, match=r"--path.*a log that can be read"):
        ServerProcess("--log", "sqlite", "--path", path)


def test_a_log_that_fails_ends_the_server(tmp_path: Path) -> None:
    """Nothing is acknowledged that was not made durable; the supervisor starts it again."""
    path = tmp_path / "log.db"

    async def play(server: ServerProcess) -> None:
        async with grpc.aio.insecure_channel(server.address) as channel:
            sidecar = SidecarEnd(channel)
            await sidecar.hello()
            limit = resource.RLIMIT_FSIZE
            resource.prlimit(server.pid, limit, (200_000, 200_000))
            with pytest.raises((grpc.aio.AioRpcError, AssertionError)):
                for number in range(10_000):
                    first = 100 * number + 1
                    events = [told(seq) for seq in range(first, first + 100)]
                    await sidecar.send(message_of(batch_of(1, (5, 2, first, events))))
                    assert (await sidecar.read()).ack.index == number + 1

    with ServerProcess("--log", "sqlite", "--path", str(path)) as server:
        asyncio.run(play(server))
        code, err = server.wait()
    assert code == 1 and "rendezvous server: the log:" in err


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Several times: batches go out as fast as they can, the server is killed in the middle of it,
    a new one on the same file must cover every acknowledged seq and index, and take the rest."""
    flags = ("--log", "sqlite", "--path", str(tmp_path / "log.db"))
    draw = random.Random(5)
    acknowledged = index = 0
    log = ""
    for _ in range(3):
        with ServerProcess(*flags) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                if acknowledged:
                    text = f"1.{rid_from_bytes(R)}.s{word(5)}2~{acknowledged:x}.f{log}~{index:x}"
                    question = pb.Question(budget_ms=0, context=text)
                    answer = await rpc.QueriesStub(channel).Resolve(question)
                    assert answer.status == Status.ANSWERED
                    assert decode(answer.context).positions[STORE] >= acknowledged
                sidecar = SidecarEnd(channel)
                welcome = await sidecar.hello()
                assert log in ("", welcome.log)
                log = welcome.log
                first = acknowledged + 1

                async def send(sidecar: SidecarEnd = sidecar, first: int = first) -> None:
                    for number in range(10_000):
                        at = first + 10 * number
                        events = [told(seq) for seq in range(at, at + 10)]
                        await sidecar.send(message_of(batch_of(1, (5, 2, at, events))))

                sending = asyncio.create_task(send())
                for _ in range(draw.randrange(5, 40)):
                    ack = (await sidecar.read()).ack
                    assert ack.log == log and ack.index > index
                    acknowledged, index = ack.seqs[0], ack.index
                server.kill()
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
    assert acknowledged > 100
