"""FastAPI → requests → Flask → requests → an echo, all traced by OpenTelemetry, in one process.

Prints what a user of OpenTelemetry sees: spans, what the handlers find in the baggage, and what the
echo receives. Run with and without Rendezvous, the two must be alike.
"""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

import fastapi
import flask
import requests
import uvicorn
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from werkzeug.serving import make_server

# It has no types.
flask_instrumentation: Any = import_module("opentelemetry.instrumentation.flask")
PORTS = {
    name: int(port) for name, port in zip(("fastapi", "flask", "echo"), sys.argv[1:4], strict=True)
}
TRACE = "0af7651916cd43dd8448eb211c80319c"
seen: dict[str, Any] = {}

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
RequestsInstrumentor().instrument()

front = fastapi.FastAPI()
FastAPIInstrumentor.instrument_app(front)
back = flask.Flask("back")
flask_instrumentation.FlaskInstrumentor().instrument_app(back)


def url(name: str, path: str) -> str:
    return f"http://localhost:{PORTS[name]}{path}"


def look(name: str) -> None:
    seen[name] = dict(baggage.get_all())


@front.get("/front")
def front_handler() -> Any:
    look("front")
    return requests.get(url("flask", "/back"), timeout=20).json()


@back.get("/back")
def back_handler() -> Any:
    look("back")
    with trace.get_tracer("app").start_as_current_span("own"):
        return requests.get(url("echo", "/moved"), timeout=20).json()


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        moved = self.path == "/moved"
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("location", "/echo")
        body = json.dumps([[k.lower(), v] for k, v in self.headers.items()]).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def described(span: ReadableSpan, names: dict[int, str]) -> Any:
    context = span.get_span_context()
    parent = span.parent
    attributes = {
        name: value
        for name, value in (span.attributes or {}).items()
        if not name.endswith(("port", "peer.ip"))
    }
    return [
        span.name,
        span.kind.name,
        f"{context.trace_id:032x}" if context else "",
        names.get(parent.span_id, "remote") if parent else None,
        sorted(attributes.items()),
        span.status.status_code.name,
        [event.name for event in span.events],
    ]


def main() -> None:
    echo = ThreadingHTTPServer(("127.0.0.1", PORTS["echo"]), Echo)
    flask_server = make_server("127.0.0.1", PORTS["flask"], back, threaded=True)
    config = uvicorn.Config(front, port=PORTS["fastapi"], log_level="warning")
    front_server = uvicorn.Server(config)
    threads = [
        threading.Thread(target=run, daemon=True)
        for run in (echo.serve_forever, flask_server.serve_forever, front_server.run)
    ]
    for thread in threads:
        thread.start()
    while not front_server.started:
        threads[2].join(0.01)
    connection = http.client.HTTPConnection("127.0.0.1", PORTS["fastapi"], timeout=20)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "baggage": sys.argv[4]}
    connection.request("GET", "/front", headers=headers)
    response = connection.getresponse()
    received = json.loads(response.read())
    front_server.should_exit = True
    threads[2].join()
    spans = exporter.get_finished_spans()
    names = {context.span_id: span.name for span in spans if (context := span.get_span_context())}
    print(
        json.dumps(
            {
                "status": response.status,
                "answered": response.getheader("rdv"),
                "seen": seen,
                "received": received,
                "spans": sorted(described(span, names) for span in spans),
            }
        ),
        flush=True,
    )


main()
