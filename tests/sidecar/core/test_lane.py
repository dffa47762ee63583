"""One lane: what is taken, under which name, and what an ack frees."""

from rendezvous_api.event import Fail, Kind
from rendezvous_api.ids import LogId, word
from rendezvous_sidecar.core.lane import Item, Lane

LOG = LogId(word(0xA))


def item(size: int = 10) -> Item:
    return (Kind.FAIL, bytes(16), 1, Fail(), size)


def lane_with(count: int, first: int = 1, size: int = 10) -> Lane:
    lane = Lane(0xA, 0, first)
    for _ in range(count):
        lane.accept(item(size))
    return lane


def taken(lane: Lane, events: int = 1000, size: int = 10**6) -> list[tuple[int, int, int]]:
    """(incarnation, first, last) of the runs."""
    runs, _, _ = lane.take(events, size)
    return [(run.incarnation, run.first, run.first + len(run.items) - 1) for run in runs]


def test_events_are_taken_in_order_within_the_bound() -> None:
    lane = lane_with(5)
    assert taken(lane, events=3) == [(0xA, 1, 3)]
    assert taken(lane, events=3) == [(0xA, 4, 5)]
    assert taken(lane) == []


def test_bytes_bound_a_batch_too_but_one_event_always_goes() -> None:
    lane = lane_with(4, size=100)
    assert taken(lane, size=250) == [(0xA, 1, 2)]
    assert taken(lane, size=1) == [(0xA, 3, 3)]


def test_a_lane_may_begin_anywhere() -> None:
    lane = lane_with(2, first=50)
    assert taken(lane) == [(0xA, 50, 51)]
    assert lane.acknowledge(0xA, 51, LOG, 1) == 2
    assert lane.ack == (51, LOG, 1)


def test_an_ack_of_what_was_acknowledged_frees_nothing() -> None:
    lane = lane_with(3)
    taken(lane)
    assert lane.acknowledge(0xA, 2, LOG, 1) == 2
    assert lane.acknowledge(0xA, 2, LOG, 9) == 0
    assert lane.acknowledge(0xA, 1, LOG, 9) == 0
    assert lane.ack == (2, LOG, 1)


def test_an_ack_under_a_name_that_the_lane_never_had_frees_nothing() -> None:
    lane = lane_with(3)
    taken(lane)
    assert lane.acknowledge(0xB, 3, LOG, 1) == 0


def test_a_run_ends_where_a_successor_begins() -> None:
    lane = lane_with(6)
    taken(lane)
    assert lane.succeed(0xA, 4, 0x5)
    lane.rewind()
    assert taken(lane) == [(0xA, 1, 4), (0x5, 1, 2)]


def test_a_successor_for_what_is_not_here_is_refused() -> None:
    assert not lane_with(3, first=10).succeed(0xA, 13, 0x5)


def test_a_server_names_the_successor_that_has_what_was_freed() -> None:
    lane = lane_with(3, first=10)
    assert lane.succeed(0xA, 4, 0x5)
    assert taken(lane) == [(0x5, 6, 8)]
    assert lane.acknowledge(0x5, 7, LogId(word(1)), 3) == 2


def test_a_successor_of_a_stretch_that_has_one_is_put_between() -> None:
    lane = lane_with(6)
    taken(lane)
    assert lane.succeed(0xA, 4, 0x5)
    assert lane.succeed(0xA, 0, 0x6)
    lane.rewind()
    assert taken(lane) == [(0x6, 1, 4), (0x5, 1, 2)]
    assert lane.acknowledge(0x5, 2, LOG, 1) == 0
    assert lane.acknowledge(0x6, 4, LOG, 2) == 6


def test_giving_up_says_from_where_and_how_many() -> None:
    lane = lane_with(5)
    taken(lane)
    lane.acknowledge(0xA, 2, LOG, 1)
    assert lane.give_up() == 3
    assert lane.broken_from == 3
    assert (lane.held, lane.unsent) == (0, 0)
    assert lane.acknowledge(0xA, 5, LOG, 2) == 0
