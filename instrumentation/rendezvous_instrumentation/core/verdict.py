"""Verdicts: what every dependent read gets, and why one was not protected (DESIGN §1)."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """The three outcomes of a dependent read."""

    PROTECTED = "protected"
    WAITED = "waited"
    UNPROTECTED = "unprotected"


class Reason(Enum):
    """Why a read is ``unprotected``."""

    NONE = ""
    BUDGET = "budget"
    """The wait's budget was used up."""
    BULKHEAD = "bulkhead"
    """Too many reads were being held."""
    BREAKER = "breaker"
    """The sidecar is away and the circuit breaker is open."""
    RESOLVE = "unreachable"
    """The sidecar or server did not answer in time."""
    FORBIDDEN = "forbidden"
    """The node refused the question, or answered nothing usable."""
    LOST = "lost"
    """The store's history forked before the write."""
    LOST_TAIL = "lost_tail"
    LOST_LOG = "lost_log"
    EXPIRED = "expired"
    INCOMPLETE = "incomplete"
    JOINED = "joined"
    UNKNOWN_WRITE = "unknown_write"
    """A write of the request has no known position or outcome."""
    UNRESOLVED = "unresolved"
    """A call of the request is still not known to have ended."""
    SYNCING = "syncing"
    """The node cannot say what it has applied."""
    OBSERVED = "observed"
    """Mode ``observe``: the barrier would have waited."""
    CACHE = "cache"
    """A client-side cache answers; no node can be asked."""
    CLUSTER = "cluster"
    """A topology this version does not ask: Redis Cluster."""
    FAILED = "failed"
    """Our own code failed; the read was done as if we were not there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One dependent read's verdict."""

    outcome: Outcome
    reason: Reason = Reason.NONE

    @property
    def text(self) -> str:
        """``protected``, ``waited`` or ``unprotected{reason}``."""
        if self.outcome is Outcome.UNPROTECTED:
            return f"unprotected{{{self.reason.value}}}"
        return str(self.outcome.value)


PROTECTED = Verdict(Outcome.PROTECTED)
WAITED = Verdict(Outcome.WAITED)


def unprotected(reason: Reason) -> Verdict:
    """An ``unprotected`` verdict."""
    return Verdict(Outcome.UNPROTECTED, reason)
