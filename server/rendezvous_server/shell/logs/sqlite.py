"""The embedded durable log: one SQLite file, WAL, synchronous=FULL, one row per record.

All statements run on one thread of its own, so that the event loop never waits for the disk; the
records of one call are one transaction (group commit). An acknowledged record survives a crash of
process or machine, not the loss of the disk.
"""

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rendezvous_api.errors import BadConfig
from rendezvous_api.ids import LogId, word

_FORMAT = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (position INTEGER PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    snapshot INTEGER NOT NULL, number INTEGER NOT NULL, part BLOB NOT NULL,
    PRIMARY KEY (snapshot, number)
);
"""
T = TypeVar("T")


class SqliteLog:
    """One file. Two servers cannot share it: the second is told so."""

    durable = True

    def __init__(self, path: str) -> None:
        """Open or create. Raises :class:`BadConfig`."""
        self._path = path
        self._thread = ThreadPoolExecutor(1, "sqlite-log")
        try:
            self.id, self._index = self._thread.submit(self._open).result()
        except sqlite3.Error as exc:
            self._thread.shutdown()
            wanted = "a file for the sqlite log that no other server uses"
            raise BadConfig("--path", path, f"{wanted} ({exc})") from exc
        except BadConfig:
            self._thread.shutdown()
            raise
        self._parts = 0

    def _open(self) -> tuple[LogId, int]:
        self._database = db = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
        try:
            db.execute("PRAGMA locking_mode=EXCLUSIVE")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";"):
                db.execute(statement)
            meta: dict[str, str] = dict(db.execute("SELECT name, value FROM meta"))
            if not meta:
                meta = {"format": _FORMAT, "id": word(secrets.randbits(64)), "snapshot": "0"}
                db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            if meta.get("format") != _FORMAT:
                raise BadConfig("--path", self._path, f"a log of format {_FORMAT}")
            snapshot = int(meta["snapshot"])
            db.execute("DELETE FROM parts WHERE snapshot <> ?", (snapshot,))
            db.execute("COMMIT")
            (last,) = db.execute("SELECT max(position) FROM records").fetchone()
        except BaseException:
            db.close()
            raise
        return LogId(meta["id"]), max(last or 0, snapshot)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def append(self, records: Sequence[bytes]) -> int:
        """One transaction."""
        return await self._run(lambda: self._append(records))

    def _append(self, records: Sequence[bytes]) -> int:
        db, first = self._database, self._index + 1
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT INTO records VALUES (?, ?)", enumerate(records, first))
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._index += len(records)
        return self._index

    def read(self, after: int) -> Iterator[tuple[int, bytes]]:
        """The records with a higher index, in order, in pages."""
        while page := self._thread.submit(self._page, after).result():
            yield from page
            after = page[-1][0]

    def _page(self, after: int) -> list[tuple[int, bytes]]:
        return self._database.execute(
            "SELECT position, record FROM records WHERE position > ? ORDER BY position LIMIT 1000",
            (after,),
        ).fetchall()

    def snapshot(self) -> tuple[int, Iterator[bytes]]:
        """The newest whole snapshot."""
        (value,) = self._thread.submit(
            lambda: self._database.execute(
                "SELECT value FROM meta WHERE name = 'snapshot'"
            ).fetchone()
        ).result()
        return int(value), self._read_parts(int(value))

    def _read_parts(self, snapshot: int) -> Iterator[bytes]:
        number = 0
        while row := self._thread.submit(self._read_part, snapshot, number).result():
            yield row[0]
            number += 1

    def _read_part(self, snapshot: int, number: int) -> tuple[bytes] | None:
        found: tuple[bytes] | None = self._database.execute(
            "SELECT part FROM parts WHERE snapshot = ? AND number = ?", (snapshot, number)
        ).fetchone()
        return found

    async def keep_snapshot_part(self, index: int, part: bytes) -> None:
        """Not synced by itself: it counts only once the snapshot is whole."""
        number, self._parts = self._parts, self._parts + 1
        await self._run(
            lambda: self._database.execute(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?)", (index, number, part)
            )
        )

    async def finish_snapshot(self, index: int) -> None:
        """The snapshot becomes the valid one; what it stands for is deleted, bit by bit."""
        self._parts = 0
        await self._run(lambda: self._switch(index))
        while await self._run(lambda: self._trim(index)):
            pass

    def _switch(self, index: int) -> None:
        db = self._database
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE meta SET value = ? WHERE name = 'snapshot'", (str(index),))
        db.execute("DELETE FROM parts WHERE snapshot <> ?", (index,))
        db.execute("COMMIT")

    def _trim(self, index: int) -> bool:
        return bool(
            self._database.execute(
                "DELETE FROM records WHERE position IN "
                "(SELECT position FROM records WHERE position <= ? LIMIT 2000)",
                (index,),
            ).rowcount
        )

    async def close(self) -> None:
        """Close the file once all that was begun is done."""
        await self._run(self._database.close)
        self._thread.shutdown()
