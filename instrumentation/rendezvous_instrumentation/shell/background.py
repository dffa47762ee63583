"""Work that a request goes on with after its response: a branch of its own in a child zone.

A caller's read does not wait for it unless a policy names it (DESIGN §2 "After the response"). The
branch is opened at the first event of such work and closed when its last task lets go of the scope.
"""

import weakref

from rendezvous_api.cell import Cell
from rendezvous_api.event import Kind, Open, Work, encode_close
from rendezvous_api.ids import Bid, zone_text
from rendezvous_instrumentation.core.closing import close_frontier
from rendezvous_instrumentation.shell.current import Scope
from rendezvous_instrumentation.shell.process import Process, process

_CLOSE = int(Kind.CLOSE)


def enter_background(scope: Scope, us: Process) -> None:
    """The scope's branch has answered and something goes on: open the branch of that work."""
    scope.over = False
    parent = scope.bid
    scope.zone = scope.cell.next_child_zone(scope.zone)
    scope.bid = us.new_bid()
    config = us.config
    zone = zone_text(scope.zone)
    us.event(
        scope.cell, scope.bid, Open(Work.TASK, parent, zone, config.service, config.region, "")
    )
    weakref.finalize(scope, _let_go, us, scope.cell, scope.bid).atexit = False


def child_scope(scope: Scope) -> Scope:
    """The scope of a thread that a request starts: background work from its first event on."""
    child = Scope(scope.cell, scope.bid, scope.zone)
    child.over = True
    return child


def _let_go(us: Process, cell: Cell, bid: Bid) -> None:
    us.later.append((cell, bid))


def close_later(us: Process) -> None:
    """Close the branches whose work has ended."""
    while us.later:
        cell, bid = us.later.popleft()
        close(us, cell, bid)


def close(us: Process, cell: Cell, bid: Bid) -> None:
    """Close a branch with what its work has seen beyond this origin's earlier events."""
    own = us.outbox.origins[cell.lane]
    frontier = close_frontier(cell, own, unregistered=bool(cell.unregistered))
    us.encoded_event(cell, bid, _CLOSE, encode_close(frontier, us.config.region))
    us.link.flush()


def scope_in_use(scope: Scope) -> Process:
    """The process, with the scope moved to background work if its response is out."""
    us = process()
    if scope.over:
        enter_background(scope, us)
    return us
