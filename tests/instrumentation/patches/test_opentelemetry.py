"""With OpenTelemetry's SDK and instrumentations at work: traces and baggage are what they are without us."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.carrier import members_in, without_member
from rendezvous_testing.instrumented import BIN, Caller, environment
from rendezvous_testing.ports import free_port

HERE = Path(__file__).parent
USERS = "user=alice%20b,tier=gold"


PORTS = [str(free_port()) for _ in range(3)]  # spans name them: the same in all runs


def run(mode: str, baggage: str) -> Any:
    """What the traced application saw in one run."""
    command = [str(BIN / "rendezvous-instrument"), sys.executable, "traced_app.py"]
    done = subprocess.run(
        [*command, *PORTS, baggage],
        cwd=HERE,
        env=environment(HERE, RENDEZVOUS_MODE=mode, RENDEZVOUS_SIDECAR="/nowhere"),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def without() -> Any:
    return run("off", USERS)


def header(received: list[list[str]], name: str) -> str:
    (value,) = [value for key, value in received if key == name]
    return value


@pytest.mark.parametrize("carried", [True, False])
def test_traces_and_baggage_are_what_they_are_without_us(without: Any, carried: bool) -> None:
    caller = Caller()
    given = run("enforce", f"rdv={caller.text},{USERS}" if carried else USERS)
    assert given["status"] == without["status"] == 200
    assert given["spans"] == without["spans"]
    assert len(given["spans"]) >= 6
    for layer in ("front", "back"):
        assert {k: v for k, v in given["seen"][layer].items() if k != "rdv"} == (
            without["seen"][layer]
        )
        assert next(iter(without["seen"][layer])) == "user"
    received, expected = given["received"], without["received"]
    theirs = without_member(header(received, "baggage"))
    assert theirs == header(expected, "baggage")
    assert [name for name, _ in received] == [name for name, _ in expected]
    traceparent = header(received, "traceparent")
    assert traceparent.split("-")[1] == header(expected, "traceparent").split("-")[1]
    # And the context is there, first, of the same request.
    (member,) = members_in(header(received, "baggage"))
    assert header(received, "baggage").startswith("rdv=")
    assert (codec.decode(member).rid == caller.rid) is carried
    assert (given["answered"] is not None) is carried
    if carried:
        assert codec.decode(given["answered"]).branch == caller.bid
