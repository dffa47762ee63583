"""Settings by flags and environment, and clear errors for what is wrong with them."""

import pytest

from rendezvous_api.errors import BadConfig
from rendezvous_server.__main__ import main
from rendezvous_server.config import Config, from_arguments


def test_defaults() -> None:
    assert from_arguments([], {}) == Config("127.0.0.1", 7420, "memory", "", None, "", False)


def test_a_flag_wins_over_the_environment() -> None:
    environ = {
        "RENDEZVOUS_LISTEN": "127.0.0.1:1",
        "RENDEZVOUS_LOG": "sqlite",
        "RENDEZVOUS_PATH": "/env",
        "RENDEZVOUS_METRICS_PORT": "9",
        "RENDEZVOUS_REGION": "eu",
        "RENDEZVOUS_INSECURE": "yes",
    }
    assert from_arguments(["--listen", "[::1]:2", "--path=/flag"], environ) == Config(
        "::1", 2, "sqlite", "/flag", 9, "eu", True
    )


@pytest.mark.parametrize(
    ("flags", "environ", "says"),
    [
        (["--listen", "nonsense"], {}, "--listen.*HOST:PORT"),
        ([], {"RENDEZVOUS_LISTEN": "127.0.0.1:x"}, "RENDEZVOUS_LISTEN.*a port is a number"),
        (["--listen", "127.0.0.1:70000"], {}, "a port is a number"),
        (["--listen", "0.0.0.0:7420"], {}, "--listen.*--insecure"),
        (["--listen", "example.org:7420"], {}, "--insecure"),
        (["--log", "nats"], {}, "--log.*memory, sqlite"),
        (["--log", "sqlite"], {}, "--path FILE"),
        (["--metrics-port", "-1"], {}, "--metrics-port"),
        ([], {"RENDEZVOUS_INSECURE": "perhaps"}, "RENDEZVOUS_INSECURE.*1 or 0"),
        (["--region", "x" * 300], {}, "--region"),
    ],
)
def test_errors_name_the_setting_and_say_what_is_wanted(
    flags: list[str], environ: dict[str, str], says: str
) -> None:
    with pytest.raises(BadConfig, match=says):
        from_arguments(flags, environ)


def test_beyond_loopback_with_consent() -> None:
    assert from_arguments(["--listen", "0.0.0.0:7420", "--insecure"], {}).host == "0.0.0.0"


def test_the_command_prints_the_error_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", "paper"]) == 2
    assert "rendezvous server: --log='paper'" in capsys.readouterr().err
