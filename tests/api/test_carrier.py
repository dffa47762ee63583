"""Our member in a baggage header: first, merged, and the user's members to the letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api.carrier import members_in, with_member, without_member
from rendezvous_api.limits import BAGGAGE_BYTES_MAX, CONTEXT_BYTES_MAX

VALUE = "1.AAECAwQFBgcICQoLDA0ODw"

_visible = "!#$%&'*+-.^_`|~09azAZrdv"
_member = st.builds(
    "{}{}={}{}{}".format,
    st.sampled_from(["", " ", "\t"]),
    st.text(_visible, min_size=1, max_size=6).filter(lambda name: name != "rdv"),
    st.text("!#$%&'()*+-./09:<=>?@AZ[]^_`az{|}~", max_size=8),
    st.sampled_from(["", ";p", "; p=1;q = 2", ";rdv=1"]),
    st.sampled_from(["", " "]),
)
foreign = st.lists(_member, min_size=1, max_size=6)


@pytest.mark.parametrize("nothing", [None, ""])
def test_without_baggage_ours_is_the_only_member(nothing: str | None) -> None:
    assert with_member(nothing, VALUE) == f"rdv={VALUE}"


@given(foreign)
def test_the_users_members_survive_to_the_letter(members: list[str]) -> None:
    baggage = ",".join(members)
    merged = with_member(baggage, VALUE)
    assert merged == f"rdv={VALUE},{baggage}"
    assert without_member(baggage) == baggage
    assert members_in(baggage) == []
    assert without_member(merged) == baggage.strip(" \t")


@given(
    foreign,
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["rdv=a", " rdv = b ;p=1", "rdv"]))),
)
def test_older_members_of_ours_go_wherever_they_stand(
    members: list[str], ours: list[tuple[int, str]]
) -> None:
    mixed = list(members)
    for at, member in ours:
        mixed.insert(at, member)
    merged = with_member(",".join(mixed), VALUE)
    assert members_in(merged) == [VALUE]
    assert [m.strip() for m in merged.split(",")] == [f"rdv={VALUE}", *(m.strip() for m in members)]


def test_ours_comes_first_and_is_not_doubled() -> None:
    once = with_member("user=ann; p=1 ,  other=b%20c", VALUE)
    assert once == f"rdv={VALUE},user=ann; p=1 ,  other=b%20c"
    assert with_member(once, "1.new") == "rdv=1.new,user=ann; p=1 ,  other=b%20c"


@pytest.mark.parametrize(
    "baggage",
    [
        "xrdv=1",
        "rdvx=1",
        "rdv-2=1",
        "RDV=1",
        "a=rdv",
        "a=1;rdv=2",
        "rdv;p=1",
        "a=rdv=1",
        "\xa0rdv=1",
    ],
)
def test_names_that_only_look_like_ours_are_the_users(baggage: str) -> None:
    assert members_in(baggage) == []
    assert without_member(baggage) == baggage
    assert with_member(baggage, VALUE) == f"rdv={VALUE},{baggage}"


@pytest.mark.parametrize(
    ("baggage", "found"),
    [
        ("rdv=x", ["x"]),
        ("a=1,rdv=x", ["x"]),
        ("a=1 , rdv = x ; ttl=3;q ,b=2", ["x"]),
        ("rdv=x,rdv=y,a=1,rdv=z", ["x", "y", "z"]),
        ("rdv=x;rdv=y", ["x"]),
        ("rdv=", [""]),
        ("rdv", []),
        (",,rdv=x,,", ["x"]),
        ("rdv=a=b", ["a=b"]),
    ],
)
def test_all_members_of_ours_are_found_without_their_properties(
    baggage: str, found: list[str]
) -> None:
    assert members_in(baggage) == found


def test_several_headers_are_one_list() -> None:
    """RFC 9110 §5.3: a recipient may join field lines by commas."""
    lines = [f"rdv={VALUE},a=1", "b=2", "rdv=1.other"]
    assert members_in(",".join(lines)) == [VALUE, "1.other"]
    assert without_member(",".join(lines)) == "a=1,b=2"


def test_a_list_of_ours_alone_leaves_nothing() -> None:
    assert without_member("rdv=a, rdv=b") == ""
    assert with_member("rdv=a, rdv=b", VALUE) == f"rdv={VALUE}"


def test_the_users_last_members_go_where_the_header_is_full() -> None:
    ours = "rdv=" + "x" * CONTEXT_BYTES_MAX
    room = BAGGAGE_BYTES_MAX - len(ours) - 1
    fits = "a=" + "y" * (room - 2)
    assert with_member(fits, ours[4:]) == f"{ours},{fits}"
    assert with_member(fits + ",b=1", ours[4:]) == f"{ours},{fits}"
    assert with_member(fits + "y", ours[4:]) == ours
    assert with_member("b=1,c=2," + fits, ours[4:]) == f"{ours},b=1,c=2"


@given(st.integers(0, 400), st.integers(1, 60))
def test_a_full_header_keeps_the_first_members_whole(count: int, size: int) -> None:
    members = [f"k{number}={'v' * size}" for number in range(count)]
    merged = with_member(",".join(members), VALUE)
    kept = merged.split(",")[1:]
    assert len(merged) <= BAGGAGE_BYTES_MAX
    assert kept == members[: len(kept)]
    if len(kept) < count:
        assert len(merged) + 1 + len(members[len(kept)]) > BAGGAGE_BYTES_MAX


def test_a_huge_header_is_cut_too() -> None:
    members = ["a=1"] * 300_000
    merged = with_member(",".join(members), VALUE)
    assert merged.count("a=1") == (BAGGAGE_BYTES_MAX - len("rdv=" + VALUE)) // len(",a=1")


@given(st.text())
def test_any_text_is_a_header(baggage: str) -> None:
    members_in(baggage)
    assert members_in(without_member(baggage)) == []
    assert members_in(with_member(baggage, VALUE)) == [VALUE]
