"""What a write leaves behind: its position, or the mark that there is none. Unknown is never nothing.

A write done without a scope (a write-behind thread) may belong to any live request of the process: it
is counted ``unattributed`` and added to them all.
"""

from collections.abc import Mapping

from rendezvous_api.cell import Cell
from rendezvous_api.context import Flags
from rendezvous_api.event import Kind, Unknown, encode_write
from rendezvous_api.ids import StoreKey
from rendezvous_instrumentation.shell.background import scope_in_use
from rendezvous_instrumentation.shell.current import SCOPE, anyone_lives, live_cells
from rendezvous_instrumentation.shell.process import Process, process

Marks = tuple[int, Mapping[StoreKey, bool] | None]
NO_MARKS: Marks = (0, None)
_WRITE = int(Kind.WRITE)
_unknowns = 0


def concerns_anyone() -> bool:
    """Whether a write done now can belong to a request: else there is nothing to record."""
    return SCOPE.get() is not None or anyone_lives()


def written(store: StoreKey, value: int) -> None:
    """A write of the running code is at ``value`` in ``store``."""
    scope = SCOPE.get()
    if scope is not None:
        us = scope_in_use(scope)
        cell = scope.cell
        if value <= cell.positions.get(store, -1):
            return
        _record(us, cell, store, value)
        return
    us = process()
    us.stats.count("unattributed")
    for cell in live_cells():
        _record(us, cell, store, value)


def _record(us: Process, cell: Cell, store: StoreKey, value: int) -> None:
    # The event first: a context that another thread cuts in between must not hold a position that
    # its frontier does not cover, since that one may be dropped.
    if not us.encoded_event(cell, us.new_bid(), _WRITE, encode_write(store, value)):
        cell.unregistered.add(store)
    elif cell.unregistered and value >= cell.positions.get(store, -1):
        cell.unregistered.discard(store)
    cell.wrote(store, value)


def unknown(store: StoreKey, *, unanswered: bool) -> None:
    """A write of the running code has no known position (``unanswered``: nor a known outcome)."""
    scope = SCOPE.get()
    us = scope_in_use(scope) if scope is not None else process()
    if scope is None:
        us.stats.count("unattributed")
    us.stats.count("writes_unanswered" if unanswered else "writes_unplaced")
    global _unknowns
    _unknowns += 1
    for cell in [scope.cell] if scope is not None else live_cells():
        cell.mark_unknown(store, unanswered=unanswered)
        if not us.event(cell, us.new_bid(), Unknown(store, unanswered)):
            cell.mark(Flags.INCOMPLETE)


def marks() -> Marks:
    """Which writes of unknown position there are: to be taken when a head is asked for, since that
    head says nothing of later ones."""
    scope = SCOPE.get()
    return _unknowns, scope.cell.unknown if scope is not None else None


def head(store: StoreKey, value: int, asked: Marks) -> None:
    """A primary's head was seen: it resolves the answered writes of unknown position that there were
    when it was asked for."""
    scope = SCOPE.get()
    if scope is not None and scope.cell.unknown:
        count, unknown_then = asked
        if count == _unknowns and unknown_then is scope.cell.unknown:
            scope.cell.head_seen(store, value)
