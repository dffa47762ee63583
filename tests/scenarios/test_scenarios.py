"""Every scenario ends as it says, and passes through what its transcript says, line by line."""

import os
from pathlib import Path

import pytest

from rendezvous_testing.scenarios.script import difference, load, play, rewrite

HERE = Path(__file__).parent


def wants_rewrite(config: pytest.Config) -> bool:
    # The option is known only where pytest was started for this directory; the variable always.
    asked = config.getoption("--rewrite", default=False)
    return bool(asked) or os.environ.get("RENDEZVOUS_REWRITE") == "1"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    script = load(path)
    transcript = play(script)
    if wants_rewrite(request.config):
        rewrite(script, transcript)
    else:
        assert not (diff := difference(script, transcript)), f"\n{diff}"
