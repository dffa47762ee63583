"""``python -m rendezvous_sidecar``: run one sidecar until it is told to end."""

import logging
import sys

from rendezvous_api.errors import BadConfig
from rendezvous_sidecar.config import parse


def main(argv: list[str] | None = None) -> int:
    """Run a sidecar: 0 after an orderly end, 2 on a wrong setting."""
    try:
        config = parse(argv)
        logging.basicConfig(
            level=logging.DEBUG if config.verbose else logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        for other in ("asyncio", "grpc"):
            logging.getLogger(other).setLevel(logging.WARNING)

        import asyncio

        from rendezvous_sidecar.shell.sidecar import Sidecar

        async def life() -> None:
            await Sidecar(config).run()

        asyncio.run(life())
    except BadConfig as exc:
        print(f"rendezvous sidecar: {exc}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
