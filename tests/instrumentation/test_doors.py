"""The doors: how Rendezvous comes into a process, what it leaves as it was, and how it goes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from rendezvous_api.channel import Hello
from rendezvous_instrumentation import install
from rendezvous_testing.channel_listener import ChannelListener
from rendezvous_testing.instrumented import BIN, environment
from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Process, Processes

PATIENCE_S = 30.0
RUN = str(BIN / "rendezvous-instrument")
OTEL = str(BIN / "opentelemetry-instrument")
NO_SIDECAR = "/nowhere/sidecar.sock"
PATCHED = (
    "import sys; import {module}; "
    "wrapping = sys.modules.get('rendezvous_instrumentation.wrapping'); "
    "print(wrapping is not None and '{name}' in wrapping.wrapped_names())"
)
REQUESTS = PATCHED.format(module="requests", name="requests.adapters.HTTPAdapter.send")
BOOTSTRAP = str(Path(install.__file__).parent / "bootstrap")


def run(command: list[str], folder: Path, **settings: str) -> subprocess.CompletedProcess[bytes]:
    settings = {"RENDEZVOUS_SIDECAR": NO_SIDECAR} | settings
    return subprocess.run(
        command,
        input=b"abc\0\xff",
        capture_output=True,
        cwd=folder,
        env=environment(folder, **settings),
        timeout=60,
        check=False,
    )


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- the launcher ---------------------------------------------------------------------------


def test_the_launcher_patches_a_library_when_it_is_imported(tmp_path: Path) -> None:
    done = run([RUN, *python(REQUESTS)], tmp_path)
    assert (done.stdout, done.stderr) == (b"True\n", b"")


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_applications(tmp_path: Path, code: int) -> None:
    assert run([RUN, *python(f"raise SystemExit({code})")], tmp_path).returncode == code


def test_an_application_killed_by_a_signal_ends_by_that_signal(tmp_path: Path) -> None:
    done = run([RUN, *python("import os; os.kill(os.getpid(), 9)")], tmp_path)
    assert done.returncode == -signal.SIGKILL


def test_standard_input_and_output_are_the_applications(tmp_path: Path) -> None:
    echo = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    done = run([RUN, *python(echo)], tmp_path)
    assert (done.stdout, done.stderr) == (b"\xff\0cba", b"")


def test_any_command_can_be_run_and_its_python_children_are_patched(tmp_path: Path) -> None:
    done = run([RUN, "sh", "-c", f'"{sys.executable}" -c "{REQUESTS}"; exit 4'], tmp_path)
    assert (done.stdout, done.returncode) == (b"True\n", 4)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ([], 2, b"give a command to run"),
        (["no-such-command"], 127, b"no-such-command: command not found"),
        (["/"], 126, b"/: Permission denied"),
        (["--mode", "enforcing", "true"], 2, b"one of enforce, observe, off"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused_as_a_shell_does(
    tmp_path: Path, command: list[str], code: int, says: bytes
) -> None:
    done = run([RUN, *command], tmp_path)
    assert done.returncode == code
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_misspelt_setting_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    done = run([RUN, "true"], tmp_path, RENDEZVOUS_MDOE="off")
    assert done.returncode == 2
    assert b"RENDEZVOUS_MDOE" in done.stderr
    assert b"did you mean RENDEZVOUS_MODE?" in done.stderr


def test_variables_that_kubernetes_sets_for_a_service_are_no_settings(tmp_path: Path) -> None:
    theirs = {
        "RENDEZVOUS_PORT": "tcp://10.0.0.1:7420",
        "RENDEZVOUS_SERVICE_HOST": "10.0.0.1",
        "RENDEZVOUS_PORT_7420_TCP_ADDR": "10.0.0.1",
        "RENDEZVOUS_SERVER_SERVICE_PORT_GRPC": "7420",
    }
    assert run([RUN, "true"], tmp_path, **theirs).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_application_which_is_the_launchers_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    code = (
        "import os, signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        "print(os.getpid(), os.getppid(), flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Processes(tmp_path) as processes:
        process = processes.start(
            "app",
            [RUN, *python(code)],
            environment=environment(tmp_path, RENDEZVOUS_SIDECAR=NO_SIDECAR),
        )
        line = process.wait_for_line(" ")
        assert line == f"{process.pid} {os.getpid()}"
        process.signal(number)
        assert process.wait() == 7


def test_off_touches_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, requests, threading; "
        "print([type(one).__module__ for one in sys.meta_path if 'rendezvous' in "
        "type(one).__module__], hasattr(threading.Thread.start, '__wrapped__'), "
        "hasattr(requests.adapters.HTTPAdapter.send, '__wrapped__'))"
    )
    done = run([RUN, *python(code)], tmp_path, RENDEZVOUS_MODE="off")
    assert (done.stdout, done.stderr) == (b"[] False False\n", b"")


# --- start-up -------------------------------------------------------------------------------


def test_before_the_first_target_library_hardly_anything_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; modules = set(sys.modules); import os; "
        "print(*modules); "
        "print(len(os.listdir('/proc/self/task')), "
        "sorted(os.readlink('/proc/self/fd/' + fd) for fd in os.listdir('/proc/self/fd') "
        "if os.path.exists('/proc/self/fd/' + fd) and int(fd) > 2))"
    )
    with_us = run([RUN, *python(code)], tmp_path).stdout.decode().splitlines()
    without = run(python(code), tmp_path).stdout.decode().splitlines()
    more = set(with_us[0].split()) - set(without[0].split())
    assert "rendezvous_instrumentation.install" in more
    assert more <= {
        "__future__",
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "importlib.machinery",
        "rendezvous_instrumentation",
        "rendezvous_instrumentation.install",
        "sitecustomize",
        "warnings",
    }
    assert with_us[1] == without[1]  # threads and open files


def test_patching_a_library_opens_nothing_and_starts_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys, redis, aiohttp, requests, flask, fastapi, uvicorn.config, gunicorn.app.base; "
        "print(len(os.listdir('/proc/self/task')), [fd for fd in os.listdir('/proc/self/fd') "
        "if int(fd) > 2 and os.path.exists('/proc/self/fd/' + fd)]); "
        "print(*[one for one in ('grpc', 'google.protobuf', 'wrapt') if one in sys.modules])"
    )
    done = run([RUN, *python(code)], tmp_path, RENDEZVOUS_LOG="1")
    assert (done.stdout, done.stderr) == (b"1 []\n\n", b"")


# --- sitecustomize --------------------------------------------------------------------------


def test_a_users_own_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.theirs = __file__\n")
    code = (
        REQUESTS
        + "; import builtins, sitecustomize; print(builtins.theirs, sitecustomize.__file__)"
    )
    done = run([RUN, *python(code)], tmp_path)
    theirs = str(tmp_path / "sitecustomize.py")
    assert (done.stdout.decode(), done.stderr) == (f"True\n{theirs} {theirs}\n", b"")


def test_a_users_sitecustomize_that_fails_fails_as_without_us(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise ValueError('theirs')\n")
    without = run(python("print(1)"), tmp_path)
    path = os.pathsep.join([BOOTSTRAP, str(tmp_path)])
    done = run(python("print(1)"), tmp_path, PYTHONPATH=path)
    assert b"ValueError: theirs" in without.stderr
    assert (done.stdout, done.stderr, done.returncode) == (
        without.stdout,
        without.stderr,
        without.returncode,
    )


def test_another_tool_that_chains_as_we_do_ends_the_chain_with_us(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "from importlib.util import module_from_spec\n"
        "from os.path import dirname\n"
        "print('theirs')\n"
        "spec = PathFinder.find_spec('sitecustomize', [e for e in sys.path if e != dirname(__file__)])\n"
        "if spec is not None:\n"
        "    spec.loader.exec_module(module_from_spec(spec))\n"
    )
    assert run([RUN, *python(REQUESTS)], tmp_path).stdout == b"theirs\nTrue\n"


# --- OpenTelemetry --------------------------------------------------------------------------

EXPORT_NOTHING = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}
BOTH = (
    REQUESTS + "; from opentelemetry import trace; "
    "print(type(trace.get_tracer_provider()).__module__, "
    "hasattr(requests.Session.send, 'opentelemetry_instrumentation_requests_applied'))"
)


@pytest.mark.parametrize(
    "command",
    [[OTEL], [RUN, OTEL], [OTEL, RUN]],
    ids=["alone", "rendezvous-outside", "opentelemetry-outside"],
)
def test_opentelemetry_and_we_both_come_in(tmp_path: Path, command: list[str]) -> None:
    done = run([*command, *python(BOTH)], tmp_path, **EXPORT_NOTHING)
    assert done.stdout.decode() == "True\nopentelemetry.sdk.trace True\n"
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("command", [[RUN, OTEL], [OTEL, RUN]])
def test_opentelemetry_that_fails_to_start_does_not_take_us_along(
    tmp_path: Path, command: list[str]
) -> None:
    broken = EXPORT_NOTHING | {"OTEL_TRACES_EXPORTER": "no_such_exporter"}
    done = run([*command, *python(REQUESTS)], tmp_path, **broken)
    assert done.stdout == b"True\n"


# --- in code --------------------------------------------------------------------------------


def test_one_import_is_a_door_also_after_the_library(tmp_path: Path) -> None:
    done = run(python("import requests, rendezvous_instrumentation.auto; " + REQUESTS), tmp_path)
    assert (done.stdout, done.stderr) == (b"True\n", b"")


def test_the_instrumentor_comes_and_goes(tmp_path: Path) -> None:
    code = (
        "import requests\n"
        "from rendezvous_instrumentation.instrumentor import RendezvousInstrumentor\n"
        "def state(): print(hasattr(requests.adapters.HTTPAdapter.send, '__wrapped__'))\n"
        "before = requests.adapters.HTTPAdapter.send\n"
        "RendezvousInstrumentor().instrument(); state()\n"
        "RendezvousInstrumentor().uninstrument(); state()\n"
        "print(requests.adapters.HTTPAdapter.send is before)\n"
        "RendezvousInstrumentor().instrument(); state()\n"
    )
    done = run(python(code), tmp_path)
    assert (done.stdout, done.stderr) == (b"True\nFalse\nTrue\nTrue\n", b"")


def test_going_leaves_what_others_have_wrapped_around_us(tmp_path: Path) -> None:
    code = (
        "import functools, requests\n"
        "from rendezvous_instrumentation import install\n"
        "install.install()\n"
        "ours = requests.adapters.HTTPAdapter.send\n"
        "@functools.wraps(ours)\n"
        "def theirs(*a, **k): return ours(*a, **k)\n"
        "requests.adapters.HTTPAdapter.send = theirs\n"
        "install.uninstall()\n"
        "print(requests.adapters.HTTPAdapter.send is theirs)\n"
        "requests.adapters.HTTPAdapter.send = theirs.__wrapped__\n"
        "install.uninstall()\n"
        "print(requests.adapters.HTTPAdapter.send is ours.__wrapped__)\n"
    )
    assert run(python(code), tmp_path).stdout == b"True\nTrue\n"


# --- fork servers ---------------------------------------------------------------------------

WSGI_APP = (
    "import os\n"
    "def app(environ, start_response):\n"
    "    start_response('200 OK', [])\n"
    "    return [str(os.getpid()).encode()]\n"
    "async def asgi(scope, receive, send):\n"
    "    if scope['type'] != 'http': return\n"
    "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
    "    await send({'type': 'http.response.body', 'body': str(os.getpid()).encode()})\n"
)
GUNICORN = [str(BIN / "gunicorn"), "--workers", "2", "--bind", "127.0.0.1:{port}"]
SERVERS = {
    "gunicorn": [*GUNICORN, "service:app"],
    "gunicorn-preload": [*GUNICORN, "--preload", "service:app"],
    "uvicorn": [str(BIN / "uvicorn"), "--workers", "2", "--port", "{port}", "service:asgi"],
}
# One event of the master before it forks: the worst case of a preload.
EARLY = (
    "from rendezvous_instrumentation.shell.entries import enter\n"
    "enter(['1.AAAAAAAAAAAAAAAAAAAAAA.bAAAAAAAAAAE'])\n"
)


@pytest.mark.parametrize("server", SERVERS)
def test_each_worker_is_an_incarnation_of_its_own(tmp_path: Path, server: str) -> None:
    early = EARLY if server == "gunicorn-preload" else ""
    (tmp_path / "service.py").write_text(WSGI_APP + early)
    port = free_port()
    with ChannelListener(str(tmp_path / "s")) as listener, Processes(tmp_path) as processes:
        process = processes.start(
            server,
            [RUN, *(one.replace("{port}", str(port)) for one in SERVERS[server])],
            environment=environment(tmp_path, RENDEZVOUS_SIDECAR=listener.path),
            directory=tmp_path,
        )
        process.wait_for_port(port)
        workers: set[int] = set()

        def both_have_answered() -> bool:
            workers.add(call(port))
            return len(workers) == 2

        until(both_have_answered)
        hellos = listener.wait_for_hellos(lambda all_: workers <= {one.pid for one in all_})
        assert distinct(hellos)
        assert process.pid not in workers
        heard = listener.wait_for(lambda all_: workers <= {one.sender.pid for one in all_})
        for origin in {(one.sender.incarnation, one.event.lane) for one in heard}:
            seqs = [
                one.event.seq for one in heard if (one.sender.incarnation, one.event.lane) == origin
            ]
            assert seqs == list(range(1, len(seqs) + 1))


def distinct(hellos: list[Hello]) -> bool:
    return len({one.incarnation for one in hellos}) == len({one.pid for one in hellos})


def call(port: int) -> int:
    """One call with a context of a request of its own; the pid that answered."""
    import http.client

    from rendezvous_testing.instrumented import Caller

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers={"rdv": Caller().text})
    response = connection.getresponse()
    pid = int(response.read())
    assert response.getheader("rdv") is not None
    connection.close()
    return pid


# --- the keeper and its sidecar --------------------------------------------------------------


class Kept:
    """An application under the launcher, which had to start a sidecar."""

    def __init__(self, process: Process, path: Path) -> None:
        self.process = process
        self.socket = path

    def sidecars(self) -> list[int]:
        return self._running("rendezvous_sidecar")

    def keepers(self) -> list[int]:
        return self._running("rendezvous_instrumentation.keeper")

    def _running(self, module: str) -> list[int]:
        found: list[int] = []
        for entry in os.listdir("/proc"):
            with suppress(OSError, ValueError):
                line = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                if module.encode() in line and str(self.socket).encode() in line:
                    found.append(int(entry))
        return found

    def serves(self) -> bool:
        """Whether somebody answers at the socket: its file alone may be a dead one's."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return len(self.sidecars()) == 1

    def gone(self) -> bool:
        return not (self.sidecars() or self.keepers() or self.socket.parent.exists())


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('socket', os.environ['RENDEZVOUS_SIDECAR'], flush=True)\n"
        "try: os.waitpid(-1, 0)\n"
        "except ChildProcessError: print('childless', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Processes(tmp_path) as processes:
        process = processes.start(
            "app",
            [RUN, "--server", f"127.0.0.1:{free_port()}", *python(code)],
            environment=environment(tmp_path),
        )
        path = Path(process.wait_for_line("socket ").removeprefix("socket "))
        process.wait_for_line("childless")
        kept = Kept(process, path)
        yield kept
        process.signal(signal.SIGKILL)  # it alone: the rest is to end by itself
        process.wait()
        until(kept.gone)


def test_a_sidecar_serves_while_the_application_lives_and_is_gone_after_it(kept: Kept) -> None:
    until(kept.serves)
    assert len(kept.keepers()) == 1
    kept.process.signal(signal.SIGTERM)
    assert kept.process.wait() == 0
    until(kept.gone)


def test_a_sidecar_is_gone_also_when_the_application_was_killed(kept: Kept) -> None:
    until(kept.serves)
    kept.process.signal(signal.SIGKILL)
    assert kept.process.wait() == -signal.SIGKILL
    until(kept.gone)


def succeeded(kept: Kept, died: int) -> bool:
    return kept.serves() and died not in kept.sidecars()


def test_a_sidecar_that_dies_is_started_again_and_serves_at_the_same_socket(kept: Kept) -> None:
    for _ in range(2):
        until(kept.serves)
        (died,) = kept.sidecars()
        os.kill(died, signal.SIGKILL)
        until(partial(succeeded, kept, died))


def test_output_ends_with_the_application_and_not_with_its_sidecar(tmp_path: Path) -> None:
    """Whoever reads a pipe of the application's, whichever, sees its end when it ends."""
    extra_in, extra_out = os.pipe()
    child = subprocess.Popen(
        [RUN, *python("import os; print(os.environ['RENDEZVOUS_SIDECAR'])")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        pass_fds=(extra_out,),
    )
    os.close(extra_out)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"")
    assert os.read(extra_in, 1) == b""
    os.close(extra_in)
    until(lambda: not Path(out.decode().strip()).parent.exists())


def test_an_unknown_extra_is_said_and_the_application_runs(tmp_path: Path) -> None:
    """Without the sidecar's libraries the launcher says so and runs the application all the same."""
    code = (
        "import importlib.util as u, sys\n"
        "from rendezvous_instrumentation import launcher\n"
        "launcher.find_spec = lambda name: None\n"
        f"sys.exit(launcher.main({[sys.executable, '-c', 'print(5)']!r}))\n"
    )
    done = subprocess.run(
        python(code), capture_output=True, env=environment(tmp_path), timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == (b"5\n", 0)
    assert b"pip install 'rendezvous-mesh[sidecar]'" in done.stderr
