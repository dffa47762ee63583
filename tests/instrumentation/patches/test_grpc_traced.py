"""With OpenTelemetry's instrumentation of grpc, before and after ours: all is as without us."""

import json
import subprocess
import sys
from typing import Any

import pytest


def _run(when: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "rendezvous_testing.grpc_traced", when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def without() -> dict[str, Any]:
    return _run("without")


@pytest.mark.parametrize("when", ["before", "after"])
def test_spans_baggage_and_results_are_as_without_us(when: str, without: dict[str, Any]) -> None:
    assert len(without["handlers"]) == 7
    assert len(without["spans"]) == 14
    result = _run(when)
    for part in ("spans", "handlers", "results"):
        assert result[part] == without[part]
    assert result["carried"]
    assert result["failed"] == 0
