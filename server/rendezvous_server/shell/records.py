"""Entries as bytes, as a log stores them.

A batch is stored as it came, in protobuf, behind a short head; the few other entries are JSON.
"""

import json
from base64 import b64decode, b64encode
from struct import Struct
from typing import assert_never

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import Batched, Entry, Expired, Follows, Holed, Moved, OriginKey
from rendezvous_server.shell.columns import columns

_BATCH = Struct("<cdH")
_INDEX = Struct("<I")


def record_of_batch(entry: Batched, received: bytes) -> bytes:
    """A batch's record; ``received`` is the ``FromSidecar`` that brought it."""
    without = sorted(entry.without)
    head = _BATCH.pack(b"B", entry.now, len(without))
    return head + b"".join(_INDEX.pack(index) for index in without) + received


def record_of(entry: Holed | Moved | Follows | Expired) -> bytes:
    """The record of any other entry."""
    match entry:
        case Holed(now, origins):
            fields: list[object] = ["holed", now, origins]
        case Moved(now, incarnation):
            fields = ["moved", now, incarnation]
        case Follows(now, successor, origin, after):
            fields = ["follows", now, successor, origin, after]
        case Expired(now, branches):
            fields = ["expired", now, [(b64encode(rid).decode(), bid) for rid, bid in branches]]
        case _:
            assert_never(entry)
    return b"J" + json.dumps(fields, separators=(",", ":")).encode()


def entry_of(record: bytes) -> Entry:
    """Inverse of both. Raises :class:`ValueError` for what this code did not write."""
    if record[:1] == b"B":
        _, now, count = _BATCH.unpack_from(record)
        body = _BATCH.size + count * _INDEX.size
        without = frozenset(index for (index,) in _INDEX.iter_unpack(record[_BATCH.size : body]))
        message = pb.FromSidecar.FromString(record[body:])
        return Batched(now, columns(message.batch), without)
    match json.loads(record[1:]):
        case ["holed", now, origins]:
            return Holed(now, tuple((OriginKey(key), seq) for key, seq in origins))
        case ["moved", now, incarnation]:
            return Moved(now, incarnation)
        case ["follows", now, successor, origin, after]:
            return Follows(now, OriginKey(successor), OriginKey(origin), after)
        case ["expired", now, branches]:
            return Expired(now, tuple((b64decode(rid), bid) for rid, bid in branches))
        case other:
            raise ValueError(f"not a record of this version: {str(other)[:80]}")
