"""``rendezvous-instrument CMD…``: run any command with Rendezvous in it.

The command replaces this process, so that its pid, its signals, its terminal and its exit code are
what they were without us. Where no sidecar is given, a keeper process is left beside it: it starts a
sidecar, restarts it when it dies, and ends it with the application.
"""

import argparse
import os
import sys
import tempfile
from importlib.util import find_spec

from rendezvous_api.errors import BadConfig
from rendezvous_instrumentation import config

DEFAULT_SERVER = "127.0.0.1:7420"
TEMPORARY_BYTES_MAX = 70
"""Bytes of the folder for temporary files; in a longer one a socket's path (107) has no room."""


def main(argv: list[str] | None = None) -> int:
    """Parse, set the environment, and become the command. Returns only on errors: 2 for a wrong
    call, 126 or 127 as a shell would for a command that cannot be run."""
    arguments = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(arguments)
    command: list[str] = options.command
    if command[:1] == ["--"]:
        command = command[1:]
    if not command:
        print("rendezvous-instrument: give a command to run, e.g. python app.py", file=sys.stderr)
        return 2
    environ = environment(options, dict(os.environ))
    try:
        settings = config.read(environ)
    except BadConfig as exc:
        print(f"rendezvous-instrument: {exc}", file=sys.stderr)
        return 2
    if settings.mode != "off" and not settings.sidecar:
        if find_spec("grpc") is None or find_spec("rendezvous_sidecar") is None:
            print(
                "rendezvous-instrument: no sidecar is started: that needs\n"
                "    pip install 'rendezvous-mesh[sidecar]'\n"
                "or --sidecar with the socket of a running one",
                file=sys.stderr,
            )
        else:
            environ["RENDEZVOUS_SIDECAR"] = _start_keeper(environ)
    try:
        os.execvpe(command[0], command, environ)
    except FileNotFoundError:
        print(f"rendezvous-instrument: {command[0]}: command not found", file=sys.stderr)
        return 127
    except OSError as exc:
        print(f"rendezvous-instrument: {command[0]}: {exc.strerror}", file=sys.stderr)
        return 126


def environment(options: argparse.Namespace, environ: dict[str, str]) -> dict[str, str]:
    """The command's environment: flags become variables, our bootstrap comes first on the path."""
    for flag in ("service", "region", "server", "mode", "sidecar", "budget", "propagate_to"):
        value = getattr(options, flag)
        if value is not None:
            environ[f"RENDEZVOUS_{flag.upper()}"] = value
    environ.setdefault("RENDEZVOUS_SERVER", DEFAULT_SERVER)
    here = os.path.dirname(os.path.abspath(__file__))
    bootstrap = os.path.join(here, "bootstrap")
    path = [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environ["PYTHONPATH"] = os.pathsep.join([bootstrap, *(e for e in path if e != bootstrap)])
    return environ


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rendezvous-instrument",
        description="Run a command with Rendezvous in it. Each flag has an environment variable.",
        epilog="variables:\n"
        + "\n".join(f"  {name:26} {meaning}" for name, meaning in config.NAMES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--service", help="this service's name (RENDEZVOUS_SERVICE)")
    parser.add_argument("--region", help="the region it runs in (RENDEZVOUS_REGION)")
    parser.add_argument("--server", help="metadata servers HOST:PORT,… (RENDEZVOUS_SERVER)")
    parser.add_argument("--mode", help="enforce, observe, off (RENDEZVOUS_MODE)")
    parser.add_argument("--sidecar", help="socket of a running sidecar (RENDEZVOUS_SIDECAR)")
    parser.add_argument("--budget", help="seconds a request's reads may wait (RENDEZVOUS_BUDGET)")
    parser.add_argument("--propagate-to", help="hosts that may see it (RENDEZVOUS_PROPAGATE_TO)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    return parser


def _start_keeper(environ: dict[str, str]) -> str:
    """Leave a keeper beside the application-to-be; the path of the socket it will serve. Forked
    twice: an application must not find a child that it did not start. A program of its own, with an
    environment of its own: a tracer that runs in us would go on in a mere copy."""
    temporary = tempfile.gettempdir()
    if len(os.fsencode(temporary)) > TEMPORARY_BYTES_MAX:
        temporary = "/tmp"
    folder = tempfile.mkdtemp(prefix="rendezvous-", dir=temporary)
    socket_path = os.path.join(folder, "sidecar.sock")
    command = [sys.executable, "-P", "-m", "rendezvous_instrumentation.keeper"]
    command += [str(os.getpid()), socket_path, environ["RENDEZVOUS_SERVER"]]
    command += [environ.get("RENDEZVOUS_REGION", "")]
    own = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    own["RENDEZVOUS_MODE"] = "off"  # it is nobody's application
    child = os.fork()
    if child == 0:
        try:
            if os.fork() == 0:
                os.execve(command[0], command, own)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return socket_path


if __name__ == "__main__":
    sys.exit(main())
