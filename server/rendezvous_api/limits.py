"""Every bound that more than one part must agree on: a name, a unit, and what happens beyond it."""

from typing import Final

CONTEXT_BYTES_MAX: Final = 512
"""Bytes of an encoded context. Beyond it positions are dropped (``more``), then ``incomplete``."""

CONTEXT_INPUT_BYTES_MAX: Final = 4096
"""Bytes of a received context. A longer one is not ours: ignored and counted."""

BAGGAGE_BYTES_MAX: Final = 8192
"""Bytes of a whole W3C baggage header; past it the user's last members are dropped (W3C §3.3.2)."""

LINKS_MAX: Final = 64
"""Links of one request. Beyond it the cell is marked ``incomplete``."""

PACKET_BYTES_MAX: Final = 60_000
"""Bytes of one channel packet; Linux's default socket buffer takes several of them."""

OUTBOX_EVENTS_MAX: Final = 20_000
"""Unacknowledged events in one process. Beyond it an event is refused before it is numbered."""

SIDECAR_EVENTS_MAX: Final = 200_000
"""Unacknowledged events in one sidecar. Beyond it the sidecar stops reading its processes."""

BATCH_EVENTS_MAX: Final = 1_000
"""Events in one batch from a sidecar to a server."""

COUNTS_MAX: Final = 256
"""Counters that one process may report to its sidecar; more are a malformed packet."""

NAME_BYTES_MAX: Final = 255
"""Bytes of a service, region, tag or store name in an event; a longer one is cut."""

QUESTION_MS_MAX: Final = 300_000
"""Milliseconds that a server holds a question at the most."""

QUESTIONS_HELD_MAX: Final = 20_000
"""Questions that one server holds at once; beyond it the answer is ``busy``."""

LEASE_S: Final = 10.0
"""Seconds after a sidecar's last sign of life until its origins' unsent tails become holes."""

RETENTION_S: Final = 120.0
"""Seconds for which a server remembers an idle request all of whose branches are closed."""

BRANCH_LEASE_S: Final = 60.0
"""Seconds after which an open branch expires."""

LANES: Final = 16
"""Lanes of an incarnation's event stream; a request's lane is the top 4 bits of its rid's hash."""

APPLIED_MEMORY_S: Final = 1.0
"""Seconds for which a learnt applied position may decide a barrier without asking again."""

BARRIER_BUDGET_S: Final = 5.0
"""Seconds that the barriers of one request may wait in one process."""

RESOLVE_BUDGET_S: Final = 1.0
"""Seconds that a read waits for the sidecar's answer."""
