"""Threads and executors work for the request that started them.

A thread is background work of its own; a task given to an executor is the caller's own work, which
it usually awaits. asyncio tasks copy ContextVars by themselves.
"""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.wrapping import wrap

_SCOPE = "_rendezvous_scope"


def apply(module: Any) -> None:
    """Patch ``threading`` or ``concurrent.futures.thread``."""
    if hasattr(module, "Thread"):
        wrap(module.Thread, "start", _start)
        wrap(module.Thread, "run", _run)
    if hasattr(module, "ThreadPoolExecutor"):
        wrap(module.ThreadPoolExecutor, "submit", _submit)


def _start(original: Any) -> Any:
    def start(self: Any) -> None:
        from rendezvous_instrumentation.shell.current import SCOPE

        scope = SCOPE.get()
        # An executor's own workers outlive the request that happens to start them.
        if scope is not None and not _is_worker(self):
            from rendezvous_instrumentation.shell.background import child_scope

            setattr(self, _SCOPE, child_scope(scope))
        original(self)

    return start


def _is_worker(thread: Any) -> bool:
    target = getattr(thread, "_target", None)
    return getattr(target, "__module__", "") == "concurrent.futures.thread"


def _run(original: Any) -> Any:
    def run(self: Any) -> None:
        scope = self.__dict__.pop(_SCOPE, None)
        if scope is not None:
            from rendezvous_instrumentation.shell.current import SCOPE

            SCOPE.set(scope)
        original(self)

    return run


def _submit(original: Any) -> Any:
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        from rendezvous_instrumentation.shell.current import SCOPE

        scope = SCOPE.get()
        if scope is None:
            return original(self, fn, *args, **kwargs)

        def within(*a: Any, **k: Any) -> Any:
            token = SCOPE.set(scope)
            try:
                return fn(*a, **k)
            finally:
                SCOPE.reset(token)

        return original(self, within, *args, **kwargs)

    return submit
