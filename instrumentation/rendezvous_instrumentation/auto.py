"""``import rendezvous_instrumentation.auto``: the door for those who prefer one line of code."""

from rendezvous_instrumentation.install import install

install()
