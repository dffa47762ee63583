"""The metadata server: ``core`` decides (pure), ``shell`` acts (gRPC, logs, clock)."""
