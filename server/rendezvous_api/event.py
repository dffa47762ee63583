"""Events: what a process reports of a request's work. Each is numbered by its origin (law 1).

The binary form is that of the channel (`channel.py`): a fixed head, then a body by kind. The table
of event kinds, with why repeating each is harmless, is in ARCHITECTURE.md.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error
from typing import assert_never

from rendezvous_api.errors import MalformedMessage
from rendezvous_api.ids import Bid, Rid, StoreKey, rid_bytes, rid_from_bytes
from rendezvous_api.limits import NAME_BYTES_MAX


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


@dataclass(frozen=True, slots=True)
class Open:
    """A branch was opened below ``parent``."""

    work: Work
    parent: Bid
    zone: str = ""
    service: str = ""
    region: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Close:
    """A branch's work is done. ``frontier``: the ``f`` and ``s`` fields (context.abnf, joined by
    ``.``) of what it has seen beyond its own origin's earlier events; usually empty."""

    frontier: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Fail:
    """A branch never began: no byte was sent. Nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A branch whose callee does not speak Rendezvous. Counted, never waited for."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A callee received a branch and will close it."""

    service: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """A write of the request is at ``value`` in ``store``."""

    store: StoreKey
    value: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """A write of the request has no known position; ``unanswered``: nor a known outcome."""

    store: StoreKey
    unanswered: bool


@dataclass(frozen=True, slots=True)
class Link:
    """The request continues ``rid``, or carries one of its messages."""

    rid: Rid


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered event of the origin (incarnation of the channel, ``lane``)."""

    lane: int
    seq: int
    rid: Rid
    bid: Bid
    body: Body


def _names(*names: str) -> bytes:
    out = b""
    for name in names:
        raw = name.encode("utf-8", "replace")[:NAME_BYTES_MAX]
        out += bytes((len(raw),)) + raw
    return out


def encode_body(body: Body) -> tuple[Kind, bytes]:
    """The kind and the bytes of an event's body."""
    match body:
        case Write(store, value):
            return Kind.WRITE, _U64.pack(value) + store.encode("ascii")
        case Open(work, parent, zone, service, region, tag):
            return Kind.OPEN, _OPEN.pack(work, parent) + _names(zone, service, region, tag)
        case Close(frontier, region):
            return Kind.CLOSE, _names(region) + frontier.encode("ascii")
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


def _take_names(raw: bytes, count: int) -> list[str]:
    names: list[str] = []
    at = 0
    for _ in range(count):
        size = raw[at]
        name = raw[at + 1 : at + 1 + size]
        if len(name) != size:
            raise MalformedMessage("a cut name")
        names.append(name.decode("utf-8", "replace"))
        at += 1 + size
    return names


def decode_body(kind: int, raw: bytes) -> Body:
    """Inverse of :func:`encode_body`. Raises :class:`MalformedMessage`."""
    try:
        match kind:
            case Kind.WRITE:
                return Write(StoreKey(raw[8:].decode("ascii")), *_U64.unpack(raw[:8]))
            case Kind.OPEN:
                work, parent = _OPEN.unpack_from(raw)
                return Open(Work(work), Bid(parent), *_take_names(raw[_OPEN.size :], 4))
            case Kind.CLOSE:
                return Close(raw[1 + raw[0] :].decode("ascii"), *_take_names(raw, 1))
            case Kind.ADOPT:
                return Adopt(*_take_names(raw, 2))
            case Kind.FAIL:
                return Fail()
            case Kind.OPAQUE:
                return Opaque()
            case Kind.UNKNOWN:
                return Unknown(StoreKey(raw[1:].decode("ascii")), raw[0] != 0)
            case Kind.LINK:
                return Link(rid_from_bytes(raw))
            case Kind.LINEAGE:
                old, new = _take_names(raw[8:], 2)
                return Lineage(StoreKey(old), StoreKey(new), *_U64.unpack(raw[:8]))
            case _:
                raise MalformedMessage(f"unknown event kind {kind}")
    except (IndexError, ValueError, error) as exc:
        raise MalformedMessage(f"event of kind {kind}: {exc}") from exc


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
        if len(body) != size or lane > 15 or seq < 1:
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
