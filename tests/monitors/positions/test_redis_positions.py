"""Redis positions: real answers to the question, and what they cover."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api.ids import StoreKey
from rendezvous_monitors.positions import redis
from rendezvous_monitors.positions.cover import Cover, Lineage
from rendezvous_monitors.positions.redis import Applied, covers, parse, store_key

ID_A, ID_B = b"8f1c" * 10, b"27d9" * 10
A, B, C = store_key(ID_A), store_key(ID_B), store_key(b"03ab" * 10)
NONE = b"0" * 40

# As Valkey 9.1 answers, captured; ids and offsets shortened to what the test needs.
PRIMARY = b"""# Replication
role:master
connected_slaves:1
slave0:ip=127.0.0.1,port=17001,state=online,offset=98,lag=0,type=replica
replicas_waiting_psync:0
master_failover_state:no-failover
master_replid:%s
master_replid2:%s
master_repl_offset:98
second_repl_offset:%d
repl_backlog_active:1
repl_backlog_size:10485760
repl_backlog_first_byte_offset:1
repl_backlog_histlen:98
"""
REPLICA = b"""# Replication
role:slave
master_host:127.0.0.1
master_port:17000
master_link_status:%s
master_last_io_seconds_ago:0
master_sync_in_progress:%d
slave_read_repl_offset:120
slave_repl_offset:84
replicas_repl_buffer_size:0
replicas_repl_buffer_peak:0
slave_priority:100
slave_read_only:%d
replica_announced:1
connected_slaves:0
replicas_waiting_psync:0
master_failover_state:no-failover
master_replid:%s
master_replid2:%s
master_repl_offset:120
second_repl_offset:%d
repl_backlog_active:1
"""


def wire(text: bytes) -> bytes:
    return text.replace(b"\n", b"\r\n")


def primary(id2: bytes = NONE, second: int = -1) -> bytes:
    return wire(PRIMARY % (ID_A, id2, second))


def replica(
    link: bytes = b"up",
    *,
    syncing: int = 0,
    read_only: int = 1,
    id2: bytes = NONE,
    second: int = -1,
) -> bytes:
    return wire(REPLICA % (link, syncing, read_only, ID_A, id2, second))


def test_a_primarys_applied_position_is_its_head() -> None:
    assert parse(primary()) == Applied(A, 98, True)


def test_a_replicas_applied_position_is_what_it_has_processed_not_what_it_has_read() -> None:
    assert parse(replica()) == Applied(A, 84, False)


def test_a_replica_that_is_cut_off_is_not_linked() -> None:
    assert parse(replica(b"down")) == Applied(A, 84, False, linked=False)


def test_a_replica_that_is_loading_a_copy_is_syncing() -> None:
    assert parse(replica(b"down", syncing=1)) == Applied(A, 84, False, False, True)


def test_a_replica_that_takes_writes_of_its_own_says_so() -> None:
    assert parse(replica(read_only=0)) == Applied(A, 84, False, writable=True)


def test_the_history_before_a_failover_ends_before_the_second_offset() -> None:
    assert parse(primary(ID_B, 61)) == Applied(A, 98, True, previous=B, fork=60)
    assert parse(replica(id2=ID_B, second=61)) == Applied(A, 84, False, previous=B, fork=60)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"PONG",
        b"# Replication\r\nrole:sentinel\r\n",
        b"# Proxy\r\nrole:master\r\n",
        primary().replace(b"master_repl_offset:98", b"master_repl_offset:?"),
        primary().replace(ID_A, b"short"),
        replica().replace(b"slave_repl_offset:84", b"x:1"),
    ],
)
def test_what_is_no_answer_to_the_question_is_none(answer: bytes) -> None:
    assert parse(answer) is None


@given(st.binary(max_size=200) | st.integers(0, 900).map(lambda n: replica()[:n]))
def test_no_answer_breaks_the_parser(answer: bytes) -> None:
    parse(answer)


# --- covers ---------------------------------------------------------------------------------

NO_LINEAGE = Lineage()


def test_a_node_covers_what_it_has_applied_and_not_more() -> None:
    node = Applied(A, 84, False)
    assert covers(node, A, 84, NO_LINEAGE) is Cover.YES
    assert covers(node, A, 85, NO_LINEAGE) is Cover.NO


def test_a_cut_replica_covers_what_it_had_and_waiting_may_help() -> None:
    node = Applied(A, 84, False, linked=False)
    assert covers(node, A, 84, NO_LINEAGE) is Cover.YES
    assert covers(node, A, 85, NO_LINEAGE) is Cover.NO


def test_roles_let_nothing_pass_a_primary_behind_its_own_history_has_lost_it() -> None:
    assert covers(Applied(A, 98, True), A, 98, NO_LINEAGE) is Cover.YES
    assert covers(Applied(A, 98, True), A, 99, NO_LINEAGE) is Cover.LOST


def test_a_syncing_node_cannot_say() -> None:
    assert covers(Applied(A, 84, False, False, True), A, 1, NO_LINEAGE) is Cover.UNKNOWN


def test_unrelated_only_when_no_lineage_joins_the_epochs() -> None:
    node = Applied(A, 84, False)
    assert covers(node, B, 1, NO_LINEAGE) is Cover.UNRELATED
    lineage = Lineage()
    lineage.learn(A, B, 10)
    assert covers(node, B, 1, lineage) is Cover.YES
    assert covers(node, B, 11, lineage) is Cover.NO  # the node has yet to follow the failover
    lineage = Lineage()
    lineage.learn(B, A, 10)
    assert covers(node, B, 10, lineage) is Cover.YES
    assert covers(node, B, 11, lineage) is Cover.LOST


def test_a_replica_that_never_reached_its_primary_may_belong_to_any_store() -> None:
    assert covers(Applied(A, 0, False, linked=False), B, 1, NO_LINEAGE) is Cover.UNKNOWN


def test_the_nodes_own_last_failover_needs_no_lineage() -> None:
    node = Applied(A, 98, True, previous=B, fork=60)
    assert covers(node, B, 60, NO_LINEAGE) is Cover.YES
    assert covers(node, B, 61, NO_LINEAGE) is Cover.LOST
    behind = Applied(A, 40, False, previous=B, fork=60)
    assert covers(behind, B, 50, NO_LINEAGE) is Cover.NO


def test_two_failovers_the_older_one_told_by_others() -> None:
    node = Applied(A, 98, True, previous=B, fork=60)
    lineage = Lineage()
    assert covers(node, C, 20, lineage) is Cover.UNRELATED
    lineage.learn(C, B, 30)
    assert covers(node, C, 30, lineage) is Cover.YES
    assert covers(node, C, 31, lineage) is Cover.LOST


def test_a_replica_that_lagged_at_the_failover_believes_who_knows_better() -> None:
    node = Applied(A, 98, False, previous=B, fork=60)
    lineage = Lineage()
    assert covers(node, B, 70, lineage) is Cover.LOST  # all that is known
    lineage.learn(B, A, 80)  # as the promoted node says
    assert covers(node, B, 70, lineage) is Cover.YES
    assert covers(node, B, 81, lineage) is Cover.LOST


@given(
    st.integers(0, 50),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 50),
    st.sampled_from([A, B, C]),
    st.integers(0, 60),
)
def test_yes_never_names_more_than_the_node_has(
    at: int, first: bool, linked: bool, syncing: bool, fork: int, store: StoreKey, value: int
) -> None:
    node = Applied(A, at, first, linked, syncing, previous=B, fork=fork)
    if covers(node, store, value, NO_LINEAGE) is Cover.YES:
        assert value <= at and not syncing
        assert store == A or (store == B and value <= fork)


def test_the_packed_question_is_the_question() -> None:
    words = [word.encode() for word in redis.QUESTION]
    packed = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    assert packed == redis.QUESTION_PACKED
