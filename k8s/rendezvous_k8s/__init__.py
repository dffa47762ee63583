"""The place of the Kubernetes injection; nothing of it is here yet."""
