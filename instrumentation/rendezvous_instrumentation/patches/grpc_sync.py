"""grpc's client: the functions below its public classes, where every kind of call passes.

Innermost, so that interceptors lie outside ours, and beside the call objects, so that these stay the
library's own. What a call's end tells is taken in before the library wakes whoever waits for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from typing import Any

from rendezvous_instrumentation.patches import grpc_sync_server
from rendezvous_instrumentation.patches.grpc_calls import Rpc, begin, known, retries
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_RPC = "rendezvous_rpc"
_TARGET = "_rendezvous_target"
_STARTING: ContextVar[Rpc | None] = ContextVar("rendezvous_grpc_starting", default=None)
"""The call that is being started, until the library makes its state: the state then holds it."""
_METADATA = 2
"""The place of ``metadata`` among the positional arguments of each function that starts a call."""


def apply(module: Any) -> None:
    """Patch ``grpc._channel`` and ``grpc._server``. Raises ``AttributeError`` where this grpc is
    not built as we know it; nothing is patched then."""
    channel = import_module(f"{module.__name__}._channel")
    starts = (
        (channel._UnaryUnaryMultiCallable, ("_blocking", "future")),
        (channel._StreamUnaryMultiCallable, ("_blocking", "future")),
        (channel._UnaryStreamMultiCallable, ("__call__",)),
        (channel._SingleThreadedUnaryStreamMultiCallable, ("__call__",)),
        (channel._StreamStreamMultiCallable, ("__call__",)),
    )
    start = _starting((ValueError, TypeError, module.RpcError))
    patches: list[tuple[Any, str, Any, str]] = [
        (owner, name, start, "self * timeout metadata") for owner, names in starts for name in names
    ]
    patches += [
        (channel._RPCState, "__init__", _state, "self"),
        (channel, "_handle_event", _handle_event, "event state"),
        (channel, "_abort", _abort, "state"),
        (channel._Rendezvous, "__del__", _collected, "self"),
        (channel._MultiThreadedRendezvous, "add_done_callback", _add_done_callback, "self fn"),
        (channel, "_consume_request_iterator", _consume_request_iterator, "request_iterator"),
        (channel, "_run_channel_spin_thread", _apart, ""),
        (channel, "_spawn_delivery", _apart, ""),
        (channel.Channel, "__init__", _channel, "self target options"),
    ]
    if hasattr(channel, "_spawn_poll_connectivity"):
        patches.append((channel, "_spawn_poll_connectivity", _apart, ""))
    if not hasattr(channel._UnaryUnaryMultiCallable, "_target"):  # older grpc
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        patches += [(channel.Channel, kind, _with_target, "self") for kind in kinds]
    for owner, name, _, parameters in patches:
        known(owner, name, parameters)
    for owner, name, make, _ in patches:
        wrap(owner, name, make)
    grpc_sync_server.apply(module)


def _channel(original: Any) -> Any:
    def __init__(self: Any, target: Any, options: Any, *args: Any, **kwargs: Any) -> None:
        retries(target, options)
        original(self, target, options, *args, **kwargs)
        setattr(self, _TARGET, target)

    return __init__


def _with_target(original: Any) -> Any:
    def make(self: Any, *args: Any, **kwargs: Any) -> Any:
        callable_ = original(self, *args, **kwargs)
        callable_._target = getattr(self, _TARGET, None)
        return callable_

    return make


def _starting(refused: tuple[type[BaseException], ...]) -> Any:
    """Makes the wrapper of a function that starts a call; ``refused``: it raises these before
    anything is sent."""

    def make(original: Any) -> Any:
        def start(self: Any, *args: Any, **kwargs: Any) -> Any:
            if SCOPE.get() is None:
                return original(self, *args, **kwargs)
            rpc = begin(getattr(self, "_target", None), self._method)
            if rpc is None:
                return original(self, *args, **kwargs)
            if len(args) > _METADATA:
                metadata = rpc.carry(args[_METADATA])
                args = (*args[:_METADATA], metadata, *args[_METADATA + 1 :])
            else:
                kwargs["metadata"] = rpc.carry(kwargs.get("metadata"))
            token = _STARTING.set(rpc)
            try:
                result = original(self, *args, **kwargs)
            except refused:
                rpc.never_sent()
                raise
            except BaseException:
                rpc.unanswered()
                raise
            finally:
                unseen = _STARTING.get() is rpc
                _STARTING.reset(token)
            if unseen:
                rpc.unanswered()
            return result

        return start

    return make


def _state(original: Any) -> Any:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        rpc = _STARTING.get()
        if rpc is not None:
            _STARTING.set(None)
            setattr(self, _RPC, [rpc, False])

    return __init__


def _handle_event(original: Any) -> Any:
    def _handle_event(event: Any, state: Any, *args: Any) -> Any:
        held = state.__dict__.get(_RPC)
        if held is None or held[0].done:
            return original(event, state, *args)
        held[1] = True
        try:
            callbacks = original(event, state, *args)
        finally:
            held[1] = False
        if state.code is not None:
            _settle(held[0], state)
        elif state.response is not None:
            held[0].first_message(state.initial_metadata)
        return callbacks

    return _handle_event


def _abort(original: Any) -> Any:
    """The library ends a call itself: cancelled, a request that cannot be sent, a response that
    cannot be read. In the last case the status may be part of the same event."""

    def _abort(state: Any, *args: Any) -> None:
        original(state, *args)
        held = state.__dict__.get(_RPC)
        if held is not None and not held[1]:
            held[0].unanswered()

    return _abort


def _settle(rpc: Rpc, state: Any) -> None:
    try:
        code = state.code.value[0]
        details = state.details or ""
        text = details.decode("utf-8", "replace") if isinstance(details, bytes) else details
        if state.trailing_metadata or not state.cancelled:
            rpc.ended(code, text, state.trailing_metadata)
        else:
            rpc.unanswered()
    except Exception:
        rpc.unanswered()
        process().stats.count("failed")


def _collected(original: Any) -> Any:
    def __del__(self: Any) -> None:
        state = self.__dict__.get("_state")
        if state is not None and state.code is None:
            held = state.__dict__.get(_RPC)
            if held is not None:
                held[0].dropped()
        original(self)

    return __del__


def _add_done_callback(original: Any) -> Any:
    """Callbacks run in the channel's own thread: there too they work for who added them."""

    def add_done_callback(self: Any, fn: Any) -> Any:
        scope = SCOPE.get()
        if scope is None:
            return original(self, fn)

        def within(future: Any) -> Any:
            token = SCOPE.set(scope)
            try:
                return fn(future)
            finally:
                SCOPE.reset(token)

        return original(self, within)

    return add_done_callback


class _Requests:
    """A user's request iterator, run in the channel's own thread for the request that it is of."""

    __slots__ = ("_requests", "_scope")

    def __init__(self, requests: Any, scope: Any) -> None:
        self._requests = requests
        self._scope = scope

    def __iter__(self) -> _Requests:
        return self

    def __next__(self) -> Any:
        token = SCOPE.set(self._scope)
        try:
            return next(self._requests)
        finally:
            SCOPE.reset(token)


def _consume_request_iterator(original: Any) -> Any:
    apart = _apart(original)

    def _consume_request_iterator(request_iterator: Any, *args: Any, **kwargs: Any) -> Any:
        scope = SCOPE.get()
        if scope is not None:
            request_iterator = _Requests(request_iterator, scope)
        return apart(request_iterator, *args, **kwargs)

    return _consume_request_iterator


def _apart(original: Any) -> Any:
    """The channel's own threads serve all requests: they are not the work of the one that happens
    to start them."""

    def apart(*args: Any, **kwargs: Any) -> Any:
        token = SCOPE.set(None)
        try:
            return original(*args, **kwargs)
        finally:
            SCOPE.reset(token)

    return apart
