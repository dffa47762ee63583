"""Applications under the launcher with a fake sidecar, and raw clients that carry a context to them."""

import http.client
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rendezvous_api import codec
from rendezvous_api.context import Context
from rendezvous_api.event import Body
from rendezvous_api.ids import Bid, Rid, StoreKey, text_of
from rendezvous_testing.channel_listener import ChannelListener, Heard
from rendezvous_testing.processes import Process

BIN = Path(sys.executable).parent
"""Where the console scripts of this environment are."""

STORE = StoreKey("rAAAAAAAAAAA")
Pairs = Sequence[tuple[str, str]]


def environment(path: Path, **settings: str) -> dict[str, str]:
    """This process's environment without anything of ours or OpenTelemetry's; with ``path`` for
    imports and with ``settings``."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RENDEZVOUS_", "OTEL_", "PYTHON"))
    }
    return {**clean, "PYTHONPATH": str(path), **settings}


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response, read to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def context(self) -> Context | None:
        """What the callee answered with: one header, or none."""
        found = [value for name, value in self.headers if name.lower() == "rdv"]
        assert len(found) <= 1
        return codec.decode(found[0]) if found else None

    @property
    def report(self) -> Any:
        """What the application said of its request."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Service:
    """A server in a process of its own, with a fake sidecar."""

    port: int
    listener: ChannelListener
    process: Process

    def get(self, path: str, headers: Mapping[str, str] | Pairs = ()) -> Reply:
        """One request on a connection of its own."""
        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest("GET", path)
            for name, value in pairs:
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return Reply(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def bodies(self, rid: Rid, wanted: Callable[[list[Body]], bool]) -> list[Body]:
        """Wait until what was reported of a request is as ``wanted``; all of it."""

        def of_request(heard: list[Heard]) -> list[Body]:
            return [one.event.body for one in heard if one.event.rid == rid]

        return of_request(self.listener.wait_for(lambda heard: wanted(of_request(heard))))


class Caller:
    """A request as its caller sees it: the context that it sends."""

    def __init__(self) -> None:
        self.rid = Rid(text_of(os.urandom(16)))
        self.bid = Bid(int.from_bytes(os.urandom(8), "big") or 1)
        self.text = codec.encode(Context(self.rid, self.bid))
