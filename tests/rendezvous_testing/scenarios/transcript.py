"""The transcript of a scenario: everything notable that passed between the parts, one line each.

Not notable: hellos, welcomes and leases; and what a server logs of a batch, since its ack says it.
"""

from collections.abc import Iterable
from typing import assert_never

from rendezvous_api import channel, codec
from rendezvous_api import event as events
from rendezvous_api.channel import Acked, Answered, Ask, Events, Hello, Lineages, Status
from rendezvous_api.errors import MalformedContext
from rendezvous_api.event import (
    Adopt,
    Body,
    Close,
    Fail,
    Lineage,
    Link,
    Opaque,
    Open,
    Unknown,
    Write,
)
from rendezvous_api.ids import Bid, Incarnation, Origin, StoreKey, origin_of, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core.entries import Batched, Entry, Expired, Follows, Holed, Moved
from rendezvous_server.core.keys import parts_of
from rendezvous_testing.scenarios.names import Names
from rendezvous_testing.simulation.shells import Numbered


class Transcript:
    """Told of all that passes (``World.tap``); ``lines`` is what a reader wants to know of it."""

    def __init__(self, names: Names) -> None:
        self.lines: list[str] = []
        self._names = names
        self._channels: dict[str, Incarnation] = {}
        """Per process, the incarnation of its last hello."""

    def say(self, line: str) -> None:
        """Add a line."""
        self.lines.append(f"  {line}")

    def tap(self, sender: str, receiver: str, message: object) -> None:
        """Something passed."""
        match message:
            case str():
                return  # a new incarnation or log: whoever made it has named it
            case bytes():
                said = self._packet(sender, receiver, message)
            case pb.FromSidecar():
                said = self._from_sidecar(message)
            case pb.ToSidecar():
                said = self._to_sidecar(message)
            case Batched() | Holed() | Moved() | Follows() | Expired():
                said = self._entry(message)
            case Numbered():
                said = self._event(message)
            case _:
                raise AssertionError(f"{message!r} passed")
        if said:
            way = sender if sender == receiver else f"{sender} → {receiver}"
            self.say(f"{way}: {said}")

    # --- events ---------------------------------------------------------------------

    def _event(self, numbered: Numbered) -> str:
        origin, seq, body, bid = numbered.origin, numbered.seq, numbered.body, numbered.bid
        self._names.rid(numbered.rid)
        if isinstance(body, Open):
            self._names.next(word(bid), {1: "call", 2: "message", 3: "task"}[body.work])
        said = self._body(bid, body)
        if not seq:
            return f"refused, the outbox is full: {said}"
        return f"{self._names.origin(origin)}:{seq} {said}"

    def _body(self, bid: Bid, body: Body) -> str:
        names = self._names
        name = names.bid(bid)
        match body:
            case Open(_, parent, zone, service, _, _):
                below = f" below {names.bid(parent)}" if parent else ""
                place = f" in zone {zone}" if zone else ""
                return f"opens {name}{below}{place}, for {service}"
            case Close(frontier, _):
                return f"closes {name}" + (f" {self._frontier(frontier)}" if frontier else "")
            case Fail():
                return f"{name} failed"
            case Opaque():
                return f"{name} is opaque"
            case Adopt():
                return f"adopts {name}"
            case Write(store, value):
                return f"write at {names.store(store)}={value}"
            case Unknown(store, unanswered):
                return f"write to {names.store(store)} {'unanswered' if unanswered else 'unplaced'}"
            case Link(rid):
                return f"links {names.rid(rid)}"
            case Lineage(old, new, fork):
                return self._lineage(old, new, fork)
            case _:
                assert_never(body)

    def _frontier(self, fields: str) -> str:
        return self._context(f"1.{'A' * 22}.{fields}")

    def _lineage(self, old: str, new: str, fork: int) -> str:
        names = self._names
        return f"{names.store(StoreKey(old))} became {names.store(StoreKey(new))} at {fork}"

    def _context(self, text: str) -> str:
        if not text:
            return "[]"
        try:
            return self._names.context(codec.decode(text))
        except MalformedContext:
            return "what is no context"

    def context(self, text: str) -> str:
        """A context as the transcript writes it."""
        return self._context(text)

    # --- the channel ----------------------------------------------------------------

    def _packet(self, sender: str, receiver: str, raw: bytes) -> str:
        message: object
        if raw[0] < 0x80:
            message = channel.decode_to_sidecar(raw)
        else:
            message = channel.decode_to_process(raw)
        match message:
            case Hello(incarnation, _, _, _):
                self._channels[sender] = incarnation
                return ""
            case Events(packed):
                return self._runs(
                    (origin_of(self._channels[sender], lane), seq)
                    for _, lane, seq, _, _, _ in events.split(packed)
                )
            case Ask(number, _, text):
                return f"question {number} {self._context(text)}"
            case Acked(entries):
                incarnation = self._channels[receiver]
                return "ack " + ", ".join(
                    f"{self._names.origin(origin_of(incarnation, lane))}:{seq} in "
                    f"{self._names.log(log)}:{index}"
                    for lane, seq, log, index in entries
                )
            case Answered(number, status, text):
                return f"answer {number} {status.name.lower()} {self._context(text)}"
            case Lineages(entries):
                return ", ".join(self._lineage(e.old, e.new, e.fork) for e in entries)
            case _:
                raise AssertionError(f"{message!r} passed")

    def _runs(self, items: Iterable[tuple[Origin, int]]) -> str:
        runs: list[tuple[Origin, int, int]] = []
        for origin, seq in items:
            if runs and runs[-1][0] == origin and runs[-1][2] + 1 == seq:
                runs[-1] = (origin, runs[-1][1], seq)
            else:
                runs.append((origin, seq, seq))
        return ", ".join(self._run(*run) for run in runs)

    def _run(self, origin: Origin, first: int, last: int) -> str:
        until = f"-{last}" if last > first else ""
        return f"{self._names.origin(origin)}:{first}{until}"

    # --- the stream -----------------------------------------------------------------

    def _from_sidecar(self, message: pb.FromSidecar) -> str:
        match message.WhichOneof("message"):
            case "batch":
                runs = [
                    (_origin(run.incarnation, run.lane), run.first, run.first + run.count - 1)
                    for run in message.batch.runs
                ]
                return ", ".join(self._run(*run) for run in runs)
            case "question":
                return (
                    f"question {message.question.number} {self._context(message.question.context)}"
                )
            case "ended":
                name = word(message.ended.incarnation)
                return f"{self._names.incarnation(name)} has ended"
            case "cancel":
                return f"question {message.cancel.number} is not wanted any more"
            case _:
                return ""

    def _to_sidecar(self, message: pb.ToSidecar) -> str:
        names = self._names
        match message.WhichOneof("message"):
            case "ack":
                ack = message.ack
                origins = [
                    f"{names.origin(_origin(incarnation, lane))}:{seq}"
                    for incarnation, lane, seq in zip(
                        ack.incarnations, ack.lanes, ack.seqs, strict=True
                    )
                ]
                return f"ack {', '.join(origins)} in {names.log(ack.log)}:{ack.index}"
            case "answer":
                answer = message.answer
                status = Status(answer.status).name.lower()
                return f"answer {answer.number} {status} {self._context(answer.context)}"
            case "successor":
                told = message.successor
                before = names.origin(_origin(told.incarnation, told.lane))
                after = names.origin(_origin(told.successor, told.lane))
                return f"what follows {before}:{told.after} is to come as {after}:1"
            case "lineages":
                told_all = message.lineages
                return ", ".join(
                    self._lineage(*each)
                    for each in zip(told_all.olds, told_all.news, told_all.forks, strict=True)
                )
            case "refused":
                return f"batch {message.refused.batch} is refused: {message.refused.reason}"
            case _:
                return ""

    # --- the log --------------------------------------------------------------------

    def _entry(self, entry: Entry) -> str:
        names = self._names
        match entry:
            case Batched():
                return ""
            case Holed(_, origins):
                holes = [(_origin(*parts_of(key)), start) for key, start in origins]
                said = [f"{names.origin(o)}:{start}" for o, start in holes if names.has_lane(o)]
                return f"hole from {', '.join(said)} on" if said else ""
            case Follows(_, successor, origin, after):
                before, lane = parts_of(origin)
                new = word(parts_of(successor)[0])
                names.next(new, "successor")
                name = names.origin(_origin(before, lane))
                return f"{names.origin(_origin(*parts_of(successor)))} follows {name}:{after}"
            case Moved(_, incarnation):
                return f"{names.incarnation(word(incarnation))} moved"
            case Expired(_, branches):
                return f"{', '.join(names.bid(bid) for _, bid in branches)} expired"
            case _:
                assert_never(entry)


def _origin(incarnation: int, lane: int) -> Origin:
    return origin_of(Incarnation(word(incarnation)), lane)
