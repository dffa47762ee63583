"""Applications for tests of the ASGI entry: one with FastAPI and middleware, one without any library.

They look into the instrumentation to report what it made of their request; nothing else of them does.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from rendezvous_api.ids import StoreKey, zone_text
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.writes import written

STORE = StoreKey("rAAAAAAAAAAA")


def report(headers: list[tuple[str, str]]) -> dict[str, Any]:
    """What the request looks like from inside the application."""
    scope = SCOPE.get()
    return {
        "rid": scope.cell.rid if scope else None,
        "bid": scope.bid if scope else None,
        "zone": zone_text(scope.zone) if scope else None,
        "baggage": [value for name, value in headers if name == "baggage"],
    }


app = FastAPI()


@app.middleware("http")
async def passes_on(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)


@app.get("/plain")
async def plain(request: Request) -> JSONResponse:
    written(STORE, 7)
    return JSONResponse(report(request.headers.items()))


@app.get("/sync")
def sync(request: Request) -> JSONResponse:
    written(STORE, 8)
    return JSONResponse(report(request.headers.items()))


@app.get("/stream")
async def stream(request: Request) -> StreamingResponse:
    def body() -> Iterator[str]:
        yield json.dumps(report(request.headers.items()))
        written(STORE, 9)
        yield " "

    return StreamingResponse(body())


@app.get("/background")
async def background(request: Request, tasks: BackgroundTasks) -> JSONResponse:
    async def afterwards() -> None:
        written(STORE, 10)

    tasks.add_task(afterwards)
    return JSONResponse(report(request.headers.items()))


@app.get("/error")
async def error() -> None:
    raise RuntimeError("the application's own")


@app.get("/events")
async def events() -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        await asyncio.Event().wait()  # until the client goes
        yield ""

    return StreamingResponse(body(), media_type="text/event-stream")


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """ASGI without a library. ``/cut`` fails after its headers, ``/length`` ends in two messages."""
    if scope["type"] != "http":
        return
    headers = [(n.decode(), v.decode()) for n, v in scope["headers"]]
    body = json.dumps(report(headers)).encode()
    written(STORE, 5)
    start: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] == "/length":
        start["headers"] = [(b"content-length", str(len(body)).encode())]
    await send(start)
    if scope["path"] == "/cut":
        raise RuntimeError("the application's own")
    if scope["path"] == "/chunks":
        await send({"type": "http.response.body", "body": body, "more_body": True})
        written(STORE, 6)
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})
