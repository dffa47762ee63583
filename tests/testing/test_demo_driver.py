"""The demo as a whole: the plain run, kills, Ctrl-C; nothing is left behind."""

import io
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from rendezvous_testing.demo.driver import INTERRUPTED, DemoFailed, Plan, main, plans, run_plan
from rendezvous_testing.demo.options import Options, Reader, parse
from rendezvous_testing.demo.result import failures
from rendezvous_testing.demo.topology import Parts, examples
from rendezvous_testing.limits import KILLS_PER_RUN, WARM_UP_POSTS
from rendezvous_testing.processes import Processes
from rendezvous_testing.proctree import alive, tree

DOUBLES = Parts(
    launcher=[sys.executable, str(Path(__file__).with_name("launcher_double.py"))],
    server=[
        sys.executable,
        "-c",
        "import time; print('listening on 127.0.0.1', flush=True); time.sleep(600)",
    ],
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rdv-") as name:
        yield Path(name)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_services_know_nothing_of_rendezvous() -> None:
    for path in examples().glob("*.py"):
        source = path.read_text().lower()
        assert "rendezvous" not in source and "rdv" not in source, path


@pytest.mark.parametrize("reader", ["aiohttp", "flask", "gunicorn"])
def test_the_plain_run_shows_the_inconsistency(
    reader: Reader,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    out = [folder / "out.json", folder / "out.png"]
    flags = ["--plain", "--posts", "20", "--reader", reader, "--delay", "500", "--jitter", "0"]
    assert main([*flags, "--json", str(out[0]), "--plot", str(out[1])]) == 0
    (run,) = json.loads(out[0].read_text())["runs"]
    assert (run["posts"], run["errors"]) == (20, [])
    assert run["inconsistent"] > 10
    assert sorted(folder.iterdir()) == out
    assert [one.command for one in tree(os.getpid()) if "post_notification" in one.command] == []
    shown = capsys.readouterr().out
    assert "examples/post_notification/writer.py" in shown
    assert "plain: 20 of 20 posts" in shown


@pytest.mark.parametrize(
    ("seen", "number"),
    [("writer.py", signal.SIGINT), ("of 10000 posts", signal.SIGINT), ("of 10000", signal.SIGTERM)],
)
def test_ctrl_c_leaves_nothing_behind(
    seen: str, number: signal.Signals, folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rendezvous_testing.demo", "--plain", "--posts", "10000"]
    with Processes(tmp_path) as processes:
        demo = processes.start("demo", command, environment=os.environ | {"TMPDIR": str(folder)})
        demo.wait_for_line(seen)
        assert list(folder.iterdir()) != []
        members = tree(demo.pid)
        assert len(members) >= 5
        demo.signal(number)
        assert demo.wait(within_s=30) == INTERRUPTED
        assert "everything has been stopped" in demo.output()
        assert list(folder.iterdir()) == []
        assert not any(alive(one) for one in members)


@pytest.mark.parametrize("fault", ["reader-sidecar", "writer", "server"])
def test_a_run_with_kills(fault: str, folder: Path) -> None:
    options = Options(posts=1_500, delay_ms=0.0, jitter_ms=0.0, faults=True)
    console = quiet()
    run = run_plan(Plan("kill", "enforce", fault), options, folder, console, DOUBLES)
    assert (run.errors, run.broken) == ([], [])
    assert len(run.kills) == KILLS_PER_RUN == printed(console).count("kill -9")
    assert len(run.samples) + run.lost == options.posts
    assert (run.lost > 0) == (fault == "writer")
    assert run.usage["services"].cpu_s > 0 and run.usage["sidecars"].rss_bytes > 0
    # The doubles write their verdicts once; what came before the load does not count, and
    # what a restarted process has written does.
    restarted = KILLS_PER_RUN if fault == "writer" else 0
    assert run.verdicts is not None and run.verdicts.protected == restarted
    assert any("unprotected reads: double" in text for text in failures(run)) == bool(restarted)


def test_a_part_that_does_not_come_back_ends_the_demo(folder: Path) -> None:
    code = "import pathlib, sys, time; log = pathlib.Path(sys.argv[-1])\n"
    code += "if log.exists(): raise SystemExit('the log is broken')\n"
    code += "log.touch(); print('listening on it', flush=True); time.sleep(600)"
    parts = Parts(launcher=DOUBLES.launcher, server=[sys.executable, "-c", code])
    options = Options(posts=1_500, delay_ms=0.0, jitter_ms=0.0, faults=True)
    with pytest.raises(DemoFailed, match=r"(?s)metadata-server.*the log is broken"):
        run_plan(Plan("kill", "enforce", "server"), options, folder, quiet(), parts)
    assert [one.command for one in tree(os.getpid()) if str(folder) in one.command] == []


def test_a_part_that_ends_by_itself_fails_the_run(folder: Path) -> None:
    code = "import time; print('listening on it', flush=True); time.sleep(1.5); exit('crashed')"
    parts = Parts(launcher=DOUBLES.launcher, server=[sys.executable, "-c", code])
    options = Options(posts=50, delay_ms=0.0, jitter_ms=0.0)
    run = run_plan(Plan("enforce", "enforce"), options, folder, quiet(), parts)
    (sentence,) = run.broken
    assert sentence.startswith("metadata-server has ended") and "crashed" in sentence
    assert sentence in failures(run)


def test_the_run_without_server_has_no_sidecar(folder: Path) -> None:
    options = Options(posts=20, delay_ms=0.0, jitter_ms=0.0, no_server=True)
    console = quiet()
    run = run_plan(Plan("no server", "no-server"), options, folder, console, DOUBLES)
    assert len(run.samples) == 20 and "sidecars" not in run.usage
    assert "metadata server" not in run.usage
    assert f"RENDEZVOUS_SIDECAR={folder}/nobody.sock" in printed(console)


def test_a_service_that_does_not_start_is_shown_with_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def no_reader(reader: Reader, port: int) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no reader today')"]

    monkeypatch.setattr("rendezvous_testing.demo.topology.reader_command", no_reader)
    assert main(["--plain", "--posts", "1"]) == 1
    assert "no reader today" in capsys.readouterr().out
    assert list(folder.iterdir()) == []


def test_the_runs_that_options_ask_for() -> None:
    def kinds(*flags: str) -> list[str]:
        return [plan.kind for plan in plans(parse(list(flags)))]

    assert kinds() == ["plain", "enforce"]
    assert kinds("--mode", "observe") == ["plain", "observe", "enforce"]
    assert kinds("--no-server") == ["plain", "no-server"]
    assert kinds("--plain") == ["plain"]
    faults = [plan.fault for plan in plans(parse(["--faults"]))]
    assert faults == ["reader-sidecar", "writer-sidecar", "server", "writer"]
    assert WARM_UP_POSTS > 0
