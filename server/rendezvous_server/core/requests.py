"""The state of requests, and the loop that applies events to it.

State is a join (law 5): positions are maxima, marks, links and closes are unions, and a branch's
state only rises through :class:`Rank`. So events may be repeated, and those of different logs may
come in any order. Beyond a named limit a request is marked incomplete instead, and its answers say so.
"""

from collections.abc import Sequence
from enum import IntEnum
from itertools import islice
from typing import Any

from rendezvous_api.event import Kind
from rendezvous_api.limits import LINKS_MAX, RETENTION_S
from rendezvous_server.core.batch import Walk
from rendezvous_server.core.keys import NO_RID
from rendezvous_server.limits import (
    BRANCHES_PER_REQUEST_MAX,
    CLOCK_SLACK_S,
    CLOSES_PER_BRANCH_MAX,
    LINEAGES_MAX,
    POSITIONS_PER_REQUEST_MAX,
)


class Rank(IntEnum):
    """A branch's state; of two that are reported the higher holds."""

    OPEN = 0
    ADOPTED = 1
    EXPIRED = 2
    OPAQUE = 3
    FAILED = 4
    CLOSED = 5


Description = tuple[int, str, str, str, str]
"""Work, zone, service, region, tag of an opened branch."""

Adopter = tuple[str, str]
"""Service, region."""

Closes = tuple[tuple[str, str], ...]
"""Each (region, frontier), sorted."""

Branch = tuple[int, float, int, Description | None, Adopter | None, Closes]
"""Rank, time of the first report, and what was reported: parent and description, once opened;
adopter; closes. A tuple: small, and no work for the garbage collector."""

_OPEN, _ADOPTED, _CLOSED = int(Rank.OPEN), int(Rank.ADOPTED), int(Rank.CLOSED)
_K_OPEN, _K_CLOSE, _K_WRITE, _K_ADOPT = map(int, (Kind.OPEN, Kind.CLOSE, Kind.WRITE, Kind.ADOPT))


class Request:
    """One request. ``created`` and ``active`` are Unix seconds and local: not part of the join."""

    __slots__ = (
        "active",
        "branches",
        "created",
        "incomplete",
        "links",
        "open",
        "positions",
        "unknown",
    )

    def __init__(self, now: float) -> None:
        self.positions: dict[str, int] = {}
        self.unknown: dict[str, bool] | None = None
        self.links: set[bytes] | None = None
        self.branches: dict[int, Branch] = {}
        self.open = 0
        self.created = now
        self.active = now
        self.incomplete = False

    @property
    def known_since(self) -> float:
        """Nothing that happened after this can have been forgotten: what was forgotten before
        this state began had been idle for the retention."""
        return self.created - RETENTION_S + CLOCK_SLACK_S


class Requests:
    """All requests, and what belongs to none: lineages."""

    __slots__ = (
        "events",
        "fresh",
        "learnt",
        "lineages",
        "linking",
        "open",
        "table",
        "watched_bids",
        "woken",
    )

    def __init__(self) -> None:
        self.table: dict[bytes, Request] = {}
        self.lineages: dict[tuple[str, str], int] = {}
        self.open = 0
        """Branches open or adopted, of all requests together."""
        self.events = 0
        self.fresh: list[bytes] = []
        """Requests created and not yet put on the wheel by whoever watches retention."""
        self.learnt: list[tuple[str, str, int]] = []
        """Lineages not yet told to anyone."""
        self.watched_bids: set[int] = set()
        """Branches for whose opening or end somebody waits."""
        self.woken: list[int] = []
        """Those of them that were opened, or ended, since somebody looked."""
        self.linking: set[bytes] = set()
        """Requests that linked another since somebody looked."""

    def touch(self, rid: bytes, now: float) -> Request:
        """The request, made if need be. Events of no request get one that nobody keeps."""
        request = self.table.get(rid)
        if request is None:
            request = Request(now)
            if rid != NO_RID:
                self.table[rid] = request
                self.fresh.append(rid)
        elif now > request.active:
            request.active = now
        return request

    def apply(
        self, walk: Walk, seen: list[Request | None], count: int, now: float, own: str
    ) -> None:
        """Apply the next ``count`` events of ``walk``. ``seen`` has one place per request of the
        walk. ``own``: what a close depends on beyond its frontier, where its origin is a successor.
        """
        rids, columns = walk.rids, walk.columns
        next_open = columns[_K_OPEN].__next__
        next_close = columns[_K_CLOSE].__next__
        next_write = columns[_K_WRITE].__next__
        next_adopt = columns[_K_ADOPT].__next__
        watched, opened_before = self.watched_bids, self.open
        delta = 0
        body: Any
        for kind, at, bid in islice(walk.rows, count):
            request = seen[at]
            if request is None:
                request = seen[at] = self.touch(rids[at], now)
            if kind == _K_OPEN:
                parent, description = next_open()
                branches = request.branches
                if bid not in branches and len(branches) < BRANCHES_PER_REQUEST_MAX:
                    branches[bid] = (_OPEN, now, parent, description, None, ())
                    request.open += 1
                    delta += 1
                else:
                    new = (_OPEN, now, parent, description, None, ())
                    delta += self._merge(request, bid, new)
                if bid in watched:
                    self.woken.append(bid)
            elif kind == _K_WRITE:
                store, value = next_write()
                positions = request.positions
                if value > positions.get(store, -1):
                    positions[store] = value
                    if len(positions) > POSITIONS_PER_REQUEST_MAX:
                        del positions[store]
                        request.incomplete = True
            elif kind == _K_CLOSE:
                body = next_close()
                if own:
                    region, frontier = body
                    body = (region, f"{frontier}.{own}" if frontier else own)
                branches = request.branches
                old = branches.get(bid)
                if old is not None and old[0] <= _ADOPTED:
                    branches[bid] = (_CLOSED, old[1], old[2], old[3], old[4], (body,))
                    request.open -= 1
                    delta -= 1
                else:
                    delta += self._merge(request, bid, (_CLOSED, now, 0, None, None, (body,)))
                if bid in watched:
                    self.woken.append(bid)
            elif kind == _K_ADOPT:
                delta += self._merge(request, bid, (_ADOPTED, now, 0, None, next_adopt(), ()))
            else:
                delta += self._rare(request, rids[at], kind, bid, next(columns[kind]), now)
        self.open = opened_before + delta
        self.events += count

    def _rare(
        self, request: Request, rid: bytes, kind: int, bid: int, body: Any, now: float
    ) -> int:
        """Events that are few. Returns the change in open branches."""
        match kind:
            case Kind.FAIL | Kind.OPAQUE:
                rank = Rank.FAILED if kind == Kind.FAIL else Rank.OPAQUE
                return self.end(request, bid, rank, now)
            case Kind.UNKNOWN:
                self._mark(request, *body)
            case Kind.LINK:
                links = request.links = request.links or set()
                links.add(body[0])
                self.linking.add(rid)
                if len(links) > LINKS_MAX:
                    links.discard(body[0])
                    request.incomplete = True
            case _:
                self.learn(*body)
        return 0

    def end(self, request: Request, bid: int, rank: Rank, now: float) -> int:
        """A branch ended without a close. Returns the change in open branches."""
        if bid in self.watched_bids:
            self.woken.append(bid)
        return self._merge(request, bid, (int(rank), now, 0, None, None, ()))

    def _mark(self, request: Request, store: str, unanswered: bool) -> None:
        unknown = request.unknown = request.unknown or {}
        if store not in unknown and len(unknown) >= POSITIONS_PER_REQUEST_MAX:
            request.incomplete = True
        else:
            unknown[store] = unanswered or unknown.get(store, False)

    def learn(self, old: str, new: str, fork: int) -> None:
        """A lineage. Of two fork points the greater holds, as in ``positions.cover``: a node that lagged at
        the failover names how far it had come, the promoted one how far the histories go together."""
        known = self.lineages.get((old, new))
        if known is None and len(self.lineages) >= LINEAGES_MAX:
            return
        if known is None or fork > known:
            self.lineages[old, new] = fork
            self.learnt.append((old, new, fork))

    def expire(self, branches: Sequence[tuple[bytes, int]], now: float) -> None:
        """The lease of these branches ran out. Expiry is no activity of the request."""
        for rid, bid in branches:
            request = self.table.get(rid) or self.touch(rid, now)
            self.open += self.end(request, bid, Rank.EXPIRED, now)

    def _merge(self, request: Request, bid: int, new: Branch) -> int:
        """Join what is known of a branch with ``new``. Returns the change in open branches."""
        branches = request.branches
        old = branches.get(bid)
        if old is None:
            if len(branches) >= BRANCHES_PER_REQUEST_MAX:
                request.incomplete = True
                return 0
            branches[bid] = new
            change = 1 if new[0] <= _ADOPTED else 0
        else:
            joined = joined_branch(old, new)
            if len(joined[5]) > CLOSES_PER_BRANCH_MAX:
                request.incomplete = True
                return 0
            branches[bid] = joined
            change = (joined[0] <= _ADOPTED) - (old[0] <= _ADOPTED)
        request.open += change
        return change


def joined_branch(one: Branch, other: Branch) -> Branch:
    """The join of two reports on one branch."""
    parent, description = one[2], one[3]
    if other[3] is not None and (description is None or (parent, description) < other[2:4]):
        parent, description = other[2], other[3]
    adopter = one[4]
    if other[4] is not None and (adopter is None or adopter < other[4]):
        adopter = other[4]
    closes = one[5]
    if other[5] and other[5] != closes:
        closes = tuple(sorted({*closes, *other[5]})) if closes else other[5]
    return max(one[0], other[0]), min(one[1], other[1]), parent, description, adopter, closes
