"""A server from its start to its end."""

import asyncio
import gc
import secrets
import signal
from collections.abc import Callable

import grpc
import grpc.aio

from rendezvous_api.errors import BadConfig, Unreachable
from rendezvous_api.ids import LogId, word
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc
from rendezvous_server.config import Config
from rendezvous_server.limits import DRAIN_S, MESSAGE_BYTES_MAX
from rendezvous_server.shell.connections import Connections
from rendezvous_server.shell.driver import Driver
from rendezvous_server.shell.extras import Extras
from rendezvous_server.shell.logs import Log
from rendezvous_server.shell.logs.memory import MemoryLog
from rendezvous_server.shell.logs.sqlite import SqliteLog
from rendezvous_server.shell.metrics import Health, HttpPort
from rendezvous_server.shell.queries import Queries
from rendezvous_server.shell.recovery import Unreadable, keep_snapshots, recover
from rendezvous_server.shell.sidecars import Sidecars

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),  # a second server on this port is an error, not a silent sharer
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def open_log(config: Config) -> Log:
    """The log that the settings name. Raises :class:`BadConfig`."""
    if config.log == "sqlite":
        return SqliteLog(config.path)
    return MemoryLog(LogId(word(secrets.randbits(64))))


async def serve(config: Config, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. ``ready`` is called once, with HOST:PORT.

    Raises :class:`BadConfig`, and :class:`Unreachable` when the log fails.
    """
    log = open_log(config)
    # State holds no cycles: let the collector leave it alone while it is read, and look seldom then.
    gc.disable()
    try:
        core = recover(log)
    except Unreadable as exc:
        raise BadConfig("--path", config.path, f"a log that can be read ({exc})") from exc
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)
    gc.enable()
    connections = Connections()
    driver = Driver(core, log, connections.perform)
    sidecars = Sidecars(driver, connections, core.counters)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((sidecars.handler(),))
    rpc.add_QueriesServicer_to_server(Queries(driver, connections), server)
    extras = Extras(server)
    health = Health()
    http = HttpPort(core, config.region, health)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    address = await _listen(server, http, config)
    driving = driver.start()
    keeping = asyncio.create_task(keep_snapshots(core, log))
    await server.start()
    await extras.serving(True)
    health.ready = True
    ready(address)
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait({stop, driving, keeping}, return_when=asyncio.FIRST_COMPLETED)
    health.ready = False
    await extras.serving(False)
    stop.cancel()
    keeping.cancel()
    sidecars.close()
    await driver.close()
    connections.finish()
    await server.stop(DRAIN_S)
    await http.close()
    await asyncio.gather(stop, keeping, return_exceptions=True)
    await log.close()
    for task in (driving, keeping):
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise Unreachable(f"the log: {failure}") from failure


async def _listen(server: grpc.aio.Server, http: HttpPort, config: Config) -> str:
    """Open both ports; returns gRPC's as HOST:PORT. Raises :class:`BadConfig`."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        port = server.add_insecure_port(f"{host}:{config.port}")
    except RuntimeError as exc:
        raise BadConfig("--listen", f"{host}:{config.port}", "cannot listen there") from exc
    if config.metrics_port is not None:
        try:
            await http.start(config.host, config.metrics_port)
        except OSError as exc:
            wanted = f"cannot listen there: {exc.strerror}"
            raise BadConfig("--metrics-port", str(config.metrics_port), wanted) from exc
    return f"{host}:{port}"
