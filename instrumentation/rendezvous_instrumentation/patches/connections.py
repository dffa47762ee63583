"""Connections belong to nobody's request.

asyncio keeps a copy of the context in which a transport was made for as long as that lives. A pooled
connection that a request happens to open would keep the request's cell alive long after its end, and
every write done outside a request would be added to it.
"""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.shell.current import SCOPE


def opened_outside(original: Any) -> Any:
    """``original``, a coroutine function that opens a connection, run without a scope."""

    async def connect(*args: Any, **kwargs: Any) -> Any:
        if SCOPE.get() is None:
            return await original(*args, **kwargs)
        token = SCOPE.set(None)
        try:
            return await original(*args, **kwargs)
        finally:
            SCOPE.reset(token)

    return connect
