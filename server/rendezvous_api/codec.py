"""The context as text: grammar in ``context.abnf``. Pure; fast, since every call pays for it."""

import re

from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import MalformedContext
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
_PREFIX = VERSION + "."
_WELL_FORMED = re.compile(r"[A-Za-z0-9._~-]+")
_FLAG_LETTERS = (
    (Flags.MORE, "m"),
    (Flags.INCOMPLETE, "i"),
    (Flags.JOINED, "j"),
    (Flags.CONTINUES, "c"),
)
_FLAG_OF = {letter: flag for flag, letter in _FLAG_LETTERS}
_FLAG_TEXT = {
    bits: "".join(letter for flag, letter in _FLAG_LETTERS if bits & flag) for bits in range(16)
}


def is_foreign(text: str) -> bool:
    """Whether ``text`` is of a version that this code does not know: forward it, do not read it."""
    version, dot, _ = text.partition(".")
    return bool(dot) and version.isascii() and version.isdigit() and version != VERSION


def encode(
    context: Context,
    *,
    limit_bytes: int = CONTEXT_BYTES_MAX,
    keep: frozenset[StoreKey] = frozenset(),
) -> str:
    """``context`` as text of at most ``limit_bytes``.

    Where it does not fit, positions go first, marked ``more``; a store in ``keep`` has a position
    that no event of the frontier covers, so dropping it is marked ``incomplete``. What else does not
    fit is marked ``incomplete`` too: never silently.
    """
    head = _PREFIX + context.rid
    if context.branch:
        head += ".b" + word(context.branch)
    if context.zone:
        head += ".z" + "-".join([f"{part:x}" for part in context.zone])
    if context.child_zones:
        head += f".c{context.child_zones:x}"
    if context.time:
        head += f".t{context.time:x}"
    fields = [f".f{log}~{index:x}" for log, index in context.logs.items()]
    fields += [f".s{origin}~{seq:x}" for origin, seq in context.origins.items()]
    if context.unresolved:
        fields += [f".x{word(bid)}" for bid in context.unresolved]
    if context.unknown:
        fields += [
            f".{'u' if unanswered else 'a'}{store}" for store, unanswered in context.unknown.items()
        ]
    if context.links:
        fields += [f".l{rid}" for rid in context.links]
    positions = [f".p{store}~{value:x}" for store, value in context.positions.items()]
    whole = head + "".join(fields) + "".join(positions)
    flags = int(context.flags)
    if flags:
        whole += ".g" + _FLAG_TEXT[flags]
    if len(whole) <= limit_bytes:
        return whole
    return _encode_within(context, head, fields, limit_bytes, keep)


def _encode_within(
    context: Context, head: str, fields: list[str], limit_bytes: int, keep: frozenset[StoreKey]
) -> str:
    """The slow path of :func:`encode`: what does not fit is left out and said."""
    flags = context.flags
    room = limit_bytes - len(head) - len(".gmijc")
    if room < 0:
        raise MalformedContext("not even the request id and zone fit a context")
    kept: list[str] = []
    for text in fields:
        if len(text) <= room:
            kept.append(text)
            room -= len(text)
        else:
            flags |= Flags.INCOMPLETE
    for store, value in sorted(context.positions.items(), key=lambda item: item[0] not in keep):
        text = f".p{store}~{value:x}"
        if len(text) <= room:
            kept.append(text)
            room -= len(text)
        else:
            flags |= Flags.INCOMPLETE if store in keep else Flags.MORE
    if flags:
        kept.append(".g" + _FLAG_TEXT[int(flags)])
    return head + "".join(kept)


def decode(text: str) -> Context:
    """The context that ``text`` says. Raises :class:`MalformedContext`; never anything else."""
    if len(text) > CONTEXT_INPUT_BYTES_MAX:
        raise MalformedContext(f"a context of {len(text)} bytes")
    if not _WELL_FORMED.fullmatch(text) or not text.startswith(_PREFIX):
        raise MalformedContext(f"not a version {VERSION} context: {text[:48]!r}")
    rid, *fields = text[len(_PREFIX) :].split(".")
    if len(rid) != RID_CHARS or "~" in rid:
        raise MalformedContext(f"not a rid: {rid[:32]!r}")
    try:
        return _decode_fields(Rid(rid), fields)
    except ValueError as exc:
        raise MalformedContext(f"{exc}: {text[:64]!r}") from exc


def _decode_fields(rid: Rid, fields: list[str]) -> Context:
    branch, children, time, flags = ROOT_BID, 0, 0, Flags(0)
    zone: Zone = ()
    links: list[Rid] = []
    positions: dict[StoreKey, int] = {}
    unknown: dict[StoreKey, bool] = {}
    unresolved: list[Bid] = []
    logs: dict[LogId, int] = {}
    origins: dict[Origin, int] = {}
    for text in fields:
        letter, body = text[:1], text[1:]
        match letter:
            case "p":
                store, value = _counted(body)
                key = StoreKey(_store(store))
                positions[key] = max(value, positions.get(key, 0))
            case "s":
                origin, seq = _counted(body, ORIGIN_CHARS)
                if origin[-1] not in "0123456789abcdef":
                    raise ValueError("not a lane")
                origins[Origin(origin)] = max(seq, origins.get(Origin(origin), 0))
            case "f":
                log, index = _counted(body, WORD_CHARS)
                logs[LogId(log)] = max(index, logs.get(LogId(log), 0))
            case "b":
                branch = Bid(word_value(body))
            case "z":
                zone = tuple([_number(part) for part in body.split("-")])
            case "c":
                children = _number(body)
            case "t":
                time = _number(body)
            case "u" | "a":
                key = StoreKey(_store(body))
                unknown[key] = letter == "u" or unknown.get(key, False)
            case "x":
                unresolved += [Bid(word_value(bid)) for bid in body.split("~")]
            case "l":
                links += [_linked(link) for link in body.split("~")]
            case "g":
                for flag in body:
                    flags |= _FLAG_OF.get(flag, 0)
            case _:
                if not letter.isalpha():
                    raise ValueError("a field without a letter")
    if len(links) > LINKS_MAX:
        links, flags = links[:LINKS_MAX], flags | Flags.INCOMPLETE
    return Context(
        rid,
        branch,
        zone,
        children,
        frozenset(links),
        positions,
        unknown,
        frozenset(unresolved),
        logs,
        origins,
        time,
        flags,
    )


def _number(text: str) -> int:
    if not 0 < len(text) <= 16 or not text.isalnum() or (not text.islower() and not text.isdigit()):
        raise ValueError("not a number")
    return int(text, 16)


def _counted(body: str, chars: int = 0) -> tuple[str, int]:
    name, tilde, number = body.partition("~")
    if not tilde or not name or (chars and len(name) != chars):
        raise ValueError("not a counted name")
    return name, _number(number)


def _store(text: str) -> str:
    if not text[:1].isalpha() or "~" in text:
        raise ValueError("not a store")
    return text


def _linked(text: str) -> Rid:
    if len(text) != RID_CHARS:
        raise ValueError("not a rid")
    return Rid(text)
