"""The table in README.md names what exists, and every scenario stands in it."""

import re
from pathlib import Path

import pytest

from rendezvous_testing.scenarios.script import load

HERE = Path(__file__).parent
TESTS = HERE.parent


def rows() -> list[tuple[str, list[str]]]:
    out: list[tuple[str, list[str]]] = []
    for line in (HERE / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 2 and not cells[1].startswith("shown"):
            out.append((cells[0], re.findall(r"`([^`]+)`", cells[1])))
    return out


@pytest.mark.parametrize(("rule", "shown"), rows(), ids=[rule for rule, _ in rows()])
def test_what_a_row_names_exists(rule: str, shown: list[str]) -> None:
    assert shown, f"nothing shows {rule!r}"
    for name in shown:
        path, _, test = name.partition("::")
        if not test:
            assert (HERE / path).is_file(), f"no scenario {name}"
            continue
        assert (TESTS / path).is_file(), f"no file {path}"
        source = (TESTS / path).read_text("utf-8")
        assert re.search(rf"^(async )?def {re.escape(test)}\(", source, re.MULTILINE), name


def test_every_scenario_stands_in_a_row() -> None:
    named = {name for _, shown in rows() for name in shown}
    assert {path.name for path in HERE.glob("*.txt")} <= named


def test_every_law_has_a_row() -> None:
    rules = [rule for rule, _ in rows()]
    assert all(any(rule.startswith(f"law {n}:") for rule in rules) for n in range(1, 6))


def test_every_scenario_quotes_its_rule_and_expects_something() -> None:
    for path in HERE.glob("*.txt"):
        script = load(path)
        assert ":" in script.rule, path.name
        assert any(step.expected for step in script.steps), path.name
