"""DESIGN §5.2: Hypothesis drives the core and a naive model side by side.

The model keeps everything that was let in and computes all it says from scratch with plain sets. An
event has one absolute number in its process, whatever name it arrives under; that is how the model
sees successors. Compared after every step: the state of requests, what is applied, which questions
are held, and status, positions and remaining calls of every answer. Not compared: acks, retention,
leases (tested by example in test_core_laws).
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from rendezvous_api.channel import Status
from rendezvous_api.codec import decode
from rendezvous_api.context import Flags
from rendezvous_api.event import Adopt, Body, Close, Fail, Link, Opaque, Open, Unknown, Work, Write
from rendezvous_api.ids import Bid, LogId, StoreKey, rid_from_bytes, word
from rendezvous_server.core import (
    Answered,
    Core,
    Effects,
    Expired,
    Follows,
    QuestionId,
    Send,
    StreamId,
)
from rendezvous_server.core.keys import OriginKey, key_of, parts_of, text_of_key
from rendezvous_server.core.requests import Rank
from rendezvous_server.core.view import joined_state
from rendezvous_testing.batches import Told, batch_of

LOG = LogId("L" * 11)
NOW = 1_700_000_000.0
PROCESSES = (1, 2)
LENGTH = 8
LANE = 0
RIDS = (b"r" * 16, b"s" * 16, b"t" * 16)
BIDS = (11, 12, 13)

_stores = st.sampled_from(("rA", "rB")).map(StoreKey)
_origins = st.sampled_from(PROCESSES).map(lambda process: key_of(process, LANE))
_frontiers = st.lists(
    st.one_of(
        st.tuples(_origins.map(text_of_key), st.integers(1, LENGTH)).map(
            lambda entry: f"s{entry[0]}~{entry[1]:x}"
        ),
        st.sampled_from(BIDS).map(lambda bid: f"x{word(bid)}"),
        st.just("gi"),
    ),
    max_size=2,
    unique_by=lambda entry: entry[0],
).map(".".join)
_parents = st.sampled_from((0, *BIDS)).map(Bid)
_bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Open, st.sampled_from(Work), _parents),
    st.builds(Close, _frontiers, st.sampled_from(("", "eu"))),
    st.builds(Close, st.just(""), st.just("")),
    st.just(Fail()),
    st.just(Opaque()),
    st.builds(Adopt, st.sampled_from(("", "svc"))),
    st.builds(Write, _stores, st.integers(0, 9)),
    st.builds(Unknown, _stores, st.booleans()),
    st.builds(Link, st.sampled_from(RIDS).map(rid_from_bytes)),
)
_told: st.SearchStrategy[Told] = st.tuples(st.sampled_from(RIDS), st.sampled_from(BIDS), _bodies)

_RANK: dict[type[Body], Rank] = {
    Open: Rank.OPEN,
    Adopt: Rank.ADOPTED,
    Opaque: Rank.OPAQUE,
    Fail: Rank.FAILED,
    Close: Rank.CLOSED,
}


@dataclass
class Asked:
    """A question as the model remembers it."""

    rids: tuple[bytes, ...]
    origins: dict[OriginKey, int]
    bids: frozenset[int]
    branch: int
    foreign_log: bool
    deadline: float


@dataclass
class Model:
    """Plain sets; no memory of what it said before."""

    told: dict[int, list[Told]]
    let_in: dict[OriginKey, set[int]] = field(default_factory=dict[OriginKey, set[int]])
    holes: dict[OriginKey, int] = field(default_factory=dict[OriginKey, int])
    root: dict[OriginKey, tuple[OriginKey, int]] = field(
        default_factory=dict[OriginKey, tuple[OriginKey, int]]
    )
    """Name → (the process's own origin, how far its numbers are shifted)."""
    follows: dict[tuple[OriginKey, int], OriginKey] = field(
        default_factory=dict[tuple[OriginKey, int], OriginKey]
    )
    expired: set[tuple[bytes, int]] = field(default_factory=set[tuple[bytes, int]])
    seen: tuple[int, list[tuple[OriginKey, int, Told]]] = (0, [])
    """So many were let in when these were applied."""

    def applied(self, name: OriginKey) -> int:
        seqs = self.let_in.get(name, set())
        return next(seq for seq in range(LENGTH + 2) if seq + 1 not in seqs)

    def absolute(self, name: OriginKey, seq: int) -> tuple[OriginKey, int]:
        root, shift = self.root.get(name, (name, 0))
        return root, seq + shift

    def names(self, root: OriginKey, number: int) -> list[tuple[OriginKey, int]]:
        """Every name under which an event may arrive."""
        names = [(root, number)]
        names += [
            (name, number - shift)
            for name, (own, shift) in self.root.items()
            if own == root and number > shift
        ]
        return names

    def cover(self, name: OriginKey, seq: int) -> str:
        root, last = self.absolute(name, seq)
        verdict = "yes"
        for number in range(1, last + 1):
            names = self.names(root, number)
            if any(at <= self.applied(each) for each, at in names):
                continue
            if all(self.applied(each) < self.holes.get(each, 0) <= at for each, at in names):
                return "lost"
            verdict = "not yet"
        return verdict

    def events(self) -> list[tuple[OriginKey, int, Told]]:
        """All that is applied, with the name under which it was."""
        size = sum(map(len, self.let_in.values()))
        if self.seen[0] != size:
            self.seen = size, self._events()
        return self.seen[1]

    def _events(self) -> list[tuple[OriginKey, int, Told]]:
        out: list[tuple[OriginKey, int, Told]] = []
        for name in self.let_in:
            for seq in range(1, self.applied(name) + 1):
                root, number = self.absolute(name, seq)
                out.append((name, seq, self.told[parts_of(root)[0]][number - 1]))
        return out

    def positions(self, rids: set[bytes]) -> dict[str, int]:
        writes = [
            body
            for _, _, (rid, _, body) in self.events()
            if rid in rids and isinstance(body, Write)
        ]
        stores = {write.store for write in writes}
        return {store: max(w.value for w in writes if w.store == store) for store in stores}

    def unknown(self, rids: set[bytes]) -> dict[str, bool]:
        marks = [
            body
            for _, _, (rid, _, body) in self.events()
            if rid in rids and isinstance(body, Unknown)
        ]
        stores = {mark.store for mark in marks}
        return {store: any(m.unanswered for m in marks if m.store == store) for store in stores}

    def linked(self, rids: set[bytes]) -> set[bytes]:
        for _ in RIDS:
            rids = rids | {
                other
                for _, _, (rid, _, body) in self.events()
                for other in RIDS
                if rid in rids and isinstance(body, Link) and body.rid == rid_from_bytes(other)
            }
        return rids

    def rank(self, rids: set[bytes], bid: int) -> Rank | None:
        ranks = [
            _RANK[type(body)]
            for _, _, (rid, at, body) in self.events()
            if rid in rids and at == bid and type(body) in _RANK
        ]
        ranks += [Rank.EXPIRED for rid, at in self.expired if rid in rids and at == bid]
        return max(ranks, default=None)

    def ancestors(self, asked: Asked) -> set[int]:
        """The asking branch and those above it."""
        bid, out = asked.branch, set[int]()
        while bid and bid not in out:
            out.add(bid)
            opened = [
                (body.parent, int(body.work))
                for _, _, (rid, at, body) in self.events()
                if rid == asked.rids[0] and at == bid and isinstance(body, Open)
            ]
            bid = max(opened)[0] if opened else 0
        return out

    def status(self, asked: Asked) -> tuple[Status | None, set[int], bool]:
        """Status (``None``: held), calls that remain, whether the answer is incomplete."""
        rids = self.linked(set(asked.rids))
        exempt = self.ancestors(asked)
        calls = set(asked.bids)
        needs = set(asked.origins.items())
        doubtful = False
        for _ in range(len(BIDS)):
            for name, seq, (rid, bid, body) in self.events():
                if rid not in rids or bid not in calls - exempt or not isinstance(body, Close):
                    continue
                if name in self.root:
                    needs.add((name, seq))
                for entry in filter(None, body.frontier.split(".")):
                    if entry == "gi":
                        doubtful = True
                    elif entry[0] == "x":
                        calls |= {bid for bid in BIDS if entry[1:] == word(bid)}
                    else:
                        keys = [key_of(process, LANE) for process in PROCESSES]
                        text, _, number = entry[1:].partition("~")
                        needs |= {(k, int(number, 16)) for k in keys if text == text_of_key(k)}
        ranks = {bid: self.rank(rids, bid) for bid in calls - exempt}
        ended = {bid for bid, rank in ranks.items() if rank is not None and rank > Rank.ADOPTED}
        verdicts = {self.cover(name, seq) for name, seq in needs}
        incomplete = doubtful or bool({Rank.OPAQUE, Rank.EXPIRED} & set(ranks.values()))
        remain = calls - ended
        if asked.foreign_log:
            return Status.LOST_LOG, remain, incomplete
        if "lost" in verdicts:
            return Status.LOST_TAIL, remain, incomplete
        if "not yet" in verdicts or remain - exempt:
            return None, remain, incomplete
        expired = Rank.EXPIRED in ranks.values()
        return Status.EXPIRED if expired else Status.ANSWERED, remain, incomplete


class CoreAgainstModel(RuleBasedStateMachine):
    """Each rule does one thing to both; :meth:`compare` follows."""

    questions: Bundle[QuestionId] = Bundle("questions")

    @initialize(told=st.lists(_told, min_size=2 * LENGTH, max_size=2 * LENGTH))
    def begin(self, told: list[Told]) -> None:
        """What each process will say, whether or not it arrives."""
        self.core = Core(LOG)
        self.model = Model({1: told[:LENGTH], 2: told[LENGTH:]})
        self.index = 0
        self.now = NOW
        self.streams: dict[int, StreamId] = {}
        self.seen: dict[int, set[OriginKey]] = {}
        self.superseded: dict[int, set[OriginKey]] = {}
        self.number = 0
        self.incarnations = 100
        self.held: dict[QuestionId, Asked] = {}
        for sidecar in (0, 1):
            self.connect(sidecar)

    def next_number(self) -> int:
        """Never the same twice."""
        self.number += 1
        return self.number

    @rule(sidecar=st.integers(0, 1))
    def connect(self, sidecar: int) -> None:
        """A sidecar's stream breaks, and it connects again."""
        if sidecar in self.streams:
            self.core.disconnect(self.streams[sidecar], self.now)
        self.streams[sidecar] = StreamId(self.next_number())
        self.core.connect(self.streams[sidecar], sidecar, self.now)
        self.seen[sidecar] = set()
        self.superseded[sidecar] = set()

    @rule(
        sidecar=st.integers(0, 1),
        which=st.integers(0, 9),
        first=st.integers(1, LENGTH),
        count=st.integers(1, LENGTH),
        eager=st.booleans(),
    )
    def send(self, sidecar: int, which: int, first: int, count: int, eager: bool) -> None:
        """A run of one origin under one of its names; ``eager``: the one that comes next."""
        names = [key_of(process, LANE) for process in PROCESSES] + list(self.model.root)
        name = names[which % len(names)]
        root, shift = self.model.root.get(name, (name, 0))
        if eager:
            first = self.model.applied(name) + 1
        events = self.model.told[parts_of(root)[0]][first + shift - 1 : first + shift - 1 + count]
        if not events:
            return
        admit = self.let_in(sidecar, name, first)
        if admit:
            seqs = range(first, first + len(events))
            self.model.let_in.setdefault(name, set()).update(seqs)
        incarnation, lane = parts_of(name)
        batch = batch_of(self.next_number(), (incarnation, lane, first, events))
        stream = self.streams[sidecar]
        admission = self.core.admit(stream, batch, self.now)
        assert (admission.entry is not None) == admit
        sends = self.take(Effects(admission.holes, admission.send))
        for lack in admission.lacks:
            self.incarnations += 1
            successor = key_of(self.incarnations, LANE)
            self.model.follows[lack.origin, lack.after] = successor
            own, already = self.model.root.get(lack.origin, (lack.origin, 0))
            self.model.root[successor] = own, already + lack.after
            sends += self.take(Effects((Follows(self.now, successor, lack.origin, lack.after),)))
        if admission.entry is not None:
            sends += self.take(Effects((admission.entry,)), stream)
        self.compare(sends)

    def let_in(self, sidecar: int, name: OriginKey, first: int) -> bool:
        """Whether the model lets a run in; else its origin goes on under a successor."""
        applied = self.model.applied(name)
        if first <= applied + 1 or (
            name in self.seen[sidecar] and name not in self.superseded[sidecar]
        ):
            self.seen[sidecar].add(name)
            return True
        if name not in self.superseded[sidecar]:
            self.superseded[sidecar].add(name)
            self.seen[sidecar].add(name)
            if (name, first - 1) not in self.model.follows:
                hole = self.model.holes.get(name, 0)
                self.model.holes[name] = hole if hole > applied else applied + 1
        return False

    @rule(process=st.sampled_from(PROCESSES))
    def end(self, process: int) -> None:
        """A process ended."""
        before = self.core.counters["holes"]
        stream = self.streams[0]
        names = [key_of(process, LANE)]
        for name in names:
            names += [s for (own, _), s in self.model.follows.items() if own == name]
        for name in names:
            start = self.model.applied(name) + 1
            self.model.holes[name] = max(self.model.holes.get(name, 0), start)
        self.compare(self.take(self.core.ended(stream, process, self.now)))
        assert self.core.counters["holes"] >= before

    @rule(rid=st.sampled_from(RIDS), bid=st.sampled_from(BIDS))
    def expire(self, rid: bytes, bid: int) -> None:
        """A branch's lease ran out."""
        self.model.expired.add((rid, bid))
        self.compare(self.take(Effects((Expired(self.now, ((rid, bid),)),))))

    @rule(
        target=questions,
        rid=st.sampled_from(RIDS),
        links=st.sets(st.sampled_from(RIDS), max_size=1),
        origins=st.dictionaries(st.integers(0, 9), st.integers(1, LENGTH), max_size=2),
        bids=st.frozensets(st.sampled_from(BIDS), max_size=2),
        branch=st.sampled_from((0, 0, *BIDS)),
        foreign_log=st.sampled_from((False, False, False, False, True)),
        budget=st.integers(1, 3),
    )
    def ask(
        self,
        rid: bytes,
        links: set[bytes],
        origins: dict[int, int],
        bids: frozenset[int],
        branch: int,
        foreign_log: bool,
        budget: int,
    ) -> QuestionId:
        """A question."""
        names = [key_of(process, LANE) for process in PROCESSES] + list(self.model.root)
        asked_of = {names[which % len(names)]: seq for which, seq in origins.items()}
        question = QuestionId(self.next_number())
        text = f"1.{rid_from_bytes(rid)}"
        text += "".join(f".s{text_of_key(name)}~{seq:x}" for name, seq in asked_of.items())
        text += "".join(f".x{word(bid)}" for bid in bids)
        text += "".join(f".l{rid_from_bytes(link)}" for link in links if link != rid)
        if branch:
            text += f".b{word(branch)}"
        if foreign_log:
            text += f".f{'M' * 11}~1"
        self.held[question] = Asked(
            (rid, *links), asked_of, bids, branch, foreign_log, self.now + budget
        )
        effects = self.core.ask(question, text, budget, self.now)
        self.compare(self.take(effects))
        return question

    @rule(question=consumes(questions))
    def cancel(self, question: QuestionId) -> None:
        """The asker went away, or had its answer."""
        self.core.cancel(question)
        self.held.pop(question, None)
        self.compare([])

    @rule(seconds=st.floats(0.1, 2.0))
    def wait(self, seconds: float) -> None:
        """Time passes; the streams stay alive."""
        self.now += seconds
        for stream in self.streams.values():
            self.core.lease(stream, (), self.now)
        self.compare(self.take(self.core.tick(self.now)))

    def take(self, effects: Effects, stream: StreamId | None = None) -> list[Send]:
        """A log that is durable at once."""
        out = list(effects.send)
        for entry in effects.append:
            self.index += 1
            out += self.take(self.core.apply(self.index, entry, stream))
        return out

    def compare(self, sends: list[Send]) -> None:
        """Both say the same now."""
        for answer in (send for send in sends if isinstance(send, Answered)):
            asked = self.held.pop(answer.question)
            status, open_bids, incomplete = self.model.status(asked)
            if status is None:
                assert asked.deadline <= self.now
                status = Status.TIMED_OUT
            context = decode(answer.context)
            rids = self.model.linked(set(asked.rids))
            assert answer.status is status
            assert dict(context.positions) == self.model.positions(rids)
            assert dict(context.unknown) == self.model.unknown(rids)
            assert context.unresolved == open_bids
            if status in (Status.ANSWERED, Status.EXPIRED):
                assert bool(context.flags & Flags.INCOMPLETE) == incomplete
        assert set(self.held) == set(self.core.questions.held)
        for asked in self.held.values():
            assert self.model.status(asked)[0] is None
        state = joined_state(self.core)
        for rid in RIDS:
            positions, unknown, links, branches = state["requests"].get(rid, ({}, {}, set(), {}))
            assert positions == self.model.positions({rid})
            assert unknown == self.model.unknown({rid})
            assert links <= self.model.linked({rid})
            ranks = {bid: self.model.rank({rid}, bid) for bid in BIDS}
            assert {bid: branch[0] for bid, branch in branches.items()} == {
                bid: rank for bid, rank in ranks.items() if rank is not None
            }
        applied = {name: self.model.applied(name) for name in self.model.let_in}
        assert state["applied"] == {name: seq for name, seq in applied.items() if seq}
        open_branches = sum(
            branch[0] <= Rank.ADOPTED
            for request in self.core.requests.table.values()
            for branch in request.branches.values()
        )
        assert self.core.requests.open == open_branches
        assert open_branches == sum(r.open for r in self.core.requests.table.values())


TestCoreAgainstModel = CoreAgainstModel.TestCase
TestCoreAgainstModel.settings = settings(
    max_examples=int(os.environ.get("MODEL_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
