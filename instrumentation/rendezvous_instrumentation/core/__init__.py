"""Decisions inside the application, pure: no clock, no I/O, no randomness, no logging."""
