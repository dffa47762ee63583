"""``rendezvous status``: what a server knows, in numbers; with ``--request`` one request's tree."""

import argparse
import asyncio
import os
import sys

from rendezvous_api.client import Client
from rendezvous_api.errors import Unreachable
from rendezvous_api.v1 import rendezvous_pb2 as pb

DEFAULT_SERVER = "127.0.0.1:7420"


def main(argv: list[str] | None = None) -> int:
    """Print and return 0; 1 for an unknown request or a server that does not answer."""
    parser = argparse.ArgumentParser(prog="rendezvous status", description=__doc__)
    parser.add_argument(
        "--server",
        default=os.environ.get("RENDEZVOUS_SERVER", DEFAULT_SERVER).partition(",")[0],
        help=f"HOST:PORT (RENDEZVOUS_SERVER, else {DEFAULT_SERVER})",
    )
    parser.add_argument("--request", metavar="RID", help="draw this request's branches")
    options = parser.parse_args(argv)
    try:
        lines = asyncio.run(_look(options.server, options.request))
    except Unreachable as exc:
        print(f"rendezvous status: {exc}", file=sys.stderr)
        return 1
    if lines is None:
        print(f"request {options.request} is not known to {options.server}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


async def _look(server: str, rid: str | None) -> list[str] | None:
    async with Client(server) as client:
        if rid is None:
            return figures(await client.status())
        reply = await client.show(rid)
        return tree(rid, reply) if reply.known else None


def figures(reply: pb.StatusReply) -> list[str]:
    """The server in numbers, one a line."""
    rows = (
        ("log", f"{reply.log} at {reply.index}"),
        ("requests", reply.requests),
        ("open branches", reply.open_branches),
        ("questions held", reply.questions_held),
        ("events applied", reply.events),
        ("holes", reply.holes),
    )
    return [f"{name:16} {value}" for name, value in rows]


def tree(rid: str, reply: pb.ShowReply) -> list[str]:
    """One request's branches below those that opened them, its positions and links."""
    below: dict[int, list[pb.Branch]] = {}
    known = {branch.bid for branch in reply.branches}
    for branch in reply.branches:
        below.setdefault(branch.parent if branch.parent in known else 0, []).append(branch)
    lines = [f"request {rid}"]
    drawn: set[int] = set()

    def draw(parent: int, indent: str) -> None:
        children = [branch for branch in below.get(parent, ()) if branch.bid not in drawn]
        for branch in children:
            drawn.add(branch.bid)
            last = branch is children[-1]
            place = " ".join(part for part in (branch.service, branch.region, branch.tag) if part)
            zone = f" zone {branch.zone}" if branch.zone else ""
            work = branch.work or "branch"
            lines.append(f"{indent}{'└' if last else '├'} {work} {place}: {branch.state}{zone}")
            draw(branch.bid, indent + ("  " if last else "│ "))

    draw(0, "")
    lines += [f"wrote {store} at {value}" for store, value in sorted(reply.positions.items())]
    lines += [f"continues {link}" for link in reply.links]
    return lines


if __name__ == "__main__":
    sys.exit(main())
