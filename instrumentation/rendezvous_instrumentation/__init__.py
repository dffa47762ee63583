"""What runs inside the application: it follows each request, tells the sidecar what was written, and
holds a read until the node it is about to ask has what the request depends on.

``install`` is the one way in, behind four doors (launcher, OpenTelemetry entry point, PYTHONPATH,
``auto``). Importing this package does nothing: no thread, no socket, no file, no heavy import.
"""
