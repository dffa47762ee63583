"""Outgoing calls (DESIGN §2 "Calls"): how each may end, and what stays in the cell."""

import pytest

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.event import Fail, Opaque, Open, Work
from rendezvous_api.ids import Bid, LogId, StoreKey, word
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.calls import Call
from rendezvous_instrumentation.shell.current import BUSY, Scope
from rendezvous_testing.inside import Inside, Start

STORE = StoreKey("r" + word(3))
LOG = LogId(word(7))


@pytest.fixture
def us(start: Start) -> Inside:
    return start()


def begin() -> Call:
    call = calls.begin("peer", "peer:80")
    assert call is not None
    return call


def test_a_call_opens_a_branch_and_carries_the_request(us: Inside) -> None:
    with us.request() as cell:
        cell.wrote(STORE, 5)
        call = begin()
        sent = codec.decode(call.text)
        assert (sent.rid, sent.branch, sent.positions) == (cell.rid, call.bid, {STORE: 5})
        (opened,) = us.events()
        assert (opened.bid, opened.body) == (call.bid, Open(Work.RPC, Bid(0), "", "peer:80"))
        assert sent.origins == {us.us.outbox.origins[cell.lane]: opened.seq}


def test_a_response_with_the_callees_context_resolves_the_call(us: Inside) -> None:
    with us.request() as cell:
        call = begin()
        call.answered(codec.encode(Context(cell.rid, positions={STORE: 9}, logs={LOG: 4})))
        call.unanswered()  # too late: one end each
        assert cell.positions == {STORE: 9} and cell.logs == {LOG: 4}
        assert not cell.unresolved and us.us.speaks("peer:80")
    assert [type(one.body) for one in us.events()] == [Open]


def test_a_response_that_continues_stays_unresolved(us: Inside) -> None:
    with us.request() as cell:
        call = begin()
        call.answered(codec.encode(Context(cell.rid, positions={STORE: 9}, flags=Flags.CONTINUES)))
        assert cell.positions == {STORE: 9} and cell.unresolved == {call.bid}
        assert not cell.flags & Flags.CONTINUES


def test_a_call_that_timed_out_stays_unresolved(us: Inside) -> None:
    with us.request() as cell:
        call = begin()
        call.unanswered()
        assert cell.unresolved == {call.bid}
        assert codec.decode(begin().text).unresolved == {call.bid}  # and travels on
    assert us.counted("calls_unresolved") == 1


def test_a_call_of_which_no_byte_was_sent_has_failed(us: Inside) -> None:
    with us.request() as cell:
        call = begin()
        call.never_sent()
        call.never_sent()
        assert not cell.unresolved
    assert [one.body for one in us.events()][1:] == [Fail()]


def test_a_complete_response_of_a_peer_that_never_answered_with_a_context_is_opaque(
    us: Inside,
) -> None:
    with us.request() as cell:
        begin().answered(None)
        assert not cell.unresolved
    assert [one.body for one in us.events()][1:] == [Opaque()]
    assert us.counted("calls_opaque") == 1


@pytest.mark.parametrize("case", ["it speaks", "cut off", "malformed"])
def test_a_missing_context_is_unresolved_where_there_should_be_one(us: Inside, case: str) -> None:
    with us.request() as cell:
        if case == "it speaks":
            begin().answered(codec.encode(Context(cell.rid)))
        call = begin()
        match case:
            case "malformed":
                call.answered("1.nonsense")
                assert us.counted("contexts_malformed") == 1
            case "cut off":
                call.answered(None, complete=False)
            case _:
                call.answered(None)
        assert cell.unresolved == {call.bid}


def test_a_response_about_another_request_makes_a_link(us: Inside) -> None:
    with us.request() as other:
        pass
    with us.request() as cell:
        begin().answered(codec.encode(Context(other.rid, positions={STORE: 3})))
        assert cell.links == {other.rid} and cell.positions == {STORE: 3}


def test_a_call_whose_opening_was_refused_leaves_the_cell_incomplete(us: Inside) -> None:
    us.us.outbox._limit = 0  # pyright: ignore[reportPrivateUsage]
    with us.request() as cell:
        call = begin()
        call.unanswered()
        assert not cell.unresolved and cell.flags & Flags.INCOMPLETE
    assert us.counted("events_refused") == 1


def test_branches_needed_opens_none_but_a_lost_call_is_unresolved(start: Start) -> None:
    us = start(branches="needed")
    with us.request() as cell:
        call = begin()
        call.unanswered()
        assert cell.unresolved == {call.bid}
        begin().never_sent()
        begin().answered(None)
    assert us.events() == []


def test_nothing_goes_out_without_a_request_or_below_another_layer(us: Inside) -> None:
    assert calls.begin("peer", "peer:80") is None
    with us.request():
        token = BUSY.set(True)
        assert calls.begin("peer", "peer:80") is None
        BUSY.reset(token)
    assert us.events() == []


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("peer", True),
        ("localhost", True),
        ("127.0.0.1", True),
        ("[::1]", True),
        ("posts.shop.svc.cluster.local", True),
        ("posts.shop.svc.", True),
        ("172.20.1.1", True),
        ("172.40.1.1", False),
        ("api.example.com", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
        ("svc.evil.com", False),
    ],
)
def test_a_context_never_goes_to_hosts_outside_the_allow_list(
    us: Inside, host: str, allowed: bool
) -> None:
    with us.request():
        assert (calls.begin(host, host) is not None) is allowed
    assert us.counted("calls_outside") == (not allowed)


def test_the_allow_list_is_the_users(start: Start) -> None:
    us = start(propagate_to="*.example.com , 8.8.*")
    with us.request():
        assert calls.begin("API.Example.com", "") is not None
        assert calls.begin("8.8.8.8", "") is not None
        assert calls.begin("10.0.0.1", "") is None


def test_positions_that_no_event_covers_are_kept_when_others_are_dropped(us: Inside) -> None:
    with us.request() as cell:
        stores = [StoreKey("r" + word(number)) for number in range(40)]
        for store in stores:
            cell.wrote(store, 5)
        cell.unregistered.add(stores[-1])
        cell.logs = {LOG: 1}
        sent = codec.decode(calls.encoded(us.us, cell.cut(Bid(0), (), {}), Scope(cell)))
        assert stores[-1] in sent.positions and sent.flags == Flags.MORE
