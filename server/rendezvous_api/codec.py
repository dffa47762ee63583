"""The context as text: grammar in ``context.abnf``. Pure; fast, since every call pays for it."""

from typing import Any

from rendezvous_api.context import FLAGS, Context, Flags
from rendezvous_api.errors import LocalError, MalformedContext
from rendezvous_api.ids import (
    ORIGIN_CHARS,
    RID_CHARS,
    ROOT_BID,
    WORD_CHARS,
    Bid,
    LogId,
    Origin,
    Rid,
    StoreKey,
    Zone,
    word,
    word_value,
)
from rendezvous_api.limits import CONTEXT_BYTES_MAX, CONTEXT_INPUT_BYTES_MAX, LINKS_MAX

VERSION = "1"
ESSENTIAL_BYTES = (
    len("1.") + RID_CHARS + len(".b") + WORD_CHARS + 2 * len(".t") + 32 + len(".gmijc")
)
"""Bytes of the longest context of a rid, branch, child counter, time and flags: always fits."""

_PREFIX = VERSION + "."
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
_LANES = "0123456789abcdef"
_NUMBER_MAX = 2**64 - 1
_RID_LAST = "AQgw"  # 22 characters hold 132 bits; the last 4 are zero
_MORE, _INCOMPLETE = int(Flags.MORE), int(Flags.INCOMPLETE)
_BIT_OF = {"m": _MORE, "i": _INCOMPLETE, "j": int(Flags.JOINED), "c": int(Flags.CONTINUES)}
_FLAG_TEXT = tuple(
    "".join(letter for letter, bit in _BIT_OF.items() if bits & bit) for bits in range(len(FLAGS))
)
_NO_LINKS: frozenset[Rid] = frozenset()
_NO_BIDS: frozenset[Bid] = frozenset()


def is_foreign(text: str) -> bool:
    """Whether ``text`` is of a version that this code does not know: forward it, do not read it."""
    version, dot, rest = text.partition(".")
    return bool(
        dot
        and rest
        and version != VERSION
        and version.isdigit()
        and version[0] != "0"
        and len(text) <= CONTEXT_INPUT_BYTES_MAX
        and _is_spelt(text)
    )


def _is_spelt(text: str) -> bool:
    """Whether ``text`` is of the context's alphabet: nothing that could break a header."""
    return text.isascii() and not text.encode("ascii").translate(None, _ALPHABET)


def encode(
    context: Context,
    *,
    limit_bytes: int = CONTEXT_BYTES_MAX,
    keep: frozenset[StoreKey] = frozenset(),
) -> str:
    """``context`` as text of at most ``limit_bytes`` (at least ``ESSENTIAL_BYTES``).

    Where it does not fit, positions go first, marked ``more``; a store in ``keep`` has a position
    that no event of the frontier covers, so dropping it is marked ``incomplete``. What else does
    not fit is marked ``incomplete`` too: never silently.
    """
    head = _PREFIX + context.rid
    if context.branch:
        head += ".b" + word(context.branch)
    if context.time:
        head += f".t{context.time:x}"
    zone = ""
    if context.zone:
        zone = ".z" + "-".join([f"{part:x}" for part in context.zone])
    if context.child_zones:
        zone += f".c{context.child_zones:x}"
    fields = [f".s{origin}~{seq:x}" for origin, seq in context.origins.items()]
    if context.logs:
        fields += [f".f{log}~{index:x}" for log, index in context.logs.items()]
    if context.unresolved:
        fields += [f".x{word(bid)}" for bid in sorted(context.unresolved)]
    if context.unknown:
        fields += [
            f".{'u' if unanswered else 'a'}{store}" for store, unanswered in context.unknown.items()
        ]
    if context.links:
        fields += [f".l{rid}" for rid in sorted(context.links)]
    whole = head + zone + "".join(fields)
    for store, value in context.positions.items():
        whole += f".p{store}~{value:x}"
    flags = _FLAG_TEXT[context.flags]
    if flags:
        whole += ".g" + flags
    if len(whole) <= limit_bytes:
        return whole
    return _encode_within(context, head, zone, fields, limit_bytes, keep)


def _encode_within(
    context: Context,
    head: str,
    zone: str,
    fields: list[str],
    limit_bytes: int,
    keep: frozenset[StoreKey],
) -> str:
    """The slow path of :func:`encode`: what does not fit is left out and said."""
    if limit_bytes < ESSENTIAL_BYTES:
        raise LocalError(f"a context needs {ESSENTIAL_BYTES} bytes; {limit_bytes} were given")
    room = limit_bytes - len(head) - len(".gmijc")
    bits = +context.flags
    kept = [head]
    for text in (zone, *fields):
        if len(text) <= room:
            kept.append(text)
            room -= len(text)
        else:
            bits |= _INCOMPLETE
    covered = context.logs or context.origins
    # Those that nothing else covers come first: they must not be crowded out by the others.
    for store, value in sorted(context.positions.items(), key=lambda item: item[0] not in keep):
        text = f".p{store}~{value:x}"
        if len(text) <= room:
            kept.append(text)
            room -= len(text)
        else:
            bits |= _MORE if covered and store not in keep else _INCOMPLETE
    if bits:
        kept.append(".g" + _FLAG_TEXT[bits])
    return "".join(kept)


def decode(text: str) -> Context:
    """The context that ``text`` says. Raises :class:`MalformedContext`; never anything else."""
    if len(text) > CONTEXT_INPUT_BYTES_MAX:
        raise MalformedContext(f"a context of {len(text)} bytes")
    if not text.startswith(_PREFIX) or not _is_spelt(text):
        raise MalformedContext(f"not a version {VERSION} context: {text[:48]!r}")
    fields = text.split(".")
    try:
        return _decode_fields(_rid(fields[1]), fields[2:])
    except ValueError as exc:
        raise MalformedContext(f"{exc}: {text[:64]!r}") from exc


def _decode_fields(rid: Rid, fields: list[str]) -> Context:
    branch, children, time, flags = ROOT_BID, 0, 0, 0
    zone: Zone = ()
    links, unresolved = _NO_LINKS, _NO_BIDS
    positions: dict[StoreKey, int] = {}
    unknown: dict[StoreKey, bool] = {}
    logs: dict[LogId, int] = {}
    origins: dict[Origin, int] = {}
    name: Any  # a store, origin or log: calling a NewType takes longer than checking the name
    for field in fields:
        letter, body = field[:1], field[1:]
        match letter:
            case "p":
                name, _, number = body.partition("~")
                if not name[:1].isalpha():
                    raise ValueError("not a store")
                value = _number(number)
                if value > positions.get(name, -1):
                    positions[name] = value
            case "s":
                name, _, number = body.partition("~")
                if len(name) != ORIGIN_CHARS or name[-1] not in _LANES:
                    raise ValueError("not an origin")
                value = _number(number)
                if value > origins.get(name, -1):
                    origins[name] = value
            case "b":
                branch = Bid(word_value(body))
            case "t":
                time = _number(body)
            case "f":
                name, _, number = body.partition("~")
                if len(name) != WORD_CHARS:
                    raise ValueError("not a log")
                value = _number(number)
                if value > logs.get(name, -1):
                    logs[name] = value
            case "z":
                zone = tuple([_number(part) for part in body.split("-")])
            case "c":
                children = _number(body)
            case "u" | "a":
                store = _store(body)
                unknown[store] = letter == "u" or unknown.get(store, False)
            case "x":
                unresolved = unresolved.union([Bid(word_value(bid)) for bid in body.split("~")])
            case "l":
                links = links.union([_rid(link) for link in body.split("~")])
            case "g":
                if not body.isalpha():
                    raise ValueError("not flags")
                for flag in body:
                    flags |= _BIT_OF.get(flag, 0)
            case _:
                if not letter.isalpha():
                    raise ValueError("a field without a letter")
    if len(links) > LINKS_MAX:
        links, flags = frozenset(sorted(links)[:LINKS_MAX]), flags | _INCOMPLETE
    return Context(
        rid,
        branch,
        zone,
        children,
        links,
        positions,
        unknown,
        unresolved,
        logs,
        origins,
        time,
        FLAGS[flags],
    )


def _number(text: str) -> int:
    value = int(text, 16)
    # int() also takes signs, underscores, capitals and leading zeros; the grammar does not.
    if f"{value:x}" == text and 0 <= value <= _NUMBER_MAX:
        return value
    raise ValueError("not a number")


def _store(text: str) -> StoreKey:
    if not text[:1].isalpha() or "~" in text:
        raise ValueError("not a store")
    return StoreKey(text)


def _rid(text: str) -> Rid:
    if len(text) != RID_CHARS or text[-1] not in _RID_LAST or "~" in text:
        raise ValueError("not a rid")
    return Rid(text)
