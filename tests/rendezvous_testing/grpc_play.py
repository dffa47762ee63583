"""What gRPC tests share: a peer process, a request's scope, and what its branches came to."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from rendezvous_api.ids import Rid, text_of
from rendezvous_instrumentation.install import failures, install, uninstall
from rendezvous_instrumentation.shell.current import SCOPE, Scope, cell_of
from rendezvous_instrumentation.shell.process import process
from rendezvous_testing.grpc_peer import STORE


@contextmanager
def instrumented() -> Generator[None]:
    """This process's grpc patched."""
    install()
    assert not {name: why for name, why in failures.items() if name.startswith("grpc")}
    try:
        yield
    finally:
        uninstall()


@contextmanager
def peer(*arguments: str, environment: dict[str, str] | None = None) -> Generator[str]:
    """A running ``grpc_peer``: its address."""
    environ = {**os.environ, "RENDEZVOUS_SERVICE": "peer", **(environment or {})}
    command = [sys.executable, "-m", "rendezvous_testing.grpc_peer", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield f"127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.stdin.close()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def request() -> Generator[Scope]:
    """Within a new request."""
    scope = Scope(cell_of(Rid(text_of(os.urandom(16)))))
    before = process().stats.counters["failed"]
    token = SCOPE.set(scope)
    try:
        yield scope
    finally:
        SCOPE.reset(token)
    assert process().stats.counters["failed"] == before


def position(scope: Scope) -> int:
    """The peer's write as the caller's cell knows it, 0 where it does not."""
    return scope.cell.positions.get(STORE, 0)


def counted(name: str) -> int:
    """One of this process's counters."""
    return process().stats.counters[name]


def connect(target: str, **options: Any) -> Any:
    """A channel for calls of bytes, which the stubs of grpc cannot type."""
    return grpc.insecure_channel(target, **options)


def connect_aio(target: str, *options: Any) -> Any:
    """As :func:`connect`, for asyncio."""
    return grpc.aio.insecure_channel(target, *options)
