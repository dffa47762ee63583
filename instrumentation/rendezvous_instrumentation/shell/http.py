"""HTTP carriers: where our context stands among a request's headers."""

from collections.abc import Callable, MutableMapping

from rendezvous_api import codec
from rendezvous_api.carrier import BAGGAGE, KEY, members_in, with_member, without_member
from rendezvous_api.errors import MalformedContext
from rendezvous_api.ids import ROOT_BID
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.calls import Call
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.entries import Entry, enter

HEADER = KEY


def begin_call(host: str | None, port: int | None) -> Call | None:
    """An outgoing HTTP call to ``host``; ``None`` where there is nothing to carry."""
    if not host:
        return None
    return calls.begin(host, f"{host}:{port or 0}")


def put(headers: MutableMapping[str, str], call: Call) -> None:
    """Our member first in the baggage header, the user's others to the letter."""
    headers[BAGGAGE] = with_member(headers.get(BAGGAGE), call.text)


def hide(headers: MutableMapping[str, str]) -> None:
    """Take our member out of what goes to a host outside the allow-list: a tracer that extracted
    the baggage of the incoming call has put it there."""
    baggage = headers.get(BAGGAGE)
    if baggage is not None:
        others = without_member(baggage)
        if others:
            headers[BAGGAGE] = others
        else:
            del headers[BAGGAGE]


def already_in(get_all: Callable[[str], list[str]]) -> bool:
    """Whether the running code works for this very call: a server's layer above, of another
    protocol (WSGI inside ASGI), has adopted it."""
    scope = SCOPE.get()
    if scope is None:
        return False
    for header in get_all(BAGGAGE):
        for member in members_in(header):
            try:
                context = codec.decode(member)
            except MalformedContext:
                continue
            # What we show to those below names no branch (entries.merged_baggage).
            return context.rid == scope.cell.rid and context.branch in (scope.bid, ROOT_BID)
    return False


def enter_with(get_all: Callable[[str], list[str]]) -> Entry:
    """Adopt an incoming HTTP request; ``get_all`` gives all values of a header (lower-case)."""
    texts = [member for header in get_all(BAGGAGE) for member in members_in(header)]
    texts += get_all(HEADER)
    traces = get_all("traceparent") if not texts else []
    return enter(texts, traces[0] if traces else None)
