"""``rendezvous.v1.Queries``: a question by itself, and what people want to see."""

import asyncio
import time

import grpc
import grpc.aio

from rendezvous_api.errors import RemoteError
from rendezvous_api.ids import Rid
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_api.v1 import rendezvous_pb2_grpc as rpc
from rendezvous_server.core.view import show, totals
from rendezvous_server.shell.connections import Connections
from rendezvous_server.shell.driver import Driver


class Queries(rpc.QueriesServicer):
    """Serves ``rendezvous.v1.Queries``."""

    def __init__(self, driver: Driver, connections: Connections) -> None:
        self._driver = driver
        self._core = driver.core
        self._connections = connections

    async def Resolve(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, request: pb.Question, context: grpc.aio.ServicerContext[pb.Question, pb.Answer]
    ) -> pb.Answer:
        """Answer a question, at the latest when its budget is over."""
        answered: asyncio.Future[pb.Answer] = asyncio.get_running_loop().create_future()
        question = self._connections.asked(answered)
        try:
            self._driver.perform(
                self._core.ask(question, request.context, request.budget_ms / 1000, time.time())
            )
            answer = answered.result() if answered.done() else await answered
        except RemoteError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        finally:
            self._connections.cancelled(question)
            self._core.cancel(question)
        answer.number = request.number
        return answer

    async def Show(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: pb.ShowRequest,
        context: grpc.aio.ServicerContext[pb.ShowRequest, pb.ShowReply],
    ) -> pb.ShowReply:
        """One request's state."""
        try:
            view = show(self._core, Rid(request.rid))
        except RemoteError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        if view is None:
            return pb.ShowReply(known=False)
        branches = [
            pb.Branch(
                bid=branch.bid,
                parent=branch.parent,
                zone=branch.zone,
                service=branch.service,
                region=branch.region,
                tag=branch.tag,
                work=branch.work,
                state=branch.state,
            )
            for branch in view.branches
        ]
        return pb.ShowReply(
            known=True, branches=branches, positions=view.positions, links=list(view.links)
        )

    async def Status(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        request: pb.StatusRequest,
        context: grpc.aio.ServicerContext[pb.StatusRequest, pb.StatusReply],
    ) -> pb.StatusReply:
        """The server in numbers."""
        now = totals(self._core)
        return pb.StatusReply(
            log=self._core.log,
            index=now.index,
            requests=now.requests,
            open_branches=now.open_branches,
            questions_held=now.questions_held,
            events=now.events,
            holes=now.holes,
        )
