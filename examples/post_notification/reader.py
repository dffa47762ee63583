"""Reader (region us): a notification makes it read the post, once, from the local replica."""

import os
import time
from collections.abc import AsyncIterator

from aiohttp import web
from redis.asyncio import Redis

POSTS = web.AppKey("posts", Redis)


async def notified(request: web.Request) -> web.Response:
    notification = await request.json()
    asked_at = time.monotonic()
    text = await request.app[POSTS].get(f"post:{notification['post']}")
    read_at = time.monotonic()
    return web.json_response({"found": text is not None, "asked_at": asked_at, "read_at": read_at})


async def healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


async def clients(app: web.Application) -> AsyncIterator[None]:
    app[POSTS] = Redis.from_url(os.environ["POSTS_URL"])  # pyright: ignore[reportUnknownMemberType]
    yield
    await app[POSTS].aclose()


app = web.Application()
app.cleanup_ctx.append(clients)
app.add_routes([web.post("/notifications", notified), web.get("/healthz", healthz)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=None)
