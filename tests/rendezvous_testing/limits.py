"""Bounds of the test fixtures and of the demo: a name, a unit, and what happens beyond it."""

from typing import Final

READY_S: Final = 20.0
"""Seconds until a started process must be ready; beyond it starting fails with its log's tail."""

STOP_S: Final = 5.0
"""Seconds that a process gets between SIGTERM and SIGKILL."""

ORPHAN_S: Final = 2.0
"""Seconds that the rest of a process tree gets to end by itself after its root has ended."""

POLL_S: Final = 0.01
"""Seconds between two looks at something that cannot tell us by itself."""

PROBE_S: Final = 2.0
"""Seconds that one readiness probe or one store command may take."""

LINK_S: Final = 15.0
"""Seconds until a replica must be in step with its primary."""

LOG_TAIL_LINES: Final = 15
"""Lines of a process's log that an error message shows."""

IN_FLIGHT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes in flight in one direction of the delay proxy; beyond it the proxy stops reading."""

CALL_S: Final = 30.0
"""Seconds that one call of the load generator may take; beyond it the call is an error."""

WARM_UP_POSTS: Final = 20
"""Posts before the load that nobody counts: connections open, code is loaded."""

SERIAL_POSTS: Final = 50
"""Posts, at the most, sent one at a time after the load, to time the path without queueing."""

SERIAL_PAUSE_S: Final = 0.1
"""Seconds, at the most, between two of these posts in runs whose reads do not wait."""

STATS_PERIOD_S: Final = 0.5
"""Seconds between two writes of an instrumented process's verdicts."""

KILLS_PER_RUN: Final = 3
"""Kills in one run with faults, spread evenly over the load."""

RESTART_S: Final = 15.0
"""Seconds until the launcher must have restarted a sidecar that was killed."""

ERRORS_SHOWN_MAX: Final = 3
"""Application errors of one run that are shown in full."""
