"""Outgoing gRPC calls, sync and asyncio alike: where a target is, and what the end of a call says
about its branch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

from rendezvous_api.carrier import KEY
from rendezvous_api.context import Flags
from rendezvous_instrumentation.patches.grpc_metadata import (
    METADATA_BYTES_MAX,
    OURS,
    decoded,
    merged,
    size_of,
    text_of,
    values_of,
)
from rendezvous_instrumentation.shell import calls
from rendezvous_instrumentation.shell.calls import Call, may_propagate
from rendezvous_instrumentation.shell.current import BUSY, SCOPE
from rendezvous_instrumentation.shell.process import process

_TARGETS_MAX = 4_096
_LOCAL = "localhost"
_COMPLETE = frozenset({0, 2, 3, 5, 6, 7, 9, 10, 11, 12, 15, 16})
"""Codes that a server's application sends. The others (cancelled, deadline, resource exhausted,
internal, unavailable) may mean that the response was cut off on the way."""
_UNAVAILABLE = 14
_NO_CONNECTION = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed")

_targets: dict[str, tuple[tuple[str, ...], str]] = {}
_retrying: set[str] = set()


def known(owner: Any, name: str, parameters: str) -> None:
    """Check before patching that ``owner.name`` begins with ``parameters``, a ``*`` being any. Raises
    ``AttributeError`` otherwise: this grpc is not built as we know it, and is left alone."""
    taken = list(inspect.signature(getattr(owner, name)).parameters)
    wanted = parameters.split()
    same = [one for one, want in zip(taken, wanted, strict=False) if want in ("*", one)]
    if len(same) != len(wanted):
        raise AttributeError(f"{name} takes {taken}, not {wanted}")


def retries(target: str, options: Any) -> None:
    """A channel to ``target`` is made. Where a service config may say "retry", the last attempt's
    refused connection does not prove that no attempt was sent."""
    if not target.startswith("xds:") and (
        not options
        or (
            isinstance(options, tuple | list)
            and all(pair[0] != "grpc.service_config" for pair in cast("Iterable[Any]", options))
        )
    ):
        return
    if len(_retrying) < _TARGETS_MAX:  # when it is full, any target may retry
        _retrying.add(target)


def located(target: str) -> tuple[tuple[str, ...], str]:
    """The hosts of a gRPC target, and what identifies who answers there."""
    found = _targets.get(target)
    if found is None:
        if len(_targets) >= _TARGETS_MAX:
            _targets.clear()
        found = _targets[target] = _locate(target)
    return found


def _locate(target: str) -> tuple[tuple[str, ...], str]:
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract", "vsock"):
        return (_LOCAL,), target
    if colon and (scheme in ("dns", "ipv4", "ipv6", "xds") or rest.startswith("//")):
        address = rest.rpartition("/")[2]  # dns://authority/name, dns:///name, dns:name
    else:
        address = target
    hosts = [_host(one) for one in address.split(",")] if scheme in ("ipv4", "ipv6") else []
    return tuple(hosts) or (_host(address),), address


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]


class Rpc:
    """One outgoing call under way. No method raises, whatever happens."""

    __slots__ = ("_call", "_retries", "_streaming", "done")

    def __init__(self, call: Call, retries: bool) -> None:
        self._call = call
        self._retries = retries
        self._streaming = False
        self.done = False

    def carry(self, metadata: Any) -> Any:
        """The call's metadata with its context. Where there is no room it goes without, and counts
        as unanswered: nobody will close its branch."""
        try:
            metadata = tuple(metadata) if metadata else ()  # it may be an iterator
            carried = merged(metadata, self._call.text)
            if size_of(carried) <= METADATA_BYTES_MAX:
                return carried
            process().stats.count("contexts_without_room")
            self.unanswered()
        except Exception:
            self._failed()
        return metadata

    def first_message(self, initial: Any) -> None:
        """A message of the response is here, its end is not. What the callee knew is in its initial
        metadata; what it goes on to do is known at the end."""
        if self.done or self._streaming or initial is None:
            return
        self._streaming = True
        try:
            call = self._call
            for context in map(decoded, values_of(initial, KEY)):
                if context is not None:
                    call.us.spoke(call.peer)
                    call.scope.cell.unresolved.add(call.bid)
                    call.scope.cell.merge(context)
        except Exception:
            self._failed()

    def ended(self, code: int, details: str, trailing: Any) -> None:
        """The call's status is here, the server's or the library's own."""
        if self.done:
            return
        self.done = True
        call = self._call
        try:
            texts = values_of(trailing, KEY)
            if texts:
                for context in map(decoded, texts[:-1]):  # a proxy's, handed on
                    if context is not None:
                        call.scope.cell.merge(context)
                call.answered(texts[-1])
                if self._streaming and not _continues(texts[-1]):
                    call.scope.cell.unresolved.discard(call.bid)
            elif code == _UNAVAILABLE and details.startswith(_NO_CONNECTION) and not self._retries:
                call.never_sent()
            else:
                call.answered(None, complete=code in _COMPLETE)
        except Exception:
            self._failed()

    def unanswered(self) -> None:
        """The call ended, or was given up, before its status."""
        if not self.done:
            self.done = True
            try:
                self._call.unanswered()
            except Exception:
                self._failed()

    def never_sent(self) -> None:
        """The library refused to begin the call."""
        if not self.done:
            self.done = True
            try:
                self._call.never_sent()
            except Exception:
                self._failed()

    def dropped(self) -> None:
        """The call's object was collected. Takes no lock: a collector may run inside our own."""
        if not self.done:
            _leave_unresolved(self._call)

    def _failed(self) -> None:
        with suppress(Exception):
            _leave_unresolved(self._call)
            process().stats.count("failed")


def begin(target: Any, method: Any) -> Rpc | None:
    """An outgoing call of ``method`` (as the library keeps it: bytes or str); ``None`` where there
    is nothing to carry."""
    if SCOPE.get() is None or BUSY.get():
        return None
    try:
        if text_of(method).startswith(OURS):
            return None
        name = text_of(target)
        hosts, peer = located(name)
        host = hosts[0]
        if len(hosts) > 1:
            us = process()
            host = next((one for one in hosts if not may_propagate(one, us)), host)
        call = calls.begin(host, peer)
        return (
            None if call is None else Rpc(call, name in _retrying or len(_retrying) >= _TARGETS_MAX)
        )
    except Exception:
        process().stats.count("failed")
        return None


def _leave_unresolved(call: Call) -> None:
    """Lock-free, and without counting."""
    if call.registered or call.us.config.branches != "all":
        call.scope.cell.unresolved.add(call.bid)
    else:
        call.scope.cell.flags |= Flags.INCOMPLETE


def _continues(text: str) -> bool:
    context = decoded(text)
    return context is None or bool(int(context.flags) & int(Flags.CONTINUES))
