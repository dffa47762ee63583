"""grpc.aio's client: the call objects below its interceptors.

These objects are the library's own; ours only gives them metadata and looks at their status, before
anybody who waits for it is woken.
"""

from __future__ import annotations

import weakref
from functools import partial
from importlib import import_module
from typing import Any

from rendezvous_instrumentation.patches import grpc_async_server
from rendezvous_instrumentation.patches.grpc_calls import Rpc, begin, known, retries
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_RPC = "_rendezvous_rpc"
_METADATA, _CHANNEL, _METHOD = 2, 5, 6
"""Places of the arguments of a call object's constructor."""
_COLLECTED = "Cancelled upon garbage collection!"
_targets: dict[int, Any] = {}
"""Targets by the identity of the library's inner channels, where these do not tell."""


def apply(module: Any) -> None:
    """Patch ``grpc.aio``. Raises ``AttributeError`` where it is not built as we know it; nothing is
    patched then."""
    call = import_module(f"{module.__name__}._call")
    channel = import_module(f"{module.__name__}._channel")
    start = _starting((ValueError, TypeError, module.UsageError))
    patches: list[tuple[Any, str, Any, str]] = [
        (getattr(call, name), "__init__", start, "self * deadline metadata * * channel method")
        for name in ("UnaryUnaryCall", "UnaryStreamCall", "StreamUnaryCall", "StreamStreamCall")
    ]
    patches += [
        (call._StreamResponseMixin, "_read", _read(module.EOF), "self"),
        (channel.Channel, "__init__", _channel, "self target options"),
    ]
    for owner, name, _, parameters in patches:
        known(owner, name, parameters)
    for owner, name, make, _ in patches:
        wrap(owner, name, make)
    grpc_async_server.apply(module)


def _channel(original: Any) -> Any:
    def __init__(self: Any, target: Any, options: Any, *args: Any, **kwargs: Any) -> None:
        # The first channel starts a thread that serves all requests, not the one that makes it.
        token = SCOPE.set(None)
        try:
            original(self, target, options, *args, **kwargs)
        finally:
            SCOPE.reset(token)
        retries(target, options)
        inner = self._channel
        if not hasattr(inner, "target"):  # older grpc; it lives no longer than this object
            _targets[id(inner)] = target
            weakref.finalize(self, _targets.pop, id(inner), None).atexit = False

    return __init__


def _target(channel: Any) -> Any:
    return channel.target if hasattr(channel, "target") else _targets.get(id(channel))


def _starting(refused: tuple[type[BaseException], ...]) -> Any:
    """Makes the wrapper of a call object's constructor; ``refused``: it raises these before
    anything is sent."""

    def make(original: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            rpc = None
            if SCOPE.get() is not None:
                if len(args) > _METHOD:
                    rpc = begin(_target(args[_CHANNEL]), args[_METHOD])
                else:  # not the constructor that we know
                    process().stats.count("failed")
            if rpc is None:
                original(self, *args, **kwargs)
                return
            carried = rpc.carry(args[_METADATA])
            try:
                original(self, *args[:_METADATA], carried, *args[_METADATA + 1 :], **kwargs)
            except refused:
                rpc.never_sent()
                raise
            except BaseException:
                rpc.unanswered()
                raise
            try:
                setattr(self, _RPC, rpc)
                inner = self._cython_call
                inner.add_done_callback(partial(_done, rpc, inner))
            except Exception:
                rpc.unanswered()
                process().stats.count("failed")

        return __init__

    return make


def _done(rpc: Rpc, inner: Any) -> None:
    """The status is set. Called by the library, which lets an exception of ours through."""
    try:
        status = inner._status
        details = status.details() or ""
        if details == _COLLECTED and inner.is_locally_cancelled():
            rpc.dropped()
        elif inner.is_locally_cancelled():
            rpc.unanswered()
        else:
            rpc.ended(int(status.code()), details, status.trailing_metadata())
    except Exception:
        rpc.unanswered()
        process().stats.count("failed")


def _read(end: Any) -> Any:
    def make(original: Any) -> Any:
        async def _read(self: Any) -> Any:
            message = await original(self)
            rpc = self.__dict__.get(_RPC)
            if rpc is not None and message is not end:
                rpc.first_message(self._cython_call._initial_metadata)
            return message

        return _read

    return make
