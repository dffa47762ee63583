"""Records: what code relies on from dataclasses, without them."""

import copy
import pickle
import subprocess
import sys

import pytest

from rendezvous_api.event import Fail, Opaque, Unknown, Write
from rendezvous_api.ids import StoreKey
from rendezvous_api.record import record

STORE = StoreKey("r")


@record
class Point:
    """A point."""

    x: int
    y: int = 0


def test_fields_by_position_name_and_default() -> None:
    assert (Point(1).x, Point(1).y, Point(y=3, x=2).y) == (1, 0, 3)
    assert Point.__doc__ == "A point."
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Point(1, 2, 3)  # type: ignore[call-arg]


def test_equal_means_same_class_and_same_fields() -> None:
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(1, 3)
    assert Fail() == Fail()
    others: list[object] = [(1, 2), Fail(), Opaque(), Write(STORE, 1), Unknown(STORE, True)]
    for at, one in enumerate([Point(1, 2), *others]):
        assert [one == other for other in [Point(1, 2), *others]].count(True) == 1, at
    assert len({Point(1, 2), Point(1, 2), Point(2, 1)}) == 2
    assert len({Fail(), Opaque()}) == 2


def test_a_record_shows_its_fields() -> None:
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"
    assert repr(Fail()) == "Fail()"


def test_a_record_has_no_room_for_more() -> None:
    assert not hasattr(Point(1), "__dict__")
    with pytest.raises(AttributeError):
        Point(1).z = 1  # type: ignore[attr-defined]


def test_a_record_matches_by_position() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_a_record_is_copied_and_pickled() -> None:
    body = Write(STORE, 1)
    assert copy.deepcopy(body) == body
    assert pickle.loads(pickle.dumps(body)) == body


def test_the_contract_loads_nothing_heavy() -> None:
    """It is loaded into other people's processes, before their own code."""
    code = (
        "import sys; before = set(sys.modules);"
        "import rendezvous_api.cell, rendezvous_api.codec, rendezvous_api.carrier;"
        "import rendezvous_api.channel, rendezvous_api.event;"
        "print(*(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    heavy = {"dataclasses", "inspect", "hashlib", "_hashlib", "ssl", "threading", "asyncio"}
    heavy |= {"socket", "logging", "json", "grpc", "google", "random"}
    assert "rendezvous_api.channel" in loaded
    assert not loaded & heavy
