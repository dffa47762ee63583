"""Knowing when a process is gone, with and without the kernel's help."""

import asyncio
import os
import sys

import pytest

from rendezvous_sidecar.shell import sidecar
from rendezvous_testing.sidecar_doubles import PATIENCE_S


async def ended(pid: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await sidecar.end_of(pid)


@pytest.mark.parametrize("pidfd", [True, False])
async def test_the_end_of_a_process_is_noticed(
    monkeypatch: pytest.MonkeyPatch, pidfd: bool
) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    if not pidfd:  # from here on: asyncio watches its own child by pidfd

        def forbidden(pid: int) -> int:
            raise PermissionError(pid)

        monkeypatch.setattr(os, "pidfd_open", forbidden)
        monkeypatch.setattr(sidecar, "PARENT_POLL_S", 0.01)
    watch = asyncio.create_task(ended(child.pid))
    await asyncio.sleep(0.05)
    assert not watch.done()
    child.kill()
    await child.wait()
    await watch
    await ended(child.pid)  # and of one that is gone already
