"""``install()``: the one way in. Looks at imports, patches a library when it has been imported.

Imports nothing but ``sys`` and ``os`` itself: it runs before the application's first line. Never
raises: a failure of ours must not stop somebody's tracing or service.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing ``typing`` for it would cost more than all the rest
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

PATCHES = {
    "redis.client": "redis_sync",
    "redis.asyncio.client": "redis_async",
    "redis.cluster": "redis_cluster",
    "redis.asyncio.cluster": "redis_cluster",
    "valkey.client": "redis_sync",
    "valkey.asyncio.client": "redis_async",
    "aiohttp.client": "aiohttp_client",
    "aiohttp.web_app": "aiohttp_server",
    "requests.sessions": "requests_client",
    "flask.app": "wsgi",
    "gunicorn.app.base": "wsgi",
    "werkzeug.serving": "wsgi",
    "starlette.applications": "asgi",
    "uvicorn.config": "asgi",
    "grpc": "grpc_sync",
    "grpc.aio": "grpc_async",
    "opentelemetry.instrumentation.auto_instrumentation": "otel_launcher",
    "threading": "threads",
    "concurrent.futures.thread": "threads",
}
"""Module of a library → our module in ``patches`` whose ``apply(module)`` patches it."""

_installed_in = 0


def install() -> None:
    """Begin to patch. Idempotent; does nothing under ``RENDEZVOUS_MODE=off``."""
    global _installed_in
    if os.environ.get("RENDEZVOUS_MODE") == "off" or _installed_in == os.getpid():
        return
    _installed_in = os.getpid()
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for name in PATCHES:
        module = sys.modules.get(name)
        if module is not None and name not in ("threading", "concurrent.futures.thread"):
            _patch(name, module)
    for name in ("threading", "concurrent.futures.thread"):
        module = sys.modules.get(name)
        if module is not None:
            _patch(name, module)


def uninstall() -> None:
    """Take everything back (what requests already carry stays)."""
    global _installed_in
    _installed_in = 0
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    wrapping = sys.modules.get("rendezvous_instrumentation.wrapping")
    if wrapping is not None:
        wrapping.unwrap_all()


class _Finder:
    """Finds nothing itself: lets the others find, and has the module patched once it is executed."""

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in PATCHES:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    loader: Any = _Loader(spec.loader, name)
                    spec.loader = loader
                return spec
        return None


class _Loader:
    """A module's own loader, followed by our patch."""

    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        _patch(self._name, module)


def _patch(name: str, module: ModuleType) -> None:
    try:
        patch = f"rendezvous_instrumentation.patches.{PATCHES[name]}"
        __import__(patch)
        sys.modules[patch].apply(module)
    except Exception as exc:
        failures[name] = f"{type(exc).__name__}: {exc}"
        if os.environ.get("RENDEZVOUS_LOG") == "1":
            print(f"rendezvous: {name} is not patched: {failures[name]}", file=sys.stderr)


failures: dict[str, str] = {}
"""Modules whose patch failed, and why: ``rendezvous doctor`` shows it."""
