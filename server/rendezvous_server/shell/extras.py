"""gRPC's standard health and reflection services, where their packages are installed.

They come without types, and are optional: hence imported by name.
"""

from importlib import import_module
from typing import Any

import grpc.aio

_SERVICES = ("rendezvous.v1.Sidecars", "rendezvous.v1.Queries")


class Extras:
    """Adds what there is to a server."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._health: Any = None
        try:
            health: Any = import_module("grpc_health.v1.health")
            stubs: Any = import_module("grpc_health.v1.health_pb2_grpc")
        except ImportError:
            pass
        else:
            self._health = health.aio.HealthServicer()
            stubs.add_HealthServicer_to_server(self._health, server)
        try:
            reflection: Any = import_module("grpc_reflection.v1alpha.reflection")
        except ImportError:
            pass
        else:
            reflection.enable_server_reflection((*_SERVICES, reflection.SERVICE_NAME), server)

    async def serving(self, value: bool) -> None:
        """Say whether calls are welcome."""
        if self._health is not None:
            for service in ("", *_SERVICES):
                await self._health.set(service, 1 if value else 2)
