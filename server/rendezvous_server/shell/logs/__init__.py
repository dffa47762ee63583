"""Log engines behind one small interface."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from rendezvous_api.ids import LogId


class Log(Protocol):
    """An append-only sequence of records, indexed 1, 2, 3 …, and snapshots of what they led to.

    One caller at a time appends. ``durable``: whether records survive the process.
    """

    id: LogId
    durable: bool

    async def append(self, records: Sequence[bytes]) -> int:
        """Append, and return the index of the last once all are durable."""
        ...

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The records with a higher index than ``after``, in order. Blocks: for the start only."""
        ...

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """The newest whole snapshot: the index that it stands for (0: none) and its parts."""
        ...

    async def keep_snapshot_part(self, index: int, part: bytes) -> None:
        """Store one more part of the snapshot for ``index``, not valid yet."""
        ...

    async def finish_snapshot(self, index: int) -> None:
        """The snapshot for ``index`` is whole: drop older ones, and records up to ``index``."""
        ...

    async def close(self) -> None:
        """Wait for what is under way and release the storage."""
        ...
