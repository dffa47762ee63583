"""What all parts of the agent write to: effects, counts, and the stream while there is one."""

from collections import Counter

from rendezvous_api.channel import ToProcess
from rendezvous_api.v1.rendezvous_pb2 import FromSidecar
from rendezvous_sidecar.core.counters import Count
from rendezvous_sidecar.core.steps import Effect, Send, Tell, Warn


class Desk:
    """Effects pile up here until the step is done."""

    def __init__(self) -> None:
        self.out: list[Effect] = []
        self.counts: Counter[Count] = Counter()
        self.stream: int | None = None
        """The stream that may be written to."""
        self.connected = False
        """Whether a server has welcomed that stream."""

    def send(self, message: FromSidecar) -> None:
        """To the server, if one is connected."""
        if self.stream is not None and self.connected:
            self.out.append(Send(self.stream, message))

    def tell(self, process: int, message: ToProcess) -> None:
        """To a process."""
        self.out.append(Tell(process, message))

    def warn(self, text: str) -> None:
        """To the operator."""
        self.out.append(Warn(text))
