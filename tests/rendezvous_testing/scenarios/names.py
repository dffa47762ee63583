"""Names for what is random: requests, branches, incarnations, logs, epochs of stores."""

from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Bid, Origin, Rid, StoreKey, word, word_value, zone_text

_FLAGS = {
    Flags.MORE: "more",
    Flags.INCOMPLETE: "incomplete",
    Flags.JOINED: "joined",
    Flags.CONTINUES: "continues",
}


class Names:
    """Gives names in the order in which things appear, so that they tell something."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._lanes: dict[str, list[str]] = {}

    def give(self, key: str, name: str) -> str:
        """``key`` is called ``name`` from now on, unless it has a name."""
        return self._given.setdefault(key, name)

    def next(self, key: str, kind: str, *, first: str = "1") -> str:
        """``key``'s name; a new one is ``kind`` and a number, the first of them ``kind`` + ``first``."""
        name = self._given.get(key)
        if name is None:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            name = self._given[key] = kind + (first if number == 1 else str(number))
        return name

    def rid(self, rid: Rid) -> str:
        """``r1``, ``r2`` … in the order of appearance."""
        return self.next(rid, "r")

    def rid_called(self, name: str) -> Rid:
        """Inverse of :meth:`rid`."""
        return Rid(next(key for key, given in self._given.items() if given == name))

    def bid(self, bid: int) -> str:
        """A branch's name, given when it is opened."""
        return self._given.get(word(bid), "root" if not bid else "a branch")

    def bid_called(self, name: str) -> Bid | None:
        """Inverse of :meth:`bid`."""
        keys = [key for key, given in self._given.items() if given == name]
        return Bid(word_value(keys[0])) if keys else None

    def log(self, log: str) -> str:
        """A log's name: ``log1``, and the next one of the same server ``log1'``."""
        return self._given.get(log, "a log")

    def incarnation(self, incarnation: str) -> str:
        """An incarnation's name: ``writer``, after a restart ``writer'``."""
        return self._given.get(incarnation, "somebody")

    def is_known(self, incarnation: str) -> bool:
        """Whether this incarnation has a name."""
        return incarnation in self._given

    def origin(self, origin: Origin) -> str:
        """An incarnation and, from its second lane on, which lane."""
        incarnation, lane = origin[:-1], origin[-1]
        lanes = self._lanes.setdefault(incarnation, [])
        if lane not in lanes:
            lanes.append(lane)
        place = lanes.index(lane)
        return self.incarnation(incarnation) + (f"/{place + 1}" if place else "")

    def has_lane(self, origin: Origin) -> bool:
        """Whether anything was ever said of this origin."""
        return origin[-1] in self._lanes.get(origin[:-1], ())

    def store(self, store: StoreKey) -> str:
        """A store, and from its second epoch on, which."""
        return self._given.get(store, "some store" if len(store) > 1 else "any store")

    def context(self, context: Context) -> str:
        """What a context knows."""
        parts = [f"{self.store(key)}={value}" for key, value in context.positions.items()]
        parts += [
            f"{self.store(key)} {'unanswered' if unanswered else 'unknown'}"
            for key, unanswered in context.unknown.items()
        ]
        parts += sorted(f"{self.bid(bid)} unresolved" for bid in context.unresolved)
        parts += [f"{self.log(log)}:{index}" for log, index in context.logs.items()]
        parts += [f"{self.origin(origin)}:{seq}" for origin, seq in context.origins.items()]
        parts += sorted(f"links {self.rid(rid)}" for rid in context.links)
        parts += [name for flag, name in _FLAGS.items() if context.flags & flag]
        zone = f"zone {zone_text(context.zone)} " if context.zone else ""
        return zone + "[" + ", ".join(parts) + "]"
