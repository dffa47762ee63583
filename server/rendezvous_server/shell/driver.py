"""The one place that takes entries through the ordering law: persist, apply, send.

Everybody hands records to :meth:`Driver.submit`; one task appends them in groups, applies them in
slices and passes on what the core returns. While one group becomes durable the one before it is
applied.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rendezvous_server.core import (
    Admission,
    Batch,
    Batched,
    Core,
    Effects,
    Entry,
    Follows,
    Send,
    StreamId,
)
from rendezvous_server.core.keys import key_of, parts_of
from rendezvous_server.limits import GROUP_RECORDS_MAX, PENDING_BYTES_MAX, SLICE_S, TICK_S
from rendezvous_server.shell.logs import Log
from rendezvous_server.shell.records import record_of, record_of_batch


class _Pending(NamedTuple):
    entry: Entry
    record: bytes
    stream: StreamId | None


class Driver:
    """Drives one core by one log. ``perform`` sends what the core wants sent; it must not block."""

    def __init__(self, core: Core, log: Log, perform: Callable[[Send], None]) -> None:
        self.core = core
        self._log = log
        self._perform = perform
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._give_way_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin. The task returned ends only with :meth:`close` or when the log fails."""
        self._task = asyncio.create_task(self._run())
        self._tick()
        return self._task

    async def close(self) -> None:
        """Take everything submitted through, then stop."""
        self._closing = True
        self._work.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def room(self) -> None:
        """Wait until there is room for more."""
        await self._room.wait()

    # --- in -------------------------------------------------------------------------

    def admit(self, stream: StreamId, batch: Batch, received: bytes) -> None:
        """Take a sidecar's batch; raises what ``Core.admit`` raises."""
        now = time.time()
        self._take(self.core.admit(stream, batch, now), received, stream, now)

    def _take(self, admission: Admission, received: bytes, stream: StreamId, now: float) -> None:
        self._append(admission.holes)
        for lack in admission.lacks:
            lane = parts_of(lack.origin)[1]
            successor = key_of(secrets.randbits(64), lane)
            self._append([Follows(now, successor, lack.origin, lack.after)])
        if admission.entry is not None:
            self._append([admission.entry], received, stream)
        for send in admission.send:
            self._perform(send)

    def perform(self, effects: Effects) -> None:
        """Append and send what a call of the core returned."""
        self._append(effects.append)
        for send in effects.send:
            self._perform(send)
        self._reset_timer()

    def _append(
        self, entries: Iterable[Entry], received: bytes = b"", stream: StreamId | None = None
    ) -> None:
        for entry in entries:
            if isinstance(entry, Batched):
                record = record_of_batch(entry, received)
            else:
                record = record_of(entry)
            self._pending.append(_Pending(entry, record, stream))
            self._pending_bytes += len(record)
        if self._pending:
            self._work.set()
        if self._pending_bytes > PENDING_BYTES_MAX:
            self._room.clear()

    # --- through --------------------------------------------------------------------

    async def _run(self) -> None:
        durable: list[_Pending] = []
        first = 0
        while True:
            group = self._next_group()
            if not group and not durable:
                if self._closing:
                    return
                await self._work.wait()
                continue
            appending = None
            if group:
                appending = asyncio.create_task(self._append_to_log(group))
            for offset, each in enumerate(durable):
                await self._apply(first + offset, each)
            durable = group
            if appending is not None:
                first = await appending - len(group) + 1

    async def _append_to_log(self, group: list[_Pending]) -> int:
        return await self._log.append([each.record for each in group])

    def _next_group(self) -> list[_Pending]:
        self._work.clear()
        group: list[_Pending] = []
        while self._pending and len(group) < GROUP_RECORDS_MAX:
            each = self._pending.popleft()
            self._pending_bytes -= len(each.record)
            group.append(each)
        if self._pending_bytes <= PENDING_BYTES_MAX:
            self._room.set()
        return group

    async def _apply(self, index: int, pending: _Pending) -> None:
        """Apply one entry, giving way whenever half a millisecond is used up."""
        applying = self.core.applying(index, pending.entry, pending.stream)
        while True:
            if time.perf_counter() >= self._give_way_at:
                await asyncio.sleep(0)
                self._give_way_at = time.perf_counter() + SLICE_S
            try:
                next(applying)
            except StopIteration as end:
                self.perform(end.value)
                return

    # --- time -----------------------------------------------------------------------

    def _tick(self) -> None:
        if self._closing:
            return
        self._timer = None
        self.perform(self.core.tick(time.time()))
        self._reset_timer()

    def _reset_timer(self) -> None:
        """Tick again when the core's next deadline is there, or after ``TICK_S``."""
        if self._closing:
            return
        loop = asyncio.get_running_loop()
        due = self.core.next_tick
        wait = TICK_S if due is None else min(max(due - time.time(), 0.001), TICK_S)
        when = loop.time() + wait
        if self._timer is not None:
            if self._timer.when() <= when + 0.0005:
                return
            self._timer.cancel()
        self._timer = loop.call_at(when, self._tick)
