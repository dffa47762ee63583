"""Bounds of the instrumentation, each with its unit and what happens beyond it."""

from typing import Final

POLL_S: Final = 0.001
"""Seconds between two questions to a node that some read is held for."""

POLL_EAGER_S: Final = 0.0005
"""The same while the read has been held for less than ``EAGER_S``: most are held for this long."""

EAGER_S: Final = 0.05
"""Seconds for which a held read is asked for eagerly."""

HELD_MAX: Final = 1_000
"""Reads held at once in one process; beyond it reads pass, counted ``bulkhead``."""

FORBIDDEN_MEMORY_S: Final = 30.0
"""Seconds for which a connection whose position question was refused is not asked again."""

ANSWER_WAY_S: Final = 0.3
"""Seconds of a question's budget that are left for its answer's way: longer than a sidecar waits for
its server. Else "a call is still open" would come too late, and count as a sidecar that is silent."""

BREAKER_FAILURES: Final = 3
"""Questions to the sidecar that fail in a row until the circuit breaker opens."""

BREAKER_OPEN_S: Final = 5.0
"""Seconds for which an open breaker answers at once."""

RECONNECT_S_MIN: Final = 0.05
RECONNECT_S_MAX: Final = 2.0
"""Seconds between two attempts to reach the sidecar: doubling between these."""

ACK_PAUSE_S: Final = 0.005
"""Seconds for which acks are left to gather in the socket while no answer is awaited."""

FLUSH_S: Final = 0.002
"""Seconds between two sends of events by the application's own calls."""

ACTIVE_S: Final = 0.005
"""Seconds after which the channel's thread sends what is left, while there are new events."""

PEERS_MAX: Final = 4_096
"""Peers remembered as speaking Rendezvous; beyond it all are forgotten and learnt again."""

ENDPOINTS_MAX: Final = 4_096
"""Datastore endpoints whose epoch is remembered; beyond it all are forgotten and learnt again."""

STATS_INTERVAL_S: Final = 0.5
"""Seconds between two writes of the statistics file."""

WAITS_REMEMBERED: Final = 10_000
"""Durations of held reads kept for percentiles; the oldest go first, and
still count as reads."""
