"""The simulation finds what it is there to find: each planted defect fails within a few seeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.context import Context
from rendezvous_api.ids import LogId, Origin
from rendezvous_instrumentation.core.outbox import Outbox
from rendezvous_server.core.origins import Cover, Origins
from rendezvous_server.core.questions import Questions
from rendezvous_testing.scenarios.script import load, play
from rendezvous_testing.scenarios.stage import Wrong
from rendezvous_testing.simulation import shells
from rendezvous_testing.simulation.__main__ import run_seed

SEEDS = 400
SCENARIOS = Path(__file__).parents[1] / "scenarios"


def fails_within(seeds: int) -> bool:
    for seed in range(1, seeds + 1):
        try:
            run_seed(seed)
        except AssertionError:
            return True
    return False


def test_a_frontier_that_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def covered(self: Origins, *_: Any) -> Cover:
        return Cover.YES

    monkeypatch.setattr(Origins, "cover", covered)
    assert fails_within(SEEDS)


def test_a_close_without_its_frontier(monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(known: Context, own: Origin, *, unregistered: bool) -> str:
        return ""

    monkeypatch.setattr(shells, "close_frontier", empty)
    assert fails_within(4 * SEEDS)


def test_unresolved_calls_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def settled(self: Questions, question: Any) -> None:
        question.unresolved.clear()

    monkeypatch.setattr(Questions, "_settle", settled)
    assert fails_within(SEEDS)


def test_positions_dropped_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = codec.encode

    def silent(context: Context, **options: Any) -> str:
        text, dot, flags = encode(context, **options).rpartition(".g")
        return text if dot and flags == "m" else text + dot + flags

    monkeypatch.setattr(codec, "encode", silent)
    assert fails_within(SEEDS)


def test_acks_that_name_the_last_log_only(monkeypatch: pytest.MonkeyPatch) -> None:
    # No seed shows it: a response's frontier also names its own close, whose predecessors a server
    # lacks after two failovers. The scenario shows the frontier itself.
    acked = Outbox.acked

    def last_only(self: Outbox, lane: int, seq: int, log: LogId, index: int) -> None:
        acked(self, lane, seq, log, index)
        origin = self.origins[lane]
        known: Mapping[LogId, int] = {log: index}
        self.acks[origin] = (self.acks[origin][0], dict(known))

    scenario = load(SCENARIOS / "server_two_failovers.txt")
    play(scenario)
    monkeypatch.setattr(Outbox, "acked", last_only)
    with pytest.raises(Wrong, match="lost_log"):
        play(scenario)


def test_events_sent_again_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Outbox.channel_lost

    def reversed_(self: Outbox) -> None:
        lost(self)
        self._unsent.reverse()  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Outbox, "channel_lost", reversed_)
    assert fails_within(SEEDS)
