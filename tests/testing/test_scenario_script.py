"""The interpreter of scenarios: what it refuses, what it shows, and that it repeats itself."""

from pathlib import Path

import pytest

from rendezvous_testing.scenarios.script import difference, load, play, rewrite
from rendezvous_testing.scenarios.stage import Wrong

PARTS = """# A rule: "in its words."

store posts: replica in us 900 ms behind
server server1
sidecar sidecar1: server1
application reader in us beside sidecar1
application storage in eu beside sidecar1

"""
STEPS = """a request arrives at storage
storage writes posts          → at 10
storage calls reader
reader reads posts at us      → waited
"""


def script_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "one.txt"
    path.write_text(text, "utf-8")
    return path


def test_a_rewritten_scenario_is_what_it_was_and_plays_the_same_again(tmp_path: Path) -> None:
    path = script_of(tmp_path, PARTS + STEPS)
    script = load(path)
    transcript = play(script)
    rewrite(script, transcript)
    again = load(path)
    assert path.read_text("utf-8").startswith(PARTS + STEPS)
    assert not difference(again, play(again))
    assert transcript[-1] == "  reader: reads posts at us: waited"


def test_an_expectation_that_is_not_met_says_what_is_and_how_it_came(tmp_path: Path) -> None:
    path = script_of(tmp_path, PARTS + STEPS.replace("waited", "protected"))
    with pytest.raises(
        Wrong, match=r"one.txt:12: .*expected 'protected', but it is 'waited'"
    ) as told:
        play(load(path))
    assert "storage:1 write at posts=10" in str(told.value)


def test_another_transcript_is_shown_as_a_difference(tmp_path: Path) -> None:
    path = script_of(tmp_path, PARTS + STEPS)
    script = load(path)
    rewrite(script, play(script))
    path.write_text(path.read_text("utf-8").replace("posts=10", "posts=11"), "utf-8")
    changed = load(path)
    shown = difference(changed, play(changed))
    assert "-  storage: storage:1 write at posts=11" in shown
    assert "+  storage: storage:1 write at posts=10" in shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a request arrives at storage\n", "the rule that it shows"),
        (PARTS + "storage sings\n", "nobody understands 'storage sings'"),
        (PARTS + "storage writes posts\n", "storage works on no request"),
        (PARTS + "kill nobody\n", "there is no nobody"),
        (PARTS + "reader comes back\n", "reader is up"),
        (PARTS + "a request arrives at reader\nserver server2\n", "before the first step"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = script_of(tmp_path, text)
    with pytest.raises(Wrong, match=why):
        play(load(path))
