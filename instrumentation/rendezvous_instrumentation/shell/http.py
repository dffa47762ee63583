"""HTTP carriers: where our context stands among a request's headers."""

from collections.abc import Callable, MutableMapping
from typing import Any

from rendezvous_api.carrier import BAGGAGE, KEY, members_in, with_member
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.calls import Call
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


def enter_with(get_all: Callable[[str], list[str]]) -> Entry:
    """Adopt an incoming HTTP request; ``get_all`` gives all values of a header (lower-case)."""
    texts = [member for header in get_all(BAGGAGE) for member in members_in(header)]
    texts += get_all(HEADER)
    traces = get_all("traceparent") if not texts else []
    return enter(texts, traces[0] if traces else None)


def decode_latin(pairs: Any, name: bytes) -> list[str]:
    """All values of ``name`` (lower-case) among ASGI's pairs of bytes."""
    return [value.decode("latin-1") for key, value in pairs if key.lower() == name]
