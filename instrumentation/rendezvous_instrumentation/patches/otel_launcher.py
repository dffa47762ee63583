"""``opentelemetry-instrument`` under our launcher: it puts its own sitecustomize in front of ours and
does not chain. We put ours in front again (which does), so that we come in whatever fails in there.
"""

from __future__ import annotations

import os
from typing import Any

import rendezvous_instrumentation
from rendezvous_instrumentation.wrapping import wrap

BOOTSTRAP = os.path.join(os.path.dirname(rendezvous_instrumentation.__file__), "bootstrap")


def apply(module: Any) -> None:
    """Patch ``opentelemetry.instrumentation.auto_instrumentation``, at work in its launcher."""
    wrap(module, "execl", _execl)


def _execl(original: Any) -> Any:
    def execl(*args: Any) -> Any:
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        ours = [entry for entry in path if entry and os.path.abspath(entry) == BOOTSTRAP]
        if ours:
            others = [entry for entry in path if entry not in ours]
            os.environ["PYTHONPATH"] = os.pathsep.join([ours[0], *others])
        return original(*args)

    return execl
