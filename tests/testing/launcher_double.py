"""Stands in for the launcher in tests of the demo: runs the command unchanged, keeps something
alive that looks like a sidecar, and writes a verdict file as an instrumented process does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

_SIDECAR = [sys.executable, "-c", "import time; time.sleep(600)  # rendezvous_sidecar"]


def main(arguments: list[str]) -> int:
    settings: dict[str, str] = {}
    while arguments[0].startswith("--"):
        settings[arguments[0]] = arguments[1]
        arguments = arguments[2:]
    service = settings["--service"]
    verdicts = {"protected": 1, "waited": 2, "unprotected": {"double": 3}}
    folder = Path(os.environ["RENDEZVOUS_STATS_DIR"])
    raw = {"service": service, "verdicts": verdicts, "waited_ms": {"p50": 1.0, "p99": 2.0}}
    (folder / f"{service}-{os.getpid()}.json").write_text(json.dumps(raw))
    application = subprocess.Popen(arguments)

    def pass_on(number: int, frame: FrameType | None) -> None:
        application.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    sidecar = subprocess.Popen(_SIDECAR) if "--server" in settings else None
    while application.poll() is None:
        if sidecar is not None and sidecar.poll() is not None:
            sidecar = subprocess.Popen(_SIDECAR)
        time.sleep(0.02)
    if sidecar is not None:
        sidecar.kill()
        sidecar.wait()
    return application.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
