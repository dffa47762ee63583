"""Entries: what a log holds. Everything that changes the state is one, and each carries its time.

``now`` is Unix seconds at the server that appended the entry. Entries of different logs commute
(law 5): none says anything that depends on what another log holds.
"""

from dataclasses import dataclass

from rendezvous_server.core.batch import Batch
from rendezvous_server.core.keys import OriginKey


@dataclass(frozen=True, slots=True)
class Batched:
    """A sidecar's batch. ``without``: indexes of runs that are left out, since their origin goes on
    under a successor."""

    now: float
    batch: Batch
    without: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Holed:
    """Of each origin, nothing from this seq on is expected to arrive. Beaten by the event itself."""

    now: float
    origins: tuple[tuple[OriginKey, int], ...]


@dataclass(frozen=True, slots=True)
class Moved:
    """Another server holds this incarnation's lease now: this one appends no hole for it."""

    now: float
    incarnation: int


@dataclass(frozen=True, slots=True)
class Follows:
    """What ``origin`` sends after its seq ``after`` arrives here as ``successor``:1, 2, 3 …"""

    now: float
    successor: OriginKey
    origin: OriginKey
    after: int


@dataclass(frozen=True, slots=True)
class Expired:
    """The lease of these branches, (rid, bid), ran out. A close beats it."""

    now: float
    branches: tuple[tuple[bytes, int], ...]


Entry = Batched | Holed | Moved | Follows | Expired
