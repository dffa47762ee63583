"""aiohttp's server: one entry per request; the response's header is written when headers are."""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_entry_key: Any = "rendezvous_entry"


def apply(module: Any) -> None:
    """Patch ``aiohttp.web_app`` and the response class."""
    global _entry_key
    from aiohttp import web

    key = getattr(web, "RequestKey", None)
    if key is not None:  # a plain string makes aiohttp warn the application
        _entry_key = key("rendezvous_entry", object)
    from aiohttp.web_response import Response, StreamResponse

    wrap(module.Application, "_handle", _handle)
    wrap(StreamResponse, "_start", lambda original: _start(original, Response))
    wrap(StreamResponse, "write_eof", _write_eof)


def _handle(original: Any) -> Any:
    async def _handle(self: Any, request: Any) -> Any:
        if _entry_key in request:  # a sub-application: the outer one has entered
            return await original(self, request)
        try:
            headers = request.headers
            entry = http.enter_with(lambda name: headers.getall(name, []))
            request[_entry_key] = entry
        except Exception:
            process().stats.count("failed")
            return await original(self, request)
        entry.begin()
        try:
            response = await original(self, request)
        except BaseException as exc:
            # An HTTPException is a response too; anything else becomes aiohttp's own 500.
            if not hasattr(exc, "_start"):
                entry.leave()
            raise
        finally:
            entry.end()
        if getattr(response, "prepared", False):  # streamed by the handler, and done
            entry.leave()
        return response

    return _handle


def _start(original: Any, complete: type) -> Any:
    async def _start(self: Any, request: Any) -> Any:
        entry = request.get(_entry_key)
        if entry is not None:
            # A plain Response has its body already; a stream goes on after its headers.
            continues = not isinstance(self, complete) or hasattr(
                getattr(self, "body", None), "__aiter__"
            )
            try:
                text = entry.reply(continues=continues)
                if text is not None:
                    self.headers[http.HEADER] = text
            except Exception:
                process().stats.count("failed")
        return await original(self, request)

    return _start


def _write_eof(original: Any) -> Any:
    async def write_eof(self: Any, data: bytes = b"") -> None:
        try:
            await original(self, data)
        finally:
            request = getattr(self, "_req", None)
            entry = request.get(_entry_key) if request is not None else None
            if entry is not None:
                entry.leave()

    return write_eof
