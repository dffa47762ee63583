"""The instrumentation inside the test's own process."""

from collections.abc import Iterator

import pytest

from rendezvous_testing.inside import Start, inside


@pytest.fixture
def start() -> Iterator[Start]:
    """Installs the instrumentation with the settings given."""
    with inside() as start:
        yield start
