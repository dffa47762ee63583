"""Processes are started, watched, killed with their whole tree, and none is left."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Processes, ProcessFailed, http_status, uninterrupted
from rendezvous_testing.proctree import Member, alive, member, tree

# Starts a child that ignores SIGTERM, says its pid, and waits.
PARENT = """
import subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf'); "
code += "sys_stdout_flush = __import__('sys').stdout.flush(); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print("child", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as processes:
        yield processes


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def child_of(line: str) -> Member:
    found = member(int(line.split()[1]))
    assert found is not None
    return found


def test_a_line_is_waited_for_in_the_output_since_the_last_start(processes: Processes) -> None:
    once = "import os, time; print('ready', os.getpid(), flush=True); time.sleep(600)"
    process = processes.start("once", python(once))
    assert process.wait_for_line("ready") == f"ready {process.pid}"
    process.restart()
    assert process.wait_for_line("ready") == f"ready {process.pid}"
    assert process.log.read_text().count("ready") == process.starts == 2


def test_an_early_end_is_reported_with_the_tail_of_the_log(processes: Processes) -> None:
    process = processes.start("bad", python("raise SystemExit('no such setting')"))
    with pytest.raises(ProcessFailed, match=r"(?s)bad to print 'ready', it ended.*no such setting"):
        process.wait_for_line("ready")
    assert process.wait() == 1


def test_what_does_not_come_is_an_error(processes: Processes) -> None:
    process = processes.start("slow", python("import time; time.sleep(600)"))
    with pytest.raises(ProcessFailed, match="too late"):
        process.wait_for_line("ready", within_s=0)
    with pytest.raises(ProcessFailed, match="too late"):
        process.wait_for_http(free_port(), within_s=0)
    with pytest.raises(ProcessFailed, match="running already"):
        process.start()


def test_kill_reaches_the_whole_tree(processes: Processes) -> None:
    process = processes.start("parent", python(PARENT))
    child = child_of(process.wait_for_line("child"))
    assert {one.pid for one in process.tree()} == {process.pid, child.pid}
    process.kill()
    assert not alive(child)
    assert not process.running
    assert process.wait() == -signal.SIGKILL


def test_stop_kills_what_sigterm_leaves(processes: Processes) -> None:
    process = processes.start("parent", python(PARENT))
    child = child_of(process.wait_for_line("child"))
    processes.stop()
    assert not alive(child)
    assert process.wait() == -signal.SIGTERM


def test_an_orphan_still_belongs_to_the_tree(processes: Processes) -> None:
    process = processes.start("parent", python(PARENT))
    child = child_of(process.wait_for_line("child"))
    process.signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [one.pid for one in process.tree()] == [child.pid]
    process.stop()
    assert not alive(child)


def test_a_daemon_still_belongs_to_the_tree(processes: Processes) -> None:
    code = "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
    code += "        print('child', os.getpid(), flush=True); time.sleep(600)\n"
    code += "    os._exit(0)\nos.wait(); time.sleep(600)"
    process = processes.start("forks", python(code))
    daemon = child_of(process.wait_for_line("child"))
    assert daemon.session not in (process.pid, daemon.pid)
    assert {one.pid for one in process.tree()} == {process.pid, daemon.pid}
    process.kill()
    assert not alive(daemon)


def test_an_adopted_orphan_is_reaped(processes: Processes) -> None:
    code = "import sys, pathlib, time\n"
    code += "from rendezvous_testing.processes import Processes, adopt_orphans\n"
    code += "from rendezvous_testing.proctree import member\nadopt_orphans()\n"
    code += "with Processes(pathlib.Path(sys.argv[1])) as all:\n"
    code += "    shell = all.start('shell', ['sh', '-c', 'sleep 600 & echo $!; wait'])\n"
    code += "    while not (pid := shell.output()): time.sleep(0.01)\n"
    code += "    shell.kill()\n"
    code += "    print('zombie', pathlib.Path(f'/proc/{int(pid)}').exists(), flush=True)\n"
    folder = processes.folder / "inner"
    folder.mkdir()
    process = processes.start("adopts", [*python(code), str(folder)])
    assert process.wait_for_line("zombie") == "zombie False"
    assert process.wait() == 0


def test_usage_counts_children_that_have_ended(processes: Processes) -> None:
    code = "import subprocess, sys, time\n"
    code += "subprocess.run([sys.executable, '-c', 'for _ in range(20_000_000): pass'])\n"
    code += "print('done', flush=True); time.sleep(600)"
    process = processes.start("busy", python(code))
    process.wait_for_line("done")
    (root,) = process.tree()
    assert root.cpu_s > 0.1
    assert root.rss_bytes > 1_000_000


def test_http_readiness(processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    assert http_status(port, "/") is None
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    process = processes.start("http", command, directory=tmp_path)
    process.wait_for_port(port)
    process.wait_for_http(port, "/")
    assert http_status(port, "/missing") == 404


def test_a_signal_is_held_back_and_then_delivered() -> None:
    passed = False
    with pytest.raises(KeyboardInterrupt):
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            passed = True
    assert passed


def test_the_tree_of_nobody_is_empty() -> None:
    assert tree(2**22 + 1) == []
    assert member(2**22 + 1) is None
