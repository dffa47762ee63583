"""The other end of the measured calls: an aiohttp server and a gRPC server, neither instrumented.

They answer as an instrumented callee does: a context that comes in goes back as ``rdv``. Prints the
two ports. All sides of a comparison use the same peer.
"""

import asyncio
from typing import Any

import grpc.aio
from aiohttp import web

from rendezvous_api.carrier import BAGGAGE, KEY, members_in


async def _answer(request: web.Request) -> web.Response:
    response = web.Response(text="ok")
    for member in members_in(request.headers.get(BAGGAGE, "")):
        response.headers[KEY] = member
    return response


async def _unary(request: bytes, context: Any) -> bytes:
    for name, value in context.invocation_metadata():
        if name == KEY:
            context.set_trailing_metadata(((KEY, value),))
        elif name == BAGGAGE:
            for member in members_in(value):
                context.set_trailing_metadata(((KEY, member),))
    return request


class _AnyMethod(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        make: Any = grpc.unary_unary_rpc_method_handler
        return make(_unary)


async def live() -> None:
    """Serve until killed."""
    application = web.Application()
    application.router.add_get("/", _answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on {runner.addresses[0][1]} {port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(live())
