"""The ``rendezvous`` command: its table, its mistakes, and missing extras told from faults."""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from rendezvous_api import command
from rendezvous_api.command import COMMANDS, Command, main

ROOT = Path(__file__).parents[2]
GIVEN: list[list[str]] = []


def record_call(arguments: list[str]) -> int:
    GIVEN.append(arguments)
    return 7


def needs_grpc(arguments: list[str]) -> int:
    raise ModuleNotFoundError("No module named 'grpc.aio'", name="grpc.aio")


def is_broken(arguments: list[str]) -> int:
    raise ModuleNotFoundError("No module named 'rendezvous_server.x'", name="rendezvous_server.x")


def uses_a_name_that_is_gone(arguments: list[str]) -> int:
    raise ImportError("cannot import name 'x' from 'grpc'", name="grpc")


@pytest.fixture(autouse=True)
def part(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A part with one command for each way it can go."""
    module = ModuleType("a_part")
    for function in (record_call, needs_grpc, is_broken, uses_a_name_that_is_gone):
        setattr(module, function.__name__, function)
        monkeypatch.setitem(
            COMMANDS,
            function.__name__,
            Command("a_part", "a test", "server", ("grpc",), function.__name__),
        )
    monkeypatch.setitem(sys.modules, "a_part", module)
    monkeypatch.setitem(COMMANDS, "away", Command("a_part_that_is_away", "", "demo", ("grpc",)))
    monkeypatch.setitem(COMMANDS, "bare", Command("grpc_is_away", "", "demo", ("grpc_is_away",)))
    GIVEN.clear()
    yield


def test_a_command_gets_its_arguments_and_gives_its_exit_code() -> None:
    assert main(["record_call", "--port", "1", "--", "x"]) == 7
    assert main(["record_call"]) == 7
    assert GIVEN == [["--port", "1", "--", "x"], []]


def test_without_arguments_given_those_of_the_process_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["rendezvous", "record_call", "a"])
    assert main() == 7
    assert GIVEN == [["a"]]


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_lists_every_command(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Usage: rendezvous COMMAND [ARGUMENTS]\n")
    for name, entry in COMMANDS.items():
        assert f"  {name}" in out
        assert entry.summary in out


def test_nothing_at_all_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: rendezvous" in captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rendezvous {version}\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("servr", "server"), ("Server", "server"), ("sidecars", "sidecar"), ("rnu", "run")],
)
def test_a_slip_is_answered_by_the_nearest_command(
    given: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([given, "--help"]) == 2
    expected = f"rendezvous: there is no command {given!r}; did you mean {meant!r}?\n"
    assert capsys.readouterr().err == expected


def test_what_is_near_nothing_is_sent_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--zzzz"]) == 2
    expected = "rendezvous: there is no command '--zzzz'; 'rendezvous --help' lists the commands.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("needs_grpc", "grpc", "server"), ("bare", "grpc_is_away", "demo")],
)
def test_a_missing_extra_says_how_to_install_it(
    name: str, module: str, extra: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 1
    assert capsys.readouterr().err == (
        f"rendezvous {name}: the module {module!r} is not installed. It comes with\n"
        f"    pip install 'rendezvous-mesh[{extra}]'\n"
    )


@pytest.mark.parametrize("name", ["is_broken", "uses_a_name_that_is_gone", "away"])
def test_a_fault_inside_is_shown_whole(name: str) -> None:
    with pytest.raises(ImportError):
        main([name])


REAL = {name: entry for name, entry in COMMANDS.items()}


@pytest.mark.parametrize("name", REAL)
def test_every_command_listed_exists(name: str) -> None:
    entry = REAL[name]
    assert callable(getattr(import_module(entry.module), entry.function))


def test_every_extra_exists_and_brings_what_its_commands_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    distribution = {
        "grpc": "grpcio",
        "google": "protobuf",
        "prometheus_client": "prometheus-client",
    }
    for entry in REAL.values():
        assert bool(entry.extra) == bool(entry.needs)
        listed = " ".join(extras[entry.extra]) if entry.extra else ""
        if "rendezvous-mesh[" in listed:
            listed += " ".join(extras["server"] + extras["sidecar"])
        for module in entry.needs:
            assert distribution.get(module, module) in listed


def test_the_table_is_read_without_loading_any_part() -> None:
    code = (
        "import sys; from rendezvous_api.command import main; main(['--help']);print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = out.stdout.splitlines()[-1].split()
    ours = {name for name in loaded if name.startswith("rendezvous_")}
    assert ours <= {"rendezvous_api", "rendezvous_api.command", "rendezvous_api.record"}
    assert "grpc" not in loaded


def test_the_distribution_names_this_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["rendezvous"] == f"{command.__name__}:{main.__name__}"
