"""Bounds of the server alone: a name, a unit, and what happens beyond it.

Bounds that other parts share are in ``rendezvous_api.limits``.
"""

from typing import Final

from rendezvous_api.limits import BATCH_EVENTS_MAX, CONTEXT_INPUT_BYTES_MAX, RETENTION_S

MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Bytes of one gRPC message. A larger one ends its stream (RESOURCE_EXHAUSTED)."""

NAMES_BYTES_MAX: Final = 1024 * 1024
"""Bytes of the name table of one batch. A larger one is refused."""

FRONTIER_BYTES_MAX: Final = CONTEXT_INPUT_BYTES_MAX - 128
"""Bytes of a close's frontier, which must fit a context. A longer one is refused."""

BRANCHES_PER_REQUEST_MAX: Final = 10_000
"""Branches of one request. Beyond it the request is marked incomplete, its answers say so."""

POSITIONS_PER_REQUEST_MAX: Final = 1_000
"""Stores of one request, with positions or marked unknown. Beyond it: incomplete."""

LINKED_REQUESTS_MAX: Final = 256
"""Requests that one answer covers, links of links included. Beyond it: incomplete."""

CLOSES_PER_BRANCH_MAX: Final = 64
"""Different closes of one branch (regions, retried deliveries). Beyond it: incomplete."""

FRONTIER_CHAIN_MAX: Final = 64
"""Successors of successors followed for one frontier entry. Beyond it the entry counts as lost."""

HELD_EVENTS_MAX: Final = 100_000
"""Events held back for want of their predecessors. A batch that would exceed it is refused."""

RECENT_EVENTS_MAX: Final = 20_000
"""Events, of all origins together, whose repetition is compared with the original. A repetition
of an older one, or of one from before a restart, is ignored unread."""

ORIGINS_PER_STREAM_MAX: Final = 100_000
"""Origins seen on one sidecar stream. A batch that would exceed it is refused."""

INCARNATIONS_PER_STREAM_MAX: Final = 4_096
"""Processes that one sidecar speaks for. A message that would exceed it is refused."""

LINEAGES_MAX: Final = 10_000
"""Lineages of datastores. Later ones are counted and not kept."""

SHARED_MAX: Final = 50_000
"""Names and descriptions kept once for all requests. Beyond it the table starts anew."""

CLOCK_SLACK_S: Final = 10.0
"""Seconds by which clocks of processes and server may differ, delivery of events included."""

SLICE_S: Final = 0.0003
"""Seconds of applying after which other work gets its turn, at the next ``SLICE_EVENTS``."""

SLICE_EVENTS: Final = 100
"""Events applied between two looks at the clock: some 0.1 to 0.2 ms, so that a slice stays under
half a millisecond."""

SLICE_REQUESTS: Final = 200
"""Requests looked at in one tick, or written to a snapshot, without giving way."""

SLICE_LEASES: Final = 32
"""Lapsed leases, or dead origins, dealt with in one tick."""

WHEEL_S: Final = 1.0
"""Seconds that share one slot of the wheel on which requests wait to be forgotten."""

TICK_S: Final = 0.25
"""Seconds between two ticks where no question's deadline comes first."""

GROUP_RECORDS_MAX: Final = 512
"""Records written to the log in one group."""

PENDING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of records not yet durable. Beyond it the server stops reading its streams."""

STREAM_QUEUE_MAX: Final = 10_000
"""Messages waiting to be sent to one sidecar. A sidecar that lets more pile up is cut off."""

STREAMS_MAX: Final = 10_000
"""Sidecar streams at once. A further one is turned away (RESOURCE_EXHAUSTED)."""

SNAPSHOT_RECORDS: Final = 20_000
"""Records after which a durable log gets a snapshot, so that a restart is fast."""

HELLO_S: Final = 10.0
"""Seconds that a new stream has to say hello."""

DRAIN_S: Final = 3.0
"""Seconds that calls in flight get to end after SIGTERM."""

HTTP_REQUEST_BYTES_MAX: Final = 8 * 1024
"""Bytes of a request to the metrics port. A longer one is cut off."""

HTTP_TIMEOUT_S: Final = 5.0
"""Seconds that a client of the metrics port has to send its request."""

assert SLICE_EVENTS <= BATCH_EVENTS_MAX <= HELD_EVENTS_MAX
assert CLOCK_SLACK_S < RETENTION_S
