"""ASGI servers and applications: one entry per request, at the outermost layer that we can reach.

Headers are held until the first body message, which tells whether the body is complete with it; where
it is not, the reply says ``continues`` and the branch closes after the last one. What runs later
(background tasks) is background work.
"""

from __future__ import annotations

from typing import Any

from rendezvous_api.carrier import BAGGAGE, without_member
from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.entries import Entry, enter_http, merged_baggage
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_ENTERED = "rendezvous.entered"
_BAGGAGE = BAGGAGE.encode()
_HEADER = http.HEADER.encode()
_BODIES = ("http.response.body", "http.response.zerocopysend")


def apply(module: Any) -> None:
    """Patch ``starlette.applications`` or ``uvicorn.config``."""
    if hasattr(module, "Starlette"):
        wrap(module.Starlette, "__call__", _call)
    if hasattr(module, "Config"):
        wrap(module.Config, "load", _load)


def _call(original: Any) -> Any:
    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] not in ("http", "websocket") or _ENTERED in scope:
            return await original(self, scope, receive, send)

        async def run(receive: Any, send: Any) -> Any:
            return await original(self, scope, receive, send)

        return await _run(run, scope, receive, send)

    return __call__


def _load(original: Any) -> Any:
    def load(self: Any) -> None:
        original(self)
        self.loaded_app = application(self.loaded_app)

    return load


def application(app: Any) -> Any:
    """``app`` (ASGI 3) with our entry around it."""

    async def rendezvous(scope: Any, receive: Any, send: Any) -> Any:
        if scope["type"] not in ("http", "websocket") or _ENTERED in scope:
            return await app(scope, receive, send)

        async def run(receive: Any, send: Any) -> Any:
            return await app(scope, receive, send)

        return await _run(run, scope, receive, send)

    return rendezvous


async def _run(run: Any, scope: Any, receive: Any, send: Any) -> Any:
    entry = _enter(scope)
    if entry is None:
        return await run(receive, send)
    response = None
    entry.begin()
    try:
        if scope["type"] == "http":
            response = _Response(entry, send)
            send = response.send
        result = await run(receive, send)
        if response is not None:
            await response.flush(continues=False)
        return result
    except Exception:
        # Without us the headers would be out by now, and the server would see a cut response.
        if response is not None:
            await response.flush_after_error()
        raise
    finally:
        entry.end()
        entry.leave()


def _enter(scope: Any) -> Entry | None:
    """Adopt the request, and show what lies below our current context first in the baggage."""
    try:
        scope[_ENTERED] = True
        headers = scope["headers"]
        baggage: list[str] = []
        plain: list[str] = []
        trace: str | None = None
        for name, value in headers:  # names are lower-case, says ASGI
            if name == _BAGGAGE:
                baggage.append(value.decode("latin-1"))
            elif name == _HEADER:
                plain.append(value.decode("latin-1"))
            elif name == b"traceparent":
                trace = value.decode("latin-1")
        entry = enter_http(baggage, plain, trace)
        if entry.carried:
            scope["headers"] = _rewritten(headers, entry, baggage)
        return entry
    except Exception:
        process().stats.count("failed")
        return None


def _rewritten(headers: Any, entry: Entry, baggage: list[str]) -> list[Any]:
    """``headers`` with our member first in the first baggage header, and in no other."""
    if not baggage:
        return [*headers, (_BAGGAGE, merged_baggage("", entry).encode("latin-1"))]
    texts = iter([merged_baggage(baggage[0], entry), *(without_member(b) for b in baggage[1:])])
    rewritten: list[Any] = []
    for pair in headers:
        if pair[0] != _BAGGAGE:
            rewritten.append(pair)
        elif text := next(texts):
            rewritten.append((_BAGGAGE, text.encode("latin-1")))
    return rewritten


class _Response:
    """One response on its way out. ``_left``: bytes of body that its length promises, -1: unknown."""

    __slots__ = ("_entry", "_held", "_left", "_send")

    def __init__(self, entry: Entry, send: Any) -> None:
        self._entry = entry
        self._send = send
        self._held: Any = None
        self._left = -1

    async def send(self, message: Any) -> None:
        """The application's ``send``."""
        kind = message["type"]
        if kind == "http.response.start" and self._held is None:
            await self._start(message)
            return
        last = self._is_last(kind, message)
        await self.flush(continues=not last)
        await self._send(message)
        if last:
            self._entry.leave()

    async def flush(self, *, continues: bool) -> None:
        """Send the held headers, if any."""
        if self._held is not None:
            held, self._held = self._held, None
            await self._send(self._with_header(held, continues=continues))

    async def flush_after_error(self) -> None:
        """As :meth:`flush`, while the application's own exception is on its way."""
        try:
            await self.flush(continues=False)
        except Exception:
            process().stats.count("failed")

    async def _start(self, message: Any) -> None:
        streams_events = False
        self._left = -1
        for name, value in message.get("headers", ()):
            name = name.lower()
            if name == b"content-length" and value.isdigit():
                self._left = int(value)
            elif name == b"content-type":
                streams_events = value.startswith(b"text/event-stream")
        if not self._entry.carried:
            await self._send(message)
        elif streams_events:  # its first event may be long in coming, and its client waits to open
            await self._send(self._with_header(message, continues=True))
        else:
            self._held = message

    def _is_last(self, kind: str, message: Any) -> bool:
        """Whether the body is complete with this message: middleware that passes a body on sends
        an empty last message, which its length makes needless."""
        if kind == "http.response.pathsend":
            return True
        if kind not in _BODIES:
            return False
        if self._left > 0:
            self._left -= len(message.get("body", b""))
            if self._left <= 0:
                return True
        return not message.get("more_body", False)

    def _with_header(self, message: Any, *, continues: bool) -> Any:
        try:
            text = self._entry.reply(continues=continues)
        except Exception:
            process().stats.count("failed")
            text = None
        if text is None:
            return message
        headers = [*message.get("headers", ()), (_HEADER, text.encode("ascii"))]
        return {**message, "headers": headers}
