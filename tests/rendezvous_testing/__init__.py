"""What tests and demonstrations stand on: simulators, real stores, a delaying link, processes."""
