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
    """Which epochs became which, and how far each shares the history before it. Grows only.

    A position of an old epoch up to its fork is also a position of the new one, and the other way
    round, since stores keep counting through a failover.
    """

    __slots__ = ("_after", "_before")

    def __init__(self) -> None:
        self._after: dict[StoreKey, dict[StoreKey, int]] = {}
        self._before: dict[StoreKey, dict[StoreKey, int]] = {}

    def learn(self, old: StoreKey, new: StoreKey, fork: int) -> bool:
        """``old`` became ``new``, and ``new`` has all of ``old`` up to ``fork``. Returns whether
        that is news. Of two forks the greater holds: a replica that lagged at the failover says
        how far it had come, the promoted node how far the histories really go together."""
        if old == new or fork <= self._after.get(old, {}).get(new, -1):
            return False
        # Replaced, not changed: other threads walk here without a lock.
        self._after[old] = {**self._after.get(old, {}), new: fork}
        self._before[new] = {**self._before.get(new, {}), old: fork}
        return True

    def carry(self, store: StoreKey, value: int, to: StoreKey) -> int | None:
        """``value`` of ``store`` counted in epoch ``to``: the value, or -1 where ``to`` is not known
        to have it, or ``None`` where nothing joins the two epochs. The value 0 is no point of any
        history (Redis counts nothing until its first replica comes), so it never goes across."""
        reached = {store}
        shared = [store]
        while shared:
            epoch = shared.pop()
            if epoch == to:
                return value
            for links in (self._after, self._before):
                for other, fork in links.get(epoch, {}).items():
                    if 0 < value <= fork and other not in reached:
                        reached.add(other)
                        shared.append(other)
        return -1 if self._leads(store, to, (self._after, self._before)) else None

    def came_before(self, old: StoreKey, new: StoreKey) -> bool:
        """Whether ``new`` continues ``old``, perhaps over several failovers."""
        return self._leads(old, new, (self._after,))

    def known(self) -> Mapping[StoreKey, Mapping[StoreKey, int]]:
        """All that was learnt: old epoch to new epoch to fork."""
        return self._after

    def _leads(
        self,
        store: StoreKey,
        to: StoreKey,
        ways: tuple[Mapping[StoreKey, Mapping[StoreKey, int]], ...],
    ) -> bool:
        reached = {store}
        walk = [store]
        while walk:
            epoch = walk.pop()
            if epoch == to:
                return True
            for links in ways:
                fresh = links.get(epoch, {}).keys() - reached
                reached |= fresh
                walk += fresh
        return False
