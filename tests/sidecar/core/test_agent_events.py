"""Events on their way from processes to a server: laws 1 to 3 as the sidecar keeps them."""

import pytest

from rendezvous_api import channel, limits
from rendezvous_api.channel import Hello
from rendezvous_api.ids import Incarnation, word
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.steps import Connected, StreamUp, Tick
from rendezvous_sidecar.limits import ACK_WAIT_S, BATCHES_IN_FLIGHT_MAX
from rendezvous_testing.sidecar_play import LOG_B, Play


@pytest.fixture
def play() -> Play:
    return Play()


def test_one_batch_is_in_flight_and_what_comes_meanwhile_shares_the_next(play: Play) -> None:
    assert play.up(1) == ["> s1 hello"]
    assert play.process(1, 0xA) == ["> s1 lease a"]
    assert play.writes(1, 1, 1) == ["> s1 batch 1: a/0 1-1"]
    assert play.writes(1, 2, 3) == []
    assert play.writes(1, 1, 4, lane=5) == []
    assert play.acks(1, 0xA, 1, index=1) == [
        "> p1 acked 0:1 in A:1",
        "> s1 batch 2: a/0 2-3, a/5 1-4",
    ]


def test_full_batches_do_not_wait_for_the_one_in_flight(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 1)
    assert play.writes(1, 2, 1000) == []
    assert play.writes(1, 1001, 1100) == ["> s1 batch 2: a/0 2-1001"]


def test_batches_in_flight_are_bounded(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    for first in range(1, 30_000, 1000):
        play.writes(1, first, first + 999)
    assert play.agent.in_flight == BATCHES_IN_FLIGHT_MAX
    assert play.agent.held == 30_000


def test_events_of_several_processes_share_a_batch(play: Play) -> None:
    play.process(1, 0xA, pid=1)
    play.process(2, 0xB, pid=2)
    play.writes(1, 1, 2)
    play.writes(2, 1, 3)
    assert play.up(1)[-1] == "> s1 batch 1: a/0 1-2, b/0 1-3"


def test_law_3_only_an_ack_frees_memory(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 5)
    assert play.agent.held == 5
    play.acks(1, 0xA, 3, index=1)
    assert play.agent.held == 2
    play.acks(1, 0xA, 5, index=2)
    assert play.agent.held == 0
    assert play.agent.in_flight == 0


def test_what_is_not_acknowledged_is_resent_in_order_on_the_next_stream(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.writes(1, 4, 6)
    play.acks(1, 0xA, 2, index=1)
    assert play.down(1) == []
    assert play.up(2) == ["> s2 hello", "> s2 lease a", "> s2 batch 2: a/0 3-6"]


def test_messages_of_an_older_stream_are_ignored(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.do(StreamUp(2))
    assert play.acks(1, 0xA, 3, index=1) == []
    assert play.down(1) == []
    assert play.agent.held == 3
    assert play.welcome(2)[-1] == "> s2 batch 2: a/0 1-3"


def test_an_ack_beyond_what_was_sent_here_frees_what_is_held_and_no_more(play: Play) -> None:
    """After a restart of the sidecar the server knows more than the process has resent."""
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 5, 6)
    assert play.acks(1, 0xA, 20, index=9) == ["> p1 acked 0:6 in A:9"]
    play.after(1)
    assert play.writes(1, 7, 7) == ["> s1 batch 2: a/0 7-7"]


def test_a_resending_process_is_deduplicated(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.closes(1)
    assert play.process(2, 0xA) == []
    assert play.writes(2, 1, 5) == []
    assert play.agent.counts[Count.EVENTS_REPEATED] == 3
    assert play.acks(1, 0xA, 3, index=1) == ["> p2 acked 0:3 in A:1", "> s1 batch 2: a/0 4-5"]


def test_a_process_that_missed_an_ack_hears_it_when_it_is_back(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.closes(1)
    play.acks(1, 0xA, 3, index=1)
    assert play.process(2, 0xA) == ["> p2 acked 0:3 in A:1"]


def test_repeating_what_was_acknowledged_repeats_the_ack(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.acks(1, 0xA, 3, index=1)
    assert play.writes(1, 1, 3) == []
    assert play.after(0.02) == ["> p1 acked 0:3 in A:1"]


def test_acks_to_a_process_keep_a_pause_and_the_last_wins(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 1)
    assert play.acks(1, 0xA, 1, index=1)[0] == "> p1 acked 0:1 in A:1"
    for seq in (2, 3, 4):
        play.writes(1, seq, seq)
        assert not any("> p1" in line for line in play.acks(1, 0xA, seq, index=seq))
    assert play.after(0.02) == ["> p1 acked 0:4 in A:4"]


def test_a_full_buffer_stops_reading_until_there_is_room(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.process(1, 0xA, pid=1)
    play.process(2, 0xB, pid=2)
    lines: list[str] = []
    last = 0
    while not lines:
        lines = play.writes(1, last + 1, last + 1000)
        last += 1000
    assert lines == ["pause p1", "pause p2"]
    assert last == limits.SIDECAR_EVENTS_MAX
    assert play.do(Connected(3, 3)) == ["pause p3"]
    play.up(1)
    assert not any("resume" in line for line in play.acks(1, 0xA, 10_000, index=1))
    lines = play.acks(1, 0xA, 20_000, index=2)
    assert [line for line in lines if "resume" in line] == ["resume p1", "resume p2", "resume p3"]


def test_a_gap_in_a_lane_ends_the_channel(play: Play) -> None:
    play.process(1, 0xA)
    play.writes(1, 1, 2)
    assert play.writes(1, 4, 4) == ["close p1"]
    assert play.agent.held == 2
    assert play.agent.counts[Count.CHANNELS_MALFORMED] == 1


@pytest.mark.parametrize("raw", [b"", b"\0", b"GET / HTTP/1.1\r\n", b"\x02abc", b"\x01\x02\x03"])
def test_garbage_ends_its_channel_alone(play: Play, raw: bytes) -> None:
    play.process(1, 0xA)
    play.do(Connected(2, 8))
    assert play.packet(2, raw) == ["close p2"]
    assert play.agent.counts[Count.CHANNELS_MALFORMED] == 1
    assert play.writes(1, 1, 1) == []
    assert play.agent.held == 1


def test_events_before_a_hello_end_the_channel(play: Play) -> None:
    play.do(Connected(1, 7))
    assert play.writes(1, 1, 1) == ["close p1"]


def test_a_fork_that_speaks_for_its_parent_is_turned_away(play: Play) -> None:
    play.process(1, 0xA, pid=7)
    assert play.process(2, 0xA, pid=8) == ["close p2"]
    assert play.agent.counts[Count.CHANNELS_STALE] == 1
    play.writes(1, 1, 2)
    assert play.agent.held == 2


def test_a_fork_that_writes_to_its_parents_socket_is_not_heard(play: Play) -> None:
    play.process(1, 0xA, pid=7)
    play.writes(1, 1, 2, pid=7)
    assert play.writes(1, 3, 3, salt=1, pid=8) == []
    assert play.agent.counts[Count.PACKETS_STALE] == 1
    play.writes(1, 3, 3, pid=7)
    assert play.agent.held == 3


def test_a_process_that_reconnects_takes_the_place_of_its_old_channel(play: Play) -> None:
    play.process(1, 0xA, pid=7)
    assert play.process(2, 0xA, pid=7) == ["close p1"]
    play.writes(2, 1, 2)
    assert play.agent.held == 2


def test_two_events_under_one_seq_give_the_lane_up_and_only_it(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 3)
    play.writes(1, 3, 4, salt=1)
    assert play.agent.counts[Count.CONFLICTS] == 1
    assert play.agent.held == 0
    assert play.acks(1, 0xA, 3, index=1) == []
    assert play.writes(1, 1, 1, lane=1) == ["> s1 batch 2: a/1 1-1"]


def test_an_ended_process_is_told_once_all_its_events_are_acknowledged(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 2)
    assert play.closes(1) == []
    assert play.after(2) == []
    assert play.acks(1, 0xA, 2, index=1) == ["> s1 ended a"]
    assert play.agent.drained


def test_a_process_that_comes_back_in_time_has_not_ended(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.closes(1)
    play.after(0.3)
    play.process(2, 0xA)
    assert play.after(1) == []


def test_an_end_without_a_server_is_told_to_the_next_one(play: Play) -> None:
    play.process(1, 0xA)
    play.closes(1)
    play.after(60)
    assert play.up(1) == ["> s1 hello", "> s1 lease a", "> s1 ended a"]


def test_leases_are_renewed_three_times_within_their_length(play: Play) -> None:
    play.up(1)
    assert play.after(20) == []  # nobody to renew for
    assert play.process(1, 0xA) == ["> s1 lease a"]
    assert play.after(limits.LEASE_S) == ["> s1 lease a"] * 3


def test_a_server_that_does_not_welcome_is_given_up(play: Play) -> None:
    assert play.do(StreamUp(1)) == ["> s1 hello"]
    assert play.after(10) == ["rotate s1"]


def test_a_server_of_another_version_is_given_up(play: Play) -> None:
    play.do(StreamUp(1))
    assert play.welcome(1, version=2) == ["rotate s1"]
    assert not play.agent.connected


def test_a_server_that_never_acknowledges_is_given_up(play: Play) -> None:
    play.up(1)
    play.process(1, 0xA)
    play.writes(1, 1, 1)
    assert play.after(ACK_WAIT_S)[-1] == "rotate s1"
    assert play.up(2, LOG_B)[-1] == "> s2 batch 2: a/0 1-1"


def test_an_idle_agent_wants_no_tick(play: Play) -> None:
    play.up(1)
    assert play.agent.due() is None
    assert play.do(Tick()) == []


def test_a_second_incarnation_on_one_channel_ends_it(play: Play) -> None:
    play.process(1, 0xA)
    hello = channel.encode(Hello(Incarnation(word(0xB)), 7, "svc", "eu"))
    assert play.packet(1, hello) == ["close p1"]


def test_events_wait_a_little_for_company_unless_somebody_asks() -> None:
    play = Play(linger_s=0.02)
    play.up(1)
    play.process(1, 0xA)
    assert play.writes(1, 1, 1) == []
    assert play.writes(1, 2, 2) == []
    assert play.after(0.021) == ["> s1 batch 1: a/0 1-2"]
    play.acks(1, 0xA, 2, index=1)
    play.after(1)
    assert play.writes(1, 3, 3) == []
    assert "> s1 batch 2: a/0 3-3" in play.asks(1, 1, 0xA, 3)


def test_what_processes_have_counted_is_summed_per_service_and_outlives_them(play: Play) -> None:
    play.up(1)
    for number, incarnation, waited in ((1, 0xA, 3), (2, 0xB, 4)):
        play.process(number, incarnation)
        play.packet(number, channel.encode(channel.Counted((("reads.waited", 1),))))
        play.packet(number, channel.encode(channel.Counted((("reads.waited", waited),))))
    assert play.agent.counted() == {("svc", "reads.waited"): 7}
    play.closes(1)
    play.after(60)
    assert play.agent.counted() == {("svc", "reads.waited"): 7}
