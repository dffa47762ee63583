"""``rendezvous doctor``: one table of what would be patched here, what not, and why."""

import importlib
import importlib.util
import os
import sys

from rendezvous_api.errors import BadConfig
from rendezvous_instrumentation import config, install


def main(argv: list[str] | None = None) -> int:
    """Print settings, the sidecar's state and one line per library; 1 if anything is wrong."""
    wrong = _settings()
    wrong |= _sidecar()
    install.install()
    print(f"\n{'library':32} {'version':12} patched")
    for name in install.PATCHES:
        top = name.partition(".")[0]
        if importlib.util.find_spec(top) is None:
            print(f"{name:32} {'-':12} not installed")
            continue
        try:
            importlib.import_module(name)
        except ImportError as exc:
            print(f"{name:32} {'?':12} not importable: {exc}")
            continue
        failure = install.failures.get(name)
        wrong |= failure is not None
        version = str(getattr(sys.modules.get(top), "__version__", ""))
        print(f"{name:32} {version:12} {failure or 'yes'}")
    return int(wrong)


def _settings() -> bool:
    try:
        settings = config.read(os.environ)
    except BadConfig as exc:
        print(f"settings: {exc}")
        return True
    print(f"mode {settings.mode}, service {settings.service or '(none)'}, ", end="")
    print(f"region {settings.region or '(none)'}, budget {settings.budget_s:g} s")
    return False


def _sidecar() -> bool:
    path = os.environ.get("RENDEZVOUS_SIDECAR", "")
    if not path:
        print("sidecar: the launcher starts one")
        return False
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(path)
        except OSError as exc:
            print(f"sidecar: {path}: {exc.strerror}; events wait in each process until it is back")
            return True
    print(f"sidecar: {path}: listening")
    return False
