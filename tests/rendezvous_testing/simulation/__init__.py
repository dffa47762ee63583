"""Simulation: the cores of server, sidecar and channel, unmodified, in one process on virtual time.

``world`` is the clock and the tasks; ``network`` carries messages and loses them; ``stores``
replicate; ``servers``, ``sidecars``, ``shells`` and ``reads`` put the real cores on that ground;
``applications`` draws what processes do, ``scenario`` a workload and faults from one seed;
``checkers`` judge the run. One seed is one run, exactly:
``python -m rendezvous_testing.simulation --first SEED --seeds 1 --trace``.

Simulated faults: loss, delay, reordering between connections, partition, crash and restart of every
part, loss of a server's log, full buffers, failover of a store (one each), unanswered writes and calls.
Not simulated: what lives in drivers and kernels (forks, sockets: tested on real processes), a disk
that lies, a second failover that nobody connected saw (see ``tests/monitors``).
"""
