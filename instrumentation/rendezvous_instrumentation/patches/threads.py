"""Threads and executors work for the request that started them.

A thread is background work of its own; a task given to an executor is the caller's own work, which
it usually awaits. asyncio tasks copy ContextVars by themselves.
"""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.wrapping import wrap

_POOLS = ("concurrent.futures.", "multiprocessing.", "anyio.", "asgiref.")
"""Modules whose threads serve one caller after the other."""


def apply(module: Any) -> None:
    """Patch ``threading`` or ``concurrent.futures.thread``."""
    if hasattr(module, "Thread"):
        wrap(module.Thread, "start", _start)
    if hasattr(module, "ThreadPoolExecutor"):
        wrap(module.ThreadPoolExecutor, "submit", _submit)


def _start(original: Any) -> Any:
    def start(self: Any) -> None:
        from rendezvous_instrumentation.shell.current import SCOPE

        scope = SCOPE.get()
        if scope is None or _is_worker(self):
            original(self)
            return
        from rendezvous_instrumentation.shell.background import child_scope

        child = child_scope(scope)
        inner = self.run

        # On the instance: subclasses override ``run``.
        def run() -> None:
            self.__dict__.pop("run", None)
            SCOPE.set(child)
            inner()

        self.run = run
        try:
            original(self)
        except BaseException:
            self.__dict__.pop("run", None)
            raise

    return start


def _is_worker(thread: Any) -> bool:
    """Whether it is a pool's thread: it outlives the request that happens to start it, and works
    for others. What it does without a scope of its own is counted ``unattributed``."""
    module = getattr(getattr(thread, "_target", None), "__module__", None) or ""
    return module.startswith(_POOLS) or type(thread).__module__.startswith(_POOLS)


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
