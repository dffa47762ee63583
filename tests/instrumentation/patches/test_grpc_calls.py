"""Targets, metadata, and putting everything back."""

import subprocess
import sys

import pytest

from rendezvous_instrumentation.patches.grpc_calls import known, located
from rendezvous_instrumentation.patches.grpc_metadata import merged


@pytest.mark.parametrize(
    ("target", "hosts", "peer"),
    [
        ("db", ("db",), "db"),
        ("db.svc:50051", ("db.svc",), "db.svc:50051"),
        ("127.0.0.1:1", ("127.0.0.1",), "127.0.0.1:1"),
        ("[::1]:5", ("::1",), "[::1]:5"),
        ("::1", ("::1",), "::1"),
        ("dns:db.svc:1", ("db.svc",), "db.svc:1"),
        ("dns:///db.svc:1", ("db.svc",), "db.svc:1"),
        ("dns://8.8.8.8/db.svc:1", ("db.svc",), "db.svc:1"),
        ("dns:///[fd00::1]:1", ("fd00::1",), "[fd00::1]:1"),
        ("ipv4:127.0.0.1:1", ("127.0.0.1",), "127.0.0.1:1"),
        ("ipv4:10.0.0.1:1,8.8.8.8:2", ("10.0.0.1", "8.8.8.8"), "10.0.0.1:1,8.8.8.8:2"),
        ("ipv6:[::1]:1,[::2]:2", ("::1", "::2"), "[::1]:1,[::2]:2"),
        ("unix:/run/a.sock", ("localhost",), "unix:/run/a.sock"),
        ("unix:///run/a.sock", ("localhost",), "unix:///run/a.sock"),
        ("unix-abstract:a", ("localhost",), "unix-abstract:a"),
        ("xds:///svc", ("svc",), "svc"),
        ("kubernetes:///svc.ns:1", ("svc.ns",), "svc.ns:1"),
    ],
)
def test_targets(target: str, hosts: tuple[str, ...], peer: str) -> None:
    assert located(target) == (hosts, peer)


def test_a_library_built_otherwise_is_left_alone() -> None:
    class Library:
        def call(self, request: bytes, timeout: float) -> None: ...

    known(Library, "call", "self * timeout")
    known(Library, "call", "")
    for name, parameters in (("call", "self * metadata"), ("call", "self * * *"), ("other", "")):
        with pytest.raises(AttributeError):
            known(Library, name, parameters)


def test_metadata_of_the_user_to_the_letter() -> None:
    assert merged(None, "1.x") == (("baggage", "rdv=1.x"),)
    assert merged([("k", "v")], "1.x") == (("k", "v"), ("baggage", "rdv=1.x"))
    forwarded = [("baggage", "a=1, rdv=old,b=2"), ("k", "v"), ("baggage", "c=3")]
    assert merged(forwarded, "1.x") == (
        ("baggage", "rdv=1.x,a=1,b=2"),
        ("k", "v"),
        ("baggage", "c=3"),
    )
    assert merged([("baggage", b"a=\xff")], "1.x") == (("baggage", b"rdv=1.x,a=\xff"),)


_RESTORED = """
import grpc, grpc.aio
from grpc import _channel, _server
from grpc.aio import _call, _channel as aio_channel, _server as aio_server
from rendezvous_instrumentation.install import failures, install, uninstall
owners = [_channel, _server, *(one for module in (_channel, _call, aio_channel, aio_server)
    for one in vars(module).values() if isinstance(one, type))]
before = [dict(vars(owner)) for owner in owners]
install()
assert not failures, failures
changed = [owner for owner, was in zip(owners, before) if dict(vars(owner)) != was]
assert _channel in changed and _server in changed and _call.UnaryUnaryCall in changed
uninstall()
assert [dict(vars(owner)) for owner in owners] == before
install()
assert [owner for owner, was in zip(owners, before) if dict(vars(owner)) != was] == changed
"""


def test_uninstall_restores() -> None:
    subprocess.run([sys.executable, "-c", _RESTORED], check=True, timeout=60)


_NAMES_TAKEN_EARLIER = """
from grpc import insecure_channel
from rendezvous_instrumentation.install import install
install()
from rendezvous_testing.grpc_play import position, request
import sys
with insecure_channel(sys.argv[1]) as channel, request() as scope:
    channel.unary_unary("/test.Kinds/UnaryUnary")(b"write:10")
    assert position(scope) == 10
"""


def test_names_taken_before_install() -> None:
    from rendezvous_testing.grpc_play import peer

    with peer("sync") as address:
        command = [sys.executable, "-c", _NAMES_TAKEN_EARLIER, address]
        subprocess.run(command, check=True, timeout=60)


_OUTSIDE = """
import sys, grpc
from rendezvous_instrumentation.install import install
install()
from rendezvous_testing.grpc_play import counted, position, request
for target in (sys.argv[1], f"ipv4:{sys.argv[1]}", f"dns:///{sys.argv[1]}"):
    with grpc.insecure_channel(target) as channel, request() as scope:
        channel.unary_unary("/test.Kinds/UnaryUnary")(b"write:10")
        assert position(scope) == 0 and not scope.cell.unresolved
assert counted("calls_outside") == 3
"""


def test_hosts_outside_the_allow_list_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from rendezvous_testing.grpc_play import peer

    monkeypatch.setenv("RENDEZVOUS_PROPAGATE_TO", "*.svc")
    with peer("sync") as address:
        subprocess.run([sys.executable, "-c", _OUTSIDE, address], check=True, timeout=60)
