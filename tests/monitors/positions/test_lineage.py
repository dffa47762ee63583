"""Lineages against a model in which every history is written out."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api.ids import StoreKey
from rendezvous_monitors.positions.cover import Lineage

A, B, C, D = (StoreKey(f"r{letter}") for letter in "ABCD")

History = list[str]
"""Offset by offset, in which epoch each was written."""
Claim = tuple[StoreKey, StoreKey, int]


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[StoreKey, History], list[Claim]]:
    """Epochs that fork from each other, and true claims about them: what a promoted node says, and
    what a replica says that had not come as far."""
    histories: dict[StoreKey, History] = {A: [A] * draw(st.integers(0, 6))}
    claims: list[Claim] = []
    for new in (B, C, D):
        old = draw(st.sampled_from(sorted(histories)))
        fork = draw(st.integers(0, len(histories[old])))
        histories[new] = histories[old][:fork] + [new] * draw(st.integers(0, 6))
        claim = st.tuples(st.just(old), st.just(new), st.integers(0, fork))
        claims += draw(st.lists(claim, max_size=2))
        if draw(st.booleans()):
            claims.append((old, new, fork))
    return histories, draw(st.permutations(claims))


def shared(histories: Mapping[StoreKey, History], one: StoreKey, other: StoreKey) -> int:
    """Up to which offset two histories are the same."""
    length = 0
    for a, b in zip(histories[one], histories[other], strict=False):
        if a != b:
            break
        length += 1
    return length


@given(worlds(), st.integers(0, 20))
def test_a_value_above_a_fork_on_every_way_is_never_carried(
    world: tuple[dict[StoreKey, History], list[Claim]], value: int
) -> None:
    histories, claims = world
    lineage = Lineage()
    for claim in claims:
        lineage.learn(*claim)
    for store in histories:
        for to in histories:
            carried = lineage.carry(store, value, to)
            if carried is not None and carried >= 0 and store != to:
                assert carried == value <= shared(histories, store, to)


@given(worlds())
def test_the_order_of_learning_and_repetition_make_no_difference(
    world: tuple[dict[StoreKey, History], list[Claim]],
) -> None:
    _, claims = world
    one, other = Lineage(), Lineage()
    for claim in claims:
        one.learn(*claim)
    for claim in [*reversed(claims), *claims]:
        other.learn(*claim)
    assert one.known() == other.known()


@given(worlds())
def test_epochs_that_any_lineage_joins_are_never_unrelated(
    world: tuple[dict[StoreKey, History], list[Claim]],
) -> None:
    _, claims = world
    lineage = Lineage()
    for claim in claims:
        lineage.learn(*claim)
    for old, new, _ in claims:
        for value in (0, 99):
            assert lineage.carry(old, value, new) is not None
            assert lineage.carry(new, value, old) is not None


def test_several_failovers_in_a_row() -> None:
    lineage = Lineage()
    assert lineage.learn(A, B, 10) and lineage.learn(B, C, 20) and lineage.learn(C, D, 30)
    assert lineage.carry(A, 10, D) == 10
    assert lineage.carry(A, 11, D) == -1
    assert lineage.carry(B, 20, D) == 20
    assert lineage.carry(D, 31, A) == -1
    assert lineage.came_before(A, D) and not lineage.came_before(D, A)
    assert lineage.carry(A, 1, StoreKey("rX")) is None


def test_a_dead_way_does_not_hide_a_living_one() -> None:
    lineage = Lineage()
    lineage.learn(A, B, 1)
    lineage.learn(A, C, 50)
    lineage.learn(C, B, 50)
    lineage.learn(B, D, 50)
    assert lineage.carry(A, 40, D) == 40


def test_of_two_forks_the_greater_holds_whoever_came_first() -> None:
    for forks in ((80, 100), (100, 80)):
        lineage = Lineage()
        news = [lineage.learn(A, B, fork) for fork in forks]
        assert news == [True, forks == (80, 100)]
        assert lineage.carry(A, 90, B) == 90


def test_two_nodes_promoted_from_one_history_share_what_both_had() -> None:
    lineage = Lineage()
    lineage.learn(A, B, 10)
    lineage.learn(A, C, 20)
    assert lineage.carry(B, 10, C) == 10
    assert lineage.carry(B, 11, C) == -1
    assert not lineage.came_before(B, C)


def test_lineages_that_make_a_circle_end() -> None:
    lineage = Lineage()
    lineage.learn(A, B, 5)
    lineage.learn(B, A, 5)
    lineage.learn(A, A, 5)
    assert lineage.carry(A, 9, B) == -1
    assert lineage.carry(A, 9, C) is None
