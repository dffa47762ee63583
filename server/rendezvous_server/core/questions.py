"""Held questions: what each still waits for, and its answer.

A question waits until every entry of its frontier is covered and every unresolved branch has ended,
with what that end itself had seen. It is looked at again only when something it waits for moved.
"""

from dataclasses import dataclass, field
from heapq import heappop, heappush

from rendezvous_api.channel import Status
from rendezvous_api.codec import decode, encode
from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import MalformedContext
from rendezvous_api.ids import Bid, LogId, StoreKey, rid_bytes
from rendezvous_api.limits import CONTEXT_INPUT_BYTES_MAX, RETENTION_S
from rendezvous_server.core.keys import OriginKey, QuestionId, key_from_text
from rendezvous_server.core.origins import Cover, Origins
from rendezvous_server.core.requests import Rank, Request, Requests
from rendezvous_server.limits import CLOCK_SLACK_S, LINKED_REQUESTS_MAX

_WILL_NOT_CLOSE = (Rank.OPAQUE, Rank.EXPIRED)


@dataclass(slots=True)
class Question:
    """One question and what it has found out so far."""

    id: QuestionId
    context: Context
    rids: list[bytes]
    """The request first, then those that the asker links."""
    deadline: float
    origins: dict[OriginKey, int] = field(default_factory=dict[OriginKey, int])
    logs: dict[LogId, int] = field(default_factory=dict[LogId, int])
    """The frontier to be covered: that asked about, and that of the ends of its calls."""
    unresolved: set[int] = field(default_factory=set[int])
    """Calls that have not ended: those asked about, and those that their ends left open."""
    exempt: set[int] = field(default_factory=set[int])
    """Ancestors of the asking branch: they cannot end before its read does."""
    expired: bool = False
    incomplete: bool = False
    parsed: dict[str, Context | None] = field(default_factory=dict[str, Context | None])
    """Frontiers of ends by their text; ``None``: malformed."""
    watches: set[int] = field(default_factory=set[int])
    """Branches whose opening or end may change the verdict."""
    parked: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])


class Questions:
    """The questions that this server holds."""

    __slots__ = ("_by_bid", "_by_log", "_by_origin", "_by_rid", "_deadlines", "_origins", "_requests", "held",
                 "indexes", "log", "times", "watched")  # fmt: skip

    def __init__(self, log: LogId, requests: Requests, origins: Origins) -> None:
        self.log = log
        self.indexes: dict[LogId, int] = {log: 0}
        self.times: list[tuple[int, float]] = []
        """Since when this log has been at (index): one mark a second, for the retention."""
        self._requests = requests
        self._origins = origins
        self.held: dict[QuestionId, Question] = {}
        self.watched: dict[bytes, int] = {}
        """Requests that questions ask about: not to be forgotten meanwhile."""
        self._by_origin: dict[OriginKey, list[tuple[int, QuestionId]]] = {}
        self._by_bid: dict[int, set[QuestionId]] = {}
        self._by_rid: dict[int, set[QuestionId]] = {}
        self._by_log: set[QuestionId] = set()
        self._deadlines: list[tuple[float, QuestionId]] = []

    # --- asking ---------------------------------------------------------------------

    def ask(self, id_: QuestionId, text: str, budget_s: float, now: float) -> Question:
        """Take a question; :meth:`look` at it next. Raises :class:`MalformedContext`."""
        context = decode(text)
        question = Question(
            id_,
            context,
            [rid_bytes(context.rid), *sorted(rid_bytes(link) for link in context.links)],
            now + budget_s,
        )
        for rid in question.rids:
            request = self._requests.table.get(rid)
            if request is not None and now > request.active:
                request.active = now
        return question

    def is_expired(self, question: Question, now: float) -> bool:
        """Whether something that the context rests on may have been forgotten.

        Nothing is forgotten within the retention after it arrived. So what is absent is merely
        not here yet, unless the context's knowledge is older than that.
        """
        context = question.context
        index = context.logs.get(self.log)
        since: float = context.time or (self._time_at(index) if index is not None else now)
        table = self._requests.table
        found = [table.get(rid) for rid in question.rids]
        if index is not None and index <= self.indexes[self.log] and found == [None]:
            return True
        horizon = now - RETENTION_S + CLOCK_SLACK_S
        return any(since < (r.known_since if r is not None else horizon) for r in found)

    def _time_at(self, index: int) -> float:
        """When, at the earliest, this log reached ``index``; 0 if that is no longer known."""
        time = 0.0
        for at, now in self.times:
            if at > index:
                break
            time = now
        return time

    def look(self, question: Question) -> tuple[Status, str] | None:
        """The question's end, if it has one now. Else it is held and parked where it waits."""
        self._settle(question)
        if not question.logs.keys() <= self.indexes.keys():
            return Status.LOST_LOG, self.answer(question, Status.LOST_LOG)
        unmet = self._look_at_origins(question)
        if unmet is None:
            return Status.LOST_TAIL, self.answer(question, Status.LOST_TAIL)
        waits_for_log = any(index > self.indexes[log] for log, index in question.logs.items())
        if not (unmet or question.unresolved - question.exempt or waits_for_log):
            status = Status.EXPIRED if question.expired else Status.ANSWERED
            return status, self.answer(question, status)
        self._park(question, unmet, waits_for_log)
        return None

    def _look_at_origins(self, question: Question) -> set[tuple[OriginKey, int]] | None:
        """What it waits for, as (origin, seq), any seq being 0; ``None`` if something is lost."""
        unmet: set[tuple[OriginKey, int]] = set()
        lost = False
        for key, seq in question.origins.items():
            watch: set[OriginKey] = set()
            verdict = self._origins.cover(key, seq, watch)
            if verdict is Cover.LOST:
                lost = True
            elif verdict is Cover.NOT_YET and watch == {key}:
                unmet.add((key, seq))
            elif verdict is Cover.NOT_YET:
                unmet |= {(each, 0) for each in watch}
        return None if lost else unmet

    def _settle(self, question: Question) -> None:
        """See which calls have ended, and what their ends had seen and left open. From scratch, for
        a later report may say better: a close after an expiry, a second close."""
        context = question.context
        question.origins = {key_from_text(each): seq for each, seq in context.origins.items()}
        question.logs = dict(context.logs)
        question.expired = question.incomplete = False
        question.unresolved = set(context.unresolved)
        if not context.unresolved:
            return
        question.watches = set()
        question.exempt = self._ancestors(question)
        requests = self._linked(question)[0]
        calls = set(context.unresolved)
        todo = list(calls - question.exempt)
        for bid in todo:
            rank, frontiers = _end_of(requests, bid)
            if rank is None:
                continue
            question.unresolved.discard(bid)
            question.incomplete |= rank in _WILL_NOT_CLOSE
            question.expired |= rank == Rank.EXPIRED
            for frontier in frontiers:
                new = self._extend(question, frontier) - calls
                calls |= new
                question.unresolved |= new
                todo += new - question.exempt
        question.watches |= question.unresolved - question.exempt

    def _ancestors(self, question: Question) -> set[int]:
        """The branch that asks and those above it, as far as their opening is known."""
        bid: int = question.context.branch
        out: set[int] = set()
        request = self._requests.table.get(question.rids[0])
        while bid and bid not in out:
            out.add(bid)
            branch = request.branches.get(bid) if request is not None else None
            if branch is None or branch[3] is None:
                question.watches.add(bid)
                break
            bid = branch[2]
        return out

    def _extend(self, question: Question, frontier: str) -> frozenset[Bid]:
        """Wait for a close's own frontier too. Returns the calls that this end left open."""
        if frontier not in question.parsed:
            question.parsed[frontier] = _parsed(f"1.{question.context.rid}.{frontier}")
        seen = question.parsed[frontier]
        if seen is None:
            question.incomplete = True
            return frozenset()
        for origin, seq in seen.origins.items():
            key = key_from_text(origin)
            question.origins[key] = max(seq, question.origins.get(key, 0))
        for log, index in seen.logs.items():
            question.logs[log] = max(index, question.logs.get(log, 0))
        question.incomplete |= bool(seen.flags & Flags.INCOMPLETE)
        return frozenset(seen.unresolved)

    # --- waiting --------------------------------------------------------------------

    def _park(
        self, question: Question, unmet: set[tuple[OriginKey, int]], waits_for_log: bool
    ) -> None:
        id_ = question.id
        if id_ not in self.held:
            self.held[id_] = question
            heappush(self._deadlines, (question.deadline, id_))
            for rid in question.rids:
                self.watched[rid] = self.watched.get(rid, 0) + 1
        for key, seq in sorted(unmet):
            if ("o", key) not in question.parked:
                question.parked.add(("o", key))
                heappush(self._by_origin.setdefault(key, []), (seq, id_))
        for rid in self._reach(question) if question.unresolved else ():
            number = int.from_bytes(rid, "big")
            question.parked.add(("r", number))
            self._by_rid.setdefault(number, set()).add(id_)
        for bid in question.watches:
            if ("b", bid) not in question.parked:
                question.parked.add(("b", bid))
                self._by_bid.setdefault(bid, set()).add(id_)
                self._requests.watched_bids.add(bid)
        if waits_for_log:
            self._by_log.add(id_)

    def drop(self, id_: QuestionId) -> Question | None:
        """Let go of a held question."""
        question = self.held.pop(id_, None)
        self._by_log.discard(id_)
        if question is None:
            return None
        for rid in question.rids:
            left = self.watched[rid] - 1
            if left:
                self.watched[rid] = left
            else:
                del self.watched[rid]
        for kind, number in question.parked:
            if kind == "o":
                self._unpark_origin(OriginKey(number), id_)
            else:
                waiters = self._by_bid if kind == "b" else self._by_rid
                waiting = waiters[number]
                waiting.discard(id_)
                if not waiting:
                    del waiters[number]
                    if kind == "b":
                        self._requests.watched_bids.discard(number)
        if len(self._deadlines) > 64 and len(self._deadlines) > 4 * len(self.held):
            self._deadlines = sorted((q.deadline, q.id) for q in self.held.values())
        return question

    def _unpark_origin(self, key: OriginKey, id_: QuestionId) -> None:
        waiting = [each for each in self._by_origin.get(key, ()) if each[1] != id_]
        if waiting:
            self._by_origin[key] = sorted(waiting)
        else:
            self._by_origin.pop(key, None)

    def woken_by_origin(self, key: OriginKey, *, all_of_them: bool) -> list[QuestionId]:
        """Questions that waited for what this origin has now, or for anything of it."""
        waiting = self._by_origin.get(key)
        if not waiting:
            return []
        applied = self._origins.applied.get(key, 0)
        out: list[QuestionId] = []
        while waiting and (all_of_them or waiting[0][0] <= applied):
            id_ = heappop(waiting)[1]
            out.append(id_)
            if id_ in self.held:
                self.held[id_].parked.discard(("o", key))
        if not waiting:
            del self._by_origin[key]
        return out

    def woken_by_requests(self) -> list[QuestionId]:
        """Questions that waited for branches that have ended since, or whose requests have linked
        others, where such a branch may be."""
        out = [id_ for bid in self._requests.woken for id_ in self._by_bid.get(bid, ())]
        self._requests.woken.clear()
        for rid in self._requests.linking:
            out += self._by_rid.get(int.from_bytes(rid, "big"), ())
        self._requests.linking.clear()
        return out

    def woken_by_log(self) -> list[QuestionId]:
        """Questions that waited for a log to get further."""
        return list(self._by_log)

    @property
    def next_deadline(self) -> float | None:
        """When the next held question times out, in Unix seconds."""
        while self._deadlines and self._deadlines[0][1] not in self.held:
            heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def next_due(self) -> QuestionId:
        """The question with the next deadline; there must be one."""
        return self._deadlines[0][1]

    # --- answering ------------------------------------------------------------------

    def answer(self, question: Question, status: Status) -> str:
        """What is known now, encoded."""
        positions: dict[StoreKey, int] = {}
        unknown: dict[StoreKey, bool] = {}
        incomplete = question.incomplete
        requests, all_linked = self._linked(question)
        for request in requests:
            incomplete |= request.incomplete
            for store, value in request.positions.items():
                key = StoreKey(store)
                if value > positions.get(key, -1):
                    positions[key] = value
            for store, unanswered in (request.unknown or {}).items():
                key = StoreKey(store)
                unknown[key] = unanswered or unknown.get(key, False)
        answered = status is Status.ANSWERED
        context = Context(
            question.context.rid,
            positions=positions,
            unknown=unknown,
            unresolved=frozenset(Bid(bid) for bid in question.unresolved),
            logs={self.log: self.indexes[self.log]} if answered else {},
            flags=Flags.INCOMPLETE if incomplete or not all_linked else Flags(0),
        )
        return encode(context, limit_bytes=CONTEXT_INPUT_BYTES_MAX, keep=frozenset(positions))

    def _linked(self, question: Question) -> tuple[list[Request], bool]:
        """The states of the request and of all it links, also by what is known here alone;
        whether that is all of them."""
        table = self._requests.table
        reach = self._reach(question)
        found = [request for rid in reach if (request := table.get(rid)) is not None]
        return found, len(reach) < LINKED_REQUESTS_MAX

    def _reach(self, question: Question) -> list[bytes]:
        """The request and all it links, links of links too, up to the limit."""
        order = list(question.rids)
        seen = set(order)
        for rid in order:
            request = self._requests.table.get(rid)
            if request is None or not request.links:
                continue
            for link in sorted(request.links - seen):
                if len(order) < LINKED_REQUESTS_MAX:
                    seen.add(link)
                    order.append(link)
        return order


def _end_of(requests: list[Request], bid: int) -> tuple[Rank | None, list[str]]:
    """How a branch ended, and with which frontiers; it may be of any linked request."""
    best: Rank | None = None
    frontiers: list[str] = []
    for request in requests:
        branch = request.branches.get(bid)
        if branch is None or branch[0] < Rank.EXPIRED:
            continue
        best = Rank(branch[0]) if best is None else max(best, Rank(branch[0]))
        frontiers += [frontier for _, frontier in branch[5] if frontier]
    return best, frontiers


def _parsed(text: str) -> Context | None:
    try:
        return decode(text)
    except MalformedContext:
        return None
