"""redis-py and valkey-py on asyncio: commands, pipelines, transactions. The twin of ``redis_sync``:
only the awaits differ; every decision is in ``redis_driver`` and ``core``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from rendezvous_instrumentation.patches import redis_driver as driver
from rendezvous_instrumentation.patches.connections import opened_outside
from rendezvous_instrumentation.patches.redis_driver import Memory
from rendezvous_instrumentation.shell import reads, writes
from rendezvous_instrumentation.shell.current import SCOPE, anyone_lives
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap
from rendezvous_monitors.positions.redis import QUESTION_PACKED, Applied
from rendezvous_monitors.positions.redis_commands import Effect, effect

NEITHER, READ, WRITE, BOTH = Effect.NEITHER, Effect.READ, Effect.WRITE, Effect.BOTH


def apply(module: Any) -> None:
    """Patch ``redis.asyncio.client`` or ``valkey.asyncio.client``."""
    client = getattr(module, "Redis", None) or module.Valkey
    wrap(client, "_send_command_parse_response", _command)
    wrap(module.Pipeline, "_execute_transaction", _transaction)
    wrap(module.Pipeline, "_execute_pipeline", _plain_pipeline)
    connection = sys.modules.get(module.__name__.replace(".client", ".connection"))
    for name in ("Connection", "UnixDomainSocketConnection"):
        wrap(getattr(connection, name, None), "_connect", opened_outside)


class _Asking:
    """A connection that sends the question in the packet of the next command: before it (``first``)
    when a read is to be judged, after it when a write's position is wanted."""

    __slots__ = (
        "_connection",
        "_first",
        "answer",
        "asked",
        "marks",
        "memory",
        "read_response",
        "sent",
    )

    def __init__(self, connection: Any, *, first: bool) -> None:
        self._connection = connection
        self._first = first
        self.read_response = connection.read_response
        self.asked = False
        self.sent = False
        self.answer: object = None
        self.memory = driver.memory_of(connection)
        self.marks = writes.NO_MARKS

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def send_command(self, *args: Any, **kwargs: Any) -> None:
        # Callers may pass all options of the command; the driver heeds this one only.
        check_health = kwargs.get("check_health", True)
        await self._send(self._connection.pack_command(*args), check_health=check_health)

    async def send_packed_command(self, command: Any, **kwargs: Any) -> None:
        await self._send(driver.parts(command), **kwargs)

    async def _send(self, command: list[bytes], **kwargs: Any) -> None:
        connection = self._connection
        transport = driver.transport_of(connection)
        if transport is None:
            await connection.connect()
        if transport is not self.memory.transport or transport is None:
            self.memory = driver.memory_of(connection)
        self.marks = writes.marks()
        self.sent = True
        if self.asked or driver.prepares(command):
            await connection.send_packed_command(command, **kwargs)
            return
        self.asked = True
        await connection.send_packed_command(
            driver.with_question(command, first=self._first), **kwargs
        )
        if self._first:
            self.answer = await _read_answer(connection)


async def _read_answer(connection: Any) -> object:
    """The reply to the question; an error reply is an answer too."""
    try:
        size = driver.arrived(getattr(connection, "_reader", None))
        if size:
            return driver.text_of_bulk(await connection._reader.readexactly(size))
    except Exception:
        pass  # nothing was taken: the driver finds the same fault and says it in its own words
    try:
        return await connection.read_response(disable_decoding=True)
    except Exception as exc:
        if driver.transport_of(connection) is None:
            raise  # the connection broke: the library's own error, as without us
        return exc


class _Node:
    """The node behind one connection (``reads.AsyncNode``)."""

    __slots__ = ("_call", "_connection", "memory")

    def __init__(
        self, connection: Any, memory: Memory, call: Callable[[Any], Awaitable[Any]]
    ) -> None:
        self._connection = connection
        self.memory = memory
        self._call = call

    async def ask(self) -> Applied | None:
        connection = self._connection
        if driver.forbidden(self.memory):
            return None
        marks = writes.marks()
        try:
            await connection.send_packed_command([QUESTION_PACKED])
            raw = await _read_answer(connection)
        except Exception:
            return None
        self.memory = driver.memory_of(connection)
        return driver.answered(self.memory, raw, marks)

    async def ask_and_read(self) -> tuple[Applied | None, Callable[[], Any]]:
        if driver.forbidden(self.memory):
            return None, await _outcome(self._call, self._connection)
        asking = _Asking(self._connection, first=True)
        outcome = await _outcome(self._call, asking)
        broke = driver.transport_of(self._connection) is not asking.memory.transport
        if broke and asking.answer is None:
            raise reads.NoRead(outcome)
        self.memory = asking.memory
        return driver.answered(self.memory, asking.answer, asking.marks), outcome

    async def read(self) -> Any:
        return await self._call(self._connection)


async def _outcome(call: Callable[[Any], Awaitable[Any]], connection: Any) -> Callable[[], Any]:
    try:
        result = await call(connection)
    except Exception as exc:
        error = exc

        def fail() -> Any:
            raise error

        return fail
    return lambda: result


def _command(original: Any) -> Any:
    async def _send_command_parse_response(
        self: Any, conn: Any, command_name: Any, *args: Any, **options: Any
    ) -> Any:
        scope = SCOPE.get()
        if scope is None and not anyone_lives():
            return await original(self, conn, command_name, *args, **options)
        does = effect(args[0] if args else command_name, args[1:])
        # Members are compared, not masked: an operator of IntFlag takes half a microsecond.
        depends = does is not WRITE and scope is not None and driver.depends_here(scope)
        if does is NEITHER:
            driver.note_multi(conn, command_name)
        tracks = does is READ and scope is not None and driver.tracks_reads()
        if does is NEITHER or (does is READ and not depends and not tracks):
            return await original(self, conn, command_name, *args, **options)
        if does is READ and scope is not None and not tracks and driver.settled(scope, conn):
            return await original(self, conn, command_name, *args, **options)

        async def call(connection: Any) -> Any:
            return await original(self, connection, command_name, *args, **options)

        if driver.in_multi_by_hand(conn, command_name):
            if not driver.ends_multi(command_name):
                if depends:
                    driver.count_queued_read(process())
                return await call(conn)
            depends = False
        if depends and scope is not None:
            if driver.is_cache(conn):
                driver.count_cached_read(process())
            else:
                if driver.health_is_due(conn):  # here, since it may lead to another node
                    await conn.check_health()
                memory = driver.memory_of(conn)
                repeatable = driver.repeatable(command_name, does) and not tracks
                what = driver.read_of(self, conn, memory, repeatable=repeatable)
                carry_out = _tracked(call) if tracks else call
                if does is not READ:
                    carry_out = _writing(command_name, call)
                return await reads.read_async(scope, _Node(conn, memory, carry_out), what)
        if does is not READ:
            return await _writing(command_name, call)(conn)
        return await (_tracked(call) if tracks else call)(conn)

    return _send_command_parse_response


def _writing(command: object, call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Any]:
    """``call`` followed, in the same packet, by the question for its position."""

    async def carry_out(connection: Any) -> Any:
        asking = _Asking(connection, first=False)
        if driver.forbidden(asking.memory) or driver.is_cache(connection):
            return await _unplaced(connection, command, call)
        try:
            result = await call(asking)
        except Exception as exc:
            if asking.sent:
                await _after_error(connection, asking, command, exc)
            raise
        except BaseException:
            if asking.sent:
                driver.write_unanswered(asking.memory)
            raise
        await _place(connection, asking)
        return result

    return carry_out


async def _place(connection: Any, asking: _Asking) -> None:
    """The write was answered: read the position that follows it."""
    applied = None
    try:
        if not asking.asked:
            asking.marks = writes.marks()
            await connection.send_packed_command([QUESTION_PACKED])
        applied = driver.answered(asking.memory, await _read_answer(connection), asking.marks)
    except Exception:
        pass  # the write was done; what is unknown is its position
    finally:
        driver.place_write(asking.memory, applied)


async def _after_error(connection: Any, asking: _Asking, command: object, error: Exception) -> None:
    memory = asking.memory
    if driver.transport_of(connection) is not memory.transport:
        driver.write_unanswered(memory)
        return
    applied = None
    try:
        if asking.asked:
            applied = driver.answered(memory, await _read_answer(connection), asking.marks)
    except Exception:
        pass
    finally:
        if driver.may_have_written(command, error):
            driver.place_write(memory, applied)


def _tracked(call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """``call`` followed, in the same packet, by the question for what it may have seen (option
    ``track_reads``)."""

    async def carry_out(connection: Any) -> Any:
        asking = _Asking(connection, first=False)
        if driver.forbidden(asking.memory) or driver.is_cache(connection):
            return await call(connection)
        applied = None
        try:
            return await call(asking)
        finally:
            if asking.asked and driver.transport_of(connection) is asking.memory.transport:
                with suppress(Exception):  # the read was done; what it saw is then not known
                    raw = await _read_answer(connection)
                    applied = driver.answered(asking.memory, raw, asking.marks)
            driver.saw(applied)

    return carry_out


async def _unplaced(connection: Any, command: object, call: Callable[[Any], Awaitable[Any]]) -> Any:
    """A write whose position cannot be asked for."""
    memory = driver.memory_of(connection)
    try:
        result = await call(connection)
    except Exception as exc:
        if driver.transport_of(connection) is None:
            driver.write_unanswered(memory)
        elif driver.may_have_written(command, exc):
            driver.place_write(memory, None)
        raise
    except BaseException:
        driver.write_unanswered(memory)
        raise
    driver.place_write(memory, None)
    return result


def _pipeline(original: Any, what_for: str) -> Any:
    async def execute(self: Any, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        scope = SCOPE.get()
        if scope is None and not writes.concerns_anyone():
            return await original(self, connection, commands, raise_on_error)
        does = driver.effect_of_all(commands)

        async def call(conn: Any) -> Any:
            return await original(self, conn, commands, raise_on_error)

        carry_out = _writing(what_for, call) if does in (WRITE, BOTH) else call
        if does is READ and driver.tracks_reads():
            carry_out = _tracked(call)
        if does in (READ, BOTH) and scope is not None and driver.depends_here(scope):
            memory = driver.memory_of(connection)
            what = driver.read_of(self, connection, memory, repeatable=False)
            return await reads.read_async(scope, _Node(connection, memory, carry_out), what)
        return await carry_out(connection)

    return execute


def _transaction(original: Any) -> Any:
    return _pipeline(original, "EXEC")


def _plain_pipeline(original: Any) -> Any:
    return _pipeline(original, driver.PIPELINE)
