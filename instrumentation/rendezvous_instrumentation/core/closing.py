"""What a branch's close must carry, beyond its own origin's earlier events."""

from rendezvous_api.cell import Cell
from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Origin, word

_INCOMPLETE = int(Flags.INCOMPLETE)


def close_frontier(known: Cell | Context, own: Origin, *, unregistered: bool) -> str:
    """The frontier fields of a close: other origins, logs, unresolved calls, and doubts.

    ``known`` is all that the branch knew at its end; ``own`` the origin whose lane numbers
    the close, so that its earlier events are implied by law 2; ``unregistered``: some position has
    no event, so nobody who asks a server can learn of it.
    """
    fields = [f"f{log}~{index:x}" for log, index in known.logs.items()] if known.logs else []
    fields += [f"s{name}~{seq:x}" for name, seq in known.origins.items() if name != own]
    if known.unresolved:
        fields += [f"x{word(bid)}" for bid in sorted(known.unresolved)]
    if unregistered or +known.flags & _INCOMPLETE:
        fields.append("gi")
    return ".".join(fields)
