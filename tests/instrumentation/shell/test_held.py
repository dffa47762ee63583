"""Reads held for one endpoint: one leads, the others are woken, the lead is handed over."""

from rendezvous_api.ids import StoreKey, word
from rendezvous_instrumentation.core.barrier import Applied
from rendezvous_instrumentation.shell.held import Held, Waiter, forget_held, held_for
from rendezvous_monitors.positions import redis
from rendezvous_monitors.positions.cover import Cover, Lineage

STORE = StoreKey("r" + word(3))
LINEAGE = Lineage()


def judge(applied: Applied, store: StoreKey, value: int) -> Cover:
    assert isinstance(applied, redis.Applied)
    return redis.covers(applied, store, value, LINEAGE)


def at(value: int) -> redis.Applied:
    return redis.Applied(STORE, value, False)


class Place:
    """Held reads that write down who was woken."""

    def __init__(self) -> None:
        self.held = Held()
        self.woken: list[str] = []

    def join(self, name: str, value: int) -> Waiter:
        return self.held.join(((STORE, value),), lambda: self.woken.append(name))


def test_the_first_one_leads_and_wakes_those_whose_targets_are_covered() -> None:
    place = Place()
    leader, early, late = place.join("leader", 50), place.join("early", 10), place.join("late", 90)
    assert [one.leads for one in (leader, early, late)] == [True, False, False]
    place.held.observed(at(20), judge)
    place.held.observed(at(30), judge)
    assert place.woken == ["early"] and early.woken  # once
    place.held.observed(at(90), judge)
    assert place.woken == ["early", "late"]  # the leader knows by itself


def test_a_loss_wakes_too_since_waiting_is_in_vain() -> None:
    place = Place()
    place.join("leader", 50)
    place.join("follower", 90)
    place.held.observed(redis.Applied(STORE, 10, True), judge)
    assert place.woken == ["follower"]


def test_a_leader_that_leaves_hands_over_and_the_successor_is_woken_to_lead() -> None:
    place = Place()
    leader, second, third = (place.join(name, 50) for name in ("leader", "second", "third"))
    place.held.leave(leader)
    assert second.leads and not third.leads and place.woken == ["second"]
    assert not second.woken  # it must poll, not read
    place.held.leave(third)
    assert place.woken == ["second"]
    place.held.leave(second)
    assert place.join("next", 1).leads


def test_endpoints_are_held_apart_and_forgotten_after_a_fork() -> None:
    one = held_for("a")
    assert held_for("a") is one and held_for("b") is not one
    forget_held()
    assert held_for("a") is not one
    forget_held()
