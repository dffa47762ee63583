"""WSGI servers and applications: one entry per request, at the outermost layer that we can reach.

``start_response`` is held until the application returned a whole body, or until its first chunk: what
a server does anyway (PEP 3333), and late enough to answer with what teardown functions wrote. A chunk
that is not all says ``continues``, and the branch closes with the body.
"""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.shell import http
from rendezvous_instrumentation.shell.entries import Entry, merged_baggage
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_ENTERED = "rendezvous.entered"
_WSGI_WORKERS = frozenset(
    f"gunicorn.workers.{name}"
    for name in ("sync", "base_async", "gthread", "geventlet", "ggevent", "gtornado")
)
_WHOLE: tuple[type, ...] = (list, tuple, bytes)
_ASGI_WORKERS = frozenset({"gunicorn.workers.gasgi"})


def apply(module: Any) -> None:
    """Patch ``flask.app``, ``gunicorn.app.base`` or ``werkzeug.serving``."""
    if hasattr(module, "Flask"):
        # Outside the application's middleware and tracers, which sit in ``app.wsgi_app``.
        wrap(module.Flask, "__call__", _method)
    if hasattr(module, "BaseApplication"):
        wrap(module.BaseApplication, "wsgi", _gunicorn)
    if hasattr(module, "BaseWSGIServer"):
        wrap(module.BaseWSGIServer, "__init__", _werkzeug)


def application(app: Any) -> Any:
    """``app`` with our entry around it."""

    def rendezvous(environ: Any, start_response: Any) -> Any:
        if _ENTERED in environ:
            return app(environ, start_response)
        return _run(app, environ, start_response)

    return rendezvous


def _method(original: Any) -> Any:
    def __call__(self: Any, environ: Any, start_response: Any) -> Any:
        if _ENTERED in environ:
            return original(self, environ, start_response)

        def run(environ: Any, start_response: Any) -> Any:
            return original(self, environ, start_response)

        return _run(run, environ, start_response)

    return __call__


def _gunicorn(original: Any) -> Any:
    def wsgi(self: Any) -> Any:
        app = original(self)
        try:
            worker = self.cfg.worker_class
            modules = {base.__module__ for base in worker.__mro__}
            if modules & _WSGI_WORKERS:
                return application(app)
            if modules & _ASGI_WORKERS:
                from rendezvous_instrumentation.patches import asgi

                return asgi.application(app)
        except Exception:
            process().stats.count("failed")
        return app  # uvicorn's workers load it as uvicorn does

    return wsgi


def _werkzeug(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.app = application(self.app)

    return __init__


def _run(run: Any, environ: Any, start_response: Any) -> Any:
    entry = _enter(environ)
    if entry is None:
        return run(environ, start_response)
    response = _Response(entry, start_response)
    entry.begin()
    try:
        body = run(environ, response.start if entry.carried else start_response)
    except BaseException:
        entry.leave()
        raise
    finally:
        entry.end()
    if type(body) in _WHOLE or _is_file(body, environ):
        response.flush(continues=False)
        entry.leave()
        return body
    return (_SizedBody if hasattr(body, "__len__") else _Body)(response, body)


def _is_file(body: Any, environ: Any) -> bool:
    """Whether the server will send this body by itself, and must see it as it is."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)


def _enter(environ: Any) -> Entry | None:
    """Adopt the request, and show what lies below our current context first in the baggage."""

    def get_all(name: str) -> list[str]:
        joined = environ.get(f"HTTP_{name.upper()}")
        if joined is None:
            return []
        # A server joins repeated headers; ours has no comma in it.
        return [v.strip() for v in joined.split(",")] if name == http.HEADER else [joined]

    try:
        if http.already_in(get_all):
            return None
        environ[_ENTERED] = True
        entry = http.enter_with(get_all)
        if entry.carried:
            environ["HTTP_BAGGAGE"] = merged_baggage(environ.get("HTTP_BAGGAGE", ""), entry)
        return entry
    except Exception:
        process().stats.count("failed")
        return None


class _Response:
    """One response on its way out: what the application told ``start_response``, held or passed on.

    ``_length``: bytes of body that the headers promise, -1: unknown.
    """

    __slots__ = ("_held", "_length", "_passed", "_start", "_text", "_write", "entry")

    def __init__(self, entry: Entry, start_response: Any) -> None:
        self.entry = entry
        self._start = start_response
        self._held: Any = None
        self._length = -1
        self._passed = False
        self._text: str | None = None
        self._write: Any = None

    def start(self, status: str, headers: list[Any], exc_info: Any = None) -> Any:
        """The application's ``start_response``."""
        if self._held is not None and exc_info is None:
            self.flush(continues=True)  # called twice: the server says what it thinks of it
        if self._passed:
            return self._pass_on(status, headers, exc_info)
        self._held = (status, headers, exc_info)
        self._length = _length_in(headers)
        return self.write

    def write(self, data: bytes) -> Any:
        """The callable that ``start_response`` returns (PEP 3333: for old applications)."""
        self.flush(continues=not self.is_all(data))
        return self._write(data)

    def flush(self, *, continues: bool) -> None:
        """Pass on what is held, if anything is, with our header."""
        if self._held is None:
            return
        held, self._held = self._held, None
        self._passed = True
        try:
            self._text = self.entry.reply(continues=continues)
        except Exception:
            process().stats.count("failed")
        self._write = self._pass_on(*held)

    def is_all(self, chunk: Any) -> bool:
        """Whether the first chunk is the whole body."""
        return isinstance(chunk, bytes) and len(chunk) == self._length

    def _pass_on(self, status: str, headers: list[Any], exc_info: Any) -> Any:
        if self._text is not None:
            headers = [*headers, (http.HEADER, self._text)]
        if exc_info is None:
            return self._start(status, headers)
        return self._start(status, headers, exc_info)


def _length_in(headers: list[Any]) -> int:
    for name, value in headers:
        if name.lower() == "content-length" and value.isdigit():
            return int(value)
    return -1


class _Body:
    """The application's iterable: made and run in the request's scope."""

    def __init__(self, response: _Response, body: Any) -> None:
        self._response = response
        self._entry = response.entry
        self._body = body
        self._items: Any = None
        self._single = False

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        entry = self._entry
        entry.begin()
        try:
            if self._items is None:
                self._items = iter(self._body)
            item = next(self._items)
        except StopIteration:
            self._response.flush(continues=False)
            entry.leave()
            raise
        except BaseException:
            entry.leave()
            raise
        finally:
            entry.end()
        self._response.flush(continues=not (self._single or self._response.is_all(item)))
        return item

    def close(self) -> None:
        """What the server calls at the end, also of a response that was cut off."""
        entry = self._entry
        entry.begin()
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            entry.end()
            entry.leave()


class _SizedBody(_Body):
    """An iterable with a length, which servers look at: with one item that is all."""

    def __init__(self, response: _Response, body: Any) -> None:
        super().__init__(response, body)
        self._single = len(body) <= 1

    def __len__(self) -> int:
        return len(self._body)
