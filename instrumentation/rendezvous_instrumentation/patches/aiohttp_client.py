"""aiohttp's client: one branch per hop, begun when the request is written, innermost: after tracers
have written their headers.

Per hop and not per logical request, because each hop of a redirect is answered by somebody: what the
first one wrote (POST, then 303) must be known to the second, and come back. An attempt that aiohttp
repeats on another connection is the same hop.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from rendezvous_api.carrier import BAGGAGE, KEY
from rendezvous_instrumentation.patches.connections import opened_outside
from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.calls import Call, may_propagate
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap


class _Hops:
    """One logical request: ``call`` is its hop that has not been answered yet."""

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Call | None = None


_HOPS: ContextVar[_Hops | None] = ContextVar("rendezvous_aiohttp_hops", default=None)


def apply(module: Any) -> None:
    """Patch ``aiohttp.client``."""
    wrap(module.ClientSession, "_request", _request)
    wrap(module.ClientRequest, "send", _send)
    wrap(module.ClientResponse, "start", _start)
    from aiohttp import connector

    for kind in (connector.TCPConnector, connector.UnixConnector):
        wrap(kind, "_create_connection", opened_outside)


def _request(original: Any) -> Any:
    async def _request(self: Any, *args: Any, **kwargs: Any) -> Any:
        if SCOPE.get() is None:
            return await original(self, *args, **kwargs)
        hops = _Hops()
        token = _HOPS.set(hops)
        try:
            return await original(self, *args, **kwargs)
        finally:
            _HOPS.reset(token)
            if hops.call is not None:
                _unanswered(hops.call)

    return _request


def _send(original: Any) -> Any:
    async def send(self: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        hops = _HOPS.get()
        try:
            url, headers = self.url, self.headers
            if hops is not None:
                if hops.call is None:
                    hops.call = http.begin_call(url.host, url.port)
                if hops.call is not None:
                    http.put(headers, hops.call)
            # What came in is propagated by tracers, and not for hosts outside the allow-list.
            if (hops is None or hops.call is None) and KEY in headers.get(BAGGAGE, ""):
                if not may_propagate(url.host or "", process()):
                    http.hide(headers)
        except Exception:
            process().stats.count("failed")
        return await original(self, conn, *args, **kwargs)

    return send


def _start(original: Any) -> Any:
    async def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = await original(self, *args, **kwargs)
        hops = _HOPS.get()
        if hops is not None and hops.call is not None:
            call, hops.call = hops.call, None
            try:
                call.answered(self.headers.get(http.HEADER))
            except Exception:
                process().stats.count("failed")
        return started

    return start


def _unanswered(call: Call) -> None:
    try:
        call.unanswered()
    except Exception:
        process().stats.count("failed")
