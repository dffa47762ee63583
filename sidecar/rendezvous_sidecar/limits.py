"""Every bound of the sidecar: a name, a unit, and what happens beyond it."""

from typing import Final

from rendezvous_api.limits import (
    BATCH_EVENTS_MAX,
    LANES,
    LEASE_S,
    PACKET_BYTES_MAX,
    SIDECAR_EVENTS_MAX,
)

BUFFER_RESUME_EVENTS: Final = SIDECAR_EVENTS_MAX * 9 // 10
"""Events held at which a sidecar that was full reads its processes again."""

BATCHES_IN_FLIGHT_MAX: Final = 16
"""Unacknowledged batches on the stream. Beyond it even full ones wait."""

BATCH_BYTES_MAX: Final = 1_000_000
"""Bytes of the event bodies in one batch; gRPC refuses a message of 4 MiB."""

LINGER_S: Final = 0.050
"""Seconds that events wait for company before a batch that is not full is sent. Nobody waits for
them: a question sends what there is at once. A batch costs a sidecar and a server more than its events."""

ACK_PAUSE_S: Final = 0.020
"""Seconds between two acks to one process; those in between are overwritten."""

LOGS_PER_LANE_MAX: Final = 64
"""Logs (of servers, one after another) whose last ack is remembered per lane for a process that
comes back or reads late; an ack takes 28 bytes of a packet. Beyond it the oldest is forgotten."""

ACK_WAIT_S: Final = 30.0
"""Seconds that a batch may go unacknowledged before the stream is given up for another."""

WELCOME_WAIT_S: Final = 3.0
"""Seconds that a server has to welcome a new stream before the next server is tried."""

LEASE_RENEWAL_S: Final = LEASE_S / 3
"""Seconds between two signs of life: two may be lost."""

UNREACHABLE_AFTER_S: Final = 0.5
"""Seconds without a server after which questions are answered ``unreachable`` at once."""

ANSWER_GRACE_S: Final = 0.25
"""Seconds past a question's budget until the sidecar itself says ``timed out``."""

SHARED_QUESTION_S: Final = 0.050
"""Seconds by which the deadlines of equal questions may differ for them to be asked as one."""

QUESTIONS_PENDING_MAX: Final = 20_000
"""Questions without an answer in one sidecar; beyond it the answer is ``busy``."""

ENDED_GRACE_S: Final = 0.5
"""Seconds after a channel's end in which the process may come back before it counts as ended."""

ENDED_WAITING_MAX: Final = 10_000
"""Ended processes that no server was told of. Beyond it the oldest is left to its lease."""

LINEAGES_MAX: Final = 1_000
"""Lineages remembered for processes to come. Beyond it the oldest is forgotten."""

MAILBOX_MESSAGES_MAX: Final = 1_000
"""Answers and lineages that wait for one process to read. Beyond it they are dropped, counted."""

READ_BYTES_MAX: Final = 65_536
"""Bytes of the read buffer: a packet that does not fit is cut by the kernel, and refused."""

READ_PACKETS_MAX: Final = 64
"""Packets read from one process before the others have their turn."""

PROCESSES_MAX: Final = 1_000
"""Channels of one sidecar. Beyond it a new one is closed, counted."""

COUNTS_KEPT_MAX: Final = 10_000
"""Counters (service and name) kept for metrics. Beyond it new ones are left out."""

BACK_OFF_MIN_S: Final = 0.05
"""Seconds of the first pause after no server could be reached."""

BACK_OFF_MAX_S: Final = 3.0
"""Seconds of the longest such pause; jitter takes up to half of it away."""

STREAM_LIFE_S: Final = 1.0
"""Seconds that a welcomed stream must have lived for its server to be tried again at once."""

KEEPALIVE_MS: Final = 20_000
"""Milliseconds between two pings of an idle connection to a server."""

KEEPALIVE_TIMEOUT_MS: Final = 5_000
"""Milliseconds that a ping may go unanswered before the connection counts as dead."""

DRAIN_S: Final = 5.0
"""Seconds that an ending sidecar goes on delivering what it holds."""

PARENT_POLL_S: Final = 1.0
"""Seconds between two looks at the parent where the kernel does not tell of its end."""

HEALTH_REQUEST_BYTES_MAX: Final = 8_192
"""Bytes of one request to the health port."""

HEALTH_REQUEST_S: Final = 5.0
"""Seconds that one request to the health port may take."""

assert BATCH_EVENTS_MAX <= BUFFER_RESUME_EVENTS < SIDECAR_EVENTS_MAX
assert PACKET_BYTES_MAX < READ_BYTES_MAX
assert LANES * LOGS_PER_LANE_MAX * 28 < PACKET_BYTES_MAX
