"""requests: one branch per hop, at the adapter, innermost: after tracers have written their headers.

Per hop and not per logical request, because each hop of a redirect is answered by somebody: what the
first one wrote (POST, then 303) must be known to the second, and come back.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from rendezvous_api.carrier import BAGGAGE, KEY
from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.calls import Call, may_propagate
from rendezvous_instrumentation.shell.current import BUSY, SCOPE
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap


def apply(module: Any) -> None:
    """Patch the adapter of ``requests.sessions``."""
    wrap(module.HTTPAdapter, "send", _send)


def _send(original: Any) -> Any:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        hop = _Hop(request)
        call = hop.call
        if call is None:
            try:
                return original(self, request, *args, **kwargs)
            finally:
                hop.restore()
        busy = BUSY.set(True)
        try:
            response = original(self, request, *args, **kwargs)
        except BaseException as exc:
            hop.failed(self, exc)
            raise
        finally:
            BUSY.reset(busy)
            hop.restore()
        hop.answered(response)
        return response

    return send


class _Hop:
    """One HTTP request. The prepared request is the application's: its baggage header is ours only
    while it is being sent, so that sending it again elsewhere tells nothing of this request."""

    __slots__ = ("_before", "_headers", "_touched", "call")

    def __init__(self, request: Any) -> None:
        self.call: Call | None = None
        self._touched = False
        try:
            headers = self._headers = request.headers
            before = self._before = headers.get(BAGGAGE)
            if isinstance(before, bytes):
                before = before.decode("latin-1")
            foreign = before is not None and KEY in before
            if SCOPE.get() is None and not foreign:
                return
            url = urlsplit(str(request.url))
            call = http.begin_call(url.hostname, url.port)
            if call is not None:
                self.call = call
                self._touched = True
                if before is not None:
                    headers[BAGGAGE] = before
                http.put(headers, call)
            elif foreign and not may_propagate(url.hostname or "", process()):
                self._touched = True
                headers[BAGGAGE] = before
                http.hide(headers)
        except Exception:
            process().stats.count("failed")
            call, self.call = self.call, None
            if call is not None:
                call.answered(None)  # it goes without a context

    def restore(self) -> None:
        """Give the application its header back."""
        if not self._touched:
            return
        if self._before is None:
            self._headers.pop(BAGGAGE, None)
        else:
            self._headers[BAGGAGE] = self._before

    def answered(self, response: Any) -> None:
        """Headers are here; the body may still be streamed."""
        try:
            if self.call is not None:
                self.call.answered(response.headers.get(http.HEADER))
        except Exception:
            process().stats.count("failed")

    def failed(self, adapter: Any, exc: BaseException) -> None:
        """No response."""
        try:
            if self.call is None:
                return
            if _never_sent(adapter, exc):
                self.call.never_sent()
            else:
                self.call.unanswered()
        except Exception:
            process().stats.count("failed")


def _never_sent(adapter: Any, exc: BaseException) -> bool:
    """Whether it is certain that no byte of the request left."""
    from requests.exceptions import ConnectionError, InvalidHeader, InvalidURL
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    if isinstance(exc, (InvalidURL, InvalidHeader)):
        return True
    if not isinstance(exc, ConnectionError) or not exc.args:
        return False
    cause: Any = exc.args[0]
    # With retries only the last attempt is told of; an earlier one may have been sent.
    return (
        getattr(adapter.max_retries, "total", None) == 0
        and isinstance(cause, MaxRetryError)
        and isinstance(cause.reason, (NewConnectionError, ConnectTimeoutError))
    )
