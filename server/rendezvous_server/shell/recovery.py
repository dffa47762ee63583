"""From a log to a core, and snapshots, so that this is quick."""

import asyncio
import io
import pickle
import struct
import time
from typing import Any

from google.protobuf.message import DecodeError

from rendezvous_server.core import Core
from rendezvous_server.core.snapshot import parts, restore
from rendezvous_server.limits import SNAPSHOT_RECORDS
from rendezvous_server.shell.logs import Log
from rendezvous_server.shell.records import entry_of

_SPOILT = (
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    EOFError,
    struct.error,
    DecodeError,
    pickle.UnpicklingError,
)
"""What reading bytes that this version did not write may raise."""


class _PlainUnpickler(pickle.Unpickler):
    """Snapshots hold plain values only: anything else in the file is not ours."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise ValueError(f"a snapshot does not hold {module_name}.{global_name}")


class Unreadable(Exception):
    """The log holds what this version did not write, or what the disk has spoilt."""


def recover(log: Log) -> Core:
    """The core as the log's snapshot and records left it. Raises :class:`Unreadable`."""
    core = Core(log.id)
    index, snapshot = log.snapshot()
    try:
        restore(core, (_PlainUnpickler(io.BytesIO(part)).load() for part in snapshot))
        for at, record in log.read(index):
            core.apply(at, entry_of(record))
    except _SPOILT as exc:
        raise Unreadable(f"after index {core.index}: {exc}") from exc
    core.recovered(time.time())
    return core


async def keep_snapshots(core: Core, log: Log, interval_s: float = 1.0) -> None:
    """Whenever ``limits.SNAPSHOT_RECORDS`` have been applied since the last one, take a snapshot,
    one small part at a time. Runs until cancelled; a snapshot cut short is not valid. A log that
    is not durable needs none."""
    if not log.durable:
        await asyncio.Event().wait()
    last = log.snapshot()[0]
    while True:
        await asyncio.sleep(interval_s)
        if core.index - last < SNAPSHOT_RECORDS:
            continue
        index = core.index
        for part in parts(core):
            await log.keep_snapshot_part(index, pickle.dumps(part, pickle.HIGHEST_PROTOCOL))
        await log.finish_snapshot(index)
        last = index
