"""The five answers to "has this node applied that write?", common to all datastores (DESIGN §2)."""

from collections.abc import Mapping
from enum import Enum

from rendezvous_api.ids import StoreKey


class Cover(Enum):
    """Whether a node makes a written position visible to a new read."""

    YES = "yes"
    NO = "no"
    """Not yet: waiting helps."""
    LOST = "lost"
    """The history forked before the position: the write is gone, waiting is in vain."""
    UNRELATED = "unrelated"
    """Another store: no lineage ever joined the two epochs."""
    UNKNOWN = "unknown"
    """The node cannot say now (syncing, question forbidden); waiting may help."""


class Lineage:
    """Which epochs became which, and where each history forked. Grows only.

    A position of an old epoch up to its fork is also a position of the new one, since stores keep
    counting through a failover.
    """

    __slots__ = ("_after",)

    def __init__(self) -> None:
        self._after: dict[StoreKey, dict[StoreKey, int]] = {}

    def learn(self, old: StoreKey, new: StoreKey, fork: int) -> bool:
        """``old`` became ``new``; ``fork`` is the last value of ``old`` that ``new`` has. Returns
        whether that is news. Of two different forks the smaller one holds: it promises less."""
        if old == new:
            return False
        successors = self._after.setdefault(old, {})
        known = successors.get(new)
        if known is not None and known <= fork:
            return False
        successors[new] = fork
        return True

    def carry(self, store: StoreKey, value: int, to: StoreKey) -> int | None:
        """``value`` of ``store`` counted in epoch ``to``: the value, or -1 where every way there
        forked before it (the write is gone), or ``None`` where no way leads there."""
        if store == to:
            return value
        seen = {store}
        frontier: list[tuple[StoreKey, bool]] = [(store, True)]
        joined = False
        while frontier:
            epoch, alive = frontier.pop()
            for new, fork in self._after.get(epoch, {}).items():
                still = alive and value <= fork
                if new == to:
                    if still:
                        return value
                    joined = True
                elif new not in seen:
                    seen.add(new)
                    frontier.append((new, still))
        return -1 if joined else None

    def known(self) -> Mapping[StoreKey, Mapping[StoreKey, int]]:
        """All that was learnt: old epoch to new epoch to fork."""
        return self._after
