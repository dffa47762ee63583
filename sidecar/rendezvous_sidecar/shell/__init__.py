"""What the sidecar does: sockets, the gRPC stream, signals, health."""
