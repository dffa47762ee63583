"""Settings of the instrumented process: environment variables, read once, errors in plain words."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rendezvous_api.errors import BadConfig
from rendezvous_api.limits import BARRIER_BUDGET_S
from rendezvous_instrumentation.limits import HELD_MAX

MODES = ("enforce", "observe", "off")
ON_TIMEOUT = ("proceed", "error")
BRANCHES = ("all", "needed")
NAMES = {
    "RENDEZVOUS_SERVICE": "this service's name",
    "RENDEZVOUS_REGION": "the region it runs in",
    "RENDEZVOUS_MODE": "enforce (default), observe, off",
    "RENDEZVOUS_SERVER": "metadata servers HOST:PORT[,HOST:PORT] (for the sidecar)",
    "RENDEZVOUS_SIDECAR": "path of the sidecar's socket",
    "RENDEZVOUS_BUDGET": "seconds that one request's reads may wait here, by default 5",
    "RENDEZVOUS_ON_TIMEOUT": "proceed (default) or error, when the budget is used up",
    "RENDEZVOUS_MAX_HELD": "reads held at once",
    "RENDEZVOUS_BRANCHES": "all (default), or needed: leaves out synchronous calls",
    "RENDEZVOUS_PROPAGATE_TO": "hosts that may receive the context: patterns such as *.svc,10.*",
    "RENDEZVOUS_TRACK_READS": "1: a read's applied position joins the request's knowledge",
    "RENDEZVOUS_STATS_DIR": "folder for statistics files",
    "RENDEZVOUS_LOG": "1: say on stderr what was patched and what failed",
}
DEFAULT_PROPAGATE_TO = (
    "localhost,127.*,::1,10.*,192.168.*,172.1[6-9].*,172.2[0-9].*,172.3[01].*,169.254.*,fd*:*,"
    "*.svc,*.cluster.local,*.internal,*.local,*.localdomain"
)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings; field by field what ``NAMES`` says."""

    service: str = ""
    region: str = ""
    mode: str = "enforce"
    sidecar: str = ""
    budget_s: float = BARRIER_BUDGET_S
    on_timeout: str = "proceed"
    held_max: int = HELD_MAX
    branches: str = "all"
    propagate_to: tuple[str, ...] = tuple(DEFAULT_PROPAGATE_TO.split(","))
    track_reads: bool = False
    stats_dir: str = ""
    log: bool = False


def read(environ: Mapping[str, str]) -> Config:
    """The settings in ``environ``. Raises :class:`BadConfig` for the first that is wrong."""
    for name in environ:
        if (
            name.startswith("RENDEZVOUS_")
            and name not in NAMES
            and name not in _OTHERS
            and not _is_of_kubernetes(name)
        ):
            import difflib

            near = difflib.get_close_matches(name, NAMES, 1)
            wanted = f"no such setting{f'; did you mean {near[0]}?' if near else ''}"
            raise BadConfig(name, environ[name], wanted)
    return Config(
        service=environ.get("RENDEZVOUS_SERVICE") or environ.get("OTEL_SERVICE_NAME", ""),
        region=environ.get("RENDEZVOUS_REGION", ""),
        mode=_one_of(environ, "RENDEZVOUS_MODE", MODES),
        sidecar=environ.get("RENDEZVOUS_SIDECAR", ""),
        budget_s=_number(environ, "RENDEZVOUS_BUDGET", BARRIER_BUDGET_S),
        on_timeout=_one_of(environ, "RENDEZVOUS_ON_TIMEOUT", ON_TIMEOUT),
        held_max=int(_number(environ, "RENDEZVOUS_MAX_HELD", HELD_MAX)),
        branches=_one_of(environ, "RENDEZVOUS_BRANCHES", BRANCHES),
        propagate_to=tuple(
            pattern.strip().lower()
            for pattern in environ.get("RENDEZVOUS_PROPAGATE_TO", DEFAULT_PROPAGATE_TO).split(",")
            if pattern.strip()
        ),
        track_reads=_one_of(environ, "RENDEZVOUS_TRACK_READS", ("0", "1")) == "1",
        stats_dir=environ.get("RENDEZVOUS_STATS_DIR", ""),
        log=_one_of(environ, "RENDEZVOUS_LOG", ("0", "1")) == "1",
    )


_OTHERS = frozenset(
    {
        "RENDEZVOUS_LISTEN",
        "RENDEZVOUS_REQUIRE_ALL",
        "RENDEZVOUS_LAUNCHED",
    }
)
"""Variables of other parts and of the launcher, which may share one environment."""


def _is_of_kubernetes(name: str) -> bool:
    """Whether Kubernetes has set this variable, for a Service whose name begins with ours."""
    words = name.split("_")
    return "PORT" in words or name.endswith("_SERVICE_HOST")


def read_or_default(environ: Mapping[str, str]) -> Config:
    """As :func:`read`, but a wrong setting is reported on stderr and the safe default is used: the
    launcher has refused it already; an application that is running is never stopped by us."""
    try:
        return read(environ)
    except BadConfig as exc:
        print(f"rendezvous: {exc}; using defaults", file=sys.stderr)
        wrong = {**environ}
        wrong.pop(exc.setting, None)
        return read_or_default(wrong)


def _one_of(environ: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "") or allowed[0]
    if value not in allowed:
        raise BadConfig(name, value, f"one of {', '.join(allowed)}")
    return value


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise BadConfig(name, text, "a number of at least 0")
    return value
