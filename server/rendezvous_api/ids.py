"""Identifiers and their text form: unpadded base64url, the one alphabet that no carrier rewrites."""

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NewType

from rendezvous_api.errors import MalformedContext

Rid = NewType("Rid", str)
"""One request: 128 bits as 22 characters."""

Bid = NewType("Bid", int)
"""One branch, unique within its request: 64 bits, 11 characters on the wire. 0 is the root."""

Incarnation = NewType("Incarnation", str)
"""One process from its first event (or its fork) to its end: 64 random bits, 11 characters."""

Origin = NewType("Origin", str)
"""One lane of one incarnation: the incarnation and one hexadecimal digit, 12 characters."""

LogId = NewType("LogId", str)
"""One log: 64 random bits drawn when its storage is created, 11 characters."""

StoreKey = NewType("StoreKey", str)
"""Kind (one letter) and epoch of a datastore: what a position counts in, e.g. ``r`` + 11 characters."""

Zone = tuple[int, ...]
"""One asynchronous call line: ``()`` is the root zone; compared component by component."""

ROOT_BID = Bid(0)
RID_CHARS = 22
WORD_CHARS = 11
ORIGIN_CHARS = 12


def text_of(raw: bytes) -> str:
    """Unpadded base64url of ``raw``."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def raw_of(text: str) -> bytes:
    """Inverse of :func:`text_of`. Raises :class:`MalformedContext`."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error) as exc:
        raise MalformedContext(f"not base64url: {text[:32]!r}") from exc


def rid_from_bytes(raw: bytes) -> Rid:
    """A rid from 16 bytes, such as a trace id."""
    if len(raw) != 16:
        raise MalformedContext(f"a rid has 16 bytes, not {len(raw)}")
    return Rid(text_of(raw))


def rid_bytes(rid: Rid) -> bytes:
    """The 16 bytes of a rid."""
    return raw_of(rid)


def word(value: int) -> str:
    """64 bits as 11 characters (big-endian)."""
    return text_of(value.to_bytes(8, "big"))


def word_value(text: str) -> int:
    """Inverse of :func:`word`."""
    raw = raw_of(text)
    if len(raw) != 8:
        raise MalformedContext(f"64 bits have 11 characters: {text[:32]!r}")
    return int.from_bytes(raw, "big")


def lane_of(rid: Rid) -> int:
    """The lane of a request, 0 to 15: the top 4 bits of its rid's hash.

    A hash, because a rid may be a trace id whose first bits a tracer chooses (X-Ray: the time).
    """
    return hashlib.blake2b(rid_bytes(rid), digest_size=1).digest()[0] >> 4


def origin_of(incarnation: Incarnation, lane: int) -> Origin:
    """The origin of one lane of one incarnation."""
    return Origin(f"{incarnation}{lane:x}")


def short_epoch(text: str) -> str:
    """An epoch name of any length as 64 bits, 11 characters: e.g. a Redis replication id."""
    return text_of(hashlib.blake2b(text.encode(), digest_size=8).digest())


def zone_text(zone: Zone) -> str:
    """A zone as the API shows it: ``""``, ``":0"``, ``":0:1"``."""
    return "".join(f":{part}" for part in zone)


def zone_of(text: str) -> Zone:
    """Inverse of :func:`zone_text`."""
    try:
        return tuple(int(part) for part in text.split(":")[1:])
    except ValueError as exc:
        raise MalformedContext(f"not a zone: {text[:32]!r}") from exc
