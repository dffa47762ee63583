"""An incoming call: its context is adopted, and the response tells what was learnt.

One life for every server library: ``enter`` → the handler runs → ``reply`` gives the text for the
response's headers or trailers → ``leave``. Streamed bodies reply ``continues`` and leave later.
"""

import os

from rendezvous_api import codec
from rendezvous_api.carrier import members_in, with_member, without_member
from rendezvous_api.cell import Cell
from rendezvous_api.context import NO_FLAGS, Context, Flags
from rendezvous_api.errors import MalformedContext
from rendezvous_api.event import Kind, encode_adopt
from rendezvous_api.ids import ROOT_BID, Rid, rid_from_bytes, text_of
from rendezvous_instrumentation.core.barrier import needs_resolve
from rendezvous_instrumentation.shell.background import close
from rendezvous_instrumentation.shell.calls import encoded
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import Process, process
from rendezvous_instrumentation.shell.resolves import prefetch

_ADOPT = int(Kind.ADOPT)


class Entry:
    """One incoming call. Its scope is the current one between :meth:`begin` and :meth:`end`."""

    __slots__ = ("_closed", "_outer", "carried", "scope", "us")

    def __init__(self, us: Process, scope: Scope, carried: bool) -> None:
        self.us = us
        self.scope = scope
        self.carried = carried
        self._outer: Scope | None = None
        self._closed = False

    def begin(self) -> None:
        """Make the scope current in this task or thread."""
        self._outer = SCOPE.get()
        SCOPE.set(self.scope)

    def end(self) -> None:
        """Give the task or thread its former scope back. No token is held: servers finish streams
        in another context than the one they began in."""
        SCOPE.set(self._outer)

    def reply(self, *, continues: bool = False) -> str | None:
        """The context for the response, or ``None`` where the request carried none. Without
        ``continues`` the branch is closed: what is done afterwards is background work."""
        scope = self.scope
        text = None
        if not continues:
            self.leave()  # first: its event goes out with those that the context names
        if self.carried:
            flags = Flags.CONTINUES if continues else NO_FLAGS
            context = scope.cell.cut(scope.bid, scope.zone, self.us.outbox.acks, flags)
            text = encoded(self.us, context, scope)
        return text

    def leave(self) -> None:
        """The call's work is done: close its branch. Idempotent."""
        if not self._closed:
            self._closed = True
            scope = self.scope
            if self.carried and scope.bid != ROOT_BID:
                close(self.us, scope.cell, scope.bid)
            scope.over = True


def enter(texts: list[str], traceparent: str | None = None) -> Entry:
    """Adopt what an incoming call carries: the values of all its carriers, merged. Without any a
    new request begins; where a valid trace came without a context, it was stripped on the way: the
    trace id becomes the rid, marked ``joined``."""
    us = process()
    contexts: list[Context] = []
    unread, foreign = False, ""
    for text in texts:
        try:
            contexts.append(codec.decode(text))
        except MalformedContext:
            unread = True
            if codec.is_foreign(text):
                foreign = text
                us.stats.count("contexts_foreign")
            else:
                us.stats.count("contexts_malformed")
    if not contexts:
        cell = _opened(us, traceparent)
        if unread:  # something came that nobody here can read: reads must not look protected
            cell.mark(Flags.INCOMPLETE)
        scope = Scope(cell)
        scope.foreign = foreign
        return Entry(us, scope, carried=False)
    first = contexts[0]
    cell = cell_of(first.rid)
    for context in contexts:
        cell.merge(context)
    if unread:
        cell.mark(Flags.INCOMPLETE)
    cell.carried = True
    scope = Scope(cell, first.branch, first.zone)
    if first.branch != ROOT_BID:
        config = us.config
        us.encoded_event(cell, first.branch, _ADOPT, encode_adopt(config.service, config.region))
    if needs_resolve(cell, first.branch):
        prefetch(us, scope)
    return Entry(us, scope, carried=True)


def enter_http(baggage: list[str], plain: list[str], traceparent: str | None) -> Entry:
    """:func:`enter` for HTTP: all ``baggage`` headers, and all headers named ``rdv``."""
    texts = [member for header in baggage for member in members_in(header)]
    return enter(texts + plain, traceparent)


def merged_baggage(baggage: str, entry: Entry) -> str:
    """The baggage header as an application or a tracer below us should see it: our current member
    first, the user's own untouched; unchanged where no context was carried. It names no branch: what a
    library that we do not patch sends on must not close ours."""
    scope = entry.scope
    if scope.foreign:
        return baggage
    if not entry.carried:
        return without_member(baggage)
    return with_member(
        baggage,
        encoded(entry.us, scope.cell.cut(ROOT_BID, scope.zone, entry.us.outbox.acks), scope),
    )


def _opened(us: Process, traceparent: str | None) -> Cell:
    rid = _trace_rid(traceparent) if traceparent else None
    if rid is None:
        us.stats.count("requests_opened")
        return cell_of(Rid(text_of(os.urandom(16))))
    us.stats.count("requests_joined")
    cell = cell_of(rid)
    cell.mark(Flags.JOINED)
    return cell


def _trace_rid(traceparent: str) -> Rid | None:
    """The trace id of a valid W3C traceparent as a rid."""
    parts = traceparent.strip().split("-")
    if [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return None
    if (parts[0] == "00" and len(parts) > 4) or set("".join(parts[:4])) - _LOWER_HEX:
        return None
    raw, parent = bytes.fromhex(parts[1]), bytes.fromhex(parts[2])
    return rid_from_bytes(raw) if any(raw) and any(parent) else None


_LOWER_HEX = frozenset("0123456789abcdef")
