"""Incoming calls: what is adopted, what the response says, and what bad input does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Adopt, Close, Open, Work
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey, rid_from_bytes, word
from rendezvous_instrumentation.shell import calls, entries, writes
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.entries import enter
from rendezvous_testing.inside import Inside, Start, inside

RID, OTHER = Rid("A" * 22), Rid("B" * 21 + "A")
STORE = StoreKey("r" + word(3))
LOG = LogId(word(7))
BRANCH = Bid(77)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def us(start: Start) -> Inside:
    return start(service="posts", region="eu")


def carried(**fields: object) -> str:
    return codec.encode(Context(RID, BRANCH, (1,), **fields))  # type: ignore[arg-type]


def test_a_carried_context_is_adopted_and_its_branch_closed_with_the_reply(us: Inside) -> None:
    entry = enter([carried(positions={STORE: 5})])
    entry.begin()
    scope = SCOPE.get()
    assert scope is not None and scope is entry.scope
    assert (scope.bid, scope.zone) == (BRANCH, (1,))
    writes.written(STORE, 9)
    text = entry.reply()
    entry.leave()
    entry.end()
    assert SCOPE.get() is None
    assert text is not None
    reply = codec.decode(text)
    assert (reply.rid, reply.branch, reply.positions) == (RID, BRANCH, {STORE: 9})
    adopted, written, closed = us.events()
    assert (adopted.bid, adopted.body) == (BRANCH, Adopt("posts", "eu"))
    assert (closed.bid, closed.body) == (BRANCH, Close("", "eu"))
    assert reply.origins[us.us.outbox.origins[entry.scope.cell.lane]] >= written.seq


def test_a_close_carries_what_was_seen_beyond_its_own_lane(us: Inside) -> None:
    elsewhere = Origin(word(11) + "0")
    entry = enter([carried(logs={LOG: 4}, origins={elsewhere: 6}, unresolved=frozenset({Bid(8)}))])
    entry.leave()
    (closed,) = [one.body for one in us.events() if isinstance(one.body, Close)]
    assert closed.frontier == f"f{LOG}~4.s{elsewhere}~6.x{word(8)}"


def test_a_streamed_response_continues_and_closes_later(us: Inside) -> None:
    entry = enter([carried()])
    text = entry.reply(continues=True)
    assert text is not None and codec.decode(text).flags == Flags.CONTINUES
    assert not any(isinstance(one.body, Close) for one in us.events())
    entry.leave()
    entry.leave()
    assert [type(one.body) for one in us.events()] == [Close]


def test_a_request_that_carried_nothing_is_new_and_answered_without_a_context(us: Inside) -> None:
    one, other = enter([]), enter([])
    assert one.scope.cell.rid != other.scope.cell.rid
    assert one.reply() is None and us.events() == []
    assert us.counted("requests_opened") == 2


def test_all_carriers_are_merged(us: Inside) -> None:
    entry = enter(
        [
            carried(positions={STORE: 5}),
            codec.encode(Context(RID, positions={STORE: 9}, flags=Flags.MORE)),
        ]
    )
    cell = entry.scope.cell
    assert cell.positions == {STORE: 9} and cell.flags == Flags.MORE


def test_a_context_of_another_request_makes_a_link(us: Inside) -> None:
    entry = enter([carried(), codec.encode(Context(OTHER, positions={STORE: 3}))])
    assert entry.scope.cell.rid == RID
    assert entry.scope.cell.links == {OTHER} and entry.scope.cell.positions == {STORE: 3}
    text = entry.reply()
    assert text is not None and codec.decode(text).links == {OTHER}


def test_two_calls_of_one_request_share_its_cell(us: Inside) -> None:
    one, other = enter([carried()]), enter([carried()])
    assert one.scope.cell is other.scope.cell and one.scope is not other.scope


@pytest.mark.parametrize(
    ("text", "counter"),
    [
        ("1.tooshort", "contexts_malformed"),
        ("", "contexts_malformed"),
        ("1." + "A" * 22 + ".p", "contexts_malformed"),
        ("1." + "A" * 5_000, "contexts_malformed"),
        ("2.something-else", "contexts_foreign"),
    ],
)
def test_a_context_that_nobody_can_read_is_counted_and_leaves_the_request_incomplete(
    us: Inside, text: str, counter: str
) -> None:
    entry = enter([text])
    assert us.counted(counter) == 1
    assert entry.scope.cell.flags == Flags.INCOMPLETE
    assert entry.reply() is None
    both = enter([text, carried()])
    assert both.scope.cell.rid == RID and both.scope.cell.flags == Flags.INCOMPLETE


def test_a_stripped_context_is_joined_by_its_trace(us: Inside) -> None:
    entry = enter([], TRACEPARENT)
    cell = entry.scope.cell
    assert cell.rid == rid_from_bytes(bytes.fromhex(TRACE)) and cell.flags == Flags.JOINED
    assert us.counted("requests_joined") == 1
    assert entry.reply() is None
    assert enter([carried()], TRACEPARENT).scope.cell.rid == RID  # a carried rid wins


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-00f067aa0ba902b7-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-00f067aa0ba902b7-01-more",
        f"00-{TRACE[:-2]}  -00f067aa0ba902b7-01",
        f"00-{TRACE[:-1]}-00f067aa0ba902b7-01",
    ],
)
def test_an_invalid_trace_joins_nothing(us: Inside, traceparent: str) -> None:
    assert enter([], traceparent).scope.cell.flags == Flags(0)
    assert us.counted("requests_opened") == 1


def test_a_later_version_of_traceparent_may_have_more(us: Inside) -> None:
    enter([], f"01-{TRACE}-00f067aa0ba902b7-01-more")
    assert us.counted("requests_joined") == 1


@given(st.lists(st.text(max_size=60) | st.just(carried()), max_size=3), st.text(max_size=60))
def test_no_input_breaks_an_entry(texts: list[str], traceparent: str) -> None:
    with inside() as start:
        start()
        enter(texts, traceparent).reply()


def test_work_after_the_response_is_a_branch_of_its_own_in_a_child_zone(us: Inside) -> None:
    entry = enter([carried()])
    entry.begin()
    entry.reply()
    us.events()
    writes.written(STORE, 9)
    writes.written(STORE, 10)
    scope = entry.scope
    assert scope.zone == (1, 0) and scope.bid != BRANCH
    opened, *written = us.events()
    assert opened.body == Open(Work.TASK, BRANCH, ":1:0", "posts", "eu") and len(written) == 2
    assert opened.bid == scope.bid
    entry.end()
    bid = scope.bid
    del entry, scope
    us.us._on_tick()  # pyright: ignore[reportPrivateUsage]
    assert [(one.bid, type(one.body)) for one in us.events()] == [(bid, Close)]


def test_the_users_baggage_survives_to_the_letter(us: Inside) -> None:
    entry = enter([carried()])
    mine, _, users = entries.merged_baggage("user=1;p=2, x = y", entry).partition(",")
    assert mine.startswith("rdv=1.") and users == "user=1;p=2, x = y"
    assert entries.merged_baggage("user=1", enter([])) == "user=1"


def test_a_context_of_an_unknown_version_is_forwarded_untouched(us: Inside) -> None:
    entry = enter(["2.something-else"])
    entry.begin()
    call = calls.begin("localhost", "localhost:1")
    assert call is not None and call.text == "2.something-else"
    call.answered("2.whatever")
    call.unanswered()
    assert not entry.scope.cell.unresolved
    assert entry.reply() is None
    assert entries.merged_baggage("rdv=2.something-else,a=1", entry) == "rdv=2.something-else,a=1"
    entry.end()
