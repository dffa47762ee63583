"""Settings: flags, and an environment variable for each (``RENDEZVOUS_`` and the flag's name)."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from rendezvous_api.errors import BadConfig
from rendezvous_api.limits import NAME_BYTES_MAX

HOST, PORT = "127.0.0.1", 7420
LOGS = ("memory", "sqlite")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Config:
    """A server's settings, checked."""

    host: str = HOST
    port: int = PORT
    """0: any free one, printed at the start."""
    log: str = "memory"
    path: str = ""
    """File of the ``sqlite`` log."""
    metrics_port: int | None = None
    """``None``: no metrics, no health over HTTP. Same host as the gRPC port."""
    region: str = ""
    insecure: bool = False
    """Listen beyond loopback without encryption."""


def from_arguments(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings that flags and environment say; a flag wins. Raises :class:`BadConfig`."""
    parser = argparse.ArgumentParser(
        "rendezvous server",
        description="The Rendezvous metadata server.",
        epilog="Every flag may be given as an environment variable: --metrics-port is "
        "RENDEZVOUS_METRICS_PORT.",
        allow_abbrev=False,
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="default 127.0.0.1:7420")
    parser.add_argument("--log", metavar="|".join(LOGS), help="default memory")
    parser.add_argument("--path", metavar="FILE", help="where the sqlite log is kept")
    parser.add_argument(
        "--metrics-port", metavar="PORT", help="serve /metrics, /healthz and /readyz on this port"
    )
    parser.add_argument("--region", help="the region that this server belongs to")
    parser.add_argument(
        "--insecure",
        action="store_const",
        const="1",
        help="listen beyond this machine without encryption",
    )
    flags = vars(parser.parse_args(argv))

    def setting(name: str) -> tuple[str, str | None]:
        """What to call it in an error, and its value."""
        if flags[name] is not None:
            return "--" + name.replace("_", "-"), str(flags[name])
        variable = "RENDEZVOUS_" + name.upper()
        return variable, environ.get(variable)

    host, port = _address(*setting("listen"))
    insecure = _switch(*setting("insecure"))
    if not insecure and not _is_loopback(host):
        name, value = setting("listen")
        raise BadConfig(
            name, value or "", "beyond this machine traffic is not encrypted: add --insecure"
        )
    name, log = setting("log")
    log = log or "memory"
    if log not in LOGS:
        raise BadConfig(name, log, f"one of {', '.join(LOGS)}")
    name, path = setting("path")
    if log == "sqlite" and not path:
        raise BadConfig(name, path or "", "the sqlite log needs a file: --path FILE")
    name, region = setting("region")
    if region and len(region) > NAME_BYTES_MAX:
        raise BadConfig(name, region[:32] + "…", f"at most {NAME_BYTES_MAX} characters")
    name, metrics = setting("metrics_port")
    return Config(
        host,
        port,
        log,
        path or "",
        _port(name, metrics) if metrics else None,
        region or "",
        insecure,
    )


def _address(name: str, value: str | None) -> tuple[str, int]:
    if not value:
        return HOST, PORT
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host:
        raise BadConfig(name, value, "HOST:PORT, such as 127.0.0.1:7420")
    return host, _port(name, port)


def _port(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or int(value) > 65535:
        raise BadConfig(name, value, "a port is a number from 0 to 65535")
    return int(value)


def _switch(name: str, value: str | None) -> bool:
    if value is None or value.lower() in _FALSE:
        return False
    if value.lower() not in _TRUE:
        raise BadConfig(name, value, "1 or 0")
    return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
