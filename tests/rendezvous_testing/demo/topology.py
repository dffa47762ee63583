"""The demo's processes and the commands that start them.

Two regions on one machine: the primary, the writer and the notifier in ``eu``; the replica and the
reader in ``us``; between the stores a link with a delay. The services' commands and settings are
the same in every run; an instrumented run puts the launcher before them.
"""

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import rendezvous_testing
from rendezvous_testing.demo.options import Options, Reader
from rendezvous_testing.demo.result import Usage
from rendezvous_testing.ports import free_port
from rendezvous_testing.processes import Process, Processes
from rendezvous_testing.valkey import start_server

SIDECAR = "rendezvous_sidecar"
_LAUNCHER_NAMES = ("rendezvous-instrument", "rendezvous_instrumentation.launcher")
SERVER = "metadata-server"
SERVICES = {"writer": "eu", "notifier": "eu", "reader": "us"}


def examples() -> Path:
    """The folder of the three services: in the wheel, or beside us in the repository."""
    package = Path(rendezvous_testing.__file__).parent
    for folder in (package / "examples", package.parent.parent / "examples"):
        if (found := folder / "post_notification").exists():
            return found
    raise FileNotFoundError("examples/post_notification is missing from this installation")


def reader_command(reader: Reader, port: int) -> list[str]:
    """How the reader is started."""
    if reader == "aiohttp":
        return [sys.executable, str(examples() / "reader.py")]
    if reader == "flask":
        return [sys.executable, str(examples() / "reader_flask.py")]
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "16"]
    command += ["--keep-alive", "75", "--bind", f"127.0.0.1:{port}"]
    return [*command, "--chdir", str(examples()), "reader_flask:app"]


def _launcher() -> list[str]:
    beside = Path(sys.executable).parent / "rendezvous-instrument"
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-m", "rendezvous_instrumentation.launcher"]


@dataclass(frozen=True, slots=True)
class Parts:
    """How Rendezvous' own parts are started; a test may put doubles in their place."""

    launcher: list[str] = field(default_factory=_launcher)
    server: list[str] = field(default_factory=lambda: [sys.executable, "-m", "rendezvous_server"])


class Topology:
    """All processes of one run. ``say`` shows the commands as they are run."""

    def __init__(
        self,
        processes: Processes,
        *,
        name: str,
        kind: str,
        options: Options,
        say: Callable[[str], None],
        durable: bool = False,
        parts: Parts | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.stats = processes.folder / f"{name}-stats"
        self.writer_port = free_port()
        self.server_port = free_port()
        self._processes = processes
        self._options = options
        self._say = say
        self._durable = durable
        self._parts = Parts() if parts is None else parts
        self._by_name: dict[str, Process] = {}
        self._killed: dict[str, float] = {}

    def start(self) -> None:
        """Start everything, in order, and wait until all of it is ready."""
        posts = self._start_stores()
        if self.kind in ("enforce", "observe"):
            self._start_server()
        ports = {"writer": self.writer_port, "notifier": free_port(), "reader": free_port()}
        settings: dict[str, dict[str, str]] = {
            "reader": {"POSTS_URL": posts["us"]},
            "notifier": {"READER_URL": f"http://127.0.0.1:{ports['reader']}"},
            "writer": {
                "POSTS_URL": posts["eu"],
                "NOTIFIER_URL": f"http://127.0.0.1:{ports['notifier']}",
            },
        }
        for service, extra in settings.items():
            if service == "reader":
                command = reader_command(self._options.reader, ports[service])
            else:
                command = [sys.executable, str(examples() / f"{service}.py")]
            self._start(
                service,
                [*self._instrument(service), *command],
                {"PORT": str(ports[service]), **extra},
            )
        for service in SERVICES:
            self._by_name[service].wait_for_http(ports[service])

    def process(self, name: str) -> Process:
        """A process of this run by its short name."""
        return self._by_name[name]

    def sidecar_pid(self, service: str) -> int | None:
        """The pid of the sidecar that the service's launcher has started, if it lives."""
        for one in self._by_name[service].tree():
            if SIDECAR in one.command:
                return one.pid
        return None

    def kill(self, name: str) -> None:
        """SIGKILL a process and its tree; what they have used so far is not forgotten."""
        for role, used in self._usage_of(name).items():
            self._killed[role] = self._killed.get(role, 0.0) + used.cpu_s
        self._by_name[name].kill()

    def ended(self) -> list[str]:
        """Those that do not run any more, each with the end of its log."""
        return [
            f"{name} has ended; its log:\n{process.log_tail()}"
            for name, process in self._by_name.items()
            if not process.running
        ]

    def usage(self) -> dict[str, Usage]:
        """CPU and memory so far: services, sidecars, metadata server, stores and link.

        The CPU time of a sidecar that died counts with the launcher that waited for it.
        """
        total = {role: Usage(cpu_s) for role, cpu_s in self._killed.items()}
        for name in self._by_name:
            for role, used in self._usage_of(name).items():
                total[role] = total.get(role, Usage()) + used
        return total

    def _usage_of(self, name: str) -> dict[str, Usage]:
        total: dict[str, Usage] = {}
        for one in self._by_name[name].tree():
            role = "stores and link"
            if name in SERVICES:
                ours = any(word in one.command for word in (SIDECAR, *_LAUNCHER_NAMES))
                role = "sidecars" if ours else "services"
            elif name == SERVER:
                role = "metadata server"
            total[role] = total.get(role, Usage()) + Usage(one.cpu_s, one.rss_bytes)
        return total

    def _start_stores(self) -> dict[str, str]:
        options, link_port = self._options, free_port()
        self._say("# a primary in eu, and a replica in us behind a slow link")
        primary = start_server(self._processes, f"{self.name}-primary")
        self._shown(primary.process)
        command = [sys.executable, "-m", "rendezvous_testing.delay_proxy"]
        command += ["--listen", f"127.0.0.1:{link_port}", "--target", f"127.0.0.1:{primary.port}"]
        command += ["--delay-ms", f"{options.delay_ms:g}", "--jitter-ms", f"{options.jitter_ms:g}"]
        self._start("link", [*command, "--seed", str(options.seed)], {})
        self._by_name["link"].wait_for_line("listening on")
        replica = start_server(self._processes, f"{self.name}-replica", link_port=link_port)
        self._shown(replica.process)
        replica.wait_until_linked()
        self._by_name |= {"primary": primary.process, "replica": replica.process}
        return {"eu": primary.url, "us": replica.url}

    def _start_server(self) -> None:
        self._say("# the metadata server")
        command = [*self._parts.server, "--listen", f"127.0.0.1:{self.server_port}"]
        if self._durable:
            path = self._processes.folder / f"{self.name}-log.sqlite"
            command += ["--log", "sqlite", "--path", str(path)]
        self._start(SERVER, command, {})
        self._by_name[SERVER].wait_for_line("listening on")

    def _instrument(self, service: str) -> list[str]:
        if self.kind == "plain":
            return []
        command = [*self._parts.launcher, "--service", service, "--region", SERVICES[service]]
        if self.kind == "no-server":
            return [*command, "--mode", "enforce"]
        return [*command, "--server", f"127.0.0.1:{self.server_port}", "--mode", self.kind]

    def _start(self, name: str, command: list[str], settings: Mapping[str, str]) -> None:
        folder = self._processes.folder
        # Nothing of the user's own Rendezvous settings; whatever is written stays in our folder.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RENDEZVOUS_")}
        environment |= {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder)}
        shown = dict(settings)
        if name in SERVICES and self.kind != "plain":
            self.stats.mkdir(exist_ok=True)
            environment["RENDEZVOUS_STATS_DIR"] = str(self.stats)
            if self.kind == "no-server":
                shown["RENDEZVOUS_SIDECAR"] = str(folder / "nobody.sock")
        process = self._processes.start(
            f"{self.name}-{name}", command, environment=environment | shown
        )
        self._by_name[name] = process
        self._shown(process, shown)

    def _shown(self, process: Process, settings: Mapping[str, str] | None = None) -> None:
        words = [f"{name}={value}" for name, value in (settings or {}).items()]
        for word in process.command:
            path = Path(word)
            if word == sys.executable:
                words.append("python")
            elif path.is_absolute() and path.parent == examples():
                words.append(f"examples/post_notification/{path.name}")
            elif path.name in ("valkey-server", "redis-server", "rendezvous-instrument"):
                words.append(path.name)
            else:
                words.append(shlex.quote(word))
        self._say("$ " + " ".join(words))
