"""What the parts of an instrumented call cost, one by one, without a library or a network around them.

Runs in the instrumented process with its sidecar connected, so that events are really sent.
"""

from collections.abc import Callable
from contextvars import copy_context
from time import monotonic, perf_counter_ns, sleep
from typing import Any

from rendezvous_api import codec
from rendezvous_api.carrier import with_member
from rendezvous_api.event import Write
from rendezvous_api.ids import StoreKey, short_epoch
from rendezvous_instrumentation.shell import calls, writes
from rendezvous_instrumentation.shell.entries import Entry, enter
from rendezvous_instrumentation.shell.process import process

STORE = StoreKey("r" + short_epoch("a Redis replication id"))
PEER = "localhost:80"
CAME = ["congo=t61rcWkgMzE", "userId=alice"]
BATCH = 20
SETTLE_S = 2.0

Pair = tuple[Callable[[Any], object], Callable[[], Any]]
"""What is measured, and what makes its argument (which is not)."""
Part = Callable[[], Pair]


def _in_request() -> Entry:
    entry = enter([])
    entry.begin()
    writes.written(STORE, 123_456_789)
    return entry


def _text(entry: Entry) -> str:
    call = calls.begin("localhost", PEER)
    assert call is not None
    return call.text


def carry_out() -> Pair:
    """An outgoing call begins: branch opened (event sent), context cut, encoded, put into baggage."""
    _in_request()
    users = ",".join(CAME)

    def measured(_: Any) -> object:
        call = calls.begin("localhost", PEER)
        assert call is not None
        return with_member(users, call.text)

    return measured, lambda: None


def carry_back() -> Pair:
    """A response's context comes in: decoded and merged."""
    entry = _in_request()
    text = _text(entry)

    def measured(call: Any) -> object:
        return call.answered(text)

    return measured, lambda: calls.begin("localhost", PEER)


def carry_in() -> Pair:
    """An incoming call's context: decoded, merged, adopted (event sent), made current."""
    text = _text(_in_request())

    def measured(_: Any) -> object:
        entry = enter([text])
        entry.begin()
        return entry

    return measured, lambda: None


def _reply(entry: Entry) -> object:
    return entry.reply()


def carry_reply() -> Pair:
    """The context for a response, and the branch closed (event sent)."""
    text = _text(_in_request())
    return _reply, lambda: enter([text])


def note_write() -> Pair:
    """A write's position noted, and its event sent."""
    entry = _in_request()
    values = iter(range(123_456_790, 1 << 60))
    assert entry.scope.cell.positions
    return (lambda value: writes.written(STORE, value)), lambda: next(values)


def event() -> Pair:
    """One event numbered, kept and sent to the sidecar."""
    entry = _in_request()
    us, cell = entry.us, entry.scope.cell
    body = Write(STORE, 5)
    return (lambda bid: us.event(cell, bid, body)), us.new_bid


def cut_and_encode() -> Pair:
    """The context cut from the cell, as text."""
    scope = _in_request().scope
    acks = process().outbox.acks
    cell = scope.cell
    bid = process().new_bid()
    return (lambda _: codec.encode(cell.cut(bid, scope.zone, acks))), lambda: None


def decode_and_merge() -> Pair:
    """A context's text into the cell."""
    entry = _in_request()
    text = _text(entry)
    cell = entry.scope.cell
    return (lambda _: cell.merge(codec.decode(text))), lambda: None


PARTS: dict[str, Part] = {
    "carry a context out": carry_out,
    "carry it back in (response)": carry_back,
    "carry a context in": carry_in,
    "carry it back out (reply)": carry_reply,
    "note a write": note_write,
    "event": event,
    "cell.cut + encode": cut_and_encode,
    "decode + cell.merge": decode_and_merge,
}


def run_part(name: str, count: int) -> list[int]:
    """The times of ``count`` batches of a part, each per operation, in ns."""
    return copy_context().run(_run_part, name, count)  # what it makes current ends with it


def _run_part(name: str, count: int) -> list[int]:
    measured, make = PARTS[name]()
    times: list[int] = []
    for _ in range(count):
        arguments = [make() for _ in range(BATCH)]
        began = perf_counter_ns()
        for argument in arguments:
            measured(argument)
        times.append((perf_counter_ns() - began) // BATCH)
        settle()
    return times


def settle() -> None:
    """Wait until the server has acknowledged what was sent: the next turn is not to pay for it."""
    deadline = monotonic() + SETTLE_S
    while process().outbox.size and monotonic() < deadline:
        sleep(0.001)
