"""The instrumentation inside the test's own process: installed, given a request, taken away again."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rendezvous_api.cell import Cell
from rendezvous_api.event import Event, decode
from rendezvous_api.ids import Rid, text_of
from rendezvous_api.limits import PACKET_BYTES_MAX
from rendezvous_instrumentation import install
from rendezvous_instrumentation.shell import calls, current, held, process
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import Process


class Inside:
    """One incarnation in this process. Use :func:`inside`."""

    def __init__(self, us: Process) -> None:
        self.us = us

    @contextmanager
    def request(self) -> Generator[Cell]:
        """A new request is what the code of this block works for; its cell."""
        cell = cell_of(Rid(text_of(os.urandom(16))))
        with self.scope(Scope(cell)):
            yield cell

    @contextmanager
    def scope(self, scope: Scope | None) -> Generator[None]:
        """The code of this block works in ``scope``; ``None``: for no request."""
        token = SCOPE.set(scope)
        try:
            yield
        finally:
            SCOPE.reset(token)

    def verdicts(self) -> dict[str, int]:
        """How often each verdict was given so far."""
        stats = self.us.stats
        given = {name: stats.verdicts[name] for name in ("protected", "waited")}
        given |= {f"unprotected{{{reason}}}": count for reason, count in stats.reasons.items()}
        return {name: count for name, count in given.items() if count}

    def events(self) -> list[Event]:
        """The events reported since the last call of this; only where there is no sidecar."""
        assert not self.us.config.sidecar
        found: list[Event] = []
        while raw := self.us.outbox.take(PACKET_BYTES_MAX):
            found += decode(raw)
        return found

    def counted(self, name: str) -> int:
        """A counter's value."""
        return self.us.stats.counters[name]


Start = Callable[..., Inside]


@contextmanager
def inside() -> Generator[Start]:
    """A function that installs the instrumentation with the settings given (``mode="observe"`` is
    ``RENDEZVOUS_MODE=observe``); leaving the block takes everything back."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RENDEZVOUS_")}

    def start(**settings: object) -> Inside:
        _forget()
        os.environ.update(
            {f"RENDEZVOUS_{name.upper()}": str(value) for name, value in settings.items()}
        )
        install.install()
        assert not install.failures, install.failures
        return Inside(process.process())

    for name in before:
        del os.environ[name]
    try:
        yield start
    finally:
        install.uninstall()
        _forget()
        for name in [name for name in os.environ if name.startswith("RENDEZVOUS_")]:
            del os.environ[name]
        os.environ.update(before)


def _forget() -> None:
    known = process._current  # pyright: ignore[reportPrivateUsage]
    if known is not None:
        known.link.close()
    process._current = None  # pyright: ignore[reportPrivateUsage]
    current.forget_cells()
    held.forget_held()
    calls._allowed.clear()  # pyright: ignore[reportPrivateUsage]
