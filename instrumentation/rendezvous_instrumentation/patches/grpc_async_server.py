"""grpc.aio's server: an interceptor of ours, first in the list, that every server is made with.

First, so that all other interceptors, the handler and its response generator run in the call's
scope, and what they put in the trailing metadata is there when ours is added.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

from rendezvous_instrumentation.patches.grpc_calls import known
from rendezvous_instrumentation.patches.grpc_metadata import adopt, left, replied
from rendezvous_instrumentation.shell.entries import Entry
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_INTERCEPTORS = 2
"""The place of ``interceptors`` among the server's positional arguments."""


def apply(module: Any) -> None:
    """Patch ``grpc.aio._server.Server``."""
    server = import_module(f"{module.__name__}._server")
    known(server.Server, "__init__", "self * * interceptors")
    wrap(server.Server, "__init__", _with(_interceptor(module.ServerInterceptor)))


def _with(interceptor: Any) -> Any:
    def make(original: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            if len(args) > _INTERCEPTORS:
                mine = (interceptor, *(args[_INTERCEPTORS] or ()))
                args = (*args[:_INTERCEPTORS], mine, *args[_INTERCEPTORS + 1 :])
            else:
                kwargs["interceptors"] = (interceptor, *(kwargs.get("interceptors") or ()))
            original(self, *args, **kwargs)

        return __init__

    return make


def _interceptor(base: Any) -> Any:
    class Interceptor(base):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            entry = adopt(details.invocation_metadata, details.method)
            if entry is None:
                return await continuation(details)
            entry.begin()  # the task is this call's own
            incoming = _Incoming(entry)
            task = asyncio.current_task()
            if task is not None:
                task.add_done_callback(incoming.task_done)
            return _handler(await continuation(details), incoming)

    return Interceptor()


class _Incoming:
    """One incoming call. Its branch closes when the handler ends, or with the call's task where
    no handler has begun."""

    __slots__ = ("_begun", "entry", "streams")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.streams = False
        self._begun = False

    def begin(self, context: Any) -> _Context:
        """The handler begins, here."""
        self._begun = True
        try:
            remaining = context.time_remaining()
            if remaining is not None:
                self.entry.scope.deadline = time.monotonic() + remaining
            self.entry.begin()
        except Exception:
            process().stats.count("failed")
        return _Context(context, self)

    def task_done(self, _: Any) -> None:
        """The call's task has ended."""
        if not self._begun:
            left(self.entry)


class _Context:
    """The servicer's context, but for metadata: the user's own is kept apart, ours joins it on the
    way out."""

    __slots__ = ("_incoming", "_real", "_replied", "_started", "_trailing", "shown")

    def __init__(self, real: Any, incoming: _Incoming) -> None:
        self._real = real
        self._incoming = incoming
        self._replied = self._started = not incoming.entry.carried
        self._trailing: Any = ()
        self.shown: Any = self if incoming.entry.carried else real
        """What the handler gets: the real one where nobody waits for an answer of ours."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._real.__class__

    def set_trailing_metadata(self, metadata: Any) -> None:
        self._real.set_trailing_metadata(metadata)
        self._trailing = tuple(metadata)

    def trailing_metadata(self) -> Any:
        return self._trailing

    def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Any:
        """A coroutine where the real one gives one. What the real one refuses is left to it."""
        if isinstance(trailing_metadata, tuple) and not self._replied:
            self._replied = True
            trailing_metadata = replied(self._incoming.entry, trailing_metadata or self._trailing)
        return self._real.abort(code, details, trailing_metadata)

    def abort_with_status(self, status: Any) -> Any:
        return self.abort(status.code, status.details, status.trailing_metadata)

    def send_initial_metadata(self, metadata: Any) -> Any:
        if self._incoming.streams and not self._started:
            metadata = replied(self._incoming.entry, metadata, continues=True)
        self._started = True
        return self._real.send_initial_metadata(metadata)

    @property
    def unstarted(self) -> bool:
        """Whether a stream's first message is still to come, and initial metadata before it."""
        return not self._started

    async def write(self, message: Any) -> Any:
        if not self._started:
            with suppress(Exception):  # the client is gone: the library's own sending tells
                await self.send_initial_metadata(())
        return await self._real.write(message)

    def complete(self) -> None:
        """The handler is done: our context joins the trailing metadata."""
        entry = self._incoming.entry
        if not self._replied:
            self._replied = True
            try:
                self._real.set_trailing_metadata(replied(entry, self._trailing))
            except Exception:
                process().stats.count("failed")
        left(entry)
        entry.end()


def _handler(handler: Any, incoming: _Incoming) -> Any:
    """``handler`` with its behavior within the call's scope: of the kind that it was, since the
    library looks at that."""
    if handler is None:
        return None
    kind = f"{_arity(handler.request_streaming)}_{_arity(handler.response_streaming)}"
    behavior = getattr(handler, kind)
    incoming.streams = handler.response_streaming
    if inspect.isasyncgenfunction(behavior):
        wrapped: Any = _async_stream(behavior, incoming)
    elif inspect.iscoroutinefunction(behavior):
        wrapped = _coroutine(behavior, incoming)
    elif handler.response_streaming:
        wrapped = _stream(behavior, incoming)
    else:
        wrapped = _function(behavior, incoming)
    if hasattr(handler, "_replace"):
        return handler._replace(**{kind: wrapped})
    make = getattr(import_module("grpc"), f"{kind}_rpc_method_handler")
    return make(wrapped, handler.request_deserializer, handler.response_serializer)


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


def _coroutine(behavior: Any, incoming: _Incoming) -> Any:
    async def call(request: Any, context: Any) -> Any:
        ours = incoming.begin(context)
        try:
            return await behavior(request, ours.shown)
        finally:
            ours.complete()

    return call


def _function(behavior: Any, incoming: _Incoming) -> Any:
    def call(request: Any, context: Any) -> Any:
        ours = incoming.begin(context)
        try:
            return behavior(request, ours.shown)
        finally:
            ours.complete()

    return call


def _async_stream(behavior: Any, incoming: _Incoming) -> Any:
    async def call(request: Any, context: Any) -> Any:
        ours = incoming.begin(context)
        responses = behavior(request, ours.shown)
        try:
            async for response in responses:
                if ours.unstarted:
                    with suppress(Exception):
                        await ours.send_initial_metadata(())
                yield response
        finally:
            await responses.aclose()
            ours.complete()

    return call


def _stream(behavior: Any, incoming: _Incoming) -> Any:
    def call(request: Any, context: Any) -> Any:
        ours = incoming.begin(context)
        try:
            for response in behavior(request, ours.shown):
                if ours.unstarted:
                    with suppress(Exception):
                        ours.send_initial_metadata(())
                yield response
        finally:
            ours.complete()

    return call
