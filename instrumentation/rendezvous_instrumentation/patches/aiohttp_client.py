"""aiohttp's client: one branch per logical request; the header is merged hop by hop, innermost, after
tracers have written theirs."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.calls import Call, may_propagate
from rendezvous_instrumentation.shell.current import BUSY
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_CALL: ContextVar[Call | None] = ContextVar("rendezvous_aiohttp_call", default=None)


def apply(module: Any) -> None:
    """Patch ``aiohttp.client``."""
    wrap(module.ClientSession, "_request", _request)
    wrap(module.ClientRequest, "send", _send)


def _request(original: Any) -> Any:
    async def _request(self: Any, method: Any, str_or_url: Any, **kwargs: Any) -> Any:
        call = _begin(self, str_or_url)
        if call is None:
            return await original(self, method, str_or_url, **kwargs)
        token = _CALL.set(call)
        busy = BUSY.set(True)
        try:
            response = await original(self, method, str_or_url, **kwargs)
        except BaseException as exc:
            if isinstance(exc, _never_sent()):
                call.never_sent()
            else:
                call.unanswered()
            raise
        finally:
            BUSY.reset(busy)
            _CALL.reset(token)
        call.answered(response.headers.get(http.HEADER))
        return response

    return _request


def _begin(session: Any, str_or_url: Any) -> Any:
    try:
        from yarl import URL

        base = getattr(session, "_base_url", None)
        url = URL(str_or_url)
        if base is not None and not url.absolute:
            url = base.join(url)
        return http.begin_call(url.host, url.port)
    except Exception:
        process().stats.count("failed")
        return None


def _never_sent() -> Any:
    from aiohttp import ClientConnectorError, InvalidURL

    return (ClientConnectorError, InvalidURL)


def _send(original: Any) -> Any:
    async def send(self: Any, conn: Any, *args: Any, **kwargs: Any) -> Any:
        call = _CALL.get()
        if call is not None:
            host = self.url.host or ""
            if may_propagate(host, call.us):  # a redirect may lead out of the allow-list
                http.put(self.headers, call)
        return await original(self, conn, *args, **kwargs)

    return send
