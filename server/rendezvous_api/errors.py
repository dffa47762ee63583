"""Errors that say whose fault it is. They carry fields; the text is made from them."""


class RendezvousError(Exception):
    """Root of our errors; never raised itself."""


class LocalError(RendezvousError):
    """Our own bug, or a wrong call of our code. Keep the evidence and stop what was being done."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class RemoteError(RendezvousError):
    """The peer sent what it must not send. Refuse that input, count it, go on."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class MalformedContext(RemoteError):
    """A received context is not of the grammar in ``context.abnf``."""


class MalformedMessage(RemoteError):
    """A channel packet or batch is not of the agreed form."""


class Conflict(RemoteError):
    """An origin sent two different events under one seq."""


class Unreachable(RendezvousError):
    """A part that should be there does not answer. Try again, or go on without it."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class BadConfig(RendezvousError):
    """A setting is wrong; the user can mend it."""

    def __init__(self, setting: str, value: str, wanted: str) -> None:
        super().__init__(setting, value, wanted)
        self.setting = setting
        self.value = value
        self.wanted = wanted

    def __str__(self) -> str:
        return f"{self.setting}={self.value!r}: {self.wanted}"
