"""Both worlds of redis-py behind one face: what is awaitable is awaited."""

import inspect
from typing import Any

import redis
import redis.asyncio as redis_asyncio
from redis import backoff, retry
from redis.asyncio import retry as asyncio_retry
from valkey import Valkey
from valkey.asyncio import Valkey as AsyncValkey


async def of(result: Any) -> Any:
    """The result of a call to a synchronous or an asynchronous client."""
    return await result if inspect.isawaitable(result) else result


class Clients:
    """Clients of one kind (``sync`` or ``asyncio``), closed together."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._made: list[Any] = []

    def to(self, port: int, *, valkey: bool = False, **options: Any) -> Any:
        """A client of the server at a loopback port; ``valkey``: of the other library."""
        options = {"decode_responses": True, **options}
        make: Any = redis.Redis if self.kind == "sync" else redis_asyncio.Redis
        if valkey:
            make = Valkey if self.kind == "sync" else AsyncValkey
        client = make(host="127.0.0.1", port=port, **options)
        self._made.append(client)
        return client

    def no_retry(self) -> Any:
        """The option ``retry`` for none at all."""
        kind = retry.Retry if self.kind == "sync" else asyncio_retry.Retry
        return kind(backoff.NoBackoff(), 0)

    async def close(self) -> None:
        """Close them all."""
        for client in self._made:
            await of(client.close() if self.kind == "sync" else client.aclose())
            pool = client.connection_pool
            await of(pool.disconnect())
