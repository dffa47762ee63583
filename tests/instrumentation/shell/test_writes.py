"""What writes leave behind: positions, marks, events; work that belongs to no request."""

from typing import Any

import pytest

from rendezvous_api.context import Flags
from rendezvous_api.event import Unknown, Write
from rendezvous_api.ids import StoreKey, word
from rendezvous_instrumentation.shell import writes
from rendezvous_testing.inside import Inside, Start

STORE, OTHER = StoreKey("r" + word(3)), StoreKey("r" + word(4))


@pytest.fixture
def us(start: Start) -> Inside:
    return start()


def full(us: Inside) -> None:
    us.us.outbox._limit = 0  # pyright: ignore[reportPrivateUsage]


def test_a_write_is_in_the_cell_and_reported_once(us: Inside) -> None:
    with us.request() as cell:
        for value in (5, 5, 4, 6):
            writes.written(STORE, value)
        assert cell.positions == {STORE: 6}
    assert [one.body for one in us.events()] == [Write(STORE, 5), Write(STORE, 6)]


def test_a_write_that_a_full_outbox_refused_has_a_position_that_no_event_covers(
    us: Inside,
) -> None:
    with us.request() as cell:
        full(us)
        writes.written(STORE, 5)
        assert cell.positions == {STORE: 5} and cell.unregistered == {STORE}
        us.us.outbox._limit = 9  # pyright: ignore[reportPrivateUsage]
        writes.written(STORE, 6)
        assert not cell.unregistered


def test_an_unknown_write_marks_the_store(us: Inside) -> None:
    with us.request() as cell:
        writes.unknown(STORE, unanswered=False)
        writes.unknown(OTHER, unanswered=True)
        assert cell.unknown == {STORE: False, OTHER: True}
    assert [one.body for one in us.events()] == [Unknown(STORE, False), Unknown(OTHER, True)]
    assert us.counted("writes_unplaced") == us.counted("writes_unanswered") == 1


def test_an_unknown_write_that_a_full_outbox_refused_leaves_the_cell_incomplete(
    us: Inside,
) -> None:
    with us.request() as cell:
        full(us)
        writes.unknown(STORE, unanswered=False)
        assert cell.unknown == {STORE: False} and cell.flags == Flags.INCOMPLETE


def test_work_without_a_request_is_added_to_every_live_one(us: Inside) -> None:
    assert not writes.concerns_anyone()
    with us.request() as one, us.request() as other, us.scope(None):
        assert writes.concerns_anyone()
        writes.written(STORE, 5)
        writes.unknown(OTHER, unanswered=True)
        for cell in (one, other):
            assert cell.positions == {STORE: 5} and cell.unknown == {OTHER: True}
    assert us.counted("unattributed") == 2
    assert {one.rid for one in us.events()} == {one.rid, other.rid}


def test_a_head_asked_after_an_answered_unknown_write_resolves_it(us: Inside) -> None:
    with us.request() as cell:
        writes.unknown(STORE, unanswered=False)
        writes.unknown(OTHER, unanswered=True)
        asked = writes.marks()
        writes.head(STORE, 9, asked)
        writes.head(OTHER, 9, asked)
        assert cell.unknown == {OTHER: True} and cell.positions == {STORE: 9}


def test_a_head_asked_before_the_unknown_write_resolves_nothing(us: Inside) -> None:
    with us.request() as cell:
        writes.unknown(STORE, unanswered=False)
        asked = writes.marks()
        writes.unknown(STORE, unanswered=False)
        writes.head(STORE, 9, asked)
        assert cell.unknown == {STORE: False} and not cell.positions


def test_a_position_is_in_no_context_before_its_event_is_in_the_frontier(
    us: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions are dropped only where the frontier covers them, whenever a thread cuts a context."""
    seen: list[bool] = []
    with us.request() as cell:
        report = us.us.encoded_event

        def event(*arguments: Any) -> bool:
            seen.append(bool(cell.positions))
            return report(*arguments)

        monkeypatch.setattr(us.us, "encoded_event", event)
        writes.written(STORE, 5)
    assert seen == [False] and cell.positions == {STORE: 5}
