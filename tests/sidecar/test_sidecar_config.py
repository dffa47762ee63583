"""Settings: what is wrong is said clearly, before anything is touched."""

import os

import pytest

from rendezvous_api.errors import BadConfig
from rendezvous_sidecar.__main__ import main
from rendezvous_sidecar.config import parse

GOOD = ["--socket", "/tmp/rdv.sock", "--server", "127.0.0.1:7420"]


def test_flags() -> None:
    config = parse([*GOOD, "--region", "eu", "--parent-pid", "1", "--allow-uid", "7"], {})
    assert config.socket == "/tmp/rdv.sock"
    assert config.servers == ("127.0.0.1:7420",)
    assert (config.region, config.parent_pid, config.allow_uids) == ("eu", 1, frozenset({7}))
    assert config.metrics_port == 0


def test_environment() -> None:
    environ = {
        "RENDEZVOUS_SIDECAR": "/tmp/rdv.sock",
        "RENDEZVOUS_SERVER": "a:1, [::1]:2",
        "RENDEZVOUS_REGION": "us",
    }
    config = parse([], environ)
    assert (config.socket, config.servers, config.region) == (
        "/tmp/rdv.sock",
        ("a:1", "[::1]:2"),
        "us",
    )


def test_a_group_by_name_or_number() -> None:
    assert parse([*GOOD, "--group", str(os.getgid())], {}).group == os.getgid()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "--socket=''"),
        (["--socket", "/tmp/rdv.sock"], "--server=''"),
        (["--socket", "/nowhere/at/all/s", "--server", "a:1"], "does not exist"),
        (["--socket", "/tmp/" + "x" * 120, "--server", "a:1"], "at most 107 bytes"),
        (["--socket", "/tmp/s", "--server", "a"], "HOST:PORT"),
        (["--socket", "/tmp/s", "--server", "a:0"], "HOST:PORT"),
        (["--socket", "/tmp/s", "--server", "a:1,:2"], "HOST:PORT"),
        ([*GOOD, "--metrics-port", "http"], "--metrics-port='http'"),
        ([*GOOD, "--metrics-port", "70000"], "from 0 to 65535"),
        ([*GOOD, "--parent-pid", "-1"], "--parent-pid='-1'"),
        ([*GOOD, "--allow-uid", "root"], "--allow-uid='root'"),
        ([*GOOD, "--group", "no-such-group"], "--group='no-such-group'"),
    ],
)
def test_what_is_wrong_is_said(argv: list[str], text: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse(argv, {})
    assert text in str(caught.value)


def test_the_program_ends_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--socket", "/nowhere/s", "--server", "a:1"]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("rendezvous sidecar: --socket='/nowhere/s':")
    assert errors.count("\n") == 1
