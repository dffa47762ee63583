"""The door in OpenTelemetry's idiom: ``RendezvousInstrumentor().instrument()``.

Needs the package ``opentelemetry-instrumentation``; nothing else of ours imports this module.
"""

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from rendezvous_instrumentation.install import install, uninstall


class RendezvousInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]
    """Installs and removes Rendezvous's patches."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: each library is patched if and when it is imported."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        install()

    def _uninstrument(self, **kwargs: Any) -> None:
        uninstall()
