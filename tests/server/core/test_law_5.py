"""Law 5: entries of different logs commute; and snapshots, whose soundness rests on it."""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from rendezvous_api.ids import Bid, LogId, StoreKey, rid_from_bytes
from rendezvous_server.core import Batched, Core, Entry, Expired, Follows, Holed
from rendezvous_server.core.keys import key_of
from rendezvous_server.core.snapshot import parts, restore
from rendezvous_server.core.view import joined_state
from rendezvous_testing.batches import Told, batch_of

LOGS = (LogId("A" * 11), LogId("B" * 11))
RIDS = (b"r" * 16, b"s" * 16)
ORIGINS = (key_of(1, 0), key_of(2, 0), key_of(3, 0))
SUCCESSORS = (key_of(101, 0), key_of(102, 0))
LENGTH = 6

_stores = st.sampled_from(("rA", "rB")).map(StoreKey)
_names = st.sampled_from(("", "a", "b"))
_bodies: st.SearchStrategy[Body] = st.one_of(
    st.builds(Open, st.sampled_from(Work), st.integers(0, 3).map(Bid), _names, _names),
    st.builds(Close, st.just(""), _names),
    st.just(Fail()),
    st.just(Opaque()),
    st.builds(Adopt, _names, _names),
    st.builds(Write, _stores, st.integers(0, 9)),
    st.builds(Unknown, _stores, st.booleans()),
    st.builds(Link, st.sampled_from(RIDS).map(rid_from_bytes)),
    st.builds(Lineage, _stores, _stores, st.integers(0, 9)),
)
_told: st.SearchStrategy[Told] = st.tuples(st.sampled_from(RIDS), st.integers(1, 3), _bodies)


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[Entry], list[Entry]]:
    """Two logs that could have come about: an origin says the same in both, and a successor's first
    event stands behind the entry that makes it one."""
    said = {origin: draw(st.lists(_told, min_size=LENGTH, max_size=LENGTH)) for origin in ORIGINS}
    out: list[list[Entry]] = []
    for number in range(len(LOGS)):
        entries: list[Entry] = []
        for step in range(draw(st.integers(1, 8))):
            now = float(draw(st.integers(1, 9)))
            kind = draw(st.sampled_from("bbbbhex"))
            origin = draw(st.sampled_from(ORIGINS))
            first = draw(st.integers(1, LENGTH))
            if kind == "b":
                count = draw(st.integers(1, LENGTH))
                events = said[origin][first - 1 : first - 1 + count]
                entries.append(Batched(now, batch_of(step, (origin // 16, 0, first, events))))
            elif kind == "h":
                entries.append(Holed(now, ((origin, first),)))
            else:
                rid, bid = draw(st.sampled_from(RIDS)), draw(st.integers(1, 3))
                entries.append(Expired(now, ((rid, bid),)))
        if draw(st.booleans()):
            origin, after = ORIGINS[number], draw(st.integers(1, LENGTH - 1))
            successor = SUCCESSORS[number]
            place = draw(st.integers(0, len(entries)))
            follows = Follows(1.0, successor, origin, after)
            batch = batch_of(9, (successor // 16, 0, 1, said[origin][after:]))
            entries[place:place] = [follows, Batched(1.0, batch)]
        out.append(entries)
    return out[0], out[1]


def applied_in_order(entries: tuple[list[Entry], list[Entry]], order: Sequence[bool]) -> Core:
    """``order`` says which log's next entry comes next, as long as both have one."""
    core = Core(LOGS[0])
    at = [0, 0]
    choices = iter(order)
    while at[0] < len(entries[0]) or at[1] < len(entries[1]):
        which = int(next(choices, False))
        if at[which] >= len(entries[which]):
            which = 1 - which
        at[which] += 1
        core.apply(at[which], entries[which][at[which] - 1], log=LOGS[which])
    return core


_quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(logs(), st.lists(st.booleans(), max_size=20))
@_quick
def test_any_interleaving_of_two_logs_gives_the_same_state(
    entries: tuple[list[Entry], list[Entry]], order: list[bool]
) -> None:
    straight = joined_state(applied_in_order(entries, [False] * 30))
    mixed = joined_state(applied_in_order(entries, order))
    assert mixed == straight


@given(logs(), st.integers(0, 12), st.integers(0, 12))
@_quick
def test_a_snapshot_taken_while_entries_are_applied_and_the_log_behind_it_give_the_same_state(
    entries: tuple[list[Entry], list[Entry]], start: int, length: int
) -> None:
    log = entries[0] + entries[1]
    core = Core(LOGS[0])
    for index, entry in enumerate(log[:start], 1):
        core.apply(index, entry)
    taken = parts(core)
    snapshot = [next(taken)]
    for index, entry in enumerate(log[start : start + length], start + 1):
        core.apply(index, entry)
    snapshot += taken  # the requests as they are later than the index says
    for index, entry in enumerate(log[start + length :], start + length + 1):
        core.apply(index, entry)
    again = Core(LOGS[0])
    restore(again, snapshot)
    for index, entry in enumerate(log[start:], start + 1):
        again.apply(index, entry)
    assert joined_state(again) == joined_state(core)
    assert again.requests.open == core.requests.open
