"""Reader (region us) once more, as a threaded Flask service with the synchronous driver.

``python reader_flask.py``, or ``gunicorn --worker-class gthread --threads 16 reader_flask:app``.
"""

import logging
import os
import time

from flask import Flask, request
from redis import Redis
from werkzeug.serving import WSGIRequestHandler

app = Flask(__name__)
posts = Redis.from_url(os.environ["POSTS_URL"])  # pyright: ignore[reportUnknownMemberType]


@app.post("/notifications")
def notified() -> dict[str, bool | float]:
    notification = request.get_json()
    asked_at = time.monotonic()
    text = posts.get(f"post:{notification['post']}")
    read_at = time.monotonic()
    return {"found": text is not None, "asked_at": asked_at, "read_at": read_at}


@app.get("/healthz")
def healthz() -> str:
    return "ok"


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line per request
    WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay open between requests
    app.run(host="127.0.0.1", port=int(os.environ["PORT"]), threaded=True)
