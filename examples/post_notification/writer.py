"""Writer (region eu): stores a post in the local primary, then has its followers notified."""

import os
import time
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web
from redis.asyncio import Redis

POSTS = web.AppKey("posts", Redis)
HTTP = web.AppKey("http", ClientSession)
NOTIFIER_URL = os.environ["NOTIFIER_URL"]


async def create_post(request: web.Request) -> web.Response:
    post = await request.json()
    await request.app[POSTS].set(f"post:{post['id']}", post["text"])
    written_at = time.monotonic()
    url = f"{NOTIFIER_URL}/notifications"
    async with request.app[HTTP].post(url, json={"post": post["id"]}) as response:
        response.raise_for_status()
        notified = await response.json()
    return web.json_response({"id": post["id"], "written_at": written_at, "notified": notified})


async def healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def clients(app: web.Application) -> AsyncIterator[None]:
    app[POSTS] = Redis.from_url(os.environ["POSTS_URL"])  # pyright: ignore[reportUnknownMemberType]
    app[HTTP] = ClientSession()
    yield
    await app[HTTP].close()
    await app[POSTS].aclose()


app = web.Application()
app.cleanup_ctx.append(clients)
app.add_routes([web.post("/posts", create_post), web.get("/healthz", healthz)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None)
