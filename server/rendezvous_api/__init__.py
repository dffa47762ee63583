"""The contract that every part of Rendezvous shares.

Ids, positions and frontiers, the context on the wire, the cell in the process, the messages of the
channel between a process and its sidecar, the limits, and the gRPC protocol. Everything but ``v1``
and ``client`` is standard library only: it is loaded into other people's processes.
"""
