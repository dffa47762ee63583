"""gRPC metadata as a carrier: a context among the user's own pairs, on its way in and out.

Trailing metadata carries the callee's context back, so that it knows all that the handler did. A
streamed response says ``continues`` in its initial metadata too: from its first message to its end
the branch counts as unresolved.
"""

from __future__ import annotations

from typing import Any

from rendezvous_api import codec
from rendezvous_api.carrier import BAGGAGE, KEY, members_in, with_member
from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import MalformedContext
from rendezvous_instrumentation.shell.entries import Entry, enter
from rendezvous_instrumentation.shell.process import process

METADATA_BYTES_MAX = 7_168
"""Bytes of metadata with ours among it. Every peer takes 8,192 by default, where gRPC's own headers
count too (path, authority, user agent, …: some 600); ours must not be what exceeds them."""
PAIR_BYTES = 32
"""What HTTP/2 counts for a pair beside its name and value (RFC 9113 §10.5.1)."""
OURS = "/rendezvous.v1."
"""Methods of our own services: not a part of any request."""


def merged(metadata: Any, text: str) -> tuple[Any, ...]:
    """A call's metadata with our member first in its first ``baggage`` value, or in one of ours."""
    pairs: tuple[Any, ...] = tuple(metadata) if metadata else ()
    for at, (key, value) in enumerate(pairs):
        if key == BAGGAGE:
            baggage: Any = with_member(text_of(value), text)
            if isinstance(value, bytes):
                baggage = baggage.encode("latin-1")
            return (*pairs[:at], (key, baggage), *pairs[at + 1 :])
    return (*pairs, (BAGGAGE, with_member(None, text)))


def adopt(metadata: Any, method: Any) -> Entry | None:
    """Adopt an incoming call; ``None`` for our own services, and when we fail."""
    try:
        if text_of(method).startswith(OURS):
            return None
        texts = [one for value in values_of(metadata, BAGGAGE) for one in members_in(value)]
        texts += values_of(metadata, KEY)
        traces = values_of(metadata, "traceparent") if not texts else []
        return enter(texts, traces[0] if traces else None)
    except Exception:
        process().stats.count("failed")
        return None


def replied(entry: Entry, others: Any, *, continues: bool = False) -> Any:
    """The response's metadata: the user's, then ours where the request carried a context. Where
    there is no room ours says just ``continues``: the close of the branch tells the rest."""
    pairs: Any = others
    try:
        pairs = tuple(others) if others else ()
        text = entry.reply(continues=continues)
        if text is None:
            return pairs
        if size_of(pairs) + len(text) + PAIR_BYTES > METADATA_BYTES_MAX:
            scope = entry.scope
            short = Context(scope.cell.rid, scope.bid, scope.zone, flags=Flags.CONTINUES)
            text = codec.encode(short)
            process().stats.count("contexts_without_room")
        return (*pairs, (KEY, text))
    except Exception:
        process().stats.count("failed")
        return pairs


def left(entry: Entry) -> None:
    """The call's work is done."""
    try:
        entry.leave()
    except Exception:
        process().stats.count("failed")


def values_of(metadata: Any, name: str) -> list[str]:
    """All values of ``name`` (lower-case) in metadata of either side."""
    return [text_of(pair[1]) for pair in metadata or () if pair[0] == name]


def size_of(pairs: tuple[Any, ...]) -> int:
    """Bytes of metadata as HTTP/2 counts them."""
    return sum(len(key) + len(value) + PAIR_BYTES for key, value in pairs)


def text_of(value: Any) -> str:
    """A metadata value, or a name as the library keeps it, as text."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def decoded(text: str) -> Context | None:
    """The context in ``text``, if it is one."""
    try:
        return codec.decode(text)
    except MalformedContext:
        return None
