"""Room for events: how many are held, and who is read while there is room for more."""

from rendezvous_api.limits import SIDECAR_EVENTS_MAX
from rendezvous_sidecar.core.desk import Desk
from rendezvous_sidecar.core.steps import Pause, Resume
from rendezvous_sidecar.limits import BUFFER_RESUME_EVENTS


class Buffer:
    """Processes are paused all together, and read again only once there is some room."""

    def __init__(self, desk: Desk) -> None:
        self.held = 0
        """Events that no server has acknowledged."""
        self.paused = False
        """Whether the buffer is full, so that no process is read."""
        self._desk = desk
        self._readers: dict[int, None] = {}

    def enter(self, process: int) -> None:
        """A process opened a channel."""
        self._readers[process] = None
        if self.paused:
            self._desk.out.append(Pause(process))

    def leave(self, process: int) -> None:
        """A process's channel is closed."""
        self._readers.pop(process, None)

    def pause_if_full(self) -> None:
        """Read nobody any more once ``SIDECAR_EVENTS_MAX`` events are held."""
        if self.held >= SIDECAR_EVENTS_MAX and not self.paused:
            self.paused = True
            self._desk.out.extend(Pause(process) for process in self._readers)

    def resume_if_room(self) -> None:
        """Read everybody again once no more than ``BUFFER_RESUME_EVENTS`` events are held."""
        if self.paused and self.held <= BUFFER_RESUME_EVENTS:
            self.paused = False
            self._desk.out.extend(Resume(process) for process in self._readers)
