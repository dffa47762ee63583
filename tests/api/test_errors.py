"""Errors: their texts, their fields, and whose fault each is."""

import pickle

import pytest

from rendezvous_api import errors


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        (errors.LocalError("a wrong call"), "a wrong call", errors.RendezvousError),
        (errors.RemoteError("bad input"), "bad input", errors.RendezvousError),
        (errors.MalformedContext("not a rid"), "not a rid", errors.RemoteError),
        (errors.MalformedMessage("a cut event"), "a cut event", errors.RemoteError),
        (errors.Conflict("seq 3 twice"), "seq 3 twice", errors.RemoteError),
        (errors.Unreachable("no server"), "no server", errors.RendezvousError),
        (
            errors.BadConfig("RENDEZVOUS_MODE", "enforc", "one of enforce, observe, off"),
            "RENDEZVOUS_MODE='enforc': one of enforce, observe, off",
            errors.RendezvousError,
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_says_what_is_wrong(
    error: errors.RendezvousError, text: str, kind: type[Exception]
) -> None:
    assert str(error) == text
    assert isinstance(error, kind)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), text, vars(error))
    assert error in {error}  # some tracebacks' tools keep errors in sets


def test_ours_and_theirs_are_told_apart() -> None:
    assert not issubclass(errors.LocalError, errors.RemoteError)
    assert not issubclass(errors.Unreachable, errors.RemoteError)
