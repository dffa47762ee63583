"""What a write leaves behind: its position, or the mark that there is none. Unknown is never nothing.

A write done without a scope (a write-behind thread) may belong to any live request of the process: it
is counted ``unattributed`` and added to them all.
"""

from rendezvous_api.event import Unknown, Write
from rendezvous_api.ids import StoreKey
from rendezvous_instrumentation.shell.background import scope_in_use
from rendezvous_instrumentation.shell.current import SCOPE, live_cells
from rendezvous_instrumentation.shell.process import Process, process


def concerns_anyone() -> bool:
    """Whether a write done now can belong to a request: else there is nothing to record."""
    return SCOPE.get() is not None or bool(live_cells())


def written(store: StoreKey, value: int) -> None:
    """A write of the running code is at ``value`` in ``store``."""
    scope = SCOPE.get()
    if scope is not None:
        us = scope_in_use(scope)
        cell = scope.cell
        if value <= cell.positions.get(store, -1):
            return
        cell.wrote(store, value)
        if us.event(cell, us.new_bid(), Write(store, value)):
            cell.unregistered.discard(store)
        else:
            cell.unregistered.add(store)
        return
    us = process()
    us.stats.count("unattributed")
    for cell in live_cells():
        cell.wrote(store, value)
        if not us.event(cell, us.new_bid(), Write(store, value)):
            cell.unregistered.add(store)


def unknown(store: StoreKey, *, unanswered: bool) -> None:
    """A write of the running code has no known position (``unanswered``: nor a known outcome)."""
    scope = SCOPE.get()
    us = process()
    us.stats.count("writes_unanswered" if unanswered else "writes_unplaced")
    for cell in [scope.cell] if scope is not None else live_cells():
        cell.mark_unknown(store, unanswered=unanswered)
        us.event(cell, us.new_bid(), Unknown(store, unanswered))


def head(us: Process, store: StoreKey, value: int) -> None:
    """A primary's head was seen: it resolves the answered writes of unknown position."""
    scope = SCOPE.get()
    if scope is not None and scope.cell.unknown:
        scope.cell.head_seen(store, value)
