"""The stage: the parts that a scenario declares, and what its processes are in the middle of."""

from dataclasses import dataclass, field
from typing import Any

from rendezvous_instrumentation.core.verdict import Verdict
from rendezvous_testing.scenarios.names import Names
from rendezvous_testing.scenarios.steady import Steady
from rendezvous_testing.scenarios.transcript import Transcript
from rendezvous_testing.simulation.servers import Server
from rendezvous_testing.simulation.shells import Bounds, Call, Scope, Shell
from rendezvous_testing.simulation.sidecars import Network, Sidecar
from rendezvous_testing.simulation.stores import Store
from rendezvous_testing.simulation.truth import Ground
from rendezvous_testing.simulation.world import Task, World

SETTLE_S = 0.1
"""Virtual seconds after a step, in which what it set going arrives and is acknowledged."""
STEP_S = 0.001
"""How finely an operation's end is seen, in virtual seconds."""
PATIENCE_S = 60.0
"""Virtual seconds after which an operation that goes on is a fault of the scenario."""
FSYNC_S = 0.001


class Wrong(AssertionError):
    """The scenario says something that is not so, or that makes no sense."""


@dataclass
class Frame:
    """A piece of a request that a process works on: begun from outside, or for a caller."""

    scope: Scope
    caller: "Frame | None" = None
    application: str = ""
    calls: list[Call] = field(default_factory=list[Call])
    """Calls that it waits for."""
    peers: list[str] = field(default_factory=list[str])


class Operation:
    """A step that takes virtual time."""

    def __init__(self) -> None:
        self.done = False
        self.result: Any = None


class Stage:
    """All parts by name."""

    def __init__(self) -> None:
        self.world = World(0, trace=False)
        self.world.rng = Steady()
        self.names = Names()
        self.transcript = Transcript(self.names)
        self.world.tap = self._tap
        self.ground = Ground()
        self.net = Network()
        self.context_bytes = 512
        self.stores: dict[str, Store] = {}
        self.servers: dict[str, Server] = {}
        self.sidecars: dict[str, Sidecar] = {}
        self.applications: dict[str, Shell] = {}
        self.foreign: set[str] = set()
        self.frames: dict[str, list[Frame]] = {}
        self.messages: dict[str, list[Call]] = {}
        self.reading: dict[str, tuple[Operation, str]] = {}
        """Reads that go on, and of what."""
        self.sent: str = ""
        """The last context on the wire."""
        self._lives: dict[str, int] = {}

    def _tap(self, sender: str, receiver: str, message: object) -> None:
        if isinstance(message, str):
            life = self._lives[sender] = self._lives.get(sender, 0) + 1
            self.names.give(message, sender + "'" * (life - 1))
        self.transcript.tap(sender, receiver, message)

    # --- parts ----------------------------------------------------------------------

    def add_store(self, name: str, regions: dict[str, float]) -> None:
        """A store with a primary, and a replica per region so many seconds behind."""
        store = Store(self.world, name, list(regions))
        for region, lag_s in regions.items():
            store.replicas[region].lag_s = lag_s
        self.names.give(store.primary.epoch, name)
        self.stores[name] = store

    def add_server(self, name: str) -> None:
        """A metadata server."""
        self.servers[name] = Server(self.world, name, FSYNC_S)

    def add_sidecar(self, name: str, servers: list[str]) -> None:
        """A sidecar that uses the first of these servers that it can reach."""
        ordered = [self.servers[each] for each in servers]
        # A sidecar dials the one after the first, in a ring.
        self.sidecars[name] = Sidecar(self.world, name, [ordered[-1], *ordered[:-1]], self.net)

    def add_application(self, name: str, region: str, sidecar: str, outbox: int) -> None:
        """An application process."""
        bounds = Bounds(context_bytes=self.context_bytes, outbox_events=outbox)
        self.frames[name] = []
        self.messages[name] = []
        self.applications[name] = Shell(
            self.world, self.ground, name, region, self.sidecars[sidecar], bounds
        )

    # --- what goes on ---------------------------------------------------------------

    def frame(self, name: str) -> Frame:
        """What a process works on now."""
        if not self.frames[name]:
            raise Wrong(f"{name} works on no request")
        return self.frames[name][-1]

    def settle(self) -> None:
        """What is under way arrives."""
        self.world.run(SETTLE_S)

    def start(self, application: str, task: Task) -> Operation:
        """Begin an operation of a process; it ends with the process."""
        operation = Operation()

        def run() -> Task:
            operation.result = yield from task
            operation.done = True

        self.world.start(run(), self.applications[application].alive())
        return operation

    def finish(self, operation: Operation) -> Any:
        """Let time pass until an operation has ended."""
        end = self.world.now + PATIENCE_S
        while not operation.done:
            if self.world.now > end:
                raise Wrong("it does not end")
            self.world.run(STEP_S)
        return operation.result

    def part(self, name: str) -> Shell | Sidecar | Server:
        """What is called ``name`` and can be killed."""
        for parts in (self.applications, self.sidecars, self.servers):
            if name in parts:
                return parts[name]
        raise Wrong(f"there is no {name}")


def verdict_text(verdict: Verdict | None) -> str:
    """A verdict as a scenario names it; a read that depends on nothing gets none."""
    return verdict.text if verdict is not None else "no verdict"
