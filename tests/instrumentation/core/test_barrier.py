"""The barrier as text: what it is told, what it asks, and the verdict. One scenario, one claim.

A line is ``effect -> reply``; the last one is the verdict. Nodes answer ``A:10`` (epoch and applied
position), with ``primary`` or ``syncing``; a judge that knows of the lineage A → B, forked at 50,
decides as Redis does.
"""

import re

import pytest

from rendezvous_api.cell import Cell
from rendezvous_api.channel import Status
from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import Bid, Rid, StoreKey
from rendezvous_instrumentation.core.barrier import (
    Applied,
    Ask,
    AskAndRead,
    Barrier,
    Effect,
    Reply,
    Resolution,
    Resolve,
    Wait,
    Waited,
    depends,
    needs_resolve,
    read_barrier,
)
from rendezvous_instrumentation.core.verdict import (
    PROTECTED,
    WAITED,
    Outcome,
    Reason,
    unprotected,
)
from rendezvous_monitors.positions import redis
from rendezvous_monitors.positions.cover import Cover, Lineage

RID = Rid("A" * 22)
BRANCH = Bid(7)
KNOWN = {Status(status).name.lower(): status for status in Status}
LINEAGE = Lineage()
LINEAGE.learn(StoreKey("rA"), StoreKey("rB"), 50)


def judge(applied: Applied, store: StoreKey, value: int) -> Cover:
    assert isinstance(applied, redis.Applied)
    return redis.covers(applied, store, value, LINEAGE)


def node(text: str) -> redis.Applied:
    epoch, value, *rest = re.split(r"[: ]", text)
    return redis.Applied(
        StoreKey("r" + epoch), int(value), "primary" in rest, syncing="syncing" in rest
    )


def cell_with(text: str) -> Cell:
    """``A10`` a position, ``?A`` an answered write of unknown position, ``!A`` an unanswered one,
    ``x9`` an unresolved call, ``more``, ``incomplete``, ``joined``, ``late A`` a store that timed
    out."""
    cell = Cell(RID)
    for word in text.split():
        if word in ("more", "incomplete", "joined"):
            cell.mark(Flags[word.upper()])
        elif word[0] == "x":
            cell.unresolved.add(Bid(int(word[1:])))
        elif word[0] in "?!":
            cell.mark_unknown(StoreKey("r" + word[1:]), unanswered=word[0] == "!")
        elif word.startswith("late"):
            cell.timed_out.add("r" + word[4:])
        else:
            store, value = re.fullmatch(r"(\D+)(\d+)", word).groups()  # type: ignore[union-attr]
            kind = store if store[0] == "p" else "r" + store
            cell.wrote(StoreKey(kind), int(value))
    return cell


def reply_of(text: str) -> Reply:
    word, _, rest = text.partition(" ")
    if word == "forbidden":
        return None
    if word == "after":
        return Waited(float(rest))
    if word == "breaker":
        return Resolution(None, None, breaker_open=True)
    if word == "unreadable":
        return Resolution(Status.ANSWERED, None)
    if word == "silence":
        return Resolution(None, None, seconds=float(rest or 0))
    if word in KNOWN:
        known = cell_with(rest)
        answer = Context(
            RID,
            positions=known.positions,
            unresolved=frozenset(known.unresolved),
            flags=known.flags,
        )
        return Resolution(KNOWN[word], answer)
    return node(text)


def text_of(effect: Effect) -> str:
    match effect:
        case Resolve(seconds):
            return f"resolve within {seconds:g}"
        case Ask():
            return "ask"
        case AskAndRead():
            return "ask and read"
        case Wait(targets, seconds):
            names = " ".join(f"{store[1:]}{value}" for store, value in targets)
            return f"wait for {names} within {seconds:g}"


SCENARIOS = {
    "an applied position at the node protects": """
        cell A10
        ask and read -> A:10
        protected""",
    "a remembered position decides without a question": """
        cell A10
        remembered A:12
        protected""",
    "a remembered position that does not cover is asked for again": """
        cell A10
        remembered A:9
        ask and read -> A:10
        protected""",
    "what is not there yet is waited for, and checked on the read's own connection": """
        cell A10
        ask and read -> A:9
        wait for A10 within 5 -> after 1
        ask and read -> A:9
        wait for A10 within 4 -> after 1
        ask and read -> A:10
        waited""",
    "a statement with side effects is asked about first and sent once": """
        cell A10
        once
        ask -> A:9
        wait for A10 within 5 -> after 1
        ask -> A:10
        waited""",
    "a used-up budget": """
        cell A10
        ask and read -> A:9
        wait for A10 within 5 -> after 5
        ask and read -> A:9
        unprotected{budget}""",
    "a request whose budget is gone does not wait at all": """
        cell A10
        budget 0
        ask and read -> A:9
        unprotected{budget}""",
    "after one time-out on a store its later reads do not wait again": """
        cell A10 lateA
        ask and read -> A:9
        unprotected{budget}""",
    "a time-out on another store does not matter": """
        cell A10 C5 lateC
        ask and read -> A:9
        wait for A10 C5 within 5 -> after 1
        ask and read -> A:10
        waited""",
    "observe never waits": """
        cell A10
        not held: observed
        ask and read -> A:9
        unprotected{observed}""",
    "observe takes what is there": """
        cell A10
        not held: observed
        ask and read -> A:10
        protected""",
    "a full bulkhead lets it pass": """
        cell A10
        not held: bulkhead
        ask and read -> A:9
        unprotected{bulkhead}""",
    "a question that is forbidden": """
        cell A10
        ask and read -> forbidden
        unprotected{forbidden}""",
    "a question that fails while it waits": """
        cell A10
        ask and read -> A:9
        wait for A10 within 5 -> after 1
        ask and read -> forbidden
        unprotected{forbidden}""",
    "a node that is loading a copy is waited for": """
        cell A10
        ask and read -> A:90 syncing
        wait for A10 within 5 -> after 5
        ask and read -> A:90 syncing
        unprotected{syncing}""",
    "a write that the failover lost": """
        cell A60
        ask and read -> B:90 primary
        unprotected{lost}""",
    "a write that the failover kept": """
        cell A50
        ask and read -> B:90
        protected""",
    "a promotion while it is held": """
        cell A60
        ask and read -> A:40
        wait for A60 within 5 -> after 1
        ask and read -> B:51 primary
        unprotected{lost}""",
    "one target lost is the whole read's loss": """
        cell A60 B95
        ask and read -> B:90
        unprotected{lost}""",
    "a store that no lineage joins to the node's asks nothing": """
        cell C10
        ask and read -> A:1
        protected""",
    "a store of another kind asks nothing": """
        cell p10
        protected""",
    "an answered write of unknown position is in its primary's head": """
        cell ?A
        remembered A:90 primary
        ask and read -> A:90 primary
        protected""",
    "but may be missing at a replica": """
        cell ?A
        ask and read -> A:90
        unprotected{unknown_write}""",
    "or after a failover": """
        cell ?A
        ask and read -> B:90 primary
        unprotected{unknown_write}""",
    "a write that was not answered may still come, wherever": """
        cell !A
        ask and read -> A:90 primary
        unprotected{unknown_write}""",
    "an unknown write to another store does not matter": """
        cell !C
        ask and read -> A:90
        protected""",
    "an unknown write without an epoch may be anywhere": """
        cell ?
        ask and read -> A:90
        unprotected{unknown_write}""",
    "known positions are waited for as usual when another write is unknown": """
        cell A10 ?A
        ask and read -> A:9
        wait for A10 within 5 -> after 1
        ask and read -> A:10
        unprotected{unknown_write}""",
    "an unresolved call is asked about, and what its callee wrote waited for": """
        cell x9
        resolve within 5 -> answered A10
        ask and read -> A:9
        wait for A10 within 5 -> after 1
        ask and read -> A:10
        waited""",
    "a resolve's answer joins what the cell holds": """
        cell A10 more
        resolve within 5 -> answered A20
        ask and read -> A:19
        wait for A20 within 5 -> after 1
        ask and read -> A:20
        waited""",
    "a resolve that finds nothing to wait for": """
        cell x9
        resolve within 5 -> answered
        protected""",
    "an ancestor of the reader's own branch is not waited for": """
        cell x7 A10
        ask and read -> A:10
        protected""",
    "positions that did not fit even the answer": """
        cell more
        resolve within 5 -> answered more
        unprotected{unreachable}""",
    "a call that is still open at the end of the budget": """
        cell x9 A10
        resolve within 5 -> timed_out x9
        ask and read -> A:10
        unprotected{unresolved}""",
    "no answer: what is known is waited for, and the doubt is said": """
        cell x9 A10
        resolve within 5 -> silence 1
        ask and read -> A:9
        wait for A10 within 4 -> after 1
        ask and read -> A:10
        unprotected{unreachable}""",
    "an open breaker": """
        cell more A10
        resolve within 5 -> breaker
        ask and read -> A:10
        unprotected{breaker}""",
    "an answer that nobody can read is none": """
        cell x9
        resolve within 5 -> unreadable
        unprotected{unreachable}""",
    "a tail that died with its process": """
        cell x9
        resolve within 5 -> lost_tail
        unprotected{lost_tail}""",
    "a log that the server cannot obtain": """
        cell x9
        resolve within 5 -> lost_log
        unprotected{lost_log}""",
    "a request that the server has forgotten": """
        cell more
        resolve within 5 -> expired
        unprotected{expired}""",
    "a server with too many questions": """
        cell more
        resolve within 5 -> busy
        unprotected{unreachable}""",
    "a sidecar without a server": """
        cell more
        resolve within 5 -> unreachable
        unprotected{unreachable}""",
    "observe does not wait for an answer either": """
        cell x9
        not held: observed
        resolve within 0 -> silence
        unprotected{observed}""",
    "a loss is more than a doubt": """
        cell A60 incomplete
        ask and read -> B:90
        unprotected{lost}""",
    "incomplete: the known part is waited for, nobody waits for what is missing": """
        cell A10 incomplete
        ask and read -> A:9
        wait for A10 within 5 -> after 1
        ask and read -> A:10
        unprotected{incomplete}""",
    "incomplete with nothing known": """
        cell incomplete
        unprotected{incomplete}""",
    "an answer that is incomplete itself": """
        cell x9
        resolve within 5 -> answered A10 incomplete
        ask and read -> A:10
        unprotected{incomplete}""",
    "a joined request does what it can and is counted": """
        cell joined
        resolve within 5 -> answered A10
        ask and read -> A:10
        unprotected{joined}""",
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_scenarios(scenario: str) -> None:
    lines = [line.strip() for line in scenario.strip().splitlines()]
    cell, remembered, once, no_wait, budget_s = Cell(RID), None, False, Reason.NONE, 5.0
    while lines:
        word, _, rest = lines[0].partition(" ")
        if word == "cell":
            cell = cell_with(rest)
        elif word == "remembered":
            remembered = node(rest)
        elif word == "once":
            once = True
        elif word == "budget":
            budget_s = float(rest)
        elif word == "not":
            no_wait = Reason(rest.partition(": ")[2])
        else:
            break
        lines.pop(0)
    barrier: Barrier = read_barrier(
        cell,
        "r",
        judge,
        branch=BRANCH,
        remembered=remembered,
        repeatable=not once,
        no_wait=no_wait,
        budget_s=budget_s,
    )
    played: list[str] = []
    reply: Reply = None
    try:
        while True:
            effect = text_of(barrier.send(reply))
            wanted, _, answer = lines[len(played)].partition(" -> ")
            assert effect == wanted
            played.append(effect)
            reply = reply_of(answer)
    except StopIteration as stop:
        assert lines[len(played) :] == [stop.value.text]


def test_a_time_out_is_remembered_for_the_stores_that_were_late_alone() -> None:
    cell = cell_with("A10 C5")
    barrier = read_barrier(
        cell,
        "r",
        judge,
        branch=BRANCH,
        remembered=None,
        repeatable=True,
        no_wait=Reason.NONE,
        budget_s=0.0,
    )
    next(barrier)
    with pytest.raises(StopIteration):
        barrier.send(node("A:9"))
    assert cell.timed_out == {"rA"}


def test_a_barriers_target_is_fixed_when_it_starts() -> None:
    cell = cell_with("A10")
    barrier = read_barrier(
        cell,
        "r",
        judge,
        branch=BRANCH,
        remembered=None,
        repeatable=True,
        no_wait=Reason.NONE,
        budget_s=5.0,
    )
    assert next(barrier) == AskAndRead()
    cell.wrote(StoreKey("rA"), 99)
    with pytest.raises(StopIteration) as stop:
        barrier.send(node("A:10"))
    assert stop.value.value == PROTECTED


@pytest.mark.parametrize(
    ("text", "dependent", "asks_the_server"),
    [
        ("", False, False),
        ("A10", True, False),
        ("p10", False, False),
        ("?A", True, False),
        ("x9", True, True),
        ("x7", True, False),
        ("x7 x9", True, True),
        ("more", True, True),
        ("joined", True, True),
        ("incomplete", True, False),
    ],
)
def test_which_reads_are_dependent_and_which_need_the_server(
    text: str, dependent: bool, asks_the_server: bool
) -> None:
    cell = cell_with(text)
    assert depends(cell, "r") is dependent
    assert needs_resolve(cell, BRANCH) is asks_the_server


def test_verdicts_as_text() -> None:
    assert PROTECTED.text == "protected" and WAITED.text == "waited"
    assert unprotected(Reason.BUDGET).text == "unprotected{budget}"
    assert unprotected(Reason.BUDGET).outcome is Outcome.UNPROTECTED
    assert len({reason.value for reason in Reason}) == len(Reason)
