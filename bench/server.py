"""How fast is the metadata server? Pre-encoded load through real streams of a real server process.

``python bench/server.py`` starts a server and prints a table; ``--target HOST:PORT`` drives a running
one instead (its CPU and memory are then not measured). Events are an open, a write and a close of a
new request each. CPU is that of all threads of the server process, from /proc.
"""

import argparse
import asyncio
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from rendezvous_api.event import Kind
from rendezvous_api.ids import rid_from_bytes
from rendezvous_api.limits import LANES
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc

_TICKS = os.sysconf("SC_CLK_TCK")
_CYCLE = (Kind.OPEN, Kind.WRITE, Kind.CLOSE)


@dataclass
class Table:
    """Rows of a name and a figure, printed as they come."""

    rows: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def add(self, name: str, value: str) -> None:
        """One more row."""
        self.rows.append((name, value))
        print(f"{name:<52} {value:>20}", flush=True)


class Process:
    """A server process started for the measurement."""

    def __init__(self, *flags: str) -> None:
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rendezvous_server", "--listen", "127.0.0.1:0", *flags],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit(f"the server did not start: {line!r}")
        self.address = line.split()[-1]
        self.start_s = time.perf_counter() - begun

    def cpu_s(self) -> float:
        """CPU seconds of all threads so far."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        values = text.rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / _TICKS

    def memory_mib(self) -> float:
        """Resident memory now."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and the exit code that promises."""
        self._process.terminate()
        if self._process.wait(30) != 0:
            raise SystemExit("the server did not end cleanly")


def batches(seed: int, events: int, events_per_batch: int) -> tuple[list[bytes], list[bytes]]:
    """Encoded ``FromSidecar`` batches of one incarnation, spread over all lanes, and their rids."""
    draw = random.Random(seed)
    incarnation = draw.getrandbits(64)
    seqs = [1] * LANES
    out: list[bytes] = []
    all_rids: list[bytes] = []
    names = ["", "r3rT9xYkQ0aM", "posts", "eu", "v1"]
    for number in range(events // events_per_batch):
        lanes: list[list[int]] = [[] for _ in range(LANES)]
        for at in range(events_per_batch):
            lanes[at // len(_CYCLE) % LANES].append(at)
        order = [at for lane in lanes for at in lane]
        rids = [draw.randbytes(16) for _ in range(-(-events_per_batch // len(_CYCLE)))]
        bids = [draw.getrandbits(64) for _ in rids]
        kinds = bytes(_CYCLE[at % len(_CYCLE)] for at in order)
        opens, writes, closes = (kinds.count(kind) for kind in _CYCLE)
        runs: list[pb.Run] = []
        for lane, events_of_lane in enumerate(lanes):
            if events_of_lane:
                count = len(events_of_lane)
                runs.append(
                    pb.Run(incarnation=incarnation, lane=lane, first=seqs[lane], count=count)
                )
                seqs[lane] += count
        batch = pb.Batch(
            number=number + 1,
            runs=runs,
            kinds=kinds,
            rids=b"".join(rids),
            requests=[at // len(_CYCLE) for at in order],
            bids=[bids[at // len(_CYCLE)] for at in order],
            names=names,
            open_works=b"\4" * opens,
            open_parents=[draw.getrandbits(64) for _ in range(opens)],
            open_zones=[0] * opens,
            open_services=[2] * opens,
            open_regions=[3] * opens,
            open_tags=[4] * opens,
            write_stores=[1] * writes,
            write_values=[draw.getrandbits(40) for _ in range(writes)],
            close_frontiers=[0] * closes,
            close_regions=[3] * closes,
        )
        out.append(pb.FromSidecar(batch=batch).SerializeToString())
        all_rids += rids
    return out, all_rids


class Stream:
    """One raw sidecar stream."""

    def __init__(self, channel: grpc.aio.Channel, sidecar: int) -> None:
        raw: Any = channel
        connect = raw.stream_stream("/rendezvous.v1.Sidecars/Connect")
        self._call: grpc.aio.StreamStreamCall[bytes, bytes] = connect()
        self._sidecar = sidecar
        self.ack_delays_s: list[float] = []

    async def open(self) -> None:
        """Say hello."""
        hello = pb.Hello(version=1, sidecar=self._sidecar, region="eu")
        await self._call.write(pb.FromSidecar(hello=hello).SerializeToString())
        await self._read()

    async def _read(self) -> pb.ToSidecar:
        raw = await self._call.read()
        if not isinstance(raw, bytes):
            raise SystemExit("the server ended the stream")
        message = pb.ToSidecar.FromString(raw)
        if message.WhichOneof("message") == "refused":
            raise SystemExit(f"refused: {message.refused.reason}")
        return message

    async def send(self, encoded: Sequence[bytes], window: int) -> None:
        """Send batches, at most ``window`` unacknowledged, until all are acknowledged."""
        room = asyncio.Semaphore(window)
        sent: list[float] = []

        async def write() -> None:
            for raw in encoded:
                await room.acquire()
                sent.append(time.perf_counter())
                await self._call.write(raw)

        writing = asyncio.create_task(write())
        for number in range(len(encoded)):
            await self._read()
            self.ack_delays_s.append(time.perf_counter() - sent[number])
            room.release()
        await writing

    async def ask(self, number: int, context: str) -> float:
        """Seconds that a question takes through the stream."""
        question = pb.Question(number=number, budget_ms=1000, context=context)
        begun = time.perf_counter()
        await self._call.write(pb.FromSidecar(question=question).SerializeToString())
        answer = (await self._read()).answer
        if answer.status != 0:
            raise SystemExit(f"question {number} ended with status {answer.status}")
        return time.perf_counter() - begun

    async def close(self) -> None:
        """End the stream."""
        await self._call.done_writing()
        while isinstance(await self._call.read(), bytes):
            pass


def percentiles(seconds: Sequence[float]) -> str:
    """p50 / p99 in milliseconds."""
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(int(len(ordered) * q), len(ordered) - 1)] for q in (0.5, 0.99))
    return f"{p50 * 1e3:.2f} / {p99 * 1e3:.2f} ms"


async def saturate(
    table: Table, process: Process | None, address: str, streams: int, events: int, size: int
) -> list[bytes]:
    """Events through ``streams`` streams at once. Returns the rids of the first."""
    loads = [batches(random.getrandbits(60), events // streams, size) for _ in range(streams)]
    name = f"{streams} stream{'s' * (streams > 1)}, {size} events a batch"
    async with grpc.aio.insecure_channel(address) as channel:
        opened = [Stream(channel, random.getrandbits(60)) for _ in loads]
        for stream in opened:
            await stream.open()
        cpu = process.cpu_s() if process else 0.0
        before = process.memory_mib() if process else 0.0
        begun = time.perf_counter()
        await asyncio.gather(
            *(
                stream.send(encoded, 8 if streams == 1 else 1)
                for stream, (encoded, _) in zip(opened, loads, strict=True)
            )
        )
        wall = time.perf_counter() - begun
        sent = sum(len(encoded) for encoded, _ in loads) * size
        table.add(f"{name}: events/s (wall)", f"{sent / wall:,.0f}")
        if process:
            used = process.cpu_s() - cpu
            table.add(f"{name}: events/s of server CPU", f"{sent / used:,.0f}")
            table.add(f"{name}: server CPU per event", f"{used / sent * 1e6:.2f} µs")
            requests = sum(len(rids) for _, rids in loads)
            grown = (process.memory_mib() - before) * 1024 * 1024 / requests
            table.add(f"{name}: memory per closed request", f"{grown:,.0f} B")
        delays = [delay for stream in opened for delay in stream.ack_delays_s]
        table.add(f"{name}: ack delay p50 / p99", percentiles(delays))
        for stream in opened:
            await stream.close()
    return loads[0][1]


async def resolve(table: Table, address: str, rids: Sequence[bytes], calls: int) -> None:
    """Questions that can be answered at once: through a stream, and as unary calls."""
    texts = [f"1.{rid_from_bytes(rid)}" for rid in rids]
    async with grpc.aio.insecure_channel(address) as channel:
        stream = Stream(channel, random.getrandbits(60))
        await stream.open()
        times = [await stream.ask(at + 1, texts[at % len(texts)]) for at in range(calls)]
        table.add("resolve through a stream, one at a time p50 / p99", percentiles(times))
        await stream.close()
        stub = rpc.QueriesStub(channel)

        async def call(at: int) -> float:
            begun = time.perf_counter()
            await stub.Resolve(
                pb.Question(number=1, budget_ms=1000, context=texts[at % len(texts)])
            )
            return time.perf_counter() - begun

        alone = [await call(at) for at in range(calls)]
        table.add("unary Resolve, one at a time p50 / p99", percentiles(alone))

        async def caller(number: int) -> list[float]:
            return [await call(number * calls + at) for at in range(calls // 16)]

        begun = time.perf_counter()
        rounds = await asyncio.gather(*(caller(number) for number in range(16)))
        done = sum(map(len, rounds))
        table.add(
            "unary Resolve, 16 at a time: calls/s", f"{done / (time.perf_counter() - begun):,.0f}"
        )


def disk_mib(folder: str) -> float:
    """Size of the files in a folder."""
    return sum(path.stat().st_size for path in Path(folder).iterdir()) / 1024 / 1024


async def restart(table: Table, events: int) -> None:
    """kill -9 of a server with a full sqlite log, and the start after it."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--log", "sqlite", "--path", str(Path(folder) / "log.db"))
        process = Process(*flags)
        async with grpc.aio.insecure_channel(process.address) as channel:
            stream = Stream(channel, 1)
            await stream.open()
            encoded, _ = batches(7, events, 50)
            begun = time.perf_counter()
            await stream.send(encoded, 64)
            table.add(
                f"sqlite: events/s (wall), {events:,} in batches of 50",
                f"{events / (time.perf_counter() - begun):,.0f}",
            )
            process.kill()
        size = disk_mib(folder)
        again = Process(*flags)
        async with grpc.aio.insecure_channel(again.address) as channel:
            status = await rpc.QueriesStub(channel).Status(pb.StatusRequest())
        table.add(
            f"sqlite: restart after {events:,} events in batches of 50", f"{again.start_s:.2f} s"
        )
        table.add("sqlite: requests recovered", f"{status.requests:,}")
        table.add("sqlite: log on disk", f"{size:,.0f} MiB")
        again.stop()


async def run(options: argparse.Namespace) -> None:
    """All measurements, in order."""
    table = Table()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, "
          f"Python {platform.python_version()}, grpcio {grpc.__version__}, log {options.log}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        process: Process | None = None
        address: str = options.target
        if not address:
            path = ("--path", str(Path(folder) / "log.db")) if options.log == "sqlite" else ()
            process = Process("--log", options.log, *path)
            address = process.address
        await saturate(table, process, address, 1, options.events // 10, 1000)  # warms up
        table.rows.clear()
        print("- warm -")
        rids = await saturate(table, process, address, 1, options.events, 1000)
        await saturate(table, process, address, 1, options.events // 2, 50)
        await saturate(table, process, address, 100, options.events // 2, 50)
        await resolve(table, address, rids[-1000:], options.calls)
        if process:
            table.add("resident memory at the end", f"{process.memory_mib():.0f} MiB")
            process.stop()
    if not options.target and options.restart_events:
        await restart(table, options.restart_events)


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="", metavar="HOST:PORT", help="drive this server")
    parser.add_argument("--log", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--calls", type=int, default=2_000)
    parser.add_argument("--restart-events", type=int, default=1_000_000, help="0: leave it out")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
