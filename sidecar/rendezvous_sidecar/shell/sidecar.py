"""The running sidecar: gives the agent what happens and performs what it says."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from typing import assert_never

from rendezvous_api.errors import BadConfig
from rendezvous_sidecar.config import Config
from rendezvous_sidecar.core.agent import Agent
from rendezvous_sidecar.core.steps import (
    Close,
    Closed,
    Connected,
    Effect,
    Pause,
    Resume,
    Rotate,
    Send,
    Step,
    Tell,
    Tick,
    Warn,
)
from rendezvous_sidecar.limits import DRAIN_S, ENDED_GRACE_S, PARENT_POLL_S
from rendezvous_sidecar.shell.channel import Channel, peer_of
from rendezvous_sidecar.shell.health import metrics_text, serve_health
from rendezvous_sidecar.shell.listening import listening
from rendezvous_sidecar.shell.uplink import Uplink

_log = logging.getLogger("rendezvous.sidecar")


class Sidecar:
    """One sidecar in a running event loop; :meth:`run` is its whole life."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._agent = Agent(secrets.randbits(64), config.region, self._loop.time())
        self._uplink = Uplink(config.servers, self._take)
        self._channels: dict[int, Channel] = {}
        self._connected = 0
        self._strangers = 0
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._listening = False
        self._uids = frozenset({os.getuid(), 0}) | config.allow_uids

    async def run(self) -> None:
        """Serve until a signal, or until the parent and all channels are gone; then drain.

        Raises :class:`BadConfig` if the socket or the health port cannot be had.
        """
        config = self._config
        with listening(config.socket, config.group) as listener:
            health = await self._open_health()
            self._loop.add_reader(listener, self._accept, listener)
            self._listening = True
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._stopping.set)
            print(f"listening on {config.socket}", flush=True)
            uplink = asyncio.create_task(self._uplink.run())
            watch = asyncio.create_task(self._watch_parent())
            stop = asyncio.create_task(self._stopping.wait())
            try:
                done, _ = await asyncio.wait(
                    (uplink, watch, stop), return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()  # raise what ended it, if it failed
                self._loop.remove_reader(listener)
                self._listening = False
                await self._drain(uplink)
            finally:
                for task in (uplink, watch, stop):
                    task.cancel()
                await asyncio.gather(uplink, watch, stop, return_exceptions=True)
                for channel in self._channels.values():
                    channel.close()
                if health is not None:
                    health.close()

    # From the world to the agent.

    def _take(self, step: Step) -> None:
        if isinstance(step, Closed):
            self._forget(step.process)
        for effect in self._agent.step(step, self._loop.time()):
            self._perform(effect)
        self._set_timer()
        self._changed.set()

    def _set_timer(self) -> None:
        """Tick no later than the agent wants; a timer that is early stays, since ticks are
        harmless and moving it with every packet is not cheap."""
        due = self._agent.due()
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._take(Tick())

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as exc:  # out of file descriptors: do not spin on the waiting peer
            _log.error("cannot accept a process: %s", exc)
            self._loop.remove_reader(listener)
            self._loop.call_later(1.0, self._accept_again, listener)
            return
        connection.setblocking(False)
        pid, uid = peer_of(connection)
        if uid not in self._uids:
            self._strangers += 1
            _log.warning("pid %d of user %d is turned away", pid, uid)
            connection.close()
            return
        self._connected += 1
        self._channels[self._connected] = Channel(connection, self._connected, self._take)
        self._take(Connected(self._connected, pid))

    def _accept_again(self, listener: socket.socket) -> None:
        if self._listening:
            self._loop.add_reader(listener, self._accept, listener)

    # From the agent to the world.

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Tell(process, message):
                if (channel := self._channels.get(process)) is not None:
                    channel.tell(message)
            case Send(stream, message):
                self._uplink.send(stream, message)
            case Close(process):
                self._forget(process)
            case Pause(process):
                if (channel := self._channels.get(process)) is not None:
                    channel.pause()
            case Resume(process):
                if (channel := self._channels.get(process)) is not None:
                    channel.resume()
            case Rotate(stream, reason):
                self._uplink.rotate(stream, reason)
            case Warn(text):
                _log.warning("%s", text)
            case _:
                assert_never(effect)

    def _forget(self, process: int) -> None:
        if (channel := self._channels.pop(process, None)) is not None:
            self._dropped += channel.dropped
            channel.close()

    # The end.

    async def _watch_parent(self) -> None:
        """Return once the parent is gone and so are all channels; never without a parent."""
        pid = self._config.parent_pid
        if pid is None:
            await asyncio.Event().wait()
            return
        await end_of(pid)
        _log.info("pid %d is gone", pid)
        while True:
            if not self._channels:
                # One may be about to connect, or wait in the socket's backlog already.
                connected = self._connected
                await asyncio.sleep(ENDED_GRACE_S)
                if self._connected == connected:
                    return
                continue
            self._changed.clear()
            await self._changed.wait()

    async def _drain(self, uplink: asyncio.Task[None]) -> None:
        """Deliver what is held, for a bounded time; processes keep what was not acknowledged."""
        for channel in list(self._channels.values()):
            channel.read_all()
            channel.pause()
        try:
            async with asyncio.timeout(DRAIN_S):
                while not self._agent.drained:
                    self._changed.clear()
                    await self._changed.wait()
                if self._agent.connected:
                    self._uplink.finish()
                    await asyncio.wait((uplink,))
        except TimeoutError:
            _log.warning("ended with %d events undelivered", self._agent.held)

    # Health.

    async def _open_health(self) -> asyncio.Server | None:
        host, port = self._config.metrics_host, self._config.metrics_port
        if not port:
            return None
        routes = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}
        try:
            return await serve_health(host, port, routes)
        except OSError as exc:
            raise BadConfig("--metrics-port", f"{host}:{port}", exc.strerror or str(exc)) from exc

    def _healthz(self) -> tuple[int, str]:
        return 200, "alive\n"

    def _readyz(self) -> tuple[int, str]:
        if not self._listening:
            return 503, "the socket is closed\n"
        if not self._agent.connected:
            return 503, f"no server ({self._uplink.server})\n"
        return 200, f"ready ({self._uplink.server})\n"

    def _metrics(self) -> tuple[int, str]:
        agent = self._agent
        dropped = self._dropped + sum(channel.dropped for channel in self._channels.values())
        gauges = {
            "connected": float(agent.connected),
            "events_held": float(agent.held),
            "processes": float(agent.processes),
            "questions_pending": float(agent.questions),
            "batches_in_flight": float(agent.in_flight),
            "reading_paused": float(agent.paused),
            "messages_dropped": float(dropped),
            "strangers": float(self._strangers),
        }
        return 200, metrics_text(agent.counts, gauges, agent.counted())


async def end_of(pid: int) -> None:
    """Return when the process ``pid`` is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # forbidden, as in some containers
        await _poll_end_of(pid)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _poll_end_of(pid: int) -> None:
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass  # another user's, and alive
        await asyncio.sleep(PARENT_POLL_S)
