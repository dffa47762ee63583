"""What enters the agent (events) and what leaves it (effects).

Not to be confused with the events of ``rendezvous_api.event``, which processes report and the agent
merely carries. Processes and streams are named by numbers that the shell gives and never reuses.
"""

from dataclasses import dataclass

from rendezvous_api.channel import ToProcess
from rendezvous_api.v1.rendezvous_pb2 import FromSidecar, ToSidecar


@dataclass(frozen=True, slots=True)
class Connected:
    """A process opened a channel. ``pid`` is the kernel's word for who it is; 0 if it cannot say
    (another pid namespace)."""

    process: int
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet of a channel. ``pid`` is the kernel's word for who sent this very packet; 0 if
    unknown."""

    process: int
    raw: bytes
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Closed:
    """A channel ended and was read to its end. Nothing more of it follows."""

    process: int


@dataclass(frozen=True, slots=True)
class StreamUp:
    """A new stream to a server can be written to. It takes the place of any older one."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """A server's message. Those of older streams are ignored."""

    stream: int
    message: ToSidecar


@dataclass(frozen=True, slots=True)
class StreamDown:
    """A stream ended, or never came to be."""

    stream: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: to be given once ``Agent.due()`` is reached, and harmless at any time."""


Step = Connected | Packet | Closed | StreamUp | StreamMessage | StreamDown | Tick


@dataclass(frozen=True, slots=True)
class Tell:
    """Send ``message`` to a process, without ever waiting for it (see ``Mailbox``)."""

    process: int
    message: ToProcess


@dataclass(frozen=True, slots=True)
class Close:
    """Close a process's channel. A ``Closed`` for it may follow, and is ignored."""

    process: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Read nothing more from a process until ``Resume``: the buffer is full."""

    process: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Read from a process again."""

    process: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``message`` on a stream. Batches keep their order among themselves; anything else may
    overtake them."""

    stream: int
    message: FromSidecar


@dataclass(frozen=True, slots=True)
class Rotate:
    """Give up a stream and open another, to the next server. ``StreamDown`` is to follow."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class Warn:
    """Tell the operator. ``text`` is one line."""

    text: str


Effect = Tell | Close | Pause | Resume | Send | Rotate | Warn
