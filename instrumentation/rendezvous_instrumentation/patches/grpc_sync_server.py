"""grpc's server: a call is adopted before its interceptors run, and the response's trailing metadata
is completed when the status is sent, whoever sends it and why.

Below the interceptors' layer, so that their order does not matter and all of them, the handler and
its response generator run in the call's scope.
"""

from __future__ import annotations

import time
from functools import partial
from importlib import import_module
from typing import Any

from rendezvous_instrumentation.patches.grpc_calls import known
from rendezvous_instrumentation.patches.grpc_metadata import adopt, left, replied
from rendezvous_instrumentation.shell.entries import Entry
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap

_INCOMING = "rendezvous_incoming"
_FOREVER_S = 1e8
"""Seconds from which on a deadline is none."""


class _Incoming:
    """One incoming call, held by the library's state of it."""

    __slots__ = ("entry", "replied", "streams")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.replied = False
        self.streams = False


def apply(module: Any) -> None:
    """Patch ``grpc._server``. Raises ``AttributeError`` where it is not built as we know it."""
    server = import_module(f"{module.__name__}._server")
    patches: list[tuple[str, Any, str]] = [
        ("_find_method_handler", _find_method_handler, "rpc_event state *"),
        ("_reject_rpc", _reject_rpc, "rpc_event *"),
        ("_unary_response_in_pool", _in_pool(streams=False), "rpc_event state behavior"),
        ("_stream_response_in_pool", _in_pool(streams=True), "rpc_event state behavior"),
        ("_get_initial_metadata", _get_initial_metadata, "state metadata"),
        ("_status", _status, "rpc_event state"),
        ("_abort", _abort, "state"),
    ]
    for name, _, parameters in patches:
        known(server, name, parameters)
    for name, make, _ in patches:
        wrap(server, name, make)


def _find_method_handler(original: Any) -> Any:
    def _find_method_handler(rpc_event: Any, state: Any, method: Any, *args: Any) -> Any:
        name = method.name() if hasattr(method, "name") else None  # of a registered method
        entry = adopt(rpc_event.invocation_metadata, name or rpc_event.call_details.method)
        if entry is None:
            return original(rpc_event, state, method, *args)
        setattr(state, _INCOMING, _Incoming(entry))
        try:
            if hasattr(state, "context"):  # where interceptors and handler run
                state.context.run(entry.begin)
            _take_deadline(entry, rpc_event)
        except Exception:
            process().stats.count("failed")
        try:
            return original(rpc_event, state, method, *args)
        except BaseException:
            left(entry)
            raise

    return _find_method_handler


def _take_deadline(entry: Entry, rpc_event: Any) -> None:
    remaining = rpc_event.call_details.deadline - time.time()
    if remaining < _FOREVER_S:
        entry.scope.deadline = time.monotonic() + remaining


def _reject_rpc(original: Any) -> Any:
    def _reject_rpc(rpc_event: Any, rpc_state: Any, *args: Any) -> Any:
        incoming = rpc_state.__dict__.get(_INCOMING)
        if incoming is not None:
            left(incoming.entry)
        return original(rpc_event, rpc_state, *args)

    return _reject_rpc


def _in_pool(*, streams: bool) -> Any:
    def make(original: Any) -> Any:
        def in_pool(rpc_event: Any, state: Any, behavior: Any, *args: Any) -> None:
            incoming = state.__dict__.get(_INCOMING)
            if incoming is None:
                original(rpc_event, state, behavior, *args)
                return
            incoming.streams = streams
            incoming.entry.begin()
            try:
                original(rpc_event, state, behavior, *args)
            finally:
                incoming.entry.end()
                if not streams or not getattr(behavior, "experimental_non_blocking", False):
                    left(incoming.entry)
                elif not _at_end(state, partial(left, incoming.entry)):  # it goes on elsewhere
                    left(incoming.entry)

        return in_pool

    return make


def _at_end(state: Any, callback: Any) -> bool:
    """Have ``callback`` called when the call is over; whether it is still to end."""
    with state.condition:
        if state.callbacks is None:
            return False
        state.callbacks.append(callback)
        return True


def _get_initial_metadata(original: Any) -> Any:
    def _get_initial_metadata(state: Any, metadata: Any, *args: Any) -> Any:
        incoming = state.__dict__.get(_INCOMING)
        if incoming is not None and incoming.streams and not incoming.replied:
            metadata = replied(incoming.entry, metadata, continues=True) or metadata
        return original(state, metadata, *args)

    return _get_initial_metadata


def _status(original: Any) -> Any:
    def _status(rpc_event: Any, state: Any, *args: Any) -> None:
        _complete(state)
        original(rpc_event, state, *args)

    return _status


def _abort(original: Any) -> Any:
    def _abort(state: Any, *args: Any) -> None:
        _complete(state)
        original(state, *args)

    return _abort


def _complete(state: Any) -> None:
    """Add our context to the trailing metadata that the status takes along."""
    incoming = state.__dict__.get(_INCOMING)
    if incoming is not None and not incoming.replied:
        incoming.replied = True
        state.trailing_metadata = (
            replied(incoming.entry, state.trailing_metadata) or state.trailing_metadata
        )
