"""What redis-py's synchronous and asynchronous clients share: classification, memory, verdict inputs.

The patch point is ``_send_command_parse_response``: there the connection is known, so that question
and read go to one node in one packet (DESIGN §2 "What the check needs").
"""

from __future__ import annotations

import time
from typing import Any

from rendezvous_api.cell import Cell
from rendezvous_api.ids import StoreKey
from rendezvous_api.limits import APPLIED_MEMORY_S
from rendezvous_instrumentation.core.barrier import Applied as AnyApplied
from rendezvous_instrumentation.core.barrier import depends
from rendezvous_instrumentation.core.verdict import Reason, unprotected
from rendezvous_instrumentation.limits import FORBIDDEN_MEMORY_S
from rendezvous_instrumentation.shell import writes
from rendezvous_instrumentation.shell.current import SCOPE, Scope
from rendezvous_instrumentation.shell.process import Process, process
from rendezvous_instrumentation.shell.reads import Read, count_protected
from rendezvous_monitors.positions import redis as position
from rendezvous_monitors.positions.cover import Cover
from rendezvous_monitors.positions.redis_commands import SCRIPTS, UNREPEATABLE, Effect, effect

KIND = position.KIND
ANY_STORE = StoreKey(KIND)
PIPELINE = "PIPELINE"
"""Stands for all the commands of a pipeline that is no transaction."""
_MEMORY = "_rendezvous_memory"
_JOINED_BYTES_MAX = 16_384
"""Bytes of a packet's part that may be copied to save a system call."""
_NOT_CARRIED_OUT = frozenset(
    """MovedError AskError ReadOnlyError MasterDownError ClusterDownError TryAgainError
    NoScriptError""".split()
)
"""The driver's errors, by class, for commands that the node did not begin."""


class Memory:
    """What a connection's node is known to have applied. ``transport``: the connection's socket or
    stream when it answered; another one is another node, perhaps. ``in_multi``: the application has
    begun a transaction by hand, in which a question would be queued."""

    __slots__ = ("applied", "at", "endpoint", "epoch", "forbidden_at", "in_multi", "transport")

    def __init__(self, transport: object, endpoint: object) -> None:
        self.transport = transport
        self.endpoint = endpoint
        self.in_multi = False
        self.epoch: StoreKey | None = None
        self.applied: position.Applied | None = None
        self.at = 0.0
        self.forbidden_at = 0.0


def transport_of(connection: Any) -> object:
    """The live socket (sync) or reader (asyncio) of a connection; ``None`` when disconnected."""
    sock = getattr(connection, "_sock", None) or getattr(connection, "_reader", None)
    if sock is None:
        inner = getattr(connection, "_conn", None)  # a cache's connection has another inside
        return None if inner is None else transport_of(inner)
    return sock


def memory_of(connection: Any) -> Memory:
    """The connection's memory, empty after a reconnect."""
    transport = transport_of(connection)
    memory: Memory | None = getattr(connection, _MEMORY, None)
    if memory is None or memory.transport is not transport:
        memory = Memory(transport, endpoint_of(connection))
        setattr(connection, _MEMORY, memory)
    return memory


def endpoint_of(connection: Any) -> object:
    """What names the address that a connection leads to."""
    host = getattr(connection, "host", None) or getattr(connection, "path", None)
    return KIND, host, getattr(connection, "port", 0)


def remembered(memory: Memory) -> position.Applied | None:
    """What may still decide a barrier without asking."""
    if memory.applied is not None and time.monotonic() - memory.at <= APPLIED_MEMORY_S:
        return memory.applied
    return None


def forbidden(memory: Memory) -> bool:
    """Whether this connection's node refused the question recently."""
    return bool(memory.forbidden_at) and time.monotonic() - memory.forbidden_at < FORBIDDEN_MEMORY_S


def answered(memory: Memory, raw: object, marks: writes.Marks) -> position.Applied | None:
    """Take the node's answer (bytes, an error of the driver, or ``None`` where none came) into
    memory. ``marks``: ``writes.marks()`` when the question was sent."""
    if raw is None:
        return None
    if isinstance(raw, str):
        raw = raw.encode("latin-1", "replace")
    applied = position.parse(raw) if isinstance(raw, bytes) else None
    if applied is None:
        memory.applied = None
        memory.forbidden_at = time.monotonic()
        return None
    if applied.store != memory.epoch:
        _epoch_changed(memory, applied)
    memory.applied = applied
    memory.at = time.monotonic()
    if marks[1] and applied.primary:
        writes.head(applied.store, applied.value, marks)
    return applied


def _epoch_changed(memory: Memory, applied: position.Applied) -> None:
    """A connection's node says for the first time that it lives in this epoch."""
    us = process()
    if applied.previous is not None:
        us.learn_lineage(applied.previous, applied.store, applied.fork)
    if applied.primary or (applied.linked and not applied.syncing):
        us.epoch_seen(memory.endpoint, applied.store)
        memory.epoch = applied.store


def judge(applied: AnyApplied, store: StoreKey, value: int) -> Cover:
    """``covers`` with this process's lineage."""
    assert isinstance(applied, position.Applied)
    return position.covers(applied, store, value, process().lineage)


def dependent_cell() -> Cell | None:
    """The cell of the running request, if a Redis read in it is a dependent read."""
    scope = SCOPE.get()
    if scope is None:
        return None
    cell = scope.cell
    return cell if cell.depends and depends(cell, KIND) else None


def depends_here(scope: Scope) -> bool:
    """Whether a Redis read in ``scope`` is a dependent read."""
    cell = scope.cell
    return cell.depends and depends(cell, KIND)


def settled(scope: Scope, connection: Any) -> bool:
    """Whether what is known of this connection's node decides a dependent read at once: then it is
    ``protected``, and counted. The barrier's own answer, for the case that nine reads in ten are."""
    cell = scope.cell
    if scope.over or cell.unresolved or cell.unknown or cell.flags or is_cache(connection):
        return False
    if health_is_due(connection):
        return False
    applied = remembered(memory_of(connection))
    if applied is None:
        return False
    for store, value in cell.positions.items():
        # Another epoch, or not there yet: for the barrier.
        if store[0] == KIND and (
            store != applied.store or value > applied.value or applied.syncing
        ):
            return False
    count_protected(process())
    return True


def read_of(client: Any, connection: Any, memory: Memory, *, repeatable: bool) -> Read:
    """What the barrier must know of a read on this connection."""
    pool = getattr(client, "connection_pool", None)
    held_max = max(1, getattr(pool, "max_connections", 2) // 2)
    return Read(KIND, judge, endpoint_of(connection), remembered(memory), repeatable, held_max)


def tracks_reads() -> bool:
    """Whether what a read saw joins the request's knowledge (``RENDEZVOUS_TRACK_READS``)."""
    return process().config.track_reads


def saw(applied: position.Applied | None) -> None:
    """A read of the request may have seen everything up to ``applied``, asked after it."""
    if applied is not None and SCOPE.get() is not None:
        writes.written(applied.store, applied.value)


def place_write(memory: Memory, applied: position.Applied | None) -> None:
    """A write was carried out on this connection and ``applied`` was asked after it."""
    if applied is not None and applied.primary:
        writes.written(applied.store, applied.value)
        return
    if applied is not None and not applied.writable:
        return  # a replica answered, and it takes no writes: nothing was changed
    known = memory.applied
    writes.unknown(known.store if known is not None else ANY_STORE, unanswered=False)


def write_unanswered(memory: Memory) -> None:
    """A write was sent and its reply never came."""
    known = memory.applied
    writes.unknown(known.store if known is not None else ANY_STORE, unanswered=True)


def may_have_written(command: object, error: BaseException) -> bool:
    """Whether a command that raised ``error`` may have changed data nevertheless. An error that is
    not the server's came after its reply; scripts, transactions and pipelines stop half-way;
    everything else did nothing. A redirection did nothing here."""
    if command == PIPELINE:
        return True
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ResponseError" not in kinds:
        return True
    if kinds & _NOT_CARRIED_OUT:
        return False
    text = command.decode("latin-1") if isinstance(command, bytes) else str(command)
    return text.upper().partition(" ")[0] in SCRIPTS


def repeatable(command: object, does: Effect) -> bool:
    """Whether a command may be sent twice, since its first answer can be thrown away."""
    text = command.decode("latin-1") if isinstance(command, bytes) else str(command)
    return does is Effect.READ and text.upper() not in UNREPEATABLE


def in_multi_by_hand(connection: Any, command: object) -> bool:
    """Whether a command belongs to a MULTI that the application sent itself: a question put between
    would be queued, and its answer be one of EXEC's results. EXEC ends it."""
    memory: Memory | None = getattr(connection, _MEMORY, None)
    if memory is None or not memory.in_multi or memory_of(connection) is not memory:
        return False
    memory.in_multi = not ends_multi(command)
    return True


def ends_multi(command: object) -> bool:
    """Whether a command carries a transaction out."""
    return command in ("EXEC", "exec", b"EXEC")


def health_is_due(connection: Any) -> bool:
    """Whether the driver's next send begins with a health check, which may connect anew."""
    return bool(getattr(connection, "health_check_interval", 0)) and (
        time.monotonic() > getattr(connection, "next_health_check", 0)
    )


def note_multi(connection: Any, command: object) -> None:
    """The application sends MULTI, or takes it back."""
    if command in ("MULTI", "multi", b"MULTI"):
        memory_of(connection).in_multi = True
    elif command in ("DISCARD", "discard", b"DISCARD"):
        memory_of(connection).in_multi = False


def effect_of_all(commands: Any) -> Effect:
    """What a pipeline does: the union over its commands."""
    done = {effect(arguments[0], tuple(arguments[1:])) for arguments, _ in commands}
    done.discard(Effect.NEITHER)
    if not done:
        return Effect.NEITHER
    return done.pop() if len(done) == 1 else Effect.BOTH


def parts(packed: Any) -> list[bytes]:
    """A packed command as the list that the driver would write."""
    return [packed] if isinstance(packed, bytes) else list(packed)


def with_question(command: list[Any], *, first: bool) -> list[Any]:
    """A packed command (``bytes``, and ``memoryview`` of long arguments) and the question, as one
    packet: the synchronous driver writes each part by a system call of its own."""
    question = position.QUESTION_PACKED
    if first:
        return [b"".join((question, *command[:1])), *command[1:]]
    last = command[-1] if command else b""
    if isinstance(last, bytes) and len(last) <= _JOINED_BYTES_MAX:
        return [*command[:-1], last + question]
    return [*command, question]


def arrived(reader: Any) -> int:
    """Bytes of the whole bulk reply (or verbatim string) that a stream has received already, 0 where
    it has not: such a reply is taken without the driver's time-outs and timers, a third of what a
    write costs. Looks into ``StreamReader``'s buffer; takes nothing from it."""
    buffer = getattr(reader, "_buffer", None)
    if not isinstance(buffer, bytearray) or not buffer.startswith((b"$", b"=")):
        return 0
    end = buffer.find(b"\r\n", 0, 12)
    size = bytes(buffer[1:end]) if end > 0 else b""
    total = end + 4 + int(size) if size.isdigit() else 0
    return total if 0 < total <= len(buffer) else 0


def text_of_bulk(reply: bytes) -> bytes:
    """The text of a whole bulk reply or verbatim string."""
    text = reply[reply.index(b"\n") + 1 : -2]
    return text[4:] if reply.startswith(b"=") else text


def prepares(packet: list[bytes]) -> bool:
    """Whether a packet (re)builds redis-py's HIMPORT state: a dialogue of its own, whose replies our
    question must not stand between."""
    return bool(packet) and b"HIMPORT" in packet[0][:64]


def is_cache(connection: Any) -> bool:
    """Whether a client-side cache may answer instead of the node."""
    return type(connection).__name__ == "CacheProxyConnection"


def count_queued_read(us: Process) -> None:
    """A dependent read in a transaction begun by hand, where the node can't be asked."""
    us.stats.verdict(unprotected(Reason.FORBIDDEN), 0.0)


def count_cached_read(us: Process) -> None:
    """A dependent read that a client-side cache may answer."""
    us.stats.verdict(unprotected(Reason.CACHE), 0.0)
