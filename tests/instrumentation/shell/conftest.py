"""A fake sidecar, played by hand."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rendezvous_testing.channel_peer import Listener, listening


@pytest.fixture
def sidecar() -> Iterator[Listener]:
    with (
        tempfile.TemporaryDirectory(prefix="rdv") as folder,  # short: a socket's path is bounded
        listening(str(Path(folder, "s"))) as listener,
    ):
        yield listener
