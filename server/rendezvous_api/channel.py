"""The messages between a process and its sidecar: one packet of a SOCK_SEQPACKET socket each.

Process to sidecar: ``Hello`` first, then ``Events``, ``Ask`` and ``Counted``. Sidecar to process: ``Acked``,
``Answered`` and ``Lineages``. Pure: bytes to messages and back.
"""

from enum import IntEnum
from struct import Struct, error
from typing import assert_never

from rendezvous_api.errors import MalformedContext, MalformedMessage
from rendezvous_api.event import Lineage, split
from rendezvous_api.ids import Incarnation, LogId, store_from, word_value
from rendezvous_api.limits import COUNTS_MAX, LANES
from rendezvous_api.record import record

VERSION = 1


class Status(IntEnum):
    """How a question ended. The values are wire format."""

    ANSWERED = 0
    """The answer covers the whole frontier and all unresolved calls. Those it still names are ancestors
    of the asking branch: nobody waits for them in a read of that branch."""
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


@record
class Hello:
    """First packet of a process: who it is. ``service`` and ``region`` describe its events.

    A NUL character in ``service`` is left out.
    """

    incarnation: Incarnation
    pid: int
    service: str = ""
    region: str = ""


@record
class Events:
    """One or more events, encoded (``event.encode``), in seq order per lane."""

    raw: bytes


@record
class Ask:
    """The question of DESIGN §1 "resolve": what must this request's reads wait for?

    ``context`` is an encoded context: its rid, links, frontier, unresolved calls and time are what
    is asked about. ``budget_ms`` bounds the wait for the frontier and the unresolved calls.
    """

    number: int
    budget_ms: int
    context: str


@record
class Acked:
    """Up to ``seq``, this lane's events are applied from ``log`` at ``index`` or before (law 3)."""

    entries: tuple[tuple[int, int, LogId, int], ...]
    """(lane, seq, log, index)"""


@record
class Answered:
    """The answer to question ``number``: an encoded context with the positions to wait for, the
    unresolved calls that remain, and the logs that cover the frontier asked for."""

    number: int
    status: Status
    context: str


@record
class Lineages:
    """Histories of datastores that others have seen change their epoch."""

    entries: tuple[Lineage, ...]


@record
class Counted:
    """What a process has counted since it began, by name: a later message takes an earlier one's
    place. Dependent reads are ``reads.`` and the verdict, unprotected ones with their reason."""

    entries: tuple[tuple[str, int], ...]


ToSidecar = Hello | Events | Ask | Counted
ToProcess = Acked | Answered | Lineages

_HELLO, _EVENTS, _ASK, _COUNTED = 1, 2, 3, 4
_ACKED, _ANSWERED, _LINEAGES = 0x81, 0x82, 0x83
_HELLO_HEAD = Struct("<BBI11s")
_ASK_HEAD = Struct("<BII")
_ACK_ENTRY = Struct("<BQ11sQ")
_ANSWER_HEAD = Struct("<BIB")
_LINEAGE_HEAD = Struct("<QBB")
_COUNT_HEAD = Struct("<QB")
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
            names = service.replace("\0", "") + "\0" + region
            return head + names.encode("utf-8", "replace")
        case Counted(entries):
            return bytes((_COUNTED,)) + b"".join(
                _COUNT_HEAD.pack(value, len(name)) + name.encode("ascii") for name, value in entries
            )
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
    """A packet from a process. Raises :class:`MalformedMessage`.

    Events are checked as far as :func:`rendezvous_api.event.split` does: their bodies are not.
    """
    try:
        match packet[0]:
            case 2:
                raw = packet[1:]
                split(raw)
                return Events(raw)
            case 3:
                _, number, budget_ms = _ASK_HEAD.unpack_from(packet)
                return Ask(number, budget_ms, packet[_ASK_HEAD.size :].decode("ascii"))
            case 4:
                return Counted(tuple(_take_counts(packet)))
            case 1:
                return _decode_hello(packet)
            case kind:
                raise MalformedMessage(f"unknown message {kind} from a process")
    except (IndexError, ValueError, error, MalformedContext) as exc:
        raise MalformedMessage(f"channel packet: {exc}") from exc


def decode_to_process(packet: bytes) -> ToProcess:
    """A packet from a sidecar. Raises :class:`MalformedMessage`."""
    try:
        match packet[0]:
            case 0x81:
                return Acked(tuple(_take_acks(packet[1:])))
            case 0x82:
                _, number, status = _ANSWER_HEAD.unpack_from(packet)
                context = packet[_ANSWER_HEAD.size :].decode("ascii")
                return Answered(number, Status(status), context)
            case 0x83:
                return Lineages(tuple(_take_lineages(packet)))
            case kind:
                raise MalformedMessage(f"unknown message {kind} from a sidecar")
    except (IndexError, ValueError, error, MalformedContext) as exc:
        raise MalformedMessage(f"channel packet: {exc}") from exc


def _decode_hello(packet: bytes) -> Hello:
    _, version, pid, incarnation = _HELLO_HEAD.unpack_from(packet)
    if version != VERSION:
        raise MalformedMessage(f"channel version {version}; this side has {VERSION}")
    service, nul, region = packet[_HELLO_HEAD.size :].decode().partition("\0")
    if not nul:
        raise MalformedMessage("a hello without a region")
    name = incarnation.decode("ascii")
    word_value(name)
    return Hello(Incarnation(name), pid, service, region)


def _take_acks(raw: bytes) -> list[tuple[int, int, LogId, int]]:
    entries = [
        (lane, seq, LogId(log.decode("ascii")), index)
        for lane, seq, log, index in _ACK_ENTRY.iter_unpack(raw)
    ]
    for lane, _, log, _ in entries:
        word_value(log)
        if lane >= LANES:
            raise MalformedMessage(f"no lane {lane}")
    return entries


def _take_counts(packet: bytes) -> list[tuple[str, int]]:
    out: list[tuple[str, int]] = []
    at = 1
    while at < len(packet):
        value, size = _COUNT_HEAD.unpack_from(packet, at)
        at += _COUNT_HEAD.size
        name = packet[at : at + size].decode("ascii")
        if not name or len(name) != size or not name.replace("_", "").replace(".", "").isalnum():
            raise MalformedMessage("a count without a plain name")
        out.append((name, value))
        at += size
    if len(out) > COUNTS_MAX:
        raise MalformedMessage(f"{len(out)} counts; {COUNTS_MAX} are allowed")
    return out


def _take_lineages(packet: bytes) -> list[Lineage]:
    out: list[Lineage] = []
    at = 1
    while at < len(packet):
        fork, old_size, new_size = _LINEAGE_HEAD.unpack_from(packet, at)
        at += _LINEAGE_HEAD.size
        end = at + old_size + new_size
        if end > len(packet):
            raise MalformedMessage("a cut lineage")
        middle = at + old_size
        out.append(Lineage(store_from(packet[at:middle]), store_from(packet[middle:end]), fork))
        at = end
    return out
