"""Laws 1 to 3 of DESIGN §2 at the server: order, repetition, holes, successors, acks."""

from itertools import count

import pytest

from rendezvous_api.channel import Status
from rendezvous_api.codec import decode
from rendezvous_api.errors import Conflict, MalformedMessage
from rendezvous_api.event import (
    Adopt,
    Body,
    Close,
    Fail,
    Lineage,
    Link,
    Opaque,
    Open,
    Unknown,
    Work,
    Write,
)
from rendezvous_api.ids import ROOT_BID, Bid, LogId, StoreKey, rid_from_bytes, word
from rendezvous_api.limits import BRANCH_LEASE_S, LEASE_S, RETENTION_S
from rendezvous_server.core import (
    Acked,
    Admission,
    Answered,
    Core,
    Effects,
    Follows,
    LineagesLearnt,
    QuestionId,
    Send,
    StreamId,
    Succeeded,
)
from rendezvous_server.core.keys import NO_RID, key_of, parts_of
from rendezvous_server.core.requests import joined_branch
from rendezvous_server.core.view import show, totals
from rendezvous_server.limits import CLOCK_SLACK_S
from rendezvous_testing.batches import Told, batch_of

LOG = LogId("L" * 11)
R, R2, R3 = b"r" * 16, b"s" * 16, b"t" * 16
X, S = 0xABC, 0x5CC
STORE = StoreKey("rSTORE")
NOW = 1_700_000_000.0


class Play:
    """A server whose log is durable at once."""

    def __init__(self) -> None:
        self.core = Core(LOG)
        self.index = 0
        self.now = NOW
        self._questions = count(1)
        self.stream = self.connect(1)

    def connect(self, sidecar: int, stream: int | None = None) -> StreamId:
        id_ = StreamId(stream or sidecar)
        self.core.connect(id_, sidecar, self.now)
        return id_

    def take(self, effects: Effects, stream: StreamId | None = None) -> list[Send]:
        out = list(effects.send)
        for entry in effects.append:
            self.index += 1
            out += self.take(self.core.apply(self.index, entry, stream))
        return out

    def admit(self, admission: Admission, stream: StreamId) -> list[Send]:
        out = self.take(Effects(admission.holes, admission.send))
        for lack in admission.lacks:
            lane = parts_of(lack.origin)[1]
            follows = Follows(self.now, key_of(S, lane), lack.origin, lack.after)
            out += self.take(Effects((follows,)))
        entry = () if admission.entry is None else (admission.entry,)
        return out + self.take(Effects(entry), stream)

    def send(
        self, first: int, *bodies: Body, origin: int = X, rid: bytes = R, lane: int = 2,
        stream: StreamId | None = None, bid: int = 7,
    ) -> list[Send]:  # fmt: skip
        told: list[Told] = [(rid, bid, body) for body in bodies]
        stream = stream or self.stream
        admission = self.core.admit(stream, batch_of(1, (origin, lane, first, told)), self.now)
        return self.admit(admission, stream)

    def ask(self, fields: str = "", rid: bytes = R, budget_s: float = 1.0) -> list[Answered]:
        text = f"1.{rid_from_bytes(rid)}{fields}"
        effects = self.core.ask(QuestionId(next(self._questions)), text, budget_s, self.now)
        return answers(self.take(effects))

    def tick(self, seconds: float) -> list[Send]:
        self.now += seconds
        out = self.take(self.core.tick(self.now))
        while (due := self.core.next_tick) is not None and due <= self.now:
            out += self.take(self.core.tick(self.now))
        return out


def answers(sends: list[Send]) -> list[Answered]:
    return [send for send in sends if isinstance(send, Answered)]


def origin(incarnation: int = X, lane: int = 2) -> str:
    return f"{word(incarnation)}{lane:x}"


@pytest.fixture
def play() -> Play:
    return Play()


def test_an_ack_names_the_index_and_the_seq_that_were_applied(play: Play) -> None:
    assert play.send(1, Write(STORE, 5), Write(STORE, 4)) == [
        Acked(play.stream, LOG, 1, ((key_of(X, 2), 2),))
    ]
    [answer] = play.ask(f".s{origin()}~2")
    assert answer.status is Status.ANSWERED
    context = decode(answer.context)
    assert dict(context.positions) == {STORE: 5}
    assert dict(context.logs) == {LOG: 1} and not context.origins


def test_a_repeated_event_is_ignored_and_acknowledged_again(play: Play) -> None:
    play.send(1, Write(STORE, 5))
    again = play.send(1, Write(STORE, 5), Write(STORE, 6))
    assert again == [Acked(play.stream, LOG, 2, ((key_of(X, 2), 2),))]
    assert play.core.requests.events == 2
    assert play.core.counters["repeated"] == 1


def test_equal_seq_with_other_content_is_refused(play: Play) -> None:
    play.send(1, Write(STORE, 5), Write(STORE, 6))
    with pytest.raises(Conflict):
        play.send(2, Write(STORE, 7), Write(STORE, 8))
    assert play.core.origins.applied[key_of(X, 2)] == 2
    play.send(2, Write(STORE, 6), Write(STORE, 8))
    assert play.core.requests.table[R].positions == {STORE: 8}


def test_a_conflict_with_a_batch_that_is_not_yet_durable_is_refused_too(play: Play) -> None:
    play.core.admit(play.stream, batch_of(1, (X, 2, 1, [(R, 7, Fail())])), NOW)
    with pytest.raises(Conflict):
        play.core.admit(play.stream, batch_of(2, (X, 2, 1, [(R, 7, Opaque())])), NOW)


def test_events_ahead_of_their_predecessors_are_held_back(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    held = play.send(4, Write(STORE, 4), Write(STORE, 5))
    assert held == [Acked(play.stream, LOG, 2, ())]
    assert play.core.requests.table[R].positions == {STORE: 1}
    assert play.ask(f".s{origin()}~5") == []
    assert totals(play.core).events_held_back == 2
    sends = play.send(2, Write(STORE, 2), Write(STORE, 3))
    assert Acked(play.stream, LOG, 3, ((key_of(X, 2), 5),)) in sends
    assert [answer.status for answer in answers(sends)] == [Status.ANSWERED]
    assert play.core.requests.table[R].positions == {STORE: 5}
    assert totals(play.core).events_held_back == 0


def test_a_question_waits_for_its_frontier_and_times_out(play: Play) -> None:
    assert play.ask(f".s{origin()}~1", budget_s=1.0) == []
    assert answers(play.tick(0.9)) == []
    [late] = answers(play.tick(0.2))
    assert late.status is Status.TIMED_OUT
    assert not decode(late.context).logs
    assert totals(play.core).questions_held == 0


def test_a_log_of_the_frontier_that_is_not_here_is_lost_at_once(play: Play) -> None:
    [answer] = play.ask(f".f{'M' * 11}~1")
    assert answer.status is Status.LOST_LOG


def test_an_index_not_yet_reached_is_waited_for(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    assert play.ask(f".f{LOG}~2") == []
    [answer] = answers(play.send(2, Write(STORE, 2)))
    assert dict(decode(answer.context).positions) == {STORE: 2}


def test_an_ended_process_leaves_a_hole_and_frontiers_into_it_are_lost_at_once(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    assert play.ask(f".s{origin()}~2") == []
    assert play.ask(f".s{origin(X, 9)}~1") == []  # a lane of which nothing ever arrived
    sends = play.take(play.core.ended(play.stream, X, play.now))
    assert [answer.status for answer in answers(sends)] == [Status.LOST_TAIL] * 2
    [lost] = play.ask(f".s{origin()}~2")
    assert lost.status is Status.LOST_TAIL
    [covered] = play.ask(f".s{origin()}~1")
    assert covered.status is Status.ANSWERED


def test_the_hole_after_an_end_starts_behind_what_is_still_on_its_way_to_the_log(
    play: Play,
) -> None:
    admission = play.core.admit(play.stream, batch_of(1, (X, 2, 1, [(R, 7, Write(STORE, 1))])), NOW)
    ended = play.core.ended(play.stream, X, play.now)
    play.admit(admission, play.stream)
    play.take(ended)
    assert [a.status for a in play.ask(f".s{origin()}~1")] == [Status.ANSWERED]
    assert [a.status for a in play.ask(f".s{origin()}~2")] == [Status.LOST_TAIL]


def test_an_event_beats_the_hole_that_was_to_stand_for_it(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    play.take(play.core.ended(play.stream, X, play.now))
    play.send(2, Write(STORE, 2))
    [answer] = play.ask(f".s{origin()}~2")
    assert answer.status is Status.ANSWERED
    assert play.ask(f".s{origin()}~3") == []  # it lives: wait


def test_a_lease_lapses_only_after_the_stream_has_been_gone_for_its_time(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    play.core.disconnect(play.stream, play.now)
    assert play.ask(f".s{origin()}~2", budget_s=60) == []
    assert play.tick(LEASE_S - 0.1) == []
    [answer] = answers(play.tick(0.2))
    assert answer.status is Status.LOST_TAIL


@pytest.mark.parametrize("sidecar", [1, 2])
def test_a_reconnect_in_time_keeps_the_lease(play: Play, sidecar: int) -> None:
    play.send(1, Write(STORE, 1))
    play.core.disconnect(play.stream, play.now)
    play.tick(LEASE_S / 2)
    again = play.connect(sidecar, stream=9)
    if sidecar == 2:  # another sidecar has to name what it speaks for
        play.core.lease(again, [X], play.now)
    play.tick(LEASE_S * 0.9)
    assert play.core.counters["holes"] == 0
    play.core.lease(again, (), play.now)
    play.tick(LEASE_S * 0.9)
    assert play.core.counters["holes"] == 0


def test_a_reconnect_before_the_old_stream_is_known_to_have_ended_keeps_the_lease(
    play: Play,
) -> None:
    play.send(1, Write(STORE, 1))
    again = play.connect(1, stream=9)
    play.core.disconnect(play.stream, play.now)
    for _ in range(5):
        play.tick(LEASE_S / 2)
        play.core.lease(again, (), play.now)
    assert play.core.counters["holes"] == 0


def test_a_sidecar_speaks_for_so_many_processes_at_the_most(play: Play) -> None:
    with pytest.raises(MalformedMessage):
        play.core.lease(play.stream, range(5000), play.now)


def test_a_silent_stream_loses_its_leases(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    play.tick(LEASE_S + 1)
    assert [answer.status for answer in play.ask(f".s{origin()}~2")] == [Status.LOST_TAIL]


def test_missing_predecessors_make_a_successor(play: Play) -> None:
    sends = play.send(9, Write(STORE, 9), Write(STORE, 10))
    assert sends == [Succeeded(play.stream, key_of(X, 2), 8, key_of(S, 2))]
    assert play.core.requests.table == {}  # the sender resends them as S:1, 2
    assert play.send(11, Write(STORE, 11)) == []  # was under way: left out too
    assert [a.status for a in play.ask(f".s{origin()}~5")] == [Status.LOST_TAIL]
    play.send(1, Write(STORE, 9), Write(STORE, 10), Write(STORE, 11), origin=S)
    assert play.core.requests.table[R].positions == {STORE: 11}


def test_a_frontier_into_a_successor_is_lost_where_its_predecessors_are(play: Play) -> None:
    play.send(9, Write(STORE, 9))
    play.send(1, Write(STORE, 9), origin=S)
    for fields in (f".s{origin(S)}~1", f".s{origin()}~9"):
        assert [a.status for a in play.ask(fields)] == [Status.LOST_TAIL]


def test_a_frontier_is_translated_to_the_successor_once_the_predecessors_arrive(play: Play) -> None:
    play.send(3, Write(STORE, 3))
    play.send(1, Write(STORE, 3), origin=S)
    other = play.connect(2)
    play.send(1, Write(STORE, 1), Write(STORE, 2), stream=other)
    for fields in (f".s{origin(S)}~1", f".s{origin()}~3"):
        assert [a.status for a in play.ask(fields)] == [Status.ANSWERED]
    assert play.ask(f".s{origin()}~4") == []
    [answer] = answers(play.send(2, Write(STORE, 4), origin=S))
    assert dict(decode(answer.context).positions) == {STORE: 4}


def test_a_reconnect_after_missing_its_successor_is_told_the_same_one(play: Play) -> None:
    play.send(9, Write(STORE, 9))
    again = play.connect(1, stream=5)
    assert play.send(9, Write(STORE, 9), stream=again) == [
        Succeeded(again, key_of(X, 2), 8, key_of(S, 2))
    ]
    assert play.core.counters["successors"] == 1


def test_a_close_by_a_successor_is_lost_with_its_predecessors(play: Play) -> None:
    """The close's own process may have written before: those events are not here."""
    play.send(9, Close())
    play.send(1, Close(), origin=S)
    [answer] = play.ask(f".x{word(7)}")
    assert answer.status is Status.LOST_TAIL


def test_an_unresolved_call_is_waited_for_and_so_is_what_its_close_had_seen(play: Play) -> None:
    play.send(1, Open(Work.RPC, ROOT_BID))
    assert play.ask(f".x{word(7)}") == []
    assert not answers(play.send(1, Adopt("svc"), Close(f"s{origin(0xDD)}~1"), origin=0xCC))
    assert totals(play.core).questions_held == 1
    [answer] = answers(play.send(1, Write(STORE, 3), origin=0xDD))
    context = decode(answer.context)
    assert answer.status is Status.ANSWERED
    assert not context.unresolved and dict(context.positions) == {STORE: 3}


def test_an_ancestor_of_the_asking_branch_is_not_waited_for(play: Play) -> None:
    """Nor where it is learnt only later that it is one."""
    play.send(1, Open(Work.RPC, ROOT_BID), bid=7)
    assert play.ask(f".b{word(8)}.x{word(7)}") == []
    [answer] = answers(play.send(2, Open(Work.RPC, Bid(7)), bid=8))
    assert answer.status is Status.ANSWERED and decode(answer.context).unresolved == {7}


def test_a_call_of_a_request_that_is_linked_only_later_ends_the_wait(play: Play) -> None:
    play.send(1, Close(), rid=R2, lane=3)
    assert play.ask(f".x{word(7)}") == []
    [answer] = answers(play.send(1, Link(rid_from_bytes(R2))))
    assert answer.status is Status.ANSWERED and not decode(answer.context).unresolved


def test_two_openings_of_one_branch_join_in_either_order() -> None:
    one = (0, 1.0, 3, (1, "", "a", "", ""), None, ())
    other = (0, 2.0, 4, (1, "", "b", "", ""), ("svc", ""), (("eu", ""),))
    assert joined_branch(one, other) == joined_branch(other, one)
    assert joined_branch(one, other)[1:4] == (1.0, 4, (1, "", "b", "", ""))


def test_a_failed_call_ends_the_wait(play: Play) -> None:
    play.send(1, Open(Work.RPC, ROOT_BID))
    play.ask(f".x{word(7)}")
    [answer] = answers(play.send(2, Fail()))
    assert answer.status is Status.ANSWERED and not decode(answer.context).flags


def test_an_opaque_call_ends_the_wait_as_incomplete(play: Play) -> None:
    play.send(1, Opaque())
    [answer] = play.ask(f".x{word(7)}")
    assert answer.status is Status.ANSWERED and decode(answer.context).flags.name == "INCOMPLETE"


def test_an_open_branch_expires_and_its_waiters_are_told(play: Play) -> None:
    play.send(1, Open(Work.RPC, ROOT_BID))
    play.ask(f".x{word(7)}", budget_s=200)
    sends: list[Send] = []
    for _ in range(int(BRANCH_LEASE_S) + 3):
        sends += play.tick(1)
    [answer] = answers(sends)
    assert answer.status is Status.EXPIRED and decode(answer.context).flags.name == "INCOMPLETE"
    view = show(play.core, rid_from_bytes(R))
    assert view is not None and view.branches[0].state == "expired"
    play.send(2, Close())
    view = show(play.core, rid_from_bytes(R))
    assert view is not None and view.branches[0].state == "closed"


def test_a_close_before_its_open_is_remembered(play: Play) -> None:
    play.send(1, Close(), origin=0xCC)
    play.send(1, Open(Work.RPC, Bid(3), ":0", "svc", "eu", "tag"))
    view = show(play.core, rid_from_bytes(R))
    assert view is not None
    [branch] = view.branches
    assert (branch.state, branch.parent, branch.work, branch.service) == ("closed", 3, "rpc", "svc")
    assert totals(play.core).open_branches == 0


def test_an_answer_covers_linked_requests_of_both_sides(play: Play) -> None:
    play.send(1, Write(STORE, 1), Link(rid_from_bytes(R2)))
    play.send(1, Write(StoreKey("rTWO"), 2), lane=3, rid=R2)
    play.send(1, Unknown(StoreKey("rTHREE"), True), lane=4, rid=R3)
    [answer] = play.ask(f".l{rid_from_bytes(R3)}")
    context = decode(answer.context)
    assert dict(context.positions) == {STORE: 1, "rTWO": 2}
    assert dict(context.unknown) == {"rTHREE": True}


def test_a_request_not_seen_yet_is_waited_for_not_expired(play: Play) -> None:
    assert play.ask(f".s{origin()}~1.t{int(NOW) - 5:x}") == []
    [answer] = answers(play.send(1, Write(STORE, 1)))
    assert answer.status is Status.ANSWERED


def test_a_forgotten_request_is_expired_at_once(play: Play) -> None:
    play.send(1, Open(Work.WRITE, ROOT_BID), Write(STORE, 1), Close())
    then = int(play.now)
    sends = [send for _ in range(200) for send in play.tick(1)]
    assert play.core.forgotten == 1 and not answers(sends)
    [by_time] = play.ask(f".s{origin()}~3.t{then:x}")
    assert by_time.status is Status.EXPIRED
    [by_log] = play.ask(f".f{LOG}~1")
    assert by_log.status is Status.EXPIRED
    play.send(4, Write(StoreKey("rNEW"), 1))  # known again, but only from now on
    [since] = play.ask(f".f{LOG}~1.t{then:x}")
    assert since.status is Status.EXPIRED
    [by_index] = play.ask(f".f{LOG}~1")
    assert by_index.status is Status.EXPIRED


def test_a_request_with_an_open_branch_or_a_question_is_not_forgotten(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    play.ask(f".s{origin()}~2", budget_s=250)
    for _ in range(240):
        play.tick(1)
        play.core.lease(play.stream, (), play.now)
    assert play.core.forgotten == 0


def test_what_is_forgotten_frees_its_memory(play: Play) -> None:
    for number in range(300):
        rid = number.to_bytes(16, "big")
        play.send(number + 1, Open(Work.RPC, ROOT_BID), rid=R if not number else rid)
    for _ in range(int(BRANCH_LEASE_S + 2 * RETENTION_S)):
        play.tick(1)
    assert totals(play.core).requests == 0 and totals(play.core).open_branches == 0
    assert play.core.wheel.next_due is None


def test_origins_in_holes_are_forgotten_after_the_retention(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    play.take(play.core.ended(play.stream, X, play.now))
    assert totals(play.core).origins == 1
    play.tick(RETENTION_S + CLOCK_SLACK_S + 1)
    assert totals(play.core).origins == 0 and not play.core.origins.holes


def test_lineages_go_to_all_and_to_whoever_connects(play: Play) -> None:
    lineage = Lineage(StoreKey("rOLD"), StoreKey("rNEW"), 17)
    sends = play.send(1, lineage, rid=NO_RID, bid=0)
    assert LineagesLearnt((lineage,)) in sends
    assert play.core.requests.table == {}
    effects = play.core.connect(StreamId(4), 4, play.now)
    assert effects.send == (LineagesLearnt((lineage,)),)


def test_a_cancelled_question_frees_what_it_held(play: Play) -> None:
    play.ask(f".s{origin()}~1.x{word(8)}.f{LOG}~99")
    play.core.cancel(QuestionId(1))
    assert totals(play.core).questions_held == 0
    assert play.core.requests.watched_bids == set() and play.core.questions.watched == {}
    assert answers(play.tick(5)) == []


def test_what_goes_on_too_far_ahead_is_refused(play: Play) -> None:
    play.send(1, Write(STORE, 1))
    bodies = [Write(STORE, value) for value in range(1000)]
    with pytest.raises(MalformedMessage):
        for first in range(3, 200_000, 1000):
            play.send(first, *bodies)
    assert totals(play.core).events_held_back <= 100_000
