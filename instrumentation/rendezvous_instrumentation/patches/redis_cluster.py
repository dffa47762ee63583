"""Redis Cluster: this version does not ask its nodes, and says so for every dependent read."""

from __future__ import annotations

from typing import Any

from rendezvous_instrumentation.core.verdict import Reason, unprotected
from rendezvous_instrumentation.patches import redis_driver as driver
from rendezvous_instrumentation.shell import writes
from rendezvous_instrumentation.shell.process import process
from rendezvous_instrumentation.wrapping import wrap
from rendezvous_monitors.positions.redis_commands import Effect, effect


def apply(module: Any) -> None:
    """Patch ``redis.cluster`` or ``redis.asyncio.cluster``."""
    wrap(module.RedisCluster, "execute_command", _command)
    wrap(module.ClusterPipeline, "execute", _pipeline)


def _account(does: Effect) -> None:
    if does & Effect.READ and driver.dependent_cell() is not None:
        process().stats.verdict(unprotected(Reason.CLUSTER), 0.0)
    if does & Effect.WRITE and writes.concerns_anyone():
        writes.unknown(driver.ANY_STORE, unanswered=False)


def _command(original: Any) -> Any:
    def execute_command(self: Any, *args: Any, **options: Any) -> Any:
        _account(effect(args[0], args[1:]) if args else Effect.NEITHER)
        return original(self, *args, **options)

    return execute_command


def _pipeline(original: Any) -> Any:
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        _account(Effect.BOTH)
        return original(self, *args, **options)

    return execute
