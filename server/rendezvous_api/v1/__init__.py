"""Generated from ``rendezvous.proto`` by ``make protos``; holds nothing else."""
