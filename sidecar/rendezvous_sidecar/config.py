"""Settings of the sidecar: flags, each with an environment variable where a launcher sets it."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rendezvous_api.errors import BadConfig

SOCKET_PATH_BYTES_MAX = 107
"""Bytes of a Unix socket's path (Linux: ``sun_path`` less its zero)."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a sidecar is told. ``servers`` are tried in order."""

    socket: str
    servers: tuple[str, ...]
    region: str = ""
    group: int | None = None
    """Group id that may use the socket; None: only its owner."""
    allow_uids: frozenset[int] = frozenset()
    """User ids that may use the socket, beside our own and root's."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    """0: no health and metrics port."""
    parent_pid: int | None = None
    verbose: bool = False


def parse(argv: Sequence[str] | None, environ: Mapping[str, str] = os.environ) -> Config:
    """Settings from the command line and the environment. Raises :class:`BadConfig`; ends the
    program, as argparse does, on ``--help`` and unknown flags."""
    parser = argparse.ArgumentParser(
        prog="rendezvous sidecar",
        description="Takes the events of local processes and delivers them to a metadata server.",
    )
    parser.add_argument(
        "--socket",
        default=environ.get("RENDEZVOUS_SIDECAR", ""),
        help="path of the Unix socket to listen on (RENDEZVOUS_SIDECAR)",
    )
    parser.add_argument(
        "--server",
        default=environ.get("RENDEZVOUS_SERVER", ""),
        help="HOST:PORT of a metadata server, or several with commas (RENDEZVOUS_SERVER)",
    )
    parser.add_argument(
        "--region",
        default=environ.get("RENDEZVOUS_REGION", ""),
        help="where this sidecar runs (RENDEZVOUS_REGION)",
    )
    parser.add_argument("--group", default="", help="group, by name or id, that may use the socket")
    parser.add_argument(
        "--allow-uid", action="append", default=[], help="another user id that may use the socket"
    )
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address of the health port")
    parser.add_argument(
        "--metrics-port", default="0", help="port of /healthz, /readyz, /metrics; 0: none"
    )
    parser.add_argument(
        "--parent-pid", default="", help="end once this process and all channels are gone"
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    given = parser.parse_args(argv)
    return Config(
        socket=_socket(given.socket),
        servers=_servers(given.server),
        region=given.region,
        group=_group(given.group) if given.group else None,
        allow_uids=frozenset(_number("--allow-uid", uid, 0, 2**32 - 2) for uid in given.allow_uid),
        metrics_host=given.metrics_host,
        metrics_port=_number("--metrics-port", given.metrics_port, 0, 65535),
        parent_pid=_number("--parent-pid", given.parent_pid, 1, 2**31 - 1)
        if given.parent_pid
        else None,
        verbose=given.verbose,
    )


def _socket(path: str) -> str:
    if not path:
        raise BadConfig("--socket", path, "the path of a Unix socket is needed")
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise BadConfig("--socket", path, f"at most {SOCKET_PATH_BYTES_MAX} bytes")
    directory = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(directory):
        raise BadConfig("--socket", path, f"the directory {directory} does not exist")
    return path


def _servers(text: str) -> tuple[str, ...]:
    servers = tuple(server.strip() for server in text.split(",") if server.strip())
    if not servers:
        raise BadConfig("--server", text, "at least one HOST:PORT is needed")
    for server in servers:
        host, colon, port = server.rpartition(":")
        if not host or not colon or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BadConfig("--server", server, "HOST:PORT")
    return servers


def _number(setting: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
        raise BadConfig(setting, text, f"a number from {low} to {high}")
    return int(text)


def _group(text: str) -> int:
    if text.isdecimal():
        return int(text)
    import grp

    try:
        return grp.getgrnam(text).gr_gid
    except KeyError as exc:
        raise BadConfig("--group", text, "the name or id of a group") from exc
