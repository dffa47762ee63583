"""Redis and Valkey: the position is (replication id, replication offset).

One question, ``INFO replication``, names the node's role, its replication id and offset, and the id
and fork of the history before the last failover (``master_replid2``, ``second_repl_offset``), all in
one answer. Offsets go on counting through a failover. Source: Redis documentation, "How Redis
replication works"; figures in the repository of the design's references, run against Valkey 9.1.

Inside MULTI/EXEC the offset does not yet include the transaction: ask after EXEC.
"""

from rendezvous_api.ids import StoreKey, short_epoch
from rendezvous_api.record import record
from rendezvous_monitors.positions.cover import Cover, Lineage

KIND = "r"
QUESTION = ("INFO", "replication")
QUESTION_PACKED = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"

_PRIMARY = b"# Replication\r\nrole:master\r\n"

_epochs: dict[bytes, StoreKey] = {}
_EPOCHS_MAX = 1024


@record
class Applied:
    """What a node has applied: for a primary its head, for a replica ``slave_repl_offset``.

    ``previous`` and ``fork`` are the epoch before the last failover and its last value that this
    node shares; ``linked`` is false while a replica is cut off from its primary (its data are still
    a prefix of its epoch) and ``syncing`` while it is loading a new copy (its data are undefined).
    ``writable`` is true for a replica that takes writes of its own, which no offset counts.
    """

    store: StoreKey
    value: int
    primary: bool
    linked: bool = True
    syncing: bool = False
    previous: StoreKey | None = None
    fork: int = -1
    writable: bool = False


_primaries: dict[bytes, Applied] = {}
"""By the lines that say which history a primary lives in: an answer with these lines."""


def store_key(replication_id: bytes) -> StoreKey:
    """The store key of a replication id (40 hexadecimal characters)."""
    key = _epochs.get(replication_id)
    if key is None:
        if len(_epochs) >= _EPOCHS_MAX:
            _epochs.clear()
        key = StoreKey(KIND + short_epoch(replication_id.decode("ascii", "replace")))
        _epochs[replication_id] = key
    return key


def _field(answer: bytes, name: bytes) -> bytes | None:
    start = answer.find(b"\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 2
    end = answer.find(b"\r", start)
    return answer[start:end] if end >= 0 else answer[start:]


def parse(answer: bytes) -> Applied | None:
    """The answer to ``QUESTION``; ``None`` where it is not one (a proxy's own INFO, say)."""
    if answer.startswith(_PRIMARY):
        start = answer.find(b"\nmaster_replid:")
        offset = answer.find(b"\nmaster_repl_offset:", start)
        second = answer.find(b"\nsecond_repl_offset:", offset)
        end = answer.find(b"\r", second)
        if 0 <= start < offset < second < end:
            # Only a failover changes these lines, but for the offset between them.
            history = answer[start:offset] + answer[second:end]
            known = _primaries.get(history)
            number = answer[offset + 20 : second - 1]
            if known is not None and number.isdigit():
                return Applied(
                    known.store, int(number), True, True, False, known.previous, known.fork
                )
            applied = _parse(answer)
            if applied is not None:
                if len(_primaries) >= _EPOCHS_MAX:
                    _primaries.clear()
                _primaries[history] = applied
            return applied
    return _parse(answer)


def _parse(answer: bytes) -> Applied | None:
    role = _field(answer, b"role")
    replication_id = _field(answer, b"master_replid")
    if replication_id is None or len(replication_id) != 40 or role not in (b"master", b"slave"):
        return None
    primary = role == b"master"
    raw = _field(answer, b"master_repl_offset" if primary else b"slave_repl_offset")
    second_id = _field(answer, b"master_replid2")
    second = _field(answer, b"second_repl_offset")
    try:
        value = int(raw or b"")
        fork = int(second or b"-1") - 1
    except ValueError:
        return None
    previous = None
    if second_id is not None and fork >= 0 and second_id.strip(b"0"):
        previous = store_key(second_id)
    return Applied(
        store_key(replication_id),
        value,
        primary,
        primary or _field(answer, b"master_link_status") == b"up",
        _field(answer, b"master_sync_in_progress") == b"1",
        previous,
        fork if previous is not None else -1,
        not primary and _field(answer, b"slave_read_only") == b"0",
    )


def covers(applied: Applied, store: StoreKey, value: int, lineage: Lineage) -> Cover:
    """Whether the node that answered ``applied`` shows a write at ``value`` of ``store``.

    ``lineage`` is what anybody has learnt of failovers; the node's own last one is in ``applied``.
    """
    if applied.syncing:
        return Cover.UNKNOWN
    carried = lineage.carry(store, value, applied.store)
    if (carried is None or carried < 0) and applied.previous is not None:
        before = lineage.carry(store, value, applied.previous)
        if before is not None:
            carried = before if 0 < before <= applied.fork else -1
    if carried is None:
        # A replica that never reached its primary has an id of its own: it may belong to ``store``.
        return Cover.UNRELATED if applied.linked else Cover.UNKNOWN
    if carried < 0:
        # A node that still lives in the epoch before the write's has yet to follow the failover.
        return Cover.NO if lineage.came_before(applied.store, store) else Cover.LOST
    if applied.value >= carried:
        return Cover.YES
    # A primary behind a position of its own epoch has lost it (restarted from an old copy).
    return Cover.LOST if applied.primary else Cover.NO
