"""Ground truth: what each piece of knowledge really stands for. The cores never see it."""

from rendezvous_api.ids import Bid
from rendezvous_testing.simulation.stores import Wrote

Truth = set["Wrote | Bid"]
"""Writes, and branches whose writes are meant too (calls that ended without the callee's word)."""


class Ground:
    """Who called whom, and what each branch had seen when it closed."""

    def __init__(self) -> None:
        self.parents: dict[Bid, Bid] = {}
        self.under: dict[Bid, set[Wrote | Bid]] = {}
        """Per branch, live while its handler runs: everything that it knows."""
        self.began: set[Bid] = set()
        self.writes = 0

    def new_write(self, store: str) -> Wrote:
        """A write that is about to happen."""
        self.writes += 1
        return Wrote(self.writes, store)

    def expand(self, known: Truth, reader: Bid) -> set[Wrote]:
        """All writes that a protected read in branch ``reader`` must see; a branch that is an
        ancestor of the reader's cannot have ended, and is exempt."""
        ancestors: set[Bid] = set()
        bid = reader
        while bid and bid not in ancestors:
            ancestors.add(bid)
            bid = self.parents.get(bid, Bid(0))
        out: set[Wrote] = set()
        seen: set[Bid] = set()
        todo: list[Wrote | Bid] = list(known)
        while todo:
            item = todo.pop()
            if isinstance(item, Wrote):
                out.add(item)
            elif item not in seen and item not in ancestors:
                seen.add(item)
                todo += self.under.get(item, ())
        return out
