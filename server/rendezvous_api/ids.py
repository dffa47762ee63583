"""Identifiers and their text form: unpadded base64url, which no carrier rewrites.

Every id has exactly one text: readers refuse the others, since ids are compared as texts.
"""

from _blake2 import blake2b  # `hashlib` would load OpenSSL for it
from binascii import a2b_base64, b2a_base64, crc32
from functools import lru_cache
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
"""Kind (one letter) and epoch of a datastore: what a position counts in; ``r`` + 11 characters."""

Zone = tuple[int, ...]
"""One asynchronous call line: ``()`` is the root zone; compared component by component."""

ROOT_BID = Bid(0)
RID_CHARS = 22
WORD_CHARS = 11
ORIGIN_CHARS = 12

_TO_URL = bytes.maketrans(b"+/", b"-_")
_WORD_LAST = "AEIMQUYcgkosw048"  # 11 characters hold 66 bits; the last 2 are zero
_WORD_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def text_of(raw: bytes) -> str:
    """Unpadded base64url of ``raw``."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def raw_of(text: str) -> bytes:
    """Inverse of :func:`text_of`. Raises :class:`MalformedContext`."""
    try:
        raw = a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    except ValueError as exc:
        raise MalformedContext(f"not base64url: {text[:32]!r}") from exc
    if text_of(raw) != text:
        raise MalformedContext(f"not base64url as it is written: {text[:32]!r}")
    return raw


def rid_from_bytes(raw: bytes) -> Rid:
    """A rid from 16 bytes, such as a trace id."""
    if len(raw) != 16:
        raise MalformedContext(f"a rid has 16 bytes, not {len(raw)}")
    return Rid(text_of(raw))


@lru_cache(maxsize=2048)
def rid_bytes(rid: Rid) -> bytes:
    """The 16 bytes of a rid. Raises :class:`MalformedContext`."""
    raw = raw_of(rid)
    if len(raw) != 16:
        raise MalformedContext(f"a rid has {RID_CHARS} characters: {rid[:32]!r}")
    return raw


def word(value: int) -> str:
    """64 bits as 11 characters (big-endian)."""
    raw = b2a_base64(value.to_bytes(8, "big"), newline=False)
    return raw.translate(_TO_URL)[:WORD_CHARS].decode("ascii")


def word_value(text: str) -> int:
    """Inverse of :func:`word`. Raises :class:`MalformedContext`."""
    if len(text) == WORD_CHARS and text[-1] in _WORD_LAST and "+" not in text and "/" not in text:
        try:
            raw = a2b_base64(text.replace("-", "+").replace("_", "/") + "=")
        except ValueError as exc:
            raise MalformedContext(f"not base64url: {text!r}") from exc
        if len(raw) == 8:  # else it held characters that the decoder skips
            return int.from_bytes(raw, "big")
    raise MalformedContext(f"not 64 bits in {WORD_CHARS} characters: {text[:32]!r}")


@lru_cache(maxsize=2048)
def lane_of(rid: Rid) -> int:
    """The lane of a request, 0 to 15: the top 4 bits of its rid's hash (CRC-32).

    A hash, because a rid may be a trace id whose first bits a tracer chooses (X-Ray: the time).
    """
    return crc32(rid_bytes(rid)) >> 28


def origin_of(incarnation: Incarnation, lane: int) -> Origin:
    """The origin of one lane of one incarnation."""
    return Origin(f"{incarnation}{lane:x}")


def short_epoch(text: str) -> str:
    """An epoch name of any length as 64 bits, 11 characters: e.g. a Redis replication id."""
    return text_of(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def store_from(raw: bytes) -> StoreKey:
    """A store key as a message holds it. Raises :class:`MalformedContext`."""
    if not raw[:1].isalpha() or raw.translate(None, _WORD_BYTES):
        raise MalformedContext(f"not a store: {raw[:32]!r}")
    return StoreKey(raw.decode("ascii"))


def zone_text(zone: Zone) -> str:
    """A zone as the API shows it: ``""``, ``":0"``, ``":0:1"``."""
    return "".join([f":{part}" for part in zone])


def zone_of(text: str) -> Zone:
    """Inverse of :func:`zone_text`. Raises :class:`MalformedContext`."""
    try:
        zone = tuple([int(part) for part in text.split(":")[1:]])
    except ValueError as exc:
        raise MalformedContext(f"not a zone: {text[:32]!r}") from exc
    if zone_text(zone) != text or any(part < 0 for part in zone):
        raise MalformedContext(f"not a zone: {text[:32]!r}")
    return zone
