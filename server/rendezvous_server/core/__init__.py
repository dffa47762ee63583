"""The metadata server's decisions, pure: entries in, effects out. Start at :class:`Core`."""

from rendezvous_server.core.batch import Batch
from rendezvous_server.core.effects import (
    Acked,
    Admission,
    Answered,
    Effects,
    Lack,
    LineagesLearnt,
    Send,
    Succeeded,
)
from rendezvous_server.core.entries import Batched, Entry, Expired, Follows, Holed, Moved
from rendezvous_server.core.keys import OriginKey, QuestionId, StreamId
from rendezvous_server.core.machine import Core

__all__ = [
    "Acked",
    "Admission",
    "Answered",
    "Batch",
    "Batched",
    "Core",
    "Effects",
    "Entry",
    "Expired",
    "Follows",
    "Holed",
    "Lack",
    "LineagesLearnt",
    "Moved",
    "OriginKey",
    "QuestionId",
    "Send",
    "StreamId",
    "Succeeded",
]
