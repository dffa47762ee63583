"""Events: what a process reports of a request's work. Each is numbered by its origin (law 1).

The binary form is that of the channel (`channel.py`): a fixed head, then a body by kind. The table
of event kinds, with why repeating each is harmless, is in ARCHITECTURE.md.
"""

from enum import IntEnum
from functools import lru_cache
from struct import Struct, error
from typing import assert_never

from rendezvous_api.errors import MalformedContext, MalformedMessage
from rendezvous_api.ids import Bid, Rid, StoreKey, rid_bytes, rid_from_bytes, store_from
from rendezvous_api.limits import LANES, NAME_BYTES_MAX
from rendezvous_api.record import record


class Kind(IntEnum):
    """What an event says. The values are wire format: never reuse one."""

    OPEN = 1
    CLOSE = 2
    FAIL = 3
    OPAQUE = 4
    ADOPT = 5
    WRITE = 6
    UNKNOWN = 7
    LINK = 8
    LINEAGE = 9


class Work(IntEnum):
    """What an opened branch is."""

    RPC = 1
    MESSAGE = 2
    TASK = 3
    WRITE = 4


@record
class Open:
    """A branch was opened below ``parent``."""

    work: Work
    parent: Bid
    zone: str = ""
    service: str = ""
    region: str = ""
    tag: str = ""


@record
class Close:
    """A branch's work is done. ``frontier``: the fields ``f``, ``s``, ``x`` and ``gi`` (context.abnf,
    joined by ``.``) of what it has seen beyond its own origin's earlier events; usually empty."""

    frontier: str = ""
    region: str = ""


@record
class Fail:
    """A branch never began: no byte was sent. Nobody waits for it."""


@record
class Opaque:
    """A branch whose callee does not speak Rendezvous. Counted, never waited for."""


@record
class Adopt:
    """A callee received a branch and will close it."""

    service: str = ""
    region: str = ""


@record
class Write:
    """A write of the request is at ``value`` in ``store``."""

    store: StoreKey
    value: int


@record
class Unknown:
    """A write of the request has no known position; ``unanswered``: nor a known outcome."""

    store: StoreKey
    unanswered: bool


@record
class Link:
    """The request continues ``rid``, or carries one of its messages."""

    rid: Rid


@record
class Lineage:
    """``old`` became ``new``, sharing its history up to and including ``fork`` (the last valid
    value of ``old``). Belongs to no request: the event's rid is all zeros."""

    old: StoreKey
    new: StoreKey
    fork: int


Body = Open | Close | Fail | Opaque | Adopt | Write | Unknown | Link | Lineage

NO_RID = Rid("A" * 22)
"""The rid of events that belong to no request."""

_HEAD = Struct("<BBHQ16sQ")
HEAD_BYTES = _HEAD.size
_U64 = Struct("<Q")
_OPEN = Struct("<BQ")


@record
class Event:
    """One numbered event of the origin (incarnation of the channel, ``lane``)."""

    lane: int
    seq: int
    rid: Rid
    bid: Bid
    body: Body


@lru_cache(maxsize=1024)  # of the same few services, zones and peers
def _names(*names: str) -> bytes:
    out = b""
    for name in names:
        raw = name.encode("utf-8", "replace")
        if len(raw) > NAME_BYTES_MAX:  # a character that the cut goes through is left out
            raw = raw[:NAME_BYTES_MAX].decode("utf-8", "ignore").encode()
        out += bytes((len(raw),)) + raw
    return out


def encode_write(store: StoreKey, value: int) -> bytes:
    """The bytes of a :class:`Write`: the most frequent body, without making one."""
    return _U64.pack(value) + store.encode("ascii")


def encode_open(work: Work, parent: Bid, zone: str, service: str, region: str = "") -> bytes:
    """The bytes of an :class:`Open`, without making one."""
    return _OPEN.pack(work, parent) + _names(zone, service, region, "")


def encode_adopt(service: str, region: str) -> bytes:
    """The bytes of an :class:`Adopt`, without making one."""
    return _names(service, region)


def encode_close(frontier: str, region: str) -> bytes:
    """The bytes of a :class:`Close`, without making one."""
    return _names(region) + frontier.encode("ascii")


def encode_body(body: Body) -> tuple[Kind, bytes]:
    """The kind and the bytes of an event's body."""
    match body:
        case Write(store, value):
            return Kind.WRITE, encode_write(store, value)
        case Open(work, parent, zone, service, region, tag):
            return Kind.OPEN, _OPEN.pack(work, parent) + _names(zone, service, region, tag)
        case Close(frontier, region):
            return Kind.CLOSE, encode_close(frontier, region)
        case Adopt(service, region):
            return Kind.ADOPT, _names(service, region)
        case Fail():
            return Kind.FAIL, b""
        case Opaque():
            return Kind.OPAQUE, b""
        case Unknown(store, unanswered):
            return Kind.UNKNOWN, bytes((unanswered,)) + store.encode("ascii")
        case Link(rid):
            return Kind.LINK, rid_bytes(rid)
        case Lineage(old, new, fork):
            return Kind.LINEAGE, _U64.pack(fork) + _names(old, new)
        case _:
            assert_never(body)


def pack(kind: int, lane: int, seq: int, rid: bytes, bid: int, body: bytes) -> bytes:
    """One event as bytes; ``rid`` is the 16 bytes."""
    return _HEAD.pack(kind, lane, len(body), seq, rid, bid) + body


def encode(event: Event) -> bytes:
    """One event as bytes."""
    kind, body = encode_body(event.body)
    return pack(kind, event.lane, event.seq, rid_bytes(event.rid), event.bid, body)


def _take_names(raw: bytes, count: int) -> tuple[list[bytes], bytes]:
    """``count`` names from the front of ``raw``, and what follows them."""
    names: list[bytes] = []
    at = 0
    for _ in range(count):
        end = at + 1 + raw[at]
        if end > len(raw):
            raise MalformedMessage("a cut name")
        names.append(raw[at + 1 : end])
        at = end
    return names, raw[at:]


def _texts(raw: bytes, count: int) -> list[str]:
    """The ``count`` names that ``raw`` consists of."""
    names, rest = _take_names(raw, count)
    _nothing_in(rest)
    return [name.decode("utf-8", "replace") for name in names]


def _nothing_in(raw: bytes) -> None:
    if raw:
        raise MalformedMessage(f"{len(raw)} bytes too many in an event")


def decode_body(kind: int, raw: bytes) -> Body:
    """Inverse of :func:`encode_body`. Raises :class:`MalformedMessage`."""
    try:
        return _decode_body(kind, raw)
    except (IndexError, ValueError, error, MalformedContext) as exc:
        raise MalformedMessage(f"event of kind {kind}: {exc}") from exc


def _decode_body(kind: int, raw: bytes) -> Body:
    match kind:
        case Kind.WRITE:
            (value,) = _U64.unpack_from(raw)
            return Write(store_from(raw[_U64.size :]), value)
        case Kind.OPEN:
            work, parent = _OPEN.unpack_from(raw)
            return Open(Work(work), Bid(parent), *_texts(raw[_OPEN.size :], 4))
        case Kind.CLOSE:
            (region,), frontier = _take_names(raw, 1)
            return Close(frontier.decode("ascii"), region.decode("utf-8", "replace"))
        case Kind.ADOPT:
            return Adopt(*_texts(raw, 2))
        case Kind.FAIL:
            _nothing_in(raw)
            return Fail()
        case Kind.OPAQUE:
            _nothing_in(raw)
            return Opaque()
        case Kind.UNKNOWN:
            return Unknown(store_from(raw[1:]), raw[0] != 0)
        case Kind.LINK:
            return Link(rid_from_bytes(raw))
        case Kind.LINEAGE:
            (fork,) = _U64.unpack_from(raw)
            (old, new), rest = _take_names(raw[_U64.size :], 2)
            _nothing_in(rest)
            return Lineage(store_from(old), store_from(new), fork)
        case _:
            raise MalformedMessage(f"unknown event kind {kind}")


def split(raw: bytes) -> list[tuple[int, int, int, bytes, int, bytes]]:
    """Consecutive events as (kind, lane, seq, rid bytes, bid, body bytes): heads only, for those
    who forward events. Raises :class:`MalformedMessage`."""
    out: list[tuple[int, int, int, bytes, int, bytes]] = []
    at, end = 0, len(raw)
    while at < end:
        if end - at < HEAD_BYTES:
            raise MalformedMessage("a cut event")
        kind, lane, size, seq, rid, bid = _HEAD.unpack_from(raw, at)
        at += HEAD_BYTES
        body = raw[at : at + size]
        if len(body) != size or lane >= LANES or seq < 1:
            raise MalformedMessage("a cut event, or a bad lane or seq")
        out.append((kind, lane, seq, rid, bid, body))
        at += size
    return out


def decode(raw: bytes) -> list[Event]:
    """Consecutive events. Raises :class:`MalformedMessage`."""
    return [
        Event(lane, seq, rid_from_bytes(rid), Bid(bid), decode_body(kind, body))
        for kind, lane, seq, rid, bid, body in split(raw)
    ]
