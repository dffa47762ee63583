"""``rendezvous demo``: Post-Notification with and without Rendezvous, on real stores."""
