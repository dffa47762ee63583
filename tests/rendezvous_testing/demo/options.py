"""What the demo is told on its command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Reader = Literal["aiohttp", "flask", "gunicorn"]


@dataclass(frozen=True, slots=True)
class Options:
    """The demo's settings. Delay and jitter, of the replication link, in milliseconds."""

    posts: int = 1_000
    concurrency: int = 8
    delay_ms: float = 60.0
    jitter_ms: float = 20.0
    seed: int = 1
    reader: Reader = "aiohttp"
    observe: bool = False
    only_plain: bool = False
    faults: bool = False
    no_server: bool = False
    keep: bool = False
    json: Path | None = None
    plot: Path | None = None


def parse(argv: list[str] | None) -> Options:
    """Options from a command line; exits with a message when it is wrong."""
    default = Options()
    parser = argparse.ArgumentParser(
        prog="rendezvous demo",
        description="Post-Notification on a real replicated store: a post is written in region eu, "
        "its notification overtakes it, and a reader in region us finds nothing. The same "
        "commands behind rendezvous-instrument: every read finds its post.",
    )
    add = parser.add_argument
    add("--posts", type=int, default=default.posts, help="posts per run (%(default)s)")
    add("--concurrency", type=int, default=default.concurrency, help="at a time (%(default)s)")
    add("--delay", type=float, default=default.delay_ms, help="link, ms (%(default)g)")
    add("--jitter", type=float, default=default.jitter_ms, help="± of it, ms (%(default)g)")
    add("--seed", type=int, default=default.seed, help="of the link's delays (%(default)s)")
    add("--reader", choices=("aiohttp", "flask", "gunicorn"), default=default.reader)
    add("--json", type=Path, metavar="FILE", help="write the results here, too")
    add("--plot", type=Path, metavar="FILE", help="draw the consistency windows here")
    add("--keep", action="store_true", help="keep the temporary folder with all logs")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--mode",
        choices=("enforce", "observe"),
        default="enforce",
        help="observe: also a run that never waits and says what a barrier would have done",
    )
    which.add_argument("--plain", action="store_true", help="only the run without Rendezvous")
    which.add_argument(
        "--faults",
        action="store_true",
        help="runs with Rendezvous in which its parts, and the writer, are killed and restarted",
    )
    which.add_argument(
        "--no-server",
        action="store_true",
        help="the second run with neither metadata server nor sidecar",
    )
    given = parser.parse_args(argv)
    if given.posts < 1 or given.concurrency < 1:
        parser.error("--posts and --concurrency: want 1 or more")
    if not 0 <= given.jitter <= given.delay:
        parser.error("--jitter: want 0 to --delay")
    for file in (given.json, given.plot):
        if file is not None and not file.absolute().parent.is_dir():
            parser.error(f"{file}: there is no such folder")
    if given.plot is not None and given.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {given.plot}: want a name that ends in .png, .svg or .pdf")
    return Options(
        posts=given.posts,
        concurrency=given.concurrency,
        delay_ms=given.delay,
        jitter_ms=given.jitter,
        seed=given.seed,
        reader=given.reader,
        observe=given.mode == "observe",
        only_plain=given.plain,
        faults=given.faults,
        no_server=given.no_server,
        keep=given.keep,
        json=given.json,
        plot=given.plot,
    )
