"""Notifier (region eu): tells the followers' region of a new post."""

import os
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

HTTP = web.AppKey("http", ClientSession)
READER_URL = os.environ["READER_URL"]


async def notify(request: web.Request) -> web.Response:
    notification = await request.json()
    async with request.app[HTTP].post(f"{READER_URL}/notifications", json=notification) as response:
        response.raise_for_status()
        return web.json_response(await response.json())


async def healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def clients(app: web.Application) -> AsyncIterator[None]:
    app[HTTP] = ClientSession()
    yield
    await app[HTTP].close()


app = web.Application()
app.cleanup_ctx.append(clients)
app.add_routes([web.post("/notifications", notify), web.get("/healthz", healthz)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None)
