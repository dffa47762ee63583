"""Reads on virtual time: the real barrier, its effects performed here, and the judge of every read."""

from rendezvous_api import channel, codec
from rendezvous_api.channel import Ask
from rendezvous_api.ids import StoreKey
from rendezvous_api.limits import RESOLVE_BUDGET_S
from rendezvous_instrumentation.core.barrier import (
    Applied,
    AskAndRead,
    Reply,
    Resolution,
    Resolve,
    Wait,
    Waited,
    needs_resolve,
    question_about,
    read_barrier,
)
from rendezvous_instrumentation.core.barrier import (
    Ask as AskNode,
)
from rendezvous_instrumentation.core.verdict import Outcome, Reason, Verdict
from rendezvous_instrumentation.limits import ANSWER_WAY_S
from rendezvous_monitors.positions import cover, redis
from rendezvous_testing.simulation.shells import Scope, Shell
from rendezvous_testing.simulation.stores import Node, Store
from rendezvous_testing.simulation.truth import Truth
from rendezvous_testing.simulation.world import Future, Task

ASK_MS = int((RESOLVE_BUDGET_S - ANSWER_WAY_S) * 1000)
"""A question's budget at the server, in milliseconds, as the shell gives it."""


class Miss(AssertionError):
    """A read with a good verdict did not see a write that it depends on."""


def read(shell: Shell, scope: Scope, store: Store, node: Node) -> Task:
    """Read, behind the barrier if the read depends on anything. Returns the verdict, or ``None``;
    raises :class:`Miss`."""
    known = set(scope.truth)
    verdict: Verdict | None = None
    if scope.cell.depends:
        verdict = yield from _barrier(shell, scope, node)
    _judge(shell, scope, node, store, known, verdict)
    return verdict


def head(shell: Shell, scope: Scope, node: Node) -> None:
    """Ask for a head: it resolves what was answered without a position."""
    applied = shell.ask(node)
    if applied.primary:
        scope.cell.head_seen(applied.store, applied.value)


def _barrier(shell: Shell, scope: Scope, node: Node) -> Task:
    world = shell.world

    def covers(applied: Applied, store: StoreKey, value: int) -> cover.Cover:
        assert isinstance(applied, redis.Applied)
        return redis.covers(applied, store, value, shell.lineage)

    program = read_barrier(
        scope.cell,
        redis.KIND,
        covers,
        branch=scope.bid,
        remembered=None,
        repeatable=True,
        no_wait=Reason.NONE,
        budget_s=shell.bounds.budget_s,
    )
    reply: Reply = None
    while True:
        try:
            effect = program.send(reply)
        except StopIteration as stop:
            return stop.value
        match effect:
            case AskNode() | AskAndRead():
                yield 0.0003
                reply = shell.ask(node)
            case Wait(targets, seconds):
                began = world.now
                while world.now - began < seconds:
                    yield 0.005
                    applied = shell.ask(node)
                    answers = [covers(applied, s, v) for s, v in targets]
                    if not {cover.Cover.NO, cover.Cover.UNKNOWN} & set(answers):
                        break
                reply = Waited(world.now - began)
            case Resolve():
                reply = yield from _resolve(shell, scope)


def _resolve(shell: Shell, scope: Scope) -> Task:
    assert needs_resolve(scope.cell, scope.bid)
    cell, world = scope.cell, shell.world
    now = int(world.now)
    asked = question_about(cell.cut(scope.bid, scope.zone, shell.outbox.acks), scope.bid)
    pipe = shell.channel
    if pipe is None or pipe.paused or shell.outbox.waiting:
        yield 0.01
        return Resolution(None, None)
    shell.asked += 1
    number = shell.asked
    future = shell.questions[number] = Future()
    text = codec.encode(asked, limit_bytes=4000)
    pipe.up.send(channel.encode(Ask(number, ASK_MS, text)))
    world.after(RESOLVE_BUDGET_S, lambda: future.set(None))
    resolution = yield future
    shell.questions.pop(number, None)
    if resolution is None:
        shell.say(scope, "resolve: no answer")
        return Resolution(None, None)
    shell.say(scope, f"resolve: {text} -> {resolution.status.name} {resolution.answer}")
    if resolution.status is channel.Status.ANSWERED and resolution.answer is not None:
        cell.resolved(resolution.answer, asked, now)
    return resolution


def _judge(
    shell: Shell, scope: Scope, node: Node, store: Store, known: Truth, verdict: Verdict | None
) -> None:
    shell.reads += 1
    text = verdict.text if verdict is not None else "no verdict"
    shell.say(scope, f"read {node.name} at {node.value}: {text}")
    if verdict is not None:
        shell.verdicts[verdict.text] += 1
        if verdict.outcome is Outcome.UNPROTECTED:
            return
    wanted = {w for w in shell.ground.expand(known, scope.bid) if w.store == store.name}
    missing = wanted - node.shows
    if missing:
        raise Miss(
            f"{shell.name} read {node.name} in request {scope.cell.rid}: {text}, but "
            f"{len(missing)} writes are missing: {sorted(w.number for w in missing)}"
        )
