"""An outgoing call: the context goes out with it, the callee's comes back, or the call stays open.

One life for every RPC library: ``begin`` → carry ``call.text`` → exactly one of ``answered``,
``unanswered``, ``never_sent`` (DESIGN §2 "Calls").
"""

from fnmatch import fnmatchcase

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import MalformedContext
from rendezvous_api.event import Fail, Kind, Opaque, Work, encode_open
from rendezvous_api.ids import ROOT_BID, zone_text
from rendezvous_instrumentation.shell.background import scope_in_use
from rendezvous_instrumentation.shell.current import BUSY, SCOPE, Scope
from rendezvous_instrumentation.shell.process import Process

_CONTINUES = int(Flags.CONTINUES)
_OPEN = int(Kind.OPEN)
_allowed: dict[str, bool] = {}
_ALLOWED_MAX = 4_096


def may_propagate(host: str, us: Process) -> bool:
    """Whether the context may go to ``host`` (``RENDEZVOUS_PROPAGATE_TO``). A name without a dot is
    a neighbour: nobody outside a cluster has one."""
    known = _allowed.get(host)
    if known is None:
        name = host.lower().rstrip(".").strip("[]")
        known = ("." not in name and ":" not in name) or any(
            fnmatchcase(name, pattern) for pattern in us.config.propagate_to
        )
        if len(_allowed) >= _ALLOWED_MAX:
            _allowed.clear()
        _allowed[host] = known
    return known


class Call:
    """One outgoing call of a request. ``text`` is the encoded context to carry."""

    __slots__ = ("_open", "bid", "peer", "registered", "scope", "text", "us")

    def __init__(self, us: Process, scope: Scope, peer: str) -> None:
        self.us = us
        self.scope = scope
        self.peer = peer
        self._open = True
        self.bid = us.new_bid()
        cell = scope.cell
        self.registered = us.config.branches == "all" and us.encoded_event(
            cell, self.bid, _OPEN, encode_open(Work.RPC, scope.bid, zone_text(scope.zone), peer)
        )
        self.text = encoded(us, cell.cut(self.bid, scope.zone, us.outbox.acks), scope)

    def answered(self, text: str | None, *, complete: bool = True) -> None:
        """The response is here, with the callee's context or without one. ``complete``: nothing was
        cut off, so that a missing context means a peer that does not speak Rendezvous."""
        if not self._open:
            return
        if text is None:
            if complete and not self.us.speaks(self.peer):
                self._open = False
                self.us.stats.count("calls_opaque")
                if self.registered:
                    self.us.event(self.scope.cell, self.bid, Opaque())
            else:
                self.unanswered()
            return
        try:
            context = codec.decode(text)
        except MalformedContext:
            self.us.stats.count("contexts_malformed")
            self.unanswered()
            return
        self._open = False
        self.us.spoke(self.peer)
        self.scope.cell.merge(context)
        if +context.flags & _CONTINUES:
            self._leave_unresolved()

    def unanswered(self) -> None:
        """The call ended without the callee's context: a time-out, a reset, a cancellation."""
        if self._open:
            self._open = False
            self.us.stats.count("calls_unresolved")
            self._leave_unresolved()

    def never_sent(self) -> None:
        """Not a byte left: nobody will ever see this branch."""
        if self._open:
            self._open = False
            if self.registered:
                self.us.event(self.scope.cell, self.bid, Fail())

    def _leave_unresolved(self) -> None:
        cell = self.scope.cell
        if self.registered or self.us.config.branches != "all":
            cell.unresolved.add(self.bid)
        else:
            # Its opening was refused by a full outbox; no server can ever say that it ended.
            cell.mark(Flags.INCOMPLETE)


class Forwarded(Call):
    """A call that carries a context of another version, untouched: nothing here can read it, so
    nothing is opened and the response tells us nothing."""

    __slots__ = ()

    def __init__(self, us: Process, scope: Scope, peer: str) -> None:
        self.us = us
        self.scope = scope
        self.peer = peer
        self._open = False
        self.registered = False
        self.bid = ROOT_BID
        self.text = scope.foreign


def begin(host: str, peer: str) -> Call | None:
    """An outgoing call to ``host`` (``peer``: what identifies who answers, e.g. host:port); ``None``
    when there is no request, the layer above owns the call, or the host may not see contexts."""
    scope = SCOPE.get()
    if scope is None or BUSY.get():
        return None
    us = scope_in_use(scope)
    if not may_propagate(host, us):
        us.stats.count("calls_outside")
        return None
    return Forwarded(us, scope, peer) if scope.foreign else Call(us, scope, peer)


def encoded(us: Process, context: Context, scope: Scope) -> str:
    """A context as text that leaves the process, with the events that it names if sending is due.
    Stores whose position no event covers are kept to the last."""
    us.link.flush()
    unregistered = scope.cell.unregistered
    return codec.encode(context, keep=frozenset(unregistered) if unregistered else frozenset())
