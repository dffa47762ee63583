"""What the context's codec and the cell cost: p50 and p99 in microseconds per operation.

Run ``python bench/codec.py [--rounds N]``. Each sample is the mean of a small batch, so that the
clock's own cost does not count; the operations are interleaved, so that a busy machine slows all.
"""

import argparse
import os
from collections.abc import Callable
from time import perf_counter_ns

from rendezvous_api import codec
from rendezvous_api.cell import Cell
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Event, Write, decode, encode
from rendezvous_api.ids import (
    Bid,
    Incarnation,
    LogId,
    Origin,
    StoreKey,
    origin_of,
    rid_from_bytes,
    short_epoch,
    word,
)

BATCH = 50
RID = rid_from_bytes(bytes(range(16)))
BRANCH = Bid(0x9E3779B97F4A7C15)
STORE = StoreKey("r" + short_epoch("a Redis replication id"))
NO_ACKS: dict[Origin, tuple[int, dict[LogId, int]]] = {}


def typical() -> Cell:
    """A request that wrote once: one position, one origin entry, a time."""
    cell = Cell(RID)
    cell.wrote(STORE, 123_456_789)
    cell.saw_event(origin_of(Incarnation(word(0xFEDCBA9876543210)), cell.lane), 4711, 1_790_000_000)
    return cell


def crowded() -> Cell:
    """A request whose context does not fit: forty positions, links, logs."""
    cell = typical()
    for number in range(40):
        cell.wrote(StoreKey("r" + short_epoch(str(number))), number << 32)
    for number in range(4):
        cell.merge(
            Context(rid_from_bytes(os.urandom(16)), logs={LogId(word(number)): number << 20})
        )
    return cell


def operations() -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    sender, receiver, full = typical(), typical(), crowded()
    context = sender.cut(BRANCH, (), NO_ACKS)
    text = codec.encode(context)
    long_text = codec.encode(full.cut(BRANCH, (0, 1), NO_ACKS))
    acks = {origin: (1, {LogId(word(1)): 7}) for origin in sender.origins}
    event = Event(sender.lane, 4711, RID, BRANCH, Write(STORE, 123_456_789))
    raw = encode(event)
    return {
        "send: encode(cell.cut())": lambda: codec.encode(sender.cut(BRANCH, (), acks)),
        "send, continues": lambda: codec.encode(sender.cut(BRANCH, (), acks, Flags.CONTINUES)),
        "send, does not fit": lambda: codec.encode(full.cut(BRANCH, (0, 1), acks)),
        "receive: merge(decode())": lambda: receiver.merge(codec.decode(text)),
        "receive, 512 bytes": lambda: receiver.merge(codec.decode(long_text)),
        "  cell.cut": lambda: sender.cut(BRANCH, (), acks),
        "  encode": lambda: codec.encode(context),
        "  decode": lambda: codec.decode(text),
        "  cell.merge": lambda: receiver.merge(context),
        "new cell": lambda: Cell(RID),
        "event.encode": lambda: encode(event),
        "event.decode": lambda: decode(raw),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="samples per operation")
    rounds: int = parser.parse_args().rounds
    table = operations()
    samples: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, operation in table.items():
            begin = perf_counter_ns()
            for _ in range(BATCH):
                operation()
            samples[name].append((perf_counter_ns() - begin) / BATCH / 1000)
    print(f"{'µs per operation':28} {'p50':>7} {'p99':>7}   load {os.getloadavg()[0]:.1f}")
    for name, values in samples.items():
        values.sort()
        print(f"{name:28} {values[rounds // 2]:7.2f} {values[rounds * 99 // 100]:7.2f}")


if __name__ == "__main__":
    main()
