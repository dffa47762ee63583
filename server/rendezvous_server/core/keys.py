"""The server's own forms of ids: numbers and bytes, which are smaller and faster than text.

A request is its 16 bytes; an origin is one integer, ``incarnation * 16 + lane``.
"""

from typing import NewType

from rendezvous_api.errors import MalformedContext
from rendezvous_api.ids import Incarnation, Origin, origin_of, word, word_value
from rendezvous_api.limits import LANES

OriginKey = NewType("OriginKey", int)
"""One lane of one incarnation."""

StreamId = NewType("StreamId", int)
"""One sidecar stream, numbered by the shell, never reused."""

QuestionId = NewType("QuestionId", int)
"""One question, numbered by the shell, never reused."""

NO_RID = bytes(16)
"""The rid of events that belong to no request."""


def key_of(incarnation: int, lane: int) -> OriginKey:
    """The key of one lane of one incarnation."""
    return OriginKey(incarnation * LANES + lane)


def parts_of(key: OriginKey) -> tuple[int, int]:
    """Inverse of :func:`key_of`: (incarnation, lane)."""
    return divmod(key, LANES)


def key_from_text(origin: Origin) -> OriginKey:
    """The key of an origin as contexts name it. Raises :class:`MalformedContext`."""
    try:
        return key_of(word_value(origin[:-1]), int(origin[-1], LANES))
    except ValueError as exc:
        raise MalformedContext(f"not an origin: {origin[:32]!r}") from exc


def text_of_key(key: OriginKey) -> Origin:
    """An origin as contexts name it."""
    incarnation, lane = parts_of(key)
    return origin_of(Incarnation(word(incarnation)), lane)
