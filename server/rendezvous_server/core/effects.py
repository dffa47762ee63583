"""What the core wants done. The shell performs it, in this order: persist, apply, send.

The ordering law: an entry is appended to the log first; only once it is durable is it given to
``Core.apply``; only what ``apply`` (or another call) returned is sent. So nothing is acknowledged
or answered that a restart could take back. ``append`` therefore names entries that have had no
effect yet: they take effect when they come back through ``apply``.
"""

from dataclasses import dataclass

from rendezvous_api.channel import Status
from rendezvous_api.event import Lineage
from rendezvous_api.ids import LogId
from rendezvous_server.core.entries import Entry
from rendezvous_server.core.keys import OriginKey, QuestionId, StreamId


@dataclass(frozen=True, slots=True)
class Acked:
    """To ``stream``: of each origin everything up to this seq is in ``log`` at ``index`` or before."""

    stream: StreamId
    log: LogId
    index: int
    origins: tuple[tuple[OriginKey, int], ...]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """To ``stream``: resend what ``origin`` has after ``after`` as ``successor``:1, 2, 3 …"""

    stream: StreamId
    origin: OriginKey
    after: int
    successor: OriginKey


@dataclass(frozen=True, slots=True)
class Answered:
    """The end of a question: ``context`` is encoded."""

    question: QuestionId
    status: Status
    context: str


@dataclass(frozen=True, slots=True)
class LineagesLearnt:
    """To all streams: lineages that were not known before."""

    entries: tuple[Lineage, ...]


Send = Acked | Succeeded | Answered | LineagesLearnt


@dataclass(frozen=True, slots=True)
class Effects:
    """First ``append`` to the log (in order), then ``send``; neither waits for the other here,
    since ``send`` only speaks of what was applied already."""

    append: tuple[Entry, ...] = ()
    send: tuple[Send, ...] = ()


@dataclass(frozen=True, slots=True)
class Lack:
    """A successor is wanted for ``origin``: draw its id and append ``Follows``."""

    origin: OriginKey
    after: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What to append for a batch, in this order: ``holes``, a ``Follows`` for each of ``lacks``,
    then ``entry``. ``send`` may go out at once."""

    entry: Entry | None
    holes: tuple[Entry, ...] = ()
    lacks: tuple[Lack, ...] = ()
    send: tuple[Send, ...] = ()


NOTHING = Effects()
