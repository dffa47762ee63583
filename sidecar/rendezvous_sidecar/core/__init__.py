"""What the sidecar decides. Pure: events in, effects out; time is an argument."""
