"""One incarnation of a process: its lanes, its channel while it has one, and the acks it is due."""

from rendezvous_api.channel import Acked
from rendezvous_api.ids import LogId
from rendezvous_sidecar.core.lane import Lane


class Source:
    """What the sidecar knows of one incarnation, from its first Hello until its end was told."""

    __slots__ = (
        "_acks",
        "acked_at",
        "counted",
        "incarnation",
        "lanes",
        "pid",
        "process",
        "service",
    )

    def __init__(self, incarnation: int, pid: int) -> None:
        self.incarnation = incarnation
        self.pid = pid
        self.process: int | None = None
        """The channel that it speaks on; None while it has none."""
        self.lanes: dict[int, Lane] = {}
        self.acked_at = float("-inf")
        """When it was last sent acks."""
        self.service = ""
        self.counted: dict[str, int] = {}
        """What the process last said that it has counted."""
        self._acks: dict[tuple[int, LogId], tuple[int, LogId, int]] = {}

    @property
    def held(self) -> int:
        """Events that no server has acknowledged."""
        return sum(lane.held for lane in self.lanes.values())

    def names(self) -> list[int]:
        """The incarnations under which servers may wait for more of it: its own and successors."""
        names = {self.incarnation: None}
        for lane in self.lanes.values():
            names.update(dict.fromkeys(lane.names))
        return list(names)

    @property
    def owes_acks(self) -> bool:
        """Whether there are acks that the process was not sent."""
        return bool(self._acks)

    def owe(self, lane: Lane) -> None:
        """Note that the process is to hear of the lane's last ack."""
        if lane.ack is not None and lane.broken_from is None:
            self._owe(lane.number, lane.ack)

    def owe_all(self, lane: Lane) -> None:
        """Note that the process may have missed earlier acks too: it must know every log that holds
        a part of the lane, for a frontier names them all."""
        if lane.broken_from is None:
            for ack in lane.acks.values():
                self._owe(lane.number, ack)

    def _owe(self, lane: int, ack: tuple[int, LogId, int]) -> None:
        self._acks.pop((lane, ack[1]), None)  # the newest is the last
        self._acks[lane, ack[1]] = ack

    def take_acks(self, now: float) -> Acked:
        """All acks that the process is due, as one message."""
        message = Acked(tuple((lane, *ack) for (lane, _), ack in self._acks.items()))
        self._acks.clear()
        self.acked_at = now
        return message
