"""What waits for a process that does not read: acks overwrite each other, answers queue."""

from collections import deque

from rendezvous_api.channel import Acked, ToProcess, encode
from rendezvous_api.ids import LogId
from rendezvous_api.limits import LANES
from rendezvous_sidecar.limits import LOGS_PER_LANE_MAX, MAILBOX_MESSAGES_MAX

_ACKS_MAX = LANES * LOGS_PER_LANE_MAX


class Mailbox:
    """Packets for one process, answers before acks. Never grows beyond ``MAILBOX_MESSAGES_MAX``
    messages and one ack per lane and log: within a log a later ack says all that an earlier one did,
    while of two logs each holds a part."""

    __slots__ = ("_acks", "_messages")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._acks: dict[tuple[int, LogId], tuple[int, LogId, int]] = {}

    def put(self, message: ToProcess) -> bool:
        """Add a message; False if it had to be dropped because the mailbox is full."""
        if isinstance(message, Acked):
            for lane, seq, log, index in message.entries:
                self._acks.pop((lane, log), None)  # the newest is the last
                self._acks[lane, log] = (seq, log, index)
            while len(self._acks) > _ACKS_MAX:
                del self._acks[next(iter(self._acks))]
            return True
        if len(self._messages) >= MAILBOX_MESSAGES_MAX:
            return False
        self._messages.append(encode(message))
        return True

    def first(self) -> bytes | None:
        """The next packet to send; it stays until :meth:`sent`."""
        if self._messages:
            return self._messages[0]
        if self._acks:
            return encode(Acked(tuple((lane, *ack) for (lane, _), ack in self._acks.items())))
        return None

    def sent(self) -> None:
        """The packet that :meth:`first` gave was sent."""
        if self._messages:
            self._messages.popleft()
        else:
            self._acks.clear()
