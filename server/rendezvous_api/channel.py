"""The messages between a process and its sidecar: one packet of a SOCK_SEQPACKET socket each.

Process to sidecar: ``Hello`` first, then ``Events`` and ``Ask``. Sidecar to process: ``Acked``,
``Answered`` and ``Lineages``. Pure: bytes to messages and back.
"""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct, error
from typing import assert_never

from rendezvous_api.errors import MalformedMessage
from rendezvous_api.event import Lineage, split
from rendezvous_api.ids import Incarnation, LogId, StoreKey

VERSION = 1


class Status(IntEnum):
    """How a question ended. The values are wire format."""

    ANSWERED = 0
    """The answer covers the whole frontier and all unresolved calls but those it names."""
    TIMED_OUT = 1
    """The budget passed first; the answer says what is known so far."""
    LOST_TAIL = 2
    """The frontier names events that died with their process."""
    LOST_LOG = 3
    """The frontier names a log that this server cannot obtain."""
    EXPIRED = 4
    """The request was forgotten, or is known only from later than the context's time."""
    BUSY = 5
    """The server holds too many questions."""
    UNREACHABLE = 6
    """The sidecar has no server."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First packet of a process: who it is. ``service`` and ``region`` describe its events."""

    incarnation: Incarnation
    pid: int
    service: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Events:
    """One or more events, encoded (``event.encode``), in seq order per lane."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """The question of DESIGN §1 "resolve": what must this request's reads wait for?

    ``context`` is an encoded context: its rid, links, frontier, unresolved calls and time are what
    is asked about. ``budget_ms`` bounds the wait for the frontier and the unresolved calls.
    """

    number: int
    budget_ms: int
    context: str


@dataclass(frozen=True, slots=True)
class Acked:
    """Up to ``seq``, this lane's events are applied from ``log`` at ``index`` or before (law 3)."""

    entries: tuple[tuple[int, int, LogId, int], ...]
    """(lane, seq, log, index)"""


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to question ``number``: an encoded context with the positions to wait for, the
    unresolved calls that remain, and the logs that cover the frontier asked for."""

    number: int
    status: Status
    context: str


@dataclass(frozen=True, slots=True)
class Lineages:
    """Histories of datastores that others have seen change their epoch."""

    entries: tuple[Lineage, ...]


ToSidecar = Hello | Events | Ask
ToProcess = Acked | Answered | Lineages

_HELLO, _EVENTS, _ASK = 1, 2, 3
_ACKED, _ANSWERED, _LINEAGES = 0x81, 0x82, 0x83
_HELLO_HEAD = Struct("<BBI11s")
_ASK_HEAD = Struct("<BII")
_ACK_ENTRY = Struct("<BQ11sQ")
_ANSWER_HEAD = Struct("<BIB")
_LINEAGE_HEAD = Struct("<QBB")
EVENTS_PREFIX = bytes((_EVENTS,))


def encode(message: ToSidecar | ToProcess) -> bytes:
    """One message as one packet."""
    match message:
        case Events(raw):
            return EVENTS_PREFIX + raw
        case Ask(number, budget_ms, context):
            return _ASK_HEAD.pack(_ASK, number, budget_ms) + context.encode("ascii")
        case Hello(incarnation, pid, service, region):
            head = _HELLO_HEAD.pack(_HELLO, VERSION, pid, incarnation.encode("ascii"))
            return head + f"{service}\0{region}".encode()
        case Acked(entries):
            return bytes((_ACKED,)) + b"".join(
                _ACK_ENTRY.pack(lane, seq, log.encode("ascii"), index)
                for lane, seq, log, index in entries
            )
        case Answered(number, status, context):
            return _ANSWER_HEAD.pack(_ANSWERED, number, status) + context.encode("ascii")
        case Lineages(entries):
            return bytes((_LINEAGES,)) + b"".join(
                _LINEAGE_HEAD.pack(entry.fork, len(entry.old), len(entry.new))
                + (entry.old + entry.new).encode("ascii")
                for entry in entries
            )
        case _:
            assert_never(message)


def decode_to_sidecar(packet: bytes) -> ToSidecar:
    """A packet from a process. Raises :class:`MalformedMessage`."""
    try:
        match packet[0]:
            case 2:
                split(packet[1:])
                return Events(packet[1:])
            case 3:
                _, number, budget_ms = _ASK_HEAD.unpack_from(packet)
                return Ask(number, budget_ms, packet[_ASK_HEAD.size :].decode("ascii"))
            case 1:
                _, version, pid, incarnation = _HELLO_HEAD.unpack_from(packet)
                if version != VERSION:
                    raise MalformedMessage(f"channel version {version}; this side has {VERSION}")
                service, _, region = packet[_HELLO_HEAD.size :].decode().partition("\0")
                return Hello(Incarnation(incarnation.decode("ascii")), pid, service, region)
            case kind:
                raise MalformedMessage(f"unknown message {kind} from a process")
    except (IndexError, ValueError, error) as exc:
        raise MalformedMessage(f"channel packet: {exc}") from exc


def decode_to_process(packet: bytes) -> ToProcess:
    """A packet from a sidecar. Raises :class:`MalformedMessage`."""
    try:
        match packet[0]:
            case 0x81:
                entries = tuple(
                    (lane, seq, LogId(log.decode("ascii")), index)
                    for lane, seq, log, index in _ACK_ENTRY.iter_unpack(packet[1:])
                )
                return Acked(entries)
            case 0x82:
                _, number, status = _ANSWER_HEAD.unpack_from(packet)
                context = packet[_ANSWER_HEAD.size :].decode("ascii")
                return Answered(number, Status(status), context)
            case 0x83:
                return Lineages(tuple(_take_lineages(packet)))
            case kind:
                raise MalformedMessage(f"unknown message {kind} from a sidecar")
    except (IndexError, ValueError, error) as exc:
        raise MalformedMessage(f"channel packet: {exc}") from exc


def _take_lineages(packet: bytes) -> list[Lineage]:
    out: list[Lineage] = []
    at = 1
    while at < len(packet):
        fork, old_size, new_size = _LINEAGE_HEAD.unpack_from(packet, at)
        at += _LINEAGE_HEAD.size
        names = packet[at : at + old_size + new_size].decode("ascii")
        if len(names) != old_size + new_size:
            raise MalformedMessage("a cut lineage")
        out.append(Lineage(StoreKey(names[:old_size]), StoreKey(names[old_size:]), fork))
        at += old_size + new_size
    return out
