"""A real primary and replica with a slow link between them, for tests that hold reads."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from rendezvous_testing.delay_proxy import DelayProxy
from rendezvous_testing.inside import Inside
from rendezvous_testing.limits import LINK_S, POLL_S
from rendezvous_testing.processes import Processes
from rendezvous_testing.valkey import ValkeyServer, start_server


class Replicated:
    """``primary`` and ``replica``; ``link`` is the proxy between them."""

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer, link: DelayProxy) -> None:
        self.primary = primary
        self.replica = replica
        self.link = link
        self._questions = 0

    def wait_until_level(self) -> None:
        """Wait until the replica has all that the primary has now."""
        head = int(self.primary.replication()["master_repl_offset"])
        eventually(lambda: int(self.replica.replication()["slave_repl_offset"]) >= head)

    @contextmanager
    def lagging(self, us: Inside) -> Generator[None]:
        """The replica gets nothing until a read is held, and then everything: however slow the
        machine is, the first dependent read in this block waits."""
        self.link.cut()

        def heal() -> None:
            eventually(lambda: us.us.held > 0)
            self.link.heal()

        healing = threading.Thread(target=heal)
        with us.scope(None):
            healing.start()
        try:
            yield
        finally:
            healing.join()

    def questions_at_replica(self) -> int:
        """How often the replica was asked ``INFO`` since the last call of this."""
        before, self._questions = self._questions, self._info_calls()
        return self._questions - before - 1  # this very one

    def _info_calls(self) -> int:
        text = self.replica.ask("INFO", "commandstats")
        assert isinstance(text, str)
        for line in text.splitlines():
            if line.startswith("cmdstat_info:calls="):
                return int(line.partition("=")[2].partition(",")[0])
        return 0


@contextmanager
def replicated(folder: Path, *, delay_s: float = 0.02) -> Generator[Replicated]:
    """Start both; the replica lags by ``delay_s``."""
    with Processes(folder) as processes:
        primary = start_server(processes, "primary")
        with DelayProxy(target_port=primary.port, delay_s=delay_s) as link:
            replica = start_server(processes, "replica", link_port=link.port)
            replica.wait_until_linked()
            yield Replicated(primary, replica, link)
            link.heal()
            processes.stop()  # before the proxy, whose end would only make the replica retry


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is true; fail when that takes too long."""
    deadline = time.monotonic() + LINK_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
