"""The cell: law 4 (knowledge only grows), what a resolve settles, and many threads at once."""

import sys
from collections.abc import Iterator, Mapping
from threading import Thread
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rendezvous_api import codec
from rendezvous_api.cell import Cell
from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Bid, LogId, Origin, StoreKey, rid_from_bytes, word
from rendezvous_api.limits import LINKS_MAX
from rendezvous_testing.contexts import contexts, rids

RID = rid_from_bytes(bytes(16))
OTHER = rid_from_bytes(bytes([1] * 16))
STORE, ELSEWHERE, ANY = StoreKey("r" + word(1)), StoreKey("r" + word(2)), StoreKey("r")
MINE, THEIRS = Origin(word(1) + "0"), Origin(word(2) + "0")
LOG, LOG_2 = LogId(word(1)), LogId(word(2))
ours = st.just(RID) | rids


def knowledge(cell: Cell) -> object:
    """All that merging may change."""
    return (
        cell.links,
        cell.positions,
        cell.unknown,
        cell.unresolved,
        cell.logs,
        cell.origins,
        cell.child_zones,
        cell.time,
        cell.flags,
    )


def merged(*received: Context) -> Cell:
    cell = Cell(RID)
    for context in received:
        cell.merge(context)
    return cell


K = TypeVar("K")


def assert_grown(before: Mapping[K, int], after: Mapping[K, int]) -> None:
    assert all(after[key] >= value for key, value in before.items())


# --- law 4 -----------------------------------------------------------------------------


@given(contexts(of=ours), contexts(of=ours), contexts(of=ours))
def test_law_4_merging_commutes(a: Context, b: Context, c: Context) -> None:
    first = knowledge(merged(a, b, c))
    assert first == knowledge(merged(c, a, b)) == knowledge(merged(b, c, a))


@given(contexts(of=ours), contexts(of=ours), contexts(of=ours))
def test_law_4_merging_is_associative(a: Context, b: Context, c: Context) -> None:
    """What another process merged and sent on adds what its parts would have added."""
    there = Cell(RID)
    there.merge(b)
    there.merge(c)
    here = merged(a)
    here.merge(there.cut(Bid(0), (), {}))
    direct = merged(a, b, c)
    here.child_zones = direct.child_zones  # a context carries the counter of one zone only
    assert knowledge(here) == knowledge(direct)


@given(contexts(of=ours), contexts(of=ours))
def test_law_4_merging_again_changes_nothing(a: Context, b: Context) -> None:
    assert knowledge(merged(a, b)) == knowledge(merged(a, b, a, b, a))


@given(contexts(of=ours), contexts(of=ours))
def test_law_4_knowledge_only_grows(a: Context, b: Context) -> None:
    before, after = merged(a), merged(a, b)
    assert before.links <= after.links
    assert before.unresolved <= after.unresolved
    assert_grown(before.positions, after.positions)
    assert_grown(before.unknown, after.unknown)
    assert_grown(before.logs, after.logs)
    assert_grown(before.origins, after.origins)
    assert_grown(before.child_zones, after.child_zones)
    assert after.flags & before.flags == before.flags
    assert not before.time or 0 < after.time <= before.time


@given(contexts(of=st.just(RID)))
def test_a_cell_sends_what_it_received(context: Context) -> None:
    cell = merged(context)
    sent = cell.cut(context.branch, context.zone, {})
    links = context.links - {RID}
    assert sent == Context(
        RID,
        context.branch,
        context.zone,
        context.child_zones,
        links,
        context.positions,
        context.unknown,
        context.unresolved,
        context.logs,
        context.origins,
        context.time,
        context.flags & ~Flags.CONTINUES,
    )


def test_law_4_more_links_than_the_limit_are_incomplete_in_any_order() -> None:
    parts = [
        Context(rid_from_bytes(number.to_bytes(16, "big"))) for number in range(1, LINKS_MAX + 2)
    ]
    for order in (parts, parts[::-1], parts + parts):
        cell = merged(*order)
        assert len(cell.links) == LINKS_MAX
        assert cell.flags == Flags.INCOMPLETE
    assert merged(*parts[:-1], *parts[:-1]).flags == Flags(0)


# --- merging ---------------------------------------------------------------------------


def test_a_context_of_another_request_is_a_link_and_brings_its_knowledge() -> None:
    context = Context(OTHER, zone=(1,), child_zones=9, positions={STORE: 5})
    cell = merged(context)
    assert cell.links == {OTHER}
    assert cell.positions == {STORE: 5}
    assert cell.child_zones == {}  # its zones are not ours


def test_a_request_never_links_itself() -> None:
    assert merged(Context(OTHER, links=frozenset({RID}))).links == {OTHER}


def test_continues_belongs_to_one_message() -> None:
    cell = merged(Context(RID, flags=Flags.CONTINUES | Flags.JOINED))
    assert cell.flags == Flags.JOINED
    sent = cell.cut(Bid(0), (), {}, Flags.CONTINUES)
    assert sent.flags == Flags.JOINED | Flags.CONTINUES
    assert cell.flags == Flags.JOINED


def test_time_is_of_the_oldest_knowledge() -> None:
    assert merged(Context(RID, time=9), Context(RID, time=7), Context(RID)).time == 7


@pytest.mark.parametrize(
    ("context", "depends"),
    [
        (Context(RID), False),
        (Context(RID, logs={LOG: 1}, origins={MINE: 1}, time=1), False),
        (Context(RID, flags=Flags.CONTINUES), False),
        (Context(RID, positions={STORE: 0}), True),
        (Context(RID, unknown={STORE: False}), True),
        (Context(RID, unresolved=frozenset({Bid(1)})), True),
        (Context(RID, flags=Flags.MORE), True),
        (Context(RID, flags=Flags.INCOMPLETE), True),
        (Context(RID, flags=Flags.JOINED), True),
    ],
)
def test_which_knowledge_makes_reads_dependent(context: Context, depends: bool) -> None:
    assert merged(context).depends is depends


# --- writes ----------------------------------------------------------------------------


def test_the_highest_position_counts() -> None:
    cell = Cell(RID)
    for value in (0, 5, 3):
        cell.wrote(STORE, value)
    assert cell.positions == {STORE: 5}


def test_unknown_is_never_nothing_a_negative_position_is_unknown() -> None:
    cell = Cell(RID)
    cell.wrote(STORE, -1)
    assert (cell.positions, cell.unknown) == ({}, {STORE: False})


def test_unknown_not_answered_outweighs_answered() -> None:
    cell = Cell(RID)
    for unanswered in (False, True, False):
        cell.mark_unknown(STORE, unanswered=unanswered)
    assert cell.unknown == {STORE: True}


def test_unknown_an_answered_write_is_resolved_by_a_head() -> None:
    cell = Cell(RID)
    cell.mark_unknown(STORE, unanswered=False)
    cell.head_seen(STORE, 0)
    assert (cell.positions, cell.unknown) == ({STORE: 0}, {})
    cell.head_seen(STORE, 99)  # nothing was unknown: a head is no write
    assert cell.positions == {STORE: 0}


def test_unknown_a_write_not_answered_is_not_resolved_by_a_head() -> None:
    cell = Cell(RID)
    cell.mark_unknown(STORE, unanswered=True)
    cell.head_seen(STORE, 8)
    assert (cell.positions, cell.unknown) == ({}, {STORE: True})


def test_unknown_a_head_says_nothing_of_another_store_of_its_kind() -> None:
    cell = Cell(RID)
    cell.mark_unknown(ANY, unanswered=False)
    cell.mark_unknown(ELSEWHERE, unanswered=False)
    cell.head_seen(STORE, 8)
    assert cell.unknown == {ANY: False, ELSEWHERE: False}


# --- cutting ---------------------------------------------------------------------------


def test_an_acknowledged_event_travels_as_its_log_index() -> None:
    cell = merged(Context(RID, origins={THEIRS: 4}))
    cell.saw_event(MINE, 3, now=100)
    assert cell.cut(Bid(1), (), {MINE: (2, {LOG: 9})}).origins == {THEIRS: 4, MINE: 3}
    sent = cell.cut(Bid(1), (), {MINE: (3, {LOG: 10})})
    assert (sent.origins, sent.logs, sent.time) == ({THEIRS: 4}, {LOG: 10}, 100)


def test_an_older_acknowledgement_never_lowers_a_log_index() -> None:
    cell = merged(Context(RID, logs={LOG: 50}, origins={MINE: 1}))
    assert cell.cut(Bid(1), (), {MINE: (1, {LOG: 10})}).logs == {LOG: 50}


def test_a_cut_context_is_not_changed_by_what_the_cell_learns_later() -> None:
    cell = merged(Context(RID, positions={STORE: 1}))
    sent = cell.cut(Bid(1), (), {})
    cell.merge(
        Context(
            OTHER,
            positions={STORE: 2},
            unknown={STORE: True},
            unresolved=frozenset({Bid(1)}),
            logs={LOG: 1},
            origins={MINE: 1},
        )
    )
    assert sent == Context(RID, Bid(1), positions={STORE: 1})


def test_what_was_received_is_not_changed_by_what_the_cell_learns_later() -> None:
    received = Context(
        RID, positions={STORE: 1}, unknown={ANY: False}, logs={LOG: 1}, origins={THEIRS: 1}
    )
    cell = merged(received)
    held = (cell.positions, cell.unknown, cell.logs, cell.origins)
    before = [dict(mapping) for mapping in held]
    cell.wrote(STORE, 2)
    cell.wrote(ELSEWHERE, 2)
    cell.wrote(ELSEWHERE, -1)
    cell.mark_unknown(STORE, unanswered=True)
    cell.saw_event(THEIRS, 2, now=9)
    cell.saw_event(MINE, 1, now=9)
    cell.merge(Context(RID, logs={LOG: 2, LOG_2: 2}, unknown={ANY: True}))
    cell.head_seen(ELSEWHERE, 3)
    cell.resolved(Context(RID), cell.cut(Bid(0), (), {MINE: (1, {LOG: 9})}), now=9)
    assert [dict(mapping) for mapping in held] == before
    assert received.positions == {STORE: 1}
    assert (cell.positions, cell.unknown) == ({STORE: 2, ELSEWHERE: 3}, {ANY: True, STORE: True})
    assert (cell.origins, cell.logs) == ({}, {LOG: 9, LOG_2: 2})


def test_child_zones_are_numbered_once() -> None:
    cell = merged(Context(RID, zone=(4,), child_zones=2))
    assert [cell.next_child_zone((4,)) for _ in range(2)] == [(4, 2), (4, 3)]
    assert cell.next_child_zone(()) == (0,)
    assert cell.cut(Bid(0), (4,), {}).child_zones == 4


def test_a_hostile_zone_counter_does_not_break_what_is_sent() -> None:
    cell = merged(Context(RID, child_zones=2**64 - 1))
    zone = cell.next_child_zone(())
    text = codec.encode(cell.cut(Bid(0), zone, {}))
    assert codec.decode(text).zone == zone
    assert codec.decode(codec.encode(cell.cut(Bid(0), (), {}))).child_zones == 2**64 - 1


# --- resolving -------------------------------------------------------------------------


def resolve_of(cell: Cell) -> Context:
    return cell.cut(Bid(0), (), {})


def test_resolve_replaces_the_origins_that_were_asked_for_by_logs() -> None:
    cell = merged(Context(RID, origins={MINE: 3, THEIRS: 4}, time=50))
    asked = resolve_of(cell)
    cell.resolved(Context(RID, logs={LOG: 7}, positions={STORE: 2}), asked, now=90)
    assert (cell.origins, cell.logs, cell.positions) == ({}, {LOG: 7}, {STORE: 2})
    assert cell.time == 90


def test_resolve_keeps_events_that_are_newer_than_the_question() -> None:
    cell = merged(Context(RID, origins={MINE: 3, THEIRS: 4}, time=50))
    asked = resolve_of(cell)
    cell.saw_event(MINE, 5, now=60)
    cell.resolved(Context(RID, logs={LOG: 7}), asked, now=90)
    assert cell.origins == {MINE: 5}
    assert cell.time == 50  # moved forward only by an answer for the whole frontier


def test_resolve_keeps_the_time_of_old_knowledge_that_came_during_the_question() -> None:
    cell = merged(Context(RID, logs={LOG: 1}, time=50))
    asked = resolve_of(cell)
    cell.merge(Context(RID, logs={LOG_2: 1}, time=20))
    cell.resolved(Context(RID, logs={LOG: 3}), asked, now=90)
    assert cell.time == 20
    cell.resolved(Context(RID, logs={LOG: 3, LOG_2: 1}), resolve_of(cell), now=95)
    assert cell.time == 95


def test_resolve_settles_more_for_a_frontier_that_was_asked_for_whole() -> None:
    cell = merged(Context(RID, origins={THEIRS: 4}, flags=Flags.MORE | Flags.JOINED))
    cell.resolved(Context(RID, logs={LOG: 7}), resolve_of(cell), now=90)
    assert cell.flags == Flags.JOINED


@pytest.mark.parametrize(
    "late",
    [
        Context(RID, origins={THEIRS: 5}, flags=Flags.MORE),
        Context(RID, origins={MINE: 1}, flags=Flags.MORE),
        Context(RID, logs={LOG_2: 1}, flags=Flags.MORE),
        Context(RID, logs={LOG: 8}, flags=Flags.MORE),
    ],
    ids=["same origin", "other origin", "other log", "same log"],
)
def test_resolve_keeps_more_that_came_during_the_question(late: Context) -> None:
    cell = merged(Context(RID, origins={THEIRS: 4}, flags=Flags.MORE))
    asked = resolve_of(cell)
    cell.merge(late)
    cell.resolved(Context(RID, logs={LOG: 7}), asked, now=90)
    assert cell.flags == Flags.MORE


def test_resolve_that_says_more_itself_leaves_more() -> None:
    cell = merged(Context(RID, origins={THEIRS: 4}, flags=Flags.MORE))
    cell.resolved(Context(RID, logs={LOG: 7}, flags=Flags.MORE), resolve_of(cell), now=90)
    assert cell.flags == Flags.MORE


def test_resolve_never_settles_incomplete_or_unknown() -> None:
    cell = merged(Context(RID, unknown={STORE: False, ANY: True}, flags=Flags.INCOMPLETE))
    cell.resolved(Context(RID), resolve_of(cell), now=90)
    assert cell.unknown == {STORE: False, ANY: True}
    assert cell.flags == Flags.INCOMPLETE


def test_resolve_settles_the_calls_that_the_answer_no_longer_names() -> None:
    cell = merged(Context(RID, unresolved=frozenset({Bid(1), Bid(2)})))
    asked = resolve_of(cell)
    cell.merge(Context(RID, unresolved=frozenset({Bid(3)})))
    cell.resolved(Context(RID, unresolved=frozenset({Bid(2), Bid(4)})), asked, now=90)
    assert cell.unresolved == {Bid(2), Bid(3), Bid(4)}


@given(contexts(of=st.just(RID)), contexts(of=st.just(RID)), contexts(of=st.just(RID)))
def test_resolve_loses_nothing_that_it_was_not_asked_for(
    before: Context, during: Context, answer: Context
) -> None:
    cell = merged(before)
    asked = resolve_of(cell)
    cell.merge(during)
    full = merged(before, during, answer)
    cell.resolved(answer, asked, now=90)
    assert (cell.positions, cell.unknown, cell.logs) == (full.positions, full.unknown, full.logs)
    settled = asked.unresolved - answer.unresolved
    assert cell.unresolved == full.unresolved - settled
    for origin, seq in full.origins.items():
        assert cell.origins.get(origin, 0) == seq or seq <= asked.origins.get(origin, -1)
    assert full.flags & ~cell.flags in (Flags(0), Flags.MORE)


# --- threads ---------------------------------------------------------------------------


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switches")
def test_many_threads_lose_nothing_and_send_whole_contexts() -> None:
    cell, threads, rounds = Cell(RID), 6, 300
    zones: list[list[tuple[int, ...]]] = [[] for _ in range(threads)]
    faults: list[BaseException] = []

    def work(number: int) -> None:
        origin, store = Origin(word(number) + "0"), StoreKey("r" + word(number))
        try:
            for step in range(1, rounds + 1):
                cell.wrote(store, step)
                cell.saw_event(origin, step, now=1000 + number)
                assert {key: seq for key, seq in cell.origins.items()}[origin] == step
                cell.mark(Flags(1 << (step % 3)))
                zones[number].append(cell.next_child_zone(()))
                sent = cell.cut(Bid(number), (), {origin: (step - 1, {LOG: step})})
                assert sent.positions[store] == sent.origins[origin] == step
                cell.merge(codec.decode(codec.encode(sent)))
        except BaseException as exc:
            faults.append(exc)

    running = [Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert faults == []
    assert set(cell.positions.values()) == {rounds}
    assert len(cell.positions) == threads
    assert cell.origins == {Origin(word(number) + "0"): rounds for number in range(threads)}
    assert sorted(zone for each in zones for zone in each) == [
        (number,) for number in range(threads * rounds)
    ]
    assert (cell.flags, cell.time) == (Flags(7), 1000)


@settings(max_examples=20)
@given(st.integers(0, 15))
def test_flags_can_be_set_and_marked(bits: int) -> None:
    cell = Cell(RID)
    cell.flags = Flags(bits)
    cell.flags |= Flags.JOINED
    cell.mark(Flags.MORE)
    assert cell.flags == Flags(bits) | Flags.JOINED | Flags.MORE
    assert isinstance(cell.flags, Flags)
