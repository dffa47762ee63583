"""Which request the running code works for: one private ContextVar that holds a reference.

Tasks copy ContextVars by themselves; threads and executors are handled in ``patches.threads``. The
cell is shared, so knowledge gained in a child is never lost with it.
"""

from _thread import allocate_lock
from contextvars import ContextVar
from weakref import ref

from rendezvous_api.cell import Cell
from rendezvous_api.ids import ROOT_BID, Bid, Rid, Zone


class Scope:
    """A task's own place in a request: the cell, its branch and its zone.

    ``deadline``: monotonic seconds until which the caller waits, 0 when it did not say; no read is
    held beyond it. ``over``: the branch has answered; what is done from now on is background work and
    gets a branch of its own at its first event (``background.py``). ``foreign``: a context of a version
    that this code does not know; it is forwarded untouched, in place of one of ours.
    """

    __slots__ = ("__weakref__", "bid", "cell", "deadline", "foreign", "over", "zone")

    def __init__(self, cell: Cell, bid: Bid = ROOT_BID, zone: Zone = ()) -> None:
        self.cell = cell
        self.bid = bid
        self.zone = zone
        self.deadline = 0.0
        self.over = False
        self.foreign = ""


SCOPE: ContextVar[Scope | None] = ContextVar("rendezvous_scope", default=None)
"""The scope of the running task or thread. Read it with ``SCOPE.get()``."""

BUSY: ContextVar[bool] = ContextVar("rendezvous_busy", default=False)
"""Set while one patched layer owns a call, so that the layers below it add nothing."""


class _Held(ref[Cell]):
    """A weak reference to a cell. (A ``WeakValueDictionary`` costs a request twice as much.)"""

    __slots__ = ("rid",)
    rid: Rid


_cells: dict[Rid, _Held] = {}
_making = allocate_lock()


def _gone(held: "ref[Cell]") -> None:
    assert isinstance(held, _Held)
    if _cells.get(held.rid) is held:
        del _cells[held.rid]


def cell_of(rid: Rid) -> Cell:
    """The one live cell of a request in this process."""
    held = _cells.get(rid)
    cell = held() if held is not None else None
    return cell if cell is not None else _new_cell(rid)


def _new_cell(rid: Rid) -> Cell:
    with _making:
        held = _cells.get(rid)
        cell = held() if held is not None else None
        if cell is None:
            cell = Cell(rid)
            held = _Held(cell, _gone)
            held.rid = rid
            _cells[rid] = held
        return cell


def anyone_lives() -> bool:
    """Whether there is any live cell: the first question of a patched call outside a request."""
    return bool(_cells)


def live_cells() -> list[Cell]:
    """All live cells: work done without a scope may belong to any of them."""
    cells = [held() for held in list(_cells.values())]
    return [cell for cell in cells if cell is not None]


def forget_cells() -> None:
    """After a fork: the parent's requests are not the child's."""
    global _making
    _making = allocate_lock()
    _cells.clear()
    SCOPE.set(None)
