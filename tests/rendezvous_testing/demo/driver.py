"""``rendezvous demo``: the runs one after the other, then what they show.

Order of a run: start the topology, warm up, load (with kills, where asked for), a few posts one
at a time, wait for the last verdicts, stop everything. Whatever happens, no process and no file is
left behind.
"""

import asyncio
import json
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from rendezvous_testing.demo.faults import FAULTS, Milestones, inject
from rendezvous_testing.demo.load import Load, Outcome
from rendezvous_testing.demo.options import Options, parse
from rendezvous_testing.demo.progress import Progress
from rendezvous_testing.demo.result import Run, Usage, failures
from rendezvous_testing.demo.table import as_json, table
from rendezvous_testing.demo.topology import SERVICES, Parts, Topology
from rendezvous_testing.demo.verdicts import NotVerdicts, Verdicts, read_verdicts
from rendezvous_testing.limits import (
    ERRORS_SHOWN_MAX,
    SERIAL_PAUSE_S,
    SERIAL_POSTS,
    STATS_PERIOD_S,
    WARM_UP_POSTS,
)
from rendezvous_testing.processes import Processes, ProcessFailed, adopt_orphans

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell gives it."""


class DemoFailed(Exception):
    """A run could not be measured at all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to make. ``kind``: plain, observe, enforce or no-server."""

    name: str
    kind: str
    fault: str | None = None


def plans(options: Options) -> list[Plan]:
    """The runs that these options ask for, in order."""
    if options.faults:
        return [Plan(f"kill {fault}", "enforce", fault) for fault in FAULTS]
    out = [Plan("plain", "plain")]
    if options.observe:
        out.append(Plan("observe", "observe"))
    if options.no_server:
        out.append(Plan("no server", "no-server"))
    elif not options.only_plain:
        out.append(Plan("enforce", "enforce"))
    return out


def main(argv: list[str] | None = None) -> int:
    """Run the demo. 0: all as it must be; 1: it was not, and standard output says what."""
    options = parse(argv)
    console = Console(highlight=False, soft_wrap=True)
    adopt_orphans()
    try:
        with _interruptible(), _folder(options, console) as folder:
            runs = [run_plan(plan, options, folder, console) for plan in plans(options)]
    except KeyboardInterrupt:
        console.print("interrupted; everything has been stopped")
        return INTERRUPTED
    except (DemoFailed, ProcessFailed, NotVerdicts, FileNotFoundError) as exc:
        console.print(f"[red]failed:[/] {exc}", markup=True)
        return 1
    return _report(runs, options, console)


def run_plan(
    plan: Plan, options: Options, folder: Path, console: Console, parts: Parts | None = None
) -> Run:
    """Make one run. Raises :class:`DemoFailed` or :class:`ProcessFailed` when it can't be made."""

    def say(text: str) -> None:
        console.print(text, markup=False, style="cyan" if text.startswith("#") else "dim")

    console.rule(f"{plan.name}", align="left")
    if plan.fault is not None:
        say(f"# {FAULTS[plan.fault]} will be killed and restarted in the midst of the load")
    run = Run(plan.name, plan.kind)
    with Processes(folder) as processes:
        topology = Topology(
            processes,
            name=plan.name.replace(" ", "-"),
            kind=plan.kind,
            options=options,
            say=say,
            durable=plan.fault == "server",
            parts=parts,
        )
        topology.start()
        before = asyncio.run(_measure(run, plan, topology, options, console))
        if run.errors:
            for service in SERVICES:
                tail = topology.process(service).log_tail()
                console.print(f"the log of {service} ends:\n{tail}", markup=False)
        processes.stop()
        if plan.kind != "plain":
            run.verdicts = read_verdicts(topology.stats).since(before)
    return run


async def _measure(
    run: Run, plan: Plan, topology: Topology, options: Options, console: Console
) -> Verdicts:
    """Fill ``run``; return the verdicts that are not its own, those of the warm-up."""
    async with Load(f"http://127.0.0.1:{topology.writer_port}", topology.name) as load:
        warm = await load.run(WARM_UP_POSTS, concurrency=options.concurrency)
        if warm.errors:
            logs = "\n".join(f"  {name}:\n{topology.process(name).log_tail()}" for name in SERVICES)
            raise DemoFailed(f"warm-up of {run.name}: {warm.errors[0]}\n{logs}")
        await _settle(plan)
        before = read_verdicts(topology.stats)
        used = topology.usage()
        outcome = Outcome(run.samples, run.errors)
        milestones = Milestones(options.posts)
        not_restarted: ExceptionGroup[ProcessFailed] | None = None

        def show(outcome: Outcome) -> None:
            progress.show(outcome)
            milestones.show(outcome)

        begin = time.monotonic()
        with Progress(console, run.name, options.posts) as progress:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(
                        load.run(
                            options.posts,
                            concurrency=options.concurrency,
                            outcome=outcome,
                            progress=show,
                        )
                    )
                    if plan.fault is not None:
                        tasks.create_task(
                            inject(
                                plan.fault,
                                topology,
                                run=run,
                                gate=load.gate,
                                milestones=milestones,
                                say=lambda text: console.print(text, markup=False, style="dim"),
                            )
                        )
            except* ProcessFailed as group:
                not_restarted = group
        if not_restarted is not None:
            raise DemoFailed(str(not_restarted.exceptions[0]))
        run.seconds = time.monotonic() - begin
        run.lost = outcome.lost
        for role, now in topology.usage().items():
            earlier = used.get(role, Usage())
            run.usage[role] = Usage(now.cpu_s - earlier.cpu_s, now.rss_bytes)
        # At the pace of a run whose reads wait: idle processors and cold caches cost, too.
        waits = plan.kind not in ("plain", "observe")
        pause_s = 0.0 if waits else min(options.delay_ms / 1000, SERIAL_PAUSE_S)
        alone = await load.run(
            min(SERIAL_POSTS, options.posts),
            concurrency=1,
            pause_s=pause_s,
            outcome=Outcome(run.serial, run.errors),
        )
        run.lost += alone.lost
        await _settle(plan)
        run.broken += topology.ended()
    return before


async def _settle(plan: Plan) -> None:
    """Let the instrumented processes write down the verdicts they have."""
    if plan.kind != "plain":
        await asyncio.sleep(2 * STATS_PERIOD_S)


def _report(runs: list[Run], options: Options, console: Console) -> int:
    wide = Console(highlight=False, width=None if console.is_terminal else 140)
    wide.print()
    wide.print(table(runs))
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(runs, options), indent=1) + "\n")
        console.print(f"wrote {options.json}", markup=False)
    if options.plot is not None:
        # Only here: matplotlib takes a second to load, and writes a cache of fonts.
        from rendezvous_testing.demo.plot import draw

        draw(runs, options, options.plot)
        console.print(f"drew {options.plot}", markup=False)
    wrong = 0
    for run in runs:
        for sentence in failures(run):
            wrong += 1
            console.print(f"[red]failed:[/] {run.name}: ", end="")
            console.print(sentence, markup=False)
        for error in run.errors[1:ERRORS_SHOWN_MAX]:
            console.print(f"    {error}", markup=False)
    if not wrong:
        console.print("[green]all as it must be[/]")
    return 1 if wrong else 0


@contextmanager
def _folder(options: Options, console: Console) -> Generator[Path]:
    # Short, because Unix sockets inside it have names of 107 bytes at the most.
    folder = Path(tempfile.mkdtemp(prefix="rdv-"))
    try:
        yield folder
    finally:
        if options.keep:
            console.print(f"logs are in {folder}", markup=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _interruptible() -> Generator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
