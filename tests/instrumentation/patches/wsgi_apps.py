"""Applications for tests of the WSGI entry: one with Flask, one without any library.

They look into the instrumentation to report what it made of their request; nothing else of them does.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask

from rendezvous_api.ids import StoreKey
from rendezvous_instrumentation.shell.current import SCOPE
from rendezvous_instrumentation.shell.writes import written

STORE = StoreKey("rAAAAAAAAAAA")


def report(baggage: str | None) -> dict[str, Any]:
    """What the request looks like from inside the application."""
    scope = SCOPE.get()
    return {
        "rid": scope.cell.rid if scope else None,
        "bid": scope.bid if scope else None,
        "baggage": [baggage] if baggage is not None else [],
    }


app = flask.Flask(__name__)
executor = ThreadPoolExecutor(1)


@app.get("/plain")
def plain() -> dict[str, Any]:
    executor.submit(written, STORE, 7).result()
    return report(flask.request.headers.get("baggage"))


@app.get("/teardown")
def teardown() -> dict[str, Any]:
    flask.g.commit = True
    return report(flask.request.headers.get("baggage"))


@app.teardown_request
def commit(error: BaseException | None) -> None:
    if flask.g.pop("commit", False):
        written(STORE, 8)


@app.get("/stream")
def stream() -> flask.Response:
    inside = report(flask.request.headers.get("baggage"))

    def body() -> Iterator[str]:
        yield json.dumps(inside)
        written(STORE, 9)
        yield " "

    return flask.Response(body())


@app.get("/error")
def error() -> str:
    raise RuntimeError("the application's own")


class Counted:
    """An iterable of one item that is made when it is asked for."""

    def __init__(self, inside: dict[str, Any]) -> None:
        self.inside = inside

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        written(STORE, 4)
        yield json.dumps(self.inside).encode()

    def close(self) -> None:
        print("closed", file=sys.stderr, flush=True)


def bare(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """WSGI without a library."""
    inside = report(environ.get("HTTP_BAGGAGE"))
    text = json.dumps(inside).encode()
    match environ["PATH_INFO"]:
        case "/list":
            written(STORE, 5)
            start_response("200 OK", [])
            return [text[:5], text[5:]]
        case "/counted":
            start_response("200 OK", [])
            return Counted(inside)
        case "/write":
            write = start_response("200 OK", [])
            written(STORE, 5)
            write(text)
            written(STORE, 6)
            return []
        case "/lazy":
            return _lazy(start_response)
        case "/again":
            start_response("200 OK", [("X-First", "1")])
            try:
                raise ValueError("found late")
            except ValueError:
                start_response("503 Late", [("X-Second", "1")], sys.exc_info())
            return [text]
        case "/twice":
            start_response("200 OK", [])
            try:
                start_response("200 OK", [])
            except AssertionError as exc:
                return [json.dumps({"refused": type(exc).__name__}).encode()]
            return [b'{"refused": null}']
        case "/file":
            start_response("200 OK", [])
            file = open(__file__, "rb")  # closed by the wrapper
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
            return wrapped
        case _:
            start_response("404 Not Found", [])
            return []


def _lazy(start_response: Any) -> Iterator[bytes]:
    inside = report(None)
    start_response("200 OK", [])
    written(STORE, 6)
    yield json.dumps(inside).encode()


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "werkzeug":
        app.run("127.0.0.1", port)
    else:  # a server that nobody patches
        from wsgiref.simple_server import make_server

        make_server("127.0.0.1", port, app).serve_forever()
