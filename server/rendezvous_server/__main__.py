"""``rendezvous server``, or ``python -m rendezvous_server``."""

import asyncio
import os
import sys

from rendezvous_api.errors import BadConfig, Unreachable
from rendezvous_server.config import from_arguments


def main(argv: list[str] | None = None) -> int:
    """Run a server until it is told to stop. Returns the exit code: 0, 2 for a bad setting,
    1 when the log fails."""
    try:
        config = from_arguments(sys.argv[1:] if argv is None else argv, os.environ)
        from rendezvous_server.shell.serve import serve  # after the settings: it loads gRPC

        asyncio.run(serve(config, _announce))
    except BadConfig as exc:
        print(f"rendezvous server: {exc}", file=sys.stderr)
        return 2
    except Unreachable as exc:
        print(f"rendezvous server: {exc}", file=sys.stderr)
        return 1
    return 0


def _announce(address: str) -> None:
    print(f"listening on {address}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
