"""Lineages of datastores: what the server has told, for every process and those to come."""

from rendezvous_api.channel import Lineages
from rendezvous_api.errors import MalformedMessage
from rendezvous_api.event import Lineage
from rendezvous_api.ids import StoreKey, store_from
from rendezvous_api.limits import NAME_BYTES_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.limits import LINEAGES_MAX

_PER_PACKET = 100  # of the longest names fit a packet


class KnownLineages:
    """Remembered in the order in which they were learnt, the oldest forgotten first. Of two forks the
    greater holds, as in ``positions.cover``."""

    def __init__(self) -> None:
        self._entries: dict[tuple[StoreKey, StoreKey], Lineage] = {}

    def learn(self, message: pb.Lineages) -> list[Lineages]:
        """What is news in ``message``, for all processes. Raises a ``RemoteError`` or ValueError
        if the message is not of the agreed form; then nothing of it is taken."""
        entries = [
            Lineage(_store(old), _store(new), fork)
            for old, new, fork in zip(message.olds, message.news, message.forks, strict=True)
        ]
        fresh: list[Lineage] = []
        for entry in entries:
            known = self._entries.get((entry.old, entry.new))
            if known is None or entry.fork > known.fork:
                self._entries[entry.old, entry.new] = entry
                fresh.append(entry)
        while len(self._entries) > LINEAGES_MAX:
            del self._entries[next(iter(self._entries))]
        return _messages(fresh)

    def all(self) -> list[Lineages]:
        """Everything remembered, for a new process."""
        return _messages(list(self._entries.values()))


def _messages(entries: list[Lineage]) -> list[Lineages]:
    return [
        Lineages(tuple(entries[at : at + _PER_PACKET]))
        for at in range(0, len(entries), _PER_PACKET)
    ]


def _store(text: str) -> StoreKey:
    if len(text) > NAME_BYTES_MAX:
        raise MalformedMessage("a store's name is too long")
    return store_from(text.encode())
