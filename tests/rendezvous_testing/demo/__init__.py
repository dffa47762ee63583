"""``rendezvous demo``: Post-Notification with and without Rendezvous, on real stores."""

from rendezvous_testing.demo.driver import main

__all__ = ["main"]
