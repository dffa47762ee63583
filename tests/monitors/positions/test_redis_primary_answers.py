"""A primary's answers are read by the lines that say which history it lives in."""

import pytest

from rendezvous_monitors.positions import redis
from rendezvous_monitors.positions.redis import Applied, parse, store_key

ONE, TWO, NONE = b"1" * 40, b"2" * 40, b"0" * 40


def answer(replid: bytes, offset: bytes, second: bytes = NONE, fork: bytes = b"-1") -> bytes:
    return b"\r\n".join(
        [
            b"# Replication",
            b"role:master",
            b"connected_slaves:1",
            b"slave0:ip=127.0.0.1,port=1,state=online,offset=" + offset + b",lag=0",
            b"master_failover_state:no-failover",
            b"master_replid:" + replid,
            b"master_replid2:" + second,
            b"master_repl_offset:" + offset,
            b"second_repl_offset:" + fork,
            b"repl_backlog_active:1",
            b"",
        ]
    )


def test_only_the_offset_changes_between_failovers() -> None:
    assert [parse(answer(ONE, b"%d" % offset)) for offset in (7, 8, 8, 100_000)] == [
        Applied(store_key(ONE), offset, True) for offset in (7, 8, 8, 100_000)
    ]


def test_a_failover_is_seen_in_the_very_next_answer() -> None:
    before = parse(answer(ONE, b"50"))
    after = parse(answer(TWO, b"60", ONE, b"51"))
    again = parse(answer(TWO, b"61", ONE, b"51"))
    assert before == Applied(store_key(ONE), 50, True)
    assert after == Applied(store_key(TWO), 60, True, previous=store_key(ONE), fork=50)
    assert again == Applied(store_key(TWO), 61, True, previous=store_key(ONE), fork=50)


@pytest.mark.parametrize("offset", [b"", b"x", b"-1", b"1 2"])
def test_a_known_history_lends_no_offset_to_a_broken_answer(offset: bytes) -> None:
    parse(answer(ONE, b"5"))
    broken = answer(ONE, offset)
    assert parse(broken) == redis._parse(broken)  # pyright: ignore[reportPrivateUsage]


def test_a_cut_answer_is_read_as_if_nothing_were_known() -> None:
    whole = answer(ONE, b"12345")
    parse(whole)
    for cut in range(len(whole)):
        assert parse(whole[:cut]) == redis._parse(whole[:cut])  # pyright: ignore[reportPrivateUsage]
