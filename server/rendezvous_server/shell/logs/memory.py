"""The log that forgets everything with its process. It keeps no records: nobody could read them."""

from collections.abc import Iterator, Sequence

from rendezvous_api.ids import LogId


class MemoryLog:
    """Only counts."""

    durable = False

    def __init__(self, id_: LogId) -> None:
        self.id = id_
        self._index = 0

    async def append(self, records: Sequence[bytes]) -> int:
        """Number the records."""
        self._index += len(records)
        return self._index

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Nothing: a new process begins a new log."""
        return iter(())

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """None, ever."""
        return 0, iter(())

    async def keep_snapshot_part(self, index: int, part: bytes) -> None:
        """Kept nowhere."""

    async def finish_snapshot(self, index: int) -> None:
        """Kept nowhere."""

    async def close(self) -> None:
        """Nothing to release."""
