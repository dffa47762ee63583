"""The context: what travels with a request, cut from the cell (DESIGN §1)."""

from collections.abc import Mapping
from enum import IntFlag

from rendezvous_api.ids import ROOT_BID, Bid, LogId, Origin, Rid, StoreKey, Zone
from rendezvous_api.record import record


class Flags(IntFlag):
    """What the fields alone cannot say. Merging contexts is the union of their flags."""

    MORE = 1
    """Positions were left out for want of room; the frontier covers them."""

    INCOMPLETE = 2
    """Something was lost that nothing else in the context covers."""

    JOINED = 4
    """The request was recognised by its trace id alone; its context had been stripped."""

    CONTINUES = 8
    """A response whose body goes on: the rest is known when its branch closes."""


FLAGS = tuple(Flags(bits) for bits in range(16))
"""The flags by their bits. Operators of ``IntFlag`` take half a microsecond each, so the hot paths
work on plain integers (``+flags`` is the integer of ``flags``) and look the flags up here."""

NO_FLAGS = FLAGS[0]


@record
class Context:
    """One request's knowledge at one moment, as sent or received. A value: change nothing in it.

    ``positions`` hold, per store and epoch, the highest value written. ``unknown`` marks stores
    with a write of unknown position; ``True`` says that the write was not even answered.
    ``unresolved`` are calls that ended without the callee's context. ``logs`` and ``origins`` are
    the frontier: events acknowledged as (log, index), and events known only by (origin, seq).
    ``time`` is the coarse Unix time, in seconds, of the oldest unconfirmed knowledge; 0 when there
    is none.
    """

    rid: Rid
    branch: Bid = ROOT_BID
    zone: Zone = ()
    child_zones: int = 0
    links: frozenset[Rid] = frozenset()
    positions: Mapping[StoreKey, int] = {}
    unknown: Mapping[StoreKey, bool] = {}
    unresolved: frozenset[Bid] = frozenset()
    logs: Mapping[LogId, int] = {}
    origins: Mapping[Origin, int] = {}
    time: int = 0
    flags: Flags = NO_FLAGS
