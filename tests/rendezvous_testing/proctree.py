"""Process trees as ``/proc`` shows them: who belongs to one, and what it has used."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Member:
    """One process at one moment. ``cpu_s`` includes its children that have ended and been waited
    for; ``started`` (kernel ticks) tells it from a later process with the same pid."""

    pid: int
    parent: int
    session: int
    started: int
    command: str
    cpu_s: float
    rss_bytes: int


def member(pid: int) -> Member | None:
    """The process ``pid``, or None if it has ended (a zombie has ended)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything; what follows the last one is regular (proc(5)).
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return Member(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        command=command.replace(b"\0", b" ").decode(errors="replace").strip(),
        cpu_s=ticks / _TICKS_PER_S,
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def tree(root: int, mark: str = "") -> list[Member]:
    """``root``, all its living descendants, whoever else is of the session that ``root`` leads, and
    whoever has the variable ``mark`` in the environment it was started with.

    Session and mark find what a dead or forgetful parent has left behind.
    """
    everyone = [
        found
        for entry in os.listdir("/proc")
        if entry.isdigit() and (found := member(int(entry))) is not None
    ]
    members = [one for one in everyone if root in (one.pid, one.session) or _has(one.pid, mark)]
    pids = {one.pid for one in members} | {root}
    for one in members:
        for other in everyone:
            if other.parent == one.pid and other.pid not in pids:
                pids.add(other.pid)
                members.append(other)
    return members


def _has(pid: int, mark: str) -> bool:
    if not mark:
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # it has ended, or is someone else's
    return any(entry.startswith(f"{mark}=".encode()) for entry in environment.split(b"\0"))


def alive(known: Member) -> bool:
    """Whether this very process still runs."""
    now = member(known.pid)
    return now is not None and now.started == known.started
