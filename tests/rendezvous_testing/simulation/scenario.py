"""One run: what is there, what happens to it, and the two phases: faults, then peace.

In the first phase everything may be killed, cut and lost. Then faults stop, everything that is down
comes back, and whatever waits must come to an end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from rendezvous_testing.simulation.applications import Application, Habits
from rendezvous_testing.simulation.servers import Server
from rendezvous_testing.simulation.sidecars import Network, Sidecar
from rendezvous_testing.simulation.stores import Store
from rendezvous_testing.simulation.truth import Ground
from rendezvous_testing.simulation.world import World

FAULTS_S = 4.0
"""Virtual seconds of the first phase."""
PEACE_S = 30.0
"""Virtual seconds after which nothing may wait any more: longer than every budget and lease."""


@dataclass
class Run:
    """All parts of one run, for the checkers."""

    seed: int
    world: World
    ground: Ground
    habits: Habits
    stores: list[Store]
    servers: list[Server]
    sidecars: list[Sidecar]
    applications: list[Application]
    net: Network
    faults: list[str] = field(default_factory=list[str])


def build(seed: int, *, trace: bool = False) -> Run:
    """Draw a run from its seed. A third of the runs have no faults at all: what fails there is a
    plain defect."""
    world = World(seed, trace=trace)
    rng = world.rng
    calm = rng.random() < 0.33
    habits = Habits(
        context_bytes=rng.choice([512, 512, 160, 110]),
        outbox_events=20_000 if calm else rng.choice([20_000, 20_000, 40, 6]),
        lose_request=0.0 if calm else 0.03,
        lose_response=rng.choice([0.0, 0.05]) if calm else 0.08,
        write_unanswered=0.0 if calm else rng.choice([0.0, 0.05]),
        write_unplaced=0.0 if calm else rng.choice([0.0, 0.05]),
    )
    regions = ["eu", "us"]
    net, ground = Network(), Ground()
    stores = [Store(world, f"store{n}", regions) for n in range(rng.randint(1, 3))]
    servers = [
        Server(world, f"server{n}", rng.choice([0.0001, 0.002, 0.02]))
        for n in range(1 if calm else rng.randint(1, 2))
    ]
    sidecars: list[Sidecar] = []
    applications: list[Application] = []
    for number in range(rng.randint(2, 4)):
        sidecar = Sidecar(world, f"sidecar{number}", servers, net)
        sidecars.append(sidecar)
        for _ in range(rng.randint(1, 2)):
            name, region = f"app{len(applications)}", rng.choice(regions)
            applications.append(Application(world, ground, name, region, sidecar, stores, habits))
    for application in applications:
        application.peers = [other for other in applications if other is not application]
    run = Run(seed, world, ground, habits, stores, servers, sidecars, applications, net)
    for _ in range(rng.randint(4, 10)):
        application = rng.choice(applications)
        world.after(rng.random() * FAULTS_S, _begin(application))
    if not calm:
        for _ in range(rng.randint(1, 6)):
            world.after(rng.random() * FAULTS_S, _fault(run))
    return run


def play(run: Run) -> None:
    """Both phases."""
    run.world.run(FAULTS_S)
    peace(run)
    run.world.run(PEACE_S)


def peace(run: Run) -> None:
    """Faults stop; what is down comes back."""
    run.world.say("--- faults stop ---")
    run.net.heal()
    for server in run.servers:
        if not server.up:
            server.restart(without_log=False)
    for sidecar in run.sidecars:
        if not sidecar.up:
            sidecar.start()
    for application in run.applications:
        if not application.up:
            application.start()
    for store in run.stores:
        for node in store.replicas.values():
            node.cut = False


def _begin(application: Application) -> Callable[[], None]:
    def begin() -> None:
        if application.up:
            application.begin_request()

    return begin


def _fault(run: Run) -> Callable[[], None]:
    """Something that goes wrong, drawn when it happens."""

    def strike() -> None:
        rng = run.world.rng
        faults = [
            _kill_application,
            _kill_sidecar,
            _kill_server,
            _kill_pod,
            _cut_stream,
            _part,
            _cut_replica,
            _fail_over,
        ]
        fault = rng.choice(faults)
        run.faults.append(fault.__name__[1:])
        fault(run)

    return strike


def _back_after(run: Run, seconds: float, back: Callable[[], None]) -> None:
    run.world.after(seconds * run.world.rng.random(), back)


def _kill_application(run: Run) -> None:
    application = run.world.rng.choice(run.applications)
    if application.up:
        application.crash()
        _back_after(run, 1.0, lambda: None if application.up else application.start())


def _kill_sidecar(run: Run) -> None:
    sidecar = run.world.rng.choice(run.sidecars)
    if sidecar.up:
        sidecar.crash()
        _back_after(run, 1.0, lambda: None if sidecar.up else sidecar.start())


def _kill_pod(run: Run) -> None:
    """A process and its sidecar die at the same moment."""
    application = run.world.rng.choice(run.applications)
    sidecar = application.sidecar
    if application.up and sidecar.up:
        application.crash()
        sidecar.crash()
        _back_after(run, 1.0, lambda: None if sidecar.up else sidecar.start())
        _back_after(run, 1.0, lambda: None if application.up else application.start())


def _kill_server(run: Run) -> None:
    server = run.world.rng.choice(run.servers)
    if server.up:
        run.net.cut_streams(lambda stream: stream.server is server)
        server.crash()
        without = run.world.chance(0.3)
        _back_after(run, 1.5, lambda: None if server.up else server.restart(without_log=without))


def _cut_stream(run: Run) -> None:
    if run.net.streams:
        chosen = run.world.rng.choice(run.net.streams)
        run.net.cut_streams(lambda stream: stream is chosen)


def _part(run: Run) -> None:
    sidecar, server = run.world.rng.choice(run.sidecars), run.world.rng.choice(run.servers)
    run.net.part(sidecar.name, server.name)
    _back_after(run, 2.0, run.net.heal)


def _cut_replica(run: Run) -> None:
    node = run.world.rng.choice(list(run.world.rng.choice(run.stores).replicas.values()))

    def mend() -> None:
        node.cut = False

    node.cut = True
    _back_after(run, 2.0, mend)


def _fail_over(run: Run) -> None:
    store = run.world.rng.choice(run.stores)
    if not store.moves:
        store.fail_over()
