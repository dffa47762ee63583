"""Every sentence that a scenario may use: a pattern, and what is done. The first that fits counts.

A step returns what can be expected of it: texts, of which every ``→`` of the scenario must be one.
"""

import random
import re
from collections.abc import Callable
from itertools import permutations

from rendezvous_instrumentation.core.verdict import Verdict
from rendezvous_server.core.requests import Rank
from rendezvous_testing.scenarios.stage import Frame, Stage, Wrong, verdict_text
from rendezvous_testing.simulation.checkers import interleaved, state_of
from rendezvous_testing.simulation.reads import head, read
from rendezvous_testing.simulation.servers import Server
from rendezvous_testing.simulation.shells import Call, Reply, Shell
from rendezvous_testing.simulation.sidecars import Sidecar

Results = list[str]
Do = Callable[..., Results | None]
DECLARATIONS: list[tuple[re.Pattern[str], Do]] = []
STEPS: list[tuple[re.Pattern[str], Do]] = []


def _declaration(pattern: str) -> Callable[[Do], Do]:
    def add(do: Do) -> Do:
        DECLARATIONS.append((re.compile(pattern), do))
        return do

    return add


def _step(pattern: str) -> Callable[[Do], Do]:
    def add(do: Do) -> Do:
        STEPS.append((re.compile(pattern), do))
        return do

    return add


def perform(table: list[tuple[re.Pattern[str], Do]], stage: Stage, line: str) -> Results:
    """Do what a line says."""
    for pattern, do in table:
        match = pattern.fullmatch(line)
        if match:
            return do(stage, **match.groupdict()) or []
    raise Wrong(f"nobody understands {line!r}")


# --- declarations -------------------------------------------------------------------


@_declaration(r"store (?P<name>\w+): (?P<replicas>.+)")
def _store(stage: Stage, name: str, replicas: str) -> None:
    regions: dict[str, float] = {}
    for each in replicas.split(", "):
        match = re.fullmatch(r"replica in (\w+)(?: (\d+) ms behind)?", each)
        if match is None:
            raise Wrong(f"no replica: {each!r}")
        regions[match[1]] = int(match[2] or 0) / 1000
    stage.add_store(name, regions)


@_declaration(r"server (?P<name>\w+)")
def _server(stage: Stage, name: str) -> None:
    stage.add_server(name)


@_declaration(r"sidecar (?P<name>\w+): (?P<servers>[\w, ]+)")
def _sidecar(stage: Stage, name: str, servers: str) -> None:
    stage.add_sidecar(name, servers.split(", "))


@_declaration(
    r"application (?P<name>\w+) in (?P<region>\w+) beside (?P<sidecar>\w+)"
    r"(?:, outbox of (?P<outbox>\d+) events)?"
)
def _application(stage: Stage, name: str, region: str, sidecar: str, outbox: str | None) -> None:
    stage.add_application(name, region, sidecar, int(outbox or 20_000))


@_declaration(r"foreign (?P<name>\w+)")
def _foreign(stage: Stage, name: str) -> None:
    stage.foreign.add(name)


@_declaration(r"contexts of (?P<size>\d+) bytes")
def _contexts(stage: Stage, size: str) -> None:
    stage.context_bytes = int(size)


# --- life and faults ----------------------------------------------------------------


@_step(r"kill (?P<names>\w+(?: and \w+)*)")
def _kill(stage: Stage, names: str) -> None:
    for name in names.split(" and "):
        part = stage.part(name)
        if isinstance(part, Server):
            _cut_streams(stage, part)
        part.crash()
        if isinstance(part, Shell):
            stage.frames[name].clear()


def _cut_streams(stage: Stage, server: Server) -> None:
    stage.net.cut_streams(lambda stream: stream.server is server)


@_step(r"(?P<names>\w+(?: and \w+)*) comes? back(?P<without> without its log)?")
def _back(stage: Stage, names: str, without: str | None) -> None:
    for name in names.split(" and "):
        part = stage.part(name)
        if part.up:
            raise Wrong(f"{name} is up")
        if isinstance(part, Server):
            part.restart(without_log=bool(without))
        else:
            part.start()


@_step(r"(?P<sidecar>\w+) is cut off from (?P<server>\w+)")
def _cut(stage: Stage, sidecar: str, server: str) -> None:
    stage.net.part(stage.sidecars[sidecar].name, stage.servers[server].name)


@_step(r"everybody reaches everybody again")
def _heal(stage: Stage) -> None:
    stage.net.heal()


@_step(r"(?P<name>\w+) is not read by its sidecar")
def _stuck(stage: Stage, name: str) -> None:
    channel = stage.applications[name].channel
    if channel is None:
        raise Wrong(f"{name} has no channel")
    channel.paused = True


@_step(r"(?P<name>\w+) is read by its sidecar again")
def _unstuck(stage: Stage, name: str) -> None:
    channel = stage.applications[name].channel
    if channel is not None:
        channel.paused = False
    stage.applications[name].flush()


@_step(r"(?P<store>\w+) at (?P<region>\w+) is cut off from its primary")
def _cut_replica(stage: Stage, store: str, region: str) -> None:
    stage.stores[store].replicas[region].cut = True


@_step(r"(?P<store>\w+) at (?P<region>\w+) follows its primary again")
def _join_replica(stage: Stage, store: str, region: str) -> None:
    stage.stores[store].replicas[region].cut = False


@_step(r"(?P<store>\w+) at (?P<region>\w+) (?P<how>loads a new copy|has loaded its copy)")
def _load(stage: Stage, store: str, region: str, how: str) -> None:
    stage.stores[store].replicas[region].loading = how == "loads a new copy"


@_step(r"(?P<store>\w+) fails over to (?P<region>\w+)")
def _fail_over(stage: Stage, store: str, region: str) -> Results:
    what = stage.stores[store]
    what.fail_over(region)
    epoch = what.primary.epoch
    stage.names.give(epoch, store + "'" * len(what.moves))
    return [f"{stage.names.store(epoch)} goes on at {what.moves[-1][2]}"]


@_step(r"wait (?P<number>\d+) (?P<unit>ms|s)")
def _wait(stage: Stage, number: str, unit: str) -> None:
    stage.world.run(int(number) / (1000 if unit == "ms" else 1))


# --- requests -----------------------------------------------------------------------


@_step(r"a request arrives at (?P<name>\w+)")
def _begin(stage: Stage, name: str) -> None:
    scope = stage.applications[name].begin()
    stage.names.rid(scope.cell.rid)
    stage.frames[name].append(Frame(scope, application=name))


@_step(r"(?P<rid>r\d+) arrives at (?P<name>\w+), its context stripped")
def _join(stage: Stage, rid: str, name: str) -> None:
    scope = stage.applications[name].begin(stage.names.rid_called(rid))
    stage.frames[name].append(Frame(scope, application=name))


@_step(r"a request arrives at (?P<name>\w+), continuing what (?P<other>\w+) knows")
def _continue(stage: Stage, name: str, other: str) -> None:
    before = stage.frame(other).scope
    scope = stage.applications[name].begin()
    stage.names.rid(scope.cell.rid)
    stage.applications[other].link(scope, before)
    stage.frames[name].append(Frame(scope, application=name))


@_step(
    r"(?P<name>\w+) writes (?P<store>\w+)"
    r"(?P<how>, its position untold|, unanswered(?: in vain|, done (?P<late>\d+) ms later)?)?"
)
def _write(stage: Stage, name: str, store: str, how: str | None, late: str | None) -> Results:
    shell, frame, what = stage.applications[name], stage.frame(name), stage.stores[store]
    if how is None:
        shell.write(frame.scope, what, Reply.PLACED)
    elif how == ", its position untold":
        shell.write(frame.scope, what, Reply.UNPLACED)
    else:
        happens = how != ", unanswered in vain"
        after_s = int(late or 0) / 1000
        shell.write(frame.scope, what, Reply.NONE, happens=happens, after_s=after_s)
        return []
    return [f"at {what.primary.value}"]


@_step(r"(?P<name>\w+) asks (?P<store>\w+) for its head")
def _head(stage: Stage, name: str, store: str) -> None:
    head(stage.applications[name], stage.frame(name).scope, stage.stores[store].primary)


@_step(r"(?P<name>\w+) calls (?P<peer>\w+)(?P<lost>; the request is lost)?")
def _call(stage: Stage, name: str, peer: str, lost: str | None) -> Results:
    shell, frame = stage.applications[name], stage.frame(name)
    there = stage.applications.get(peer)
    if there is None and peer not in stage.foreign:
        raise Wrong(f"there is no {peer}")
    call = shell.call(frame.scope, peer, there.region if there is not None else "")
    if there is not None and not there.up:
        stage.transcript.say(f"{name} → {peer}: cannot be sent")
        shell.never_sent(frame.scope, call)
        return ["not sent"]
    frame.calls.append(call)
    frame.peers.append(peer)
    results = _on_the_wire(stage, name, peer, "", call, lost)
    if there is not None and lost is None:
        stage.frames[peer].append(Frame(there.adopt(call.text, call.truth), frame, peer))
    return results


def _on_the_wire(
    stage: Stage, name: str, peer: str, what: str, call: Call, lost: str | None
) -> Results:
    text = stage.transcript.context(call.text)
    said = f"{what}{stage.names.bid(call.bid)} {text}"
    stage.transcript.say(f"{name} → {peer}: {said}{', lost' if lost else ''}")
    return [f"the context on the wire is {text}"]


@_step(
    r"(?P<name>\w+) answers(?P<more> and continues| and goes on in the background)?"
    r"(?P<lost>; the answer is lost)?"
)
def _answer(stage: Stage, name: str, more: str | None, lost: str | None) -> Results:
    if name in stage.foreign:
        return _answer_foreign(stage, name)
    frame = stage.frame(name)
    caller, shell = frame.caller, stage.applications[name]
    if caller is None:
        raise Wrong(f"nobody called {name}")
    continues = more == " and continues"
    text, truth = shell.answer(frame.scope, continues=continues)
    call = next((each for each in caller.calls if each.bid == frame.scope.bid), None)
    wire = Call(frame.scope.bid, True, text, truth)
    results = _on_the_wire(stage, name, caller.application, "answer to ", wire, lost)
    if not continues:
        stage.frames[name].remove(frame)
    if more == " and goes on in the background":
        stage.frames[name].append(Frame(shell.go_on(frame.scope), application=name))
    if lost is None and call is not None and caller in stage.frames[caller.application]:
        caller.calls.remove(call)
        stage.applications[caller.application].answered(caller.scope, call, text, truth)
    return results


def _answer_foreign(stage: Stage, name: str) -> Results:
    for frames in stage.frames.values():
        for frame in frames:
            if name in frame.peers and frame.calls:
                stage.transcript.say(f"{name} → {frame.application}: an answer without a context")
                shell = stage.applications[frame.application]
                shell.opaque(frame.scope, frame.calls.pop())
                return []
    raise Wrong(f"nobody called {name}")


@_step(r"(?P<name>\w+) times out")
def _time_out(stage: Stage, name: str) -> None:
    frame = stage.frame(name)
    stage.applications[name].unanswered(frame.scope, frame.calls.pop())


@_step(r"(?P<name>\w+) is done")
def _done(stage: Stage, name: str) -> None:
    frame = stage.frames[name].pop()
    if frame.scope.bid:
        stage.applications[name].close(frame.scope)


@_step(r"(?P<name>\w+) sends (?P<peer>\w+) a message")
def _message(stage: Stage, name: str, peer: str) -> Results:
    there = stage.applications[peer]
    call = stage.applications[name].message(stage.frame(name).scope, peer, there.region)
    stage.messages[peer].append(call)
    return _on_the_wire(stage, name, peer, "", call, None)


@_step(r"(?P<name>\w+) takes the message")
def _take(stage: Stage, name: str) -> None:
    call = stage.messages[name].pop(0)
    scope = stage.applications[name].adopt(call.text, call.truth)
    stage.frames[name].append(Frame(scope, application=name))


# --- reads --------------------------------------------------------------------------


@_step(r"(?P<name>\w+) reads (?P<store>\w+) at (?P<where>\w+)(?P<goes_on> …)?")
def _read(stage: Stage, name: str, store: str, where: str, goes_on: str | None) -> Results:
    what = stage.stores[store]
    node = what.primary if where == "primary" else what.replicas[where]
    shell, frame = stage.applications[name], stage.frame(name)
    operation = stage.start(name, read(shell, frame.scope, what, node))
    if goes_on:
        stage.reading[name] = operation, f"{store} at {where}"
        return []
    return _read_ended(stage, name, stage.finish(operation), f"{store} at {where}")


@_step(r"(?P<name>\w+)'s read ends")
def _ends(stage: Stage, name: str) -> Results:
    operation, what = stage.reading.pop(name)
    return _read_ended(stage, name, stage.finish(operation), what)


@_step(r"(?P<name>\w+)'s read goes on")
def _goes_on(stage: Stage, name: str) -> None:
    operation, _ = stage.reading[name]
    if operation.done:
        raise Wrong(f"{name}'s read has ended: {verdict_text(operation.result)}")


def _read_ended(stage: Stage, name: str, verdict: object, what: str) -> Results:
    assert verdict is None or isinstance(verdict, Verdict)
    text = verdict_text(verdict)
    stage.transcript.say(f"{name}: reads {what}: {text}")
    return [text]


# --- what there is ------------------------------------------------------------------


@_step(r"what (?P<name>\w+) knows")
def _knows(stage: Stage, name: str) -> Results:
    shell = stage.applications[name]
    scope = stage.frame(name).scope
    return [stage.names.context(scope.cell.cut(scope.bid, scope.zone, shell.outbox.acks))]


@_step(r"what (?P<name>\w+) holds")
def _holds(stage: Stage, name: str) -> Results:
    part = stage.part(name)
    if isinstance(part, Shell):
        return [f"{part.outbox.size} events"]
    if isinstance(part, Sidecar):
        return [f"{part.agent.held} events"]
    return [f"{len(part.core.questions.held)} questions"]


@_step(r"(?P<bid>\w+\d+) at (?P<server>\w+)")
def _branch(stage: Stage, bid: str, server: str) -> Results:
    wanted = stage.names.bid_called(bid)
    for request in stage.servers[server].core.requests.table.values():
        if wanted in request.branches:
            return [Rank(request.branches[wanted][0]).name.lower()]
    return ["not known"]


@_step(r"the logs in any order")
def _any_order(stage: Stage) -> Results:
    servers = list(stage.servers.values())
    logs = [(server.log, server.entries) for server in servers]
    orders = [
        [(log, n, entry) for log, entries in order for n, entry in enumerate(entries, 1)]
        for order in permutations(logs)
    ]
    states = [state_of(order) for order in orders]
    states += [state_of(interleaved(logs, random.Random(seed))) for seed in range(20)]
    return ["the same state" if all(state == states[0] for state in states) else "other states"]
