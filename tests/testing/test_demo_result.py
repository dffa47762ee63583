"""Which runs pass, and the numbers that the demo shows."""

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from rendezvous_testing.demo.options import Options, parse
from rendezvous_testing.demo.plot import draw
from rendezvous_testing.demo.result import Run, Sample, Usage, failures, quantile
from rendezvous_testing.demo.table import as_json, table
from rendezvous_testing.demo.verdicts import NotVerdicts, Verdicts, read_verdicts

FOUND = Sample(10.0, 10.1, written_at=10.01, asked_at=10.02, read_at=10.09, found=True)
MISSED = Sample(10.0, 10.02, written_at=10.01, asked_at=10.012, read_at=10.013, found=False)


def run(kind: str, samples: list[Sample], verdicts: Verdicts | None = None) -> Run:
    return Run(kind, kind, samples=samples, verdicts=verdicts)


def test_a_sample_measures_latency_window_and_what_is_around_the_read() -> None:
    assert FOUND.latency_ms == pytest.approx(100)
    assert FOUND.window_ms == pytest.approx(80)
    assert FOUND.around_read_ms == pytest.approx(30)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_a_value_with_enough_at_or_below_it(
    values: list[float], fraction: float
) -> None:
    result = quantile(values, fraction)
    assert result in values
    assert sum(value <= result for value in values) >= fraction * len(values)
    assert sum(value < result for value in values) < fraction * len(values)


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_runs_that_do_not_wait_may_miss() -> None:
    assert failures(run("plain", [MISSED])) == []
    assert failures(run("observe", [MISSED], Verdicts(waited=1))) == []


@pytest.mark.parametrize("kind", ["enforce", "no-server"])
def test_runs_that_wait_must_not_miss(kind: str) -> None:
    assert failures(run(kind, [FOUND], Verdicts(waited=1))) == []
    assert failures(run(kind, [FOUND, MISSED], Verdicts(waited=2))) == ["1 inconsistent reads"]
    alone = run(kind, [FOUND], Verdicts(waited=2))
    alone.serial.append(MISSED)
    assert failures(alone) == ["1 inconsistent reads"]


def test_an_unprotected_read_fails_the_run_that_has_all_its_parts() -> None:
    verdicts = Verdicts(unprotected=Counter(pooler=2, expired=1))
    wanted = ["3 unprotected reads: pooler 2, expired 1"]
    assert failures(run("enforce", [FOUND], verdicts)) == wanted
    assert failures(run("no-server", [FOUND], verdicts)) == []


@pytest.mark.parametrize("kind", ["observe", "enforce", "no-server"])
def test_a_read_without_verdict_fails_the_run(kind: str) -> None:
    wanted = ["1 of 2 dependent reads got no verdict"]
    assert failures(run(kind, [FOUND, FOUND], Verdicts(protected=1))) == wanted
    assert failures(run(kind, [FOUND])) == ["1 of 1 dependent reads got no verdict"]


@pytest.mark.parametrize("kind", ["plain", "observe", "enforce", "no-server"])
def test_errors_missing_answers_and_failed_faults_fail_any_run(kind: str) -> None:
    bad = Run(kind, kind, errors=["HTTP 500", "HTTP 502"], broken=["no new sidecar"])
    assert failures(bad)[:3] == [
        "no new sidecar",
        "2 application errors, the first: HTTP 500",
        "no post was answered",
    ]


def test_verdicts_are_summed_over_files_and_ended_processes(tmp_path: Path) -> None:
    assert read_verdicts(tmp_path / "not-there") == Verdicts()
    first = {"protected": 1, "waited": 2, "unprotected": {"pooler": 3}}
    second = {"protected": 10, "waited": 20, "unprotected": {"pooler": 30, "expired": 1}}
    for pid, (verdicts, p99) in enumerate([(first, 5.0), (second, 4.0)]):
        raw = {"service": "s", "verdicts": verdicts, "counters": {"n": 1}}
        (tmp_path / f"s-{pid}.json").write_text(json.dumps(raw | {"waited_ms": {"p99": p99}}))
    total = read_verdicts(tmp_path)
    assert (total.protected, total.waited, total.reads) == (11, 22, 67)
    assert total.unprotected == Counter(pooler=33, expired=1)
    assert total.counters == Counter(n=2)
    assert total.waited_ms == {"p99": 5.0}
    rest = total.since(Verdicts(protected=1, unprotected=Counter(expired=1)))
    assert (rest.protected, rest.unprotected) == (10, Counter(pooler=33))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verdicts": {"protected": 1}}', "{"])
def test_what_is_no_verdict_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "writer-7.json").write_text(text)
    with pytest.raises(NotVerdicts, match=r"writer-7\.json"):
        read_verdicts(tmp_path)


def two_runs() -> list[Run]:
    plain = run("plain", [MISSED] * 9 + [FOUND])
    plain.usage["services"] = Usage(0.7, 5_000_000)
    plain.serial = [MISSED]
    enforce = run("enforce", [FOUND] * 10, Verdicts(protected=4, waited=6, waited_ms={}))
    enforce.usage["services"] = Usage(1.4, 6_000_000)
    enforce.serial = [FOUND]
    return [plain, enforce]


def test_the_table_shows_both_runs_and_what_was_added() -> None:
    out = Console(width=120, highlight=False)
    with out.capture() as captured:
        out.print(table(two_runs()))
    lines = {
        line.split("│")[1].strip(): line for line in captured.get().splitlines() if "│" in line
    }
    assert "9 (90.0 %)" in lines["inconsistent reads"]
    assert "0 (0.0 %)" in lines["inconsistent reads"]
    assert "6" in lines["reads protected after waiting"]
    assert "10000 µs" in lines["services' CPU per operation"]
    assert "kills" not in lines and "barrier wait p50 / p99" not in lines


def test_the_table_says_what_an_observed_run_would_have_held() -> None:
    observed = run("observe", [MISSED] * 3, Verdicts(unprotected=Counter(observed=2, pooler=1)))
    out = Console(width=120, highlight=False)
    with out.capture() as captured:
        out.print(table([observed]))
    lines = {
        line.split("│")[1].strip(): line for line in captured.get().splitlines() if "│" in line
    }
    assert lines["reads that would have waited"].split()[-2] == "2"
    assert "pooler 1" in lines["reads unprotected"]
    assert "observed" not in lines["reads unprotected"]


def test_json_has_the_settings_the_runs_and_no_nan() -> None:
    empty = Run("enforce", "enforce")
    raw = json.loads(json.dumps(as_json([*two_runs(), empty], Options()), allow_nan=False))
    assert raw["settings"]["delay_ms"] == 60.0
    assert [one["inconsistent"] for one in raw["runs"]] == [9, 0, 0]
    assert raw["runs"][1]["window_ms"]["p50"] == pytest.approx(80)
    assert raw["runs"][2]["latency_ms"]["p99"] is None
    assert "no post was answered" in raw["runs"][2]["failures"]


def test_the_picture_is_drawn_even_of_an_empty_run(tmp_path: Path) -> None:
    draw([*two_runs(), Run("enforce", "enforce")], Options(), tmp_path / "windows.png")
    assert (tmp_path / "windows.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "flags",
    [
        ["--posts", "0"],
        ["--concurrency", "0"],
        ["--jitter", "61"],
        ["--faults", "--no-server"],
        ["--json", "/no/such/folder/out.json"],
        ["--plot", "out.gif"],
    ],
)
def test_wrong_options_are_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(flags)
