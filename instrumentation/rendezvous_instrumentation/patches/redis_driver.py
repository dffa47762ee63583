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
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.process import Process, process
from rendezvous_instrumentation.shell.reads import Read
from rendezvous_monitors.positions import redis as position
from rendezvous_monitors.positions.cover import Cover
from rendezvous_monitors.positions.redis_commands import SCRIPTS, Effect, effect

KIND = position.KIND
ANY_STORE = StoreKey(KIND)
_MEMORY = "_rendezvous_memory"
_NOT_CARRIED_OUT = ("MOVED", "ASK", "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")


class Memory:
    """What a connection's node is known to have applied. ``transport``: the connection's socket or
    stream when it answered; another one is another node, perhaps."""

    __slots__ = ("applied", "at", "forbidden_at", "transport")

    def __init__(self, transport: object) -> None:
        self.transport = transport
        self.applied: position.Applied | None = None
        self.at = 0.0
        self.forbidden_at = 0.0


def transport_of(connection: Any) -> object:
    """The live socket (sync) or reader (asyncio) of a connection; ``None`` when disconnected."""
    sock = getattr(connection, "_sock", None)
    return sock if sock is not None else getattr(connection, "_reader", None)


def memory_of(connection: Any) -> Memory:
    """The connection's memory, empty after a reconnect."""
    transport = transport_of(connection)
    memory: Memory | None = getattr(connection, _MEMORY, None)
    if memory is None or memory.transport is not transport:
        memory = Memory(transport)
        setattr(connection, _MEMORY, memory)
    return memory


def remembered(memory: Memory) -> position.Applied | None:
    """What may still decide a barrier without asking."""
    if memory.applied is not None and time.monotonic() - memory.at <= APPLIED_MEMORY_S:
        return memory.applied
    return None


def forbidden(memory: Memory) -> bool:
    """Whether this connection's node refused the question recently."""
    return bool(memory.forbidden_at) and time.monotonic() - memory.forbidden_at < FORBIDDEN_MEMORY_S


def answered(memory: Memory, raw: object) -> position.Applied | None:
    """Take the node's answer (bytes, or an error of the driver) into memory."""
    if isinstance(raw, str):
        raw = raw.encode("latin-1", "replace")
    applied = position.parse(raw) if isinstance(raw, bytes) else None
    if applied is None:
        memory.applied = None
        memory.forbidden_at = time.monotonic()
        return None
    us = process()
    before = memory.applied
    if applied.previous is not None and (before is None or before.store != applied.store):
        us.learn_lineage(applied.previous, applied.store, applied.fork)
    memory.applied = applied
    memory.at = time.monotonic()
    if applied.primary:
        writes.head(us, applied.store, applied.value)
    return applied


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


def read_of(client: Any, connection: Any, memory: Memory, *, repeatable: bool) -> Read:
    """What the barrier must know of a read on this connection."""
    pool = getattr(client, "connection_pool", None)
    held_max = max(1, getattr(pool, "max_connections", 2) // 2)
    endpoint = (KIND, getattr(connection, "host", None) or getattr(connection, "path", None),
                getattr(connection, "port", 0))  # fmt: skip
    return Read(KIND, judge, endpoint, remembered(memory), repeatable, held_max)


def place_write(memory: Memory, applied: position.Applied | None) -> None:
    """A write was carried out on this connection and ``applied`` was asked after it."""
    if applied is not None and applied.primary:
        writes.written(applied.store, applied.value)
        return
    known = memory.applied
    writes.unknown(known.store if known is not None else ANY_STORE, unanswered=False)


def write_unanswered(memory: Memory) -> None:
    """A write was sent and its reply never came."""
    known = memory.applied
    writes.unknown(known.store if known is not None else ANY_STORE, unanswered=True)


def may_have_written(command: object, error: Exception) -> bool:
    """Whether a command that answered ``error`` may have changed data nevertheless: scripts and
    transactions stop half-way; everything else did nothing. A redirection did nothing here."""
    if str(error).startswith(_NOT_CARRIED_OUT):
        return False
    words = str(command).upper().split()
    return bool(words) and words[0] in SCRIPTS


def effect_of_all(commands: Any) -> Effect:
    """What a pipeline does: the union over its commands."""
    total = Effect.NEITHER
    for arguments, _ in commands:
        total |= effect(arguments[0], tuple(arguments[1:]))
        if total is Effect.BOTH:
            break
    return total


def parts(packed: Any) -> list[bytes]:
    """A packed command as the list that the driver would write."""
    return [packed] if isinstance(packed, bytes) else list(packed)


def prepares(packet: list[bytes]) -> bool:
    """Whether a packet (re)builds redis-py's HIMPORT state: a dialogue of its own, whose replies our
    question must not stand between."""
    return bool(packet) and b"HIMPORT" in packet[0][:64]


def is_cache(connection: Any) -> bool:
    """Whether a client-side cache may answer instead of the node."""
    return type(connection).__name__ == "CacheProxyConnection"


def count_cached_read(us: Process) -> None:
    """A dependent read that a client-side cache may answer."""
    us.stats.verdict(unprotected(Reason.CACHE), 0.0)
