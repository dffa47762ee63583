"""The statistics file: every verdict by reason, written whole or not at all."""

import json
import os
from pathlib import Path

from rendezvous_api.cell import Cell
from rendezvous_api.event import Fail
from rendezvous_api.ids import Bid, Rid
from rendezvous_instrumentation.core.verdict import PROTECTED, WAITED, Reason, unprotected
from rendezvous_instrumentation.shell.stats import Stats
from rendezvous_testing.channel_peer import Listener
from rendezvous_testing.inside import Start


def test_the_file_says_every_verdict_and_counter(tmp_path: Path) -> None:
    stats = Stats("posts")
    stats.verdict(PROTECTED, 0.0)
    for waited_s in (0.010, 0.020, 0.030):
        stats.verdict(WAITED, waited_s)
    stats.verdict(unprotected(Reason.BUDGET), 5.0)
    stats.count("calls_opaque", 2)
    stats.write(str(tmp_path))
    (file,) = tmp_path.iterdir()
    assert file.name == f"posts-{os.getpid()}.json"
    assert json.loads(file.read_text()) == {
        "service": "posts",
        "pid": os.getpid(),
        "verdicts": {"protected": 1, "waited": 3, "unprotected": {"budget": 1}},
        "counters": {"calls_opaque": 2},
        "waited_ms": {"p50": 20.0, "p99": 30.0},
    }


def test_what_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    stats = Stats("")
    stats.write(str(tmp_path))
    (file,) = tmp_path.iterdir()
    file.unlink()
    stats.write(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    stats.count("failed")
    stats.write(str(tmp_path))
    assert [one.name for one in tmp_path.iterdir()] == [f"service-{os.getpid()}.json"]


def test_a_folder_that_is_not_there_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    stats = Stats("posts")
    stats.write(str(tmp_path / "missing"))
    assert stats.counters["stats_unwritten"] == 1


def test_the_sidecar_is_told_what_was_counted(start: Start, sidecar: Listener) -> None:
    us = start(sidecar=sidecar.path).us
    us.event(Cell(Rid("A" * 22)), Bid(1), Fail())
    us.stats.verdict(unprotected(Reason.LOST_TAIL), 0.0)
    us.stats.verdict(WAITED, 0.1)
    peer = sidecar.accept()
    counts = peer.read_counts()
    while "reads.waited" not in counts:
        counts = peer.read_counts()
    assert counts["reads.unprotected.lost_tail"] == counts["reads.waited"] == 1
