"""A metadata server: the real core, a simulated disk, and the shell's order of work."""

from collections.abc import Callable
from typing import Any

from rendezvous_api.errors import RemoteError
from rendezvous_api.ids import LogId, word
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import (
    Acked,
    Answered,
    Core,
    Effects,
    Entry,
    Follows,
    LineagesLearnt,
    QuestionId,
    Send,
    StreamId,
    Succeeded,
)
from rendezvous_server.core.keys import key_of, parts_of
from rendezvous_server.shell.columns import columns
from rendezvous_testing.simulation.world import World

ToSidecar = Callable[[pb.ToSidecar], None]


class Server:
    """``entries`` is the disk: what is in it survives a crash, what waits for it does not."""

    def __init__(self, world: World, name: str, fsync_s: float) -> None:
        self._world = world
        self.name = name
        self._fsync_s = fsync_s
        self.up = True
        self.life = 0
        self.log = self._new_log()
        world.tap(name, name, self.log)
        self.entries: list[Entry] = []
        self.core = Core(self.log)
        self._waiting: list[tuple[Entry, StreamId | None]] = []
        self._writing = False
        self._streams: dict[StreamId, ToSidecar] = {}
        self._questions: dict[QuestionId, tuple[StreamId, int]] = {}
        self._number = 0
        self.lost_logs: set[LogId] = set()
        self._tick()

    def _new_log(self) -> LogId:
        return LogId(word(self._world.rng.getrandbits(64)))

    # --- life -----------------------------------------------------------------------

    def crash(self) -> None:
        """Everything but the disk is gone; streams break (the network tells the sidecars)."""
        self._world.say(f"{self.name}: killed")
        self.up = False
        self.life += 1
        self._waiting.clear()
        self._writing = False
        self._streams.clear()
        self._questions.clear()

    def restart(self, *, without_log: bool) -> None:
        """Come back, from the disk or with an empty one (then it is a new log)."""
        if without_log:
            self.lost_logs.add(self.log)
            self.log = self._new_log()
            self._world.tap(self.name, self.name, self.log)
            self.entries = []
        self._world.say(f"{self.name}: back, {'without' if without_log else 'with'} its log")
        self.core = Core(self.log)
        for index, entry in enumerate(self.entries, 1):
            self.core.apply(index, entry)
        self.core.recovered(self._world.now)
        self.up = True
        self._tick()

    def _tick(self) -> None:
        life = self.life

        def tick() -> None:
            if self.up and self.life == life:
                self._perform(self.core.tick(self._world.now))
                self._world.after(0.1, tick)

        tick()

    # --- streams --------------------------------------------------------------------

    def connect(self, sidecar: int, send: ToSidecar) -> StreamId:
        """A sidecar's stream is here, its hello read."""
        self._number += 1
        stream = StreamId(self._number)
        self._streams[stream] = send
        send(pb.ToSidecar(welcome=pb.Welcome(version=1, log=self.log, lease_ms=10_000)))
        self._perform(self.core.connect(stream, sidecar, self._world.now))
        return stream

    def disconnect(self, stream: StreamId) -> None:
        """A stream has ended."""
        if self._streams.pop(stream, None) is None:
            return
        for question in [q for q, (s, _) in self._questions.items() if s == stream]:
            del self._questions[question]
            self.core.cancel(question)
        self.core.disconnect(stream, self._world.now)

    def receive(self, stream: StreamId, message: pb.FromSidecar) -> None:
        """One message of a stream."""
        if stream not in self._streams:
            return
        now = self._world.now
        match message.WhichOneof("message"):
            case "batch":
                self._batch(stream, message.batch)
            case "question":
                asked = message.question
                self._number += 1
                question = QuestionId(self._number)
                self._questions[question] = (stream, asked.number)
                budget_s = asked.budget_ms / 1000
                self._perform(self.core.ask(question, asked.context, budget_s, now))
            case "lease":
                self.core.lease(stream, message.lease.incarnations, now)
            case "ended":
                self._perform(self.core.ended(stream, message.ended.incarnation, now))
            case "cancel":
                for question, asked_by in list(self._questions.items()):
                    if asked_by == (stream, message.cancel.number):
                        del self._questions[question]
                        self.core.cancel(question)
            case _:
                pass

    def _batch(self, stream: StreamId, batch: pb.Batch) -> None:
        now = self._world.now
        try:
            admission = self.core.admit(stream, columns(batch), now)
        except RemoteError as exc:
            refused = pb.Refused(batch=batch.number, reason=str(exc))
            self._streams[stream](pb.ToSidecar(refused=refused))
            return
        self._append(admission.holes)
        for lack in admission.lacks:
            lane = parts_of(lack.origin)[1]
            successor = key_of(self._world.rng.getrandbits(64), lane)
            self._append((Follows(now, successor, lack.origin, lack.after),))
        if admission.entry is not None:
            self._append((admission.entry,), stream)
        for send in admission.send:
            self._send(send)

    # --- persist, apply, send -------------------------------------------------------

    def _append(self, entries: tuple[Entry, ...], stream: StreamId | None = None) -> None:
        self._waiting += [(entry, stream) for entry in entries]
        self._write()

    def _write(self) -> None:
        if self._writing or not self._waiting:
            return
        self._writing = True
        life, group = self.life, self._waiting
        self._waiting = []
        delay_s = self._fsync_s * (0.5 + self._world.rng.random())

        def durable() -> None:
            if self.life != life:
                return
            self._writing = False
            for entry, stream in group:
                self.entries.append(entry)
                self._world.tap(self.name, self.name, entry)
                self._perform(self.core.apply(len(self.entries), entry, stream))
            self._write()

        self._world.after(delay_s, durable)

    def _perform(self, effects: Effects) -> None:
        self._append(effects.append)
        for send in effects.send:
            self._send(send)

    def _send(self, send: Send) -> None:
        message: Any
        match send:
            case Acked(stream, log, index, origins):
                message = pb.Ack(log=log, index=index)
                for key, seq in origins:
                    incarnation, lane = parts_of(key)
                    message.incarnations.append(incarnation)
                    message.lanes.append(lane)
                    message.seqs.append(seq)
                self._to(stream, pb.ToSidecar(ack=message))
            case Succeeded(stream, origin, after, successor):
                incarnation, lane = parts_of(origin)
                message = pb.Successor(
                    incarnation=incarnation,
                    lane=lane,
                    after=after,
                    successor=parts_of(successor)[0],
                )
                self._to(stream, pb.ToSidecar(successor=message))
            case Answered(question, status, context):
                asked = self._questions.pop(question, None)
                if asked is not None:
                    answer = pb.Answer(number=asked[1], status=int(status), context=context)
                    self._to(asked[0], pb.ToSidecar(answer=answer))
            case LineagesLearnt(entries):
                message = pb.Lineages(
                    olds=[e.old for e in entries],
                    news=[e.new for e in entries],
                    forks=[e.fork for e in entries],
                )
                for stream in self._streams:
                    self._to(stream, pb.ToSidecar(lineages=message))

    def _to(self, stream: StreamId, message: pb.ToSidecar) -> None:
        send = self._streams.get(stream)
        if send is not None:
            send(message)
