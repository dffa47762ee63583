"""The wheel on which requests wait to be looked at: to expire open branches, or to be forgotten.

Every request is in one slot. Forgetting is local: it is no part of the state that law 5 compares.
"""

from collections.abc import Container, Iterable

from rendezvous_api.limits import BRANCH_LEASE_S, RETENTION_S
from rendezvous_server.core.requests import Rank, Requests
from rendezvous_server.limits import SLICE_REQUESTS, WHEEL_S

_RETRY_S = 5.0
"""Seconds after which an expiry that was asked for, and has not come back, is asked for again."""


class Wheel:
    """Slots of ``WHEEL_S`` seconds."""

    __slots__ = ("_requests", "_slots", "forgotten")

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._slots: dict[int, list[bytes]] = {}
        self.forgotten = 0

    def add(self, rids: Iterable[bytes], now: float) -> None:
        """Requests that have just come to be; first looked at when their branches' lease is over."""
        self._slots.setdefault(int((now + BRANCH_LEASE_S) // WHEEL_S) + 1, []).extend(rids)

    @property
    def next_due(self) -> float | None:
        """When the next slot is due, in Unix seconds."""
        return min(self._slots) * WHEEL_S if self._slots else None

    def turn(self, now: float, watched: Container[bytes]) -> list[tuple[bytes, int]]:
        """Look at up to ``SLICE_REQUESTS`` requests that are due. Forgets the idle ones but those
        ``watched``, and returns the open branches, (rid, bid), whose lease is over."""
        expired: list[tuple[bytes, int]] = []
        room = SLICE_REQUESTS
        while room and self._slots:
            slot = min(self._slots)
            if slot * WHEEL_S > now:
                break
            rids = self._slots.pop(slot)
            due = rids[-room:]
            del rids[-room:]
            if rids:
                self._slots[slot] = rids
            room -= len(due)
            for rid in due:
                later = self._look(rid, now, watched, expired)
                if later is not None:
                    self._slots.setdefault(int(later // WHEEL_S) + 1, []).append(rid)
        return expired

    def _look(
        self, rid: bytes, now: float, watched: Container[bytes], expired: list[tuple[bytes, int]]
    ) -> float | None:
        """When to look at the request again; ``None`` once it is forgotten."""
        table = self._requests.table
        request = table.get(rid)
        if request is None:
            return None
        if request.open:
            leases = [
                (branch[1] + BRANCH_LEASE_S, bid)
                for bid, branch in request.branches.items()
                if branch[0] <= Rank.ADOPTED
            ]
            over = [(rid, bid) for until, bid in leases if until <= now]
            expired += over
            return now + _RETRY_S if over else min(leases)[0]
        until = request.active + RETENTION_S
        if until > now:
            return until
        if rid in watched:
            return now + _RETRY_S
        del table[rid]
        self.forgotten += 1
        return None
