"""The test vectors that implementers in other languages use, against our own codec."""

import json
from importlib.resources import files
from typing import Any

import pytest

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import MalformedContext
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey

VECTORS: dict[str, Any] = json.loads(
    files("rendezvous_api").joinpath("context_vectors.json").read_text("utf-8")
)


def meaning(said: dict[str, Any]) -> Context:
    """A vector's ``context`` as ours. An unknown key is an error of the vector."""
    flags = Flags(0)
    for name in said.get("flags", []):
        flags |= Flags[name.upper()]
    known = {
        "rid", "branch", "zone", "child_zones", "links", "positions", "unknown", "unresolved",
        "logs", "origins", "time", "flags",
    }  # fmt: skip
    assert said.keys() <= known
    return Context(
        Rid(said["rid"]),
        Bid(int(said.get("branch", "0"))),
        tuple(int(part) for part in said.get("zone", [])),
        int(said.get("child_zones", "0")),
        frozenset(Rid(rid) for rid in said.get("links", [])),
        {StoreKey(store): int(value) for store, value in said.get("positions", {}).items()},
        {StoreKey(store): mark for store, mark in said.get("unknown", {}).items()},
        frozenset(Bid(int(bid)) for bid in said.get("unresolved", [])),
        {LogId(log): int(index) for log, index in said.get("logs", {}).items()},
        {Origin(origin): int(seq) for origin, seq in said.get("origins", {}).items()},
        int(said.get("time", "0")),
        flags,
    )


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_a_valid_text_means_what_the_vector_says(vector: dict[str, Any]) -> None:
    assert codec.decode(vector["text"]) == meaning(vector["context"])


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["name"])
def test_a_meaning_is_written_as_the_vector_says(vector: dict[str, Any]) -> None:
    written = codec.encode(meaning(vector["context"]))
    wanted = vector.get("encoded", vector["text"])
    assert sorted(written.split(".")) == sorted(wanted.split("."))


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["why"])
def test_an_invalid_text_is_refused(vector: dict[str, str]) -> None:
    with pytest.raises(MalformedContext):
        codec.decode(vector["text"])


@pytest.mark.parametrize("text", VECTORS["foreign"])
def test_a_version_of_the_future_is_recognised_and_not_read(text: str) -> None:
    assert codec.is_foreign(text)
    with pytest.raises(MalformedContext):
        codec.decode(text)


@pytest.mark.parametrize("text", VECTORS["not_foreign"])
def test_what_is_no_context_of_any_version_is_not_forwarded(text: str) -> None:
    assert not codec.is_foreign(text)
