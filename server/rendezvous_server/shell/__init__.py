"""The metadata server's acts: gRPC, logs, clock, metrics. Start at ``serve``."""
