"""A client of the metadata server's queries, for tools and tests. Needs the extra ``server``."""

from types import TracebackType

import grpc.aio

from rendezvous_api import codec
from rendezvous_api.channel import Status
from rendezvous_api.context import Context
from rendezvous_api.errors import Unreachable
from rendezvous_api.limits import CONTEXT_INPUT_BYTES_MAX
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc

DEADLINE_S = 5.0
"""Seconds that a query waits for the server, its own budget apart."""


class Client:
    """Queries of one server at ``target`` (HOST:PORT). Use it as an asynchronous context manager.

    Every call raises :class:`Unreachable` when the server does not answer in time.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._channel = grpc.aio.insecure_channel(target)
        self._queries = rpc.QueriesStub(self._channel)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._channel.close(None)

    async def resolve(self, context: Context, budget_s: float) -> tuple[Status, Context | None]:
        """What the request's reads must wait for, held for at most ``budget_s``."""
        question = pb.Question(
            number=1,
            budget_ms=int(budget_s * 1000),
            context=codec.encode(context, limit_bytes=CONTEXT_INPUT_BYTES_MAX),
        )
        try:
            answer = await self._queries.Resolve(question, timeout=budget_s + DEADLINE_S)
        except grpc.aio.AioRpcError as exc:
            raise Unreachable(f"{self._target}: {exc.details()}") from exc
        known = codec.decode(answer.context) if answer.context else None
        return Status(answer.status), known

    async def show(self, rid: str) -> pb.ShowReply:
        """One request's state, for people."""
        try:
            return await self._queries.Show(pb.ShowRequest(rid=rid), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as exc:
            raise Unreachable(f"{self._target}: {exc.details()}") from exc

    async def status(self) -> pb.StatusReply:
        """The server's figures."""
        try:
            return await self._queries.Status(pb.StatusRequest(), timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as exc:
            raise Unreachable(f"{self._target}: {exc.details()}") from exc
