"""Law 2: a server that lacks an origin's predecessors names a successor; and refused batches."""

import pytest

from rendezvous_sidecar.core.counters import Count
from rendezvous_testing.sidecar_play import LOG_B, LOG_C, Play


@pytest.fixture
def play() -> Play:
    """Process a has eight events acknowledged by server A, which is gone."""
    play = Play()
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 8)
    play.acks(1, 0xA, 8, index=3)
    play.after(1)
    play.down(1)
    return play


def test_what_is_held_and_what_follows_goes_by_the_successors_name(play: Play) -> None:
    play.writes(1, 9, 11)
    assert play.up(2, LOG_B)[-1] == "> s2 batch 2: a/0 9-11"
    assert play.succeeds(2, 0xA, after=8, successor=0x5) == ["> s2 batch 3: 5/0 1-3"]
    assert play.acks(2, 0x5, 2, index=1, log=LOG_B) == ["> p1 acked 0:10 in B:1"]
    assert play.agent.held == 1
    play.writes(1, 12, 12)
    play.after(1)
    assert play.acks(2, 0x5, 3, index=2, log=LOG_B) == [
        "> p1 acked 0:11 in B:2",
        "> s2 batch 4: 5/0 4-4",
    ]


def test_a_process_that_comes_back_hears_of_every_log_that_holds_its_events(play: Play) -> None:
    play.writes(1, 9, 11)
    play.up(2, LOG_B)
    play.closes(1)
    play.succeeds(2, 0xA, after=8, successor=0x5)
    play.acks(2, 0x5, 2, index=1, log=LOG_B)
    assert play.process(2, 0xA) == ["> p2 acked 0:8 in A:3, 0:10 in B:1"]


def test_another_log_is_sent_the_lanes_own_numbers(play: Play) -> None:
    play.writes(1, 9, 11)
    play.up(2, LOG_B)
    play.succeeds(2, 0xA, after=8, successor=0x5)
    play.acks(2, 0x5, 2, index=1, log=LOG_B)
    play.down(2)
    play.after(1)
    play.writes(1, 12, 12)
    assert play.up(3, LOG_C) == ["> s3 hello", "> s3 lease a", "> s3 batch 4: a/0 11-12"]
    assert play.succeeds(3, 0xA, after=10, successor=0x7) == ["> s3 batch 5: 7/0 1-2"]
    assert play.acks(3, 0x7, 2, index=7, log=LOG_C) == ["> p1 acked 0:12 in C:7"]
    assert play.agent.held == 0
    play.after(1)
    assert play.writes(1, 13, 13) == ["> s3 batch 6: 7/0 3-3"]


def test_a_second_successor_for_what_has_one_is_ignored(play: Play) -> None:
    play.writes(1, 9, 9)
    play.up(2, LOG_B)
    play.succeeds(2, 0xA, after=8, successor=0x5)
    assert play.succeeds(2, 0xA, after=8, successor=0x6) == []
    assert play.acks(2, 0x5, 1, index=1, log=LOG_B) == ["> p1 acked 0:9 in B:1"]


def test_lanes_have_successors_of_their_own(play: Play) -> None:
    play.writes(1, 9, 9)
    play.writes(1, 1, 2, lane=3)
    play.up(2, LOG_B)
    assert play.succeeds(2, 0xA, after=8, successor=0x5) == []
    assert play.acks(2, 0xA, 2, index=1, lane=3, log=LOG_B) == [
        "> p1 acked 3:2 in B:1",
        "> s2 batch 3: 5/0 1-1",
    ]


def test_a_successor_in_the_middle_leaves_the_stretch_before_it_its_name(play: Play) -> None:
    """The server refused 9-10 and so lacks them when 11 arrives: both stretches are delivered,
    and the ack of the later one is passed on only together with the earlier one's."""
    play.writes(1, 9, 10)
    play.up(2, LOG_B)
    play.writes(1, 11, 12)
    play.succeeds(2, 0xA, after=10, successor=0x5)
    assert play.down(2) == []
    assert play.up(3, LOG_B)[-1] == "> s3 batch 3: a/0 9-10, 5/0 1-2"
    assert play.acks(3, 0x5, 2, index=8, log=LOG_B) == []
    assert play.agent.held == 4
    assert play.acks(3, 0xA, 10, index=9, log=LOG_B) == ["> p1 acked 0:12 in B:9"]
    assert play.agent.held == 0


def test_the_end_is_told_under_all_names_that_servers_may_wait_for(play: Play) -> None:
    play.writes(1, 9, 9)
    play.up(2, LOG_B)
    play.succeeds(2, 0xA, after=8, successor=0x5)
    play.closes(1)
    play.after(1)
    assert play.acks(2, 0x5, 1, index=1, log=LOG_B) == ["> s2 ended a", "> s2 ended 5"]


def test_a_server_that_is_returned_to_goes_on_with_the_successor_it_knows(play: Play) -> None:
    play.writes(1, 9, 10)
    play.up(2, LOG_B)
    play.succeeds(2, 0xA, after=8, successor=0x5)
    play.acks(2, 0x5, 1, index=1, log=LOG_B)
    play.down(2)
    play.up(3, LOG_C)
    play.down(3)
    assert play.up(4, LOG_B)[-1].endswith("a/0 10-10")
    assert play.succeeds(4, 0xA, after=8, successor=0x5)[-1].endswith("5/0 2-2")
    play.after(1)
    assert play.acks(4, 0x5, 2, index=2, log=LOG_B)[-1] == "> p1 acked 0:10 in B:2"


def test_a_server_that_wants_what_was_never_sent_makes_the_lane_give_up(play: Play) -> None:
    play.writes(1, 9, 9)
    play.up(2, LOG_B)
    play.succeeds(2, 0xA, after=14, successor=0x5)
    assert play.agent.counts[Count.LANES_BROKEN] == 1
    assert play.agent.held == 0
    assert play.asks(1, 1, 0xA, 9) == ["> p1 answered 1 LOST_TAIL"]


def test_of_a_refused_batch_each_lane_shows_by_itself_whether_it_is_at_fault() -> None:
    play = Play()
    play.process(1, 0xA, pid=1)
    play.process(2, 0xB, pid=2)
    play.writes(1, 1, 2)
    play.writes(2, 1, 3)
    assert play.up(1)[-1] == "> s1 batch 1: a/0 1-2, b/0 1-3"
    assert play.refuses(1, 1) == ["> s1 batch 2: a/0 1-2"]
    assert play.acks(1, 0xA, 2, index=1) == ["> p1 acked 0:2 in A:1", "> s1 batch 3: b/0 1-3"]
    assert play.refuses(1, 3) == []
    assert play.agent.held == 0
    assert play.agent.counts[Count.EVENTS_REFUSED] == 3
    assert play.writes(1, 3, 3) == ["> s1 batch 4: a/0 3-3"]


def test_nothing_of_a_lane_that_was_given_up_is_sent_or_acknowledged_and_nobody_hangs() -> None:
    play = Play()
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 2)
    play.acks(1, 0xA, 2, index=1)
    play.writes(1, 3, 4)
    play.refuses(1, 2)
    assert play.writes(1, 5, 6) == []
    assert play.agent.counts[Count.EVENTS_REFUSED] == 4
    assert play.acks(1, 0xA, 6, index=2) == []
    assert play.asks(1, 1, 0xA, 3) == ["> p1 answered 1 LOST_TAIL"]
    assert play.asks(1, 2, 0xA, 2) == ["> s1 question 1 within 1000 ms"]
    play.closes(1)
    assert play.after(1) == ["> s1 ended a"]
    assert play.agent.drained


def test_a_refusal_of_an_unknown_batch_changes_nothing() -> None:
    play = Play()
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 2)
    assert play.refuses(1, 99) == []
    assert play.agent.held == 2
