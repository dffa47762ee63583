"""Errors that say whose fault it is. They carry fields; the text is made from them."""

from dataclasses import dataclass


class RendezvousError(Exception):
    """Root of our errors; never raised itself."""


@dataclass
class LocalError(RendezvousError):
    """Our own bug, or a wrong call of our code. Keep the evidence and stop what was being done."""

    what: str

    def __str__(self) -> str:
        return self.what


@dataclass
class RemoteError(RendezvousError):
    """The peer sent what it must not send. Refuse that input, count it, go on."""

    what: str

    def __str__(self) -> str:
        return self.what


@dataclass
class MalformedContext(RemoteError):
    """A received context is not of the grammar in ``context.abnf``."""


@dataclass
class MalformedMessage(RemoteError):
    """A channel packet or batch is not of the agreed form."""


@dataclass
class Conflict(RemoteError):
    """An origin sent two different events under one seq."""


@dataclass
class Unreachable(RendezvousError):
    """A part that should be there does not answer. Try again, or go on without it."""

    what: str

    def __str__(self) -> str:
        return self.what


@dataclass
class BadConfig(RendezvousError):
    """A setting is wrong; the user can mend it."""

    setting: str
    value: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.setting}={self.value!r}: {self.wanted}"
