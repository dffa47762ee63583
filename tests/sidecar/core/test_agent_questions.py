"""Questions: they overtake batches, survive streams, and are always answered."""

import pytest

from rendezvous_api.channel import Status
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.counters import Count
from rendezvous_testing.sidecar_play import Play, ask


@pytest.fixture
def play() -> Play:
    play = Play()
    play.process(1, 0xA, pid=1)
    play.process(2, 0xB, pid=2)
    return play


def answers(number: int, status: Status = Status.ANSWERED, context: str = "") -> pb.Answer:
    return pb.Answer(number=number, status=status, context=context or ask(0xA, 1))


def test_a_question_overtakes_the_batch_that_waits(play: Play) -> None:
    play.up(1)
    play.writes(1, 1, 1)
    play.writes(1, 2, 2)
    assert play.asks(1, 77, 0xA, 2) == ["> s1 question 1 within 1000 ms"]
    assert play.says(1, answer=answers(1)) == ["> p1 answered 77 ANSWERED"]
    assert play.agent.questions == 0


def test_equal_questions_are_asked_once_and_answered_to_all(play: Play) -> None:
    play.up(1)
    assert play.asks(1, 5, 0xA, 2) == ["> s1 question 1 within 1000 ms"]
    assert play.asks(2, 6, 0xA, 2) == []
    assert play.asks(2, 7, 0xA, 3) == ["> s1 question 2 within 1000 ms"]
    assert play.says(1, answer=answers(1)) == [
        "> p1 answered 5 ANSWERED",
        "> p2 answered 6 ANSWERED",
    ]


def test_an_equal_question_with_another_budget_is_a_question_of_its_own(play: Play) -> None:
    play.up(1)
    play.asks(1, 5, 0xA, 2, budget_ms=1000)
    assert play.asks(2, 6, 0xA, 2, budget_ms=3000) == ["> s1 question 2 within 3000 ms"]
    assert play.says(1, answer=answers(1)) == ["> p1 answered 5 ANSWERED"]


def test_a_question_whose_stream_is_lost_is_asked_again_with_what_is_left(play: Play) -> None:
    play.up(1)
    play.asks(1, 5, 0xA, 2, budget_ms=1000)
    play.down(1)
    play.after(0.2)
    assert play.up(2)[-1] == "> s2 question 1 within 800 ms"


def test_without_a_server_a_question_waits_a_little_and_then_no_question_waits(play: Play) -> None:
    play.up(1)
    play.down(1)
    assert play.asks(1, 5, 0xA, 2, budget_ms=5000) == []
    assert play.after(0.4) == []
    assert play.after(0.2) == ["> p1 answered 5 UNREACHABLE"]
    assert play.asks(1, 6, 0xA, 2, budget_ms=5000) == ["> p1 answered 6 UNREACHABLE"]
    play.up(2)
    assert play.asks(1, 7, 0xA, 2, budget_ms=5000) == ["> s2 question 2 within 5000 ms"]


def test_a_budget_shorter_than_the_wait_for_a_server_is_kept(play: Play) -> None:
    play.asks(1, 5, 0xA, 2, budget_ms=100)
    assert play.after(0.1) == ["> p1 answered 5 UNREACHABLE"]


def test_a_server_that_does_not_answer_in_time_is_answered_for(play: Play) -> None:
    play.up(1)
    play.asks(1, 5, 0xA, 2, budget_ms=100)
    assert play.after(0.5) == ["> p1 answered 5 TIMED_OUT", "> s1 cancel 1"]
    assert play.says(1, answer=answers(1)) == []


def test_nobody_asks_for_a_process_that_is_gone(play: Play) -> None:
    play.up(1)
    play.asks(1, 5, 0xA, 2)
    play.asks(2, 6, 0xA, 2)
    assert play.closes(1) == []
    assert play.closes(2) == ["> s1 cancel 1"]


@pytest.mark.parametrize("bad", [answers(1, context="?"), pb.Answer(number=1, status=99)])
def test_an_answer_that_makes_no_sense_counts_as_none(play: Play, bad: pb.Answer) -> None:
    play.up(1)
    play.asks(1, 5, 0xA, 2)
    assert play.says(1, answer=bad) == ["> p1 answered 5 UNREACHABLE"]
    assert play.agent.counts[Count.SERVER_MALFORMED] == 1


def test_a_question_that_is_no_context_ends_the_channel(play: Play) -> None:
    assert play.packet(1, b"\x03\0\0\0\0\0\0\0\0nonsense") == ["close p1"]


def test_lineages_reach_every_process_and_those_to_come(play: Play) -> None:
    play.up(1)
    told = pb.Lineages(olds=["rold"], news=["rnew"], forks=[9])
    assert play.says(1, lineages=told) == [
        "> p1 lineages rold->rnew@9",
        "> p2 lineages rold->rnew@9",
    ]
    assert play.says(1, lineages=told) == []
    assert play.process(3, 0xC, pid=3) == ["> p3 lineages rold->rnew@9"]
