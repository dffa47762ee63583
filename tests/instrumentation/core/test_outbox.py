"""Laws 1 and 3 inside the process: numbering is appending, only an ack frees memory."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from rendezvous_api import event
from rendezvous_api.event import Kind
from rendezvous_api.ids import Incarnation, LogId, word
from rendezvous_instrumentation.core.outbox import Outbox

INCARNATION = Incarnation(word(1))
LOG, OTHER_LOG = LogId(word(7)), LogId(word(8))
RID = bytes(16)
ROOM = 10_000


def outbox(limit: int = 100) -> Outbox:
    return Outbox(INCARNATION, limit)


def append(box: Outbox, lane: int = 0) -> int:
    return box.append(lane, Kind.FAIL, RID, 1, b"")


def sent(box: Outbox, room: int = ROOM) -> list[tuple[int, int]]:
    """(lane, seq) of all that is queued, in the order in which it is sent."""
    out: list[tuple[int, int]] = []
    while raw := box.take(room):
        out += [(one.lane, one.seq) for one in event.decode(raw)]
    return out


def test_law_1_an_events_seq_is_its_index_in_the_outbox() -> None:
    box = outbox()
    assert [append(box) for _ in range(3)] == [1, 2, 3]
    assert append(box, lane=5) == 1
    assert box.numbered(0) == 3 and box.numbered(5) == 1 and box.numbered(6) == 0
    assert sent(box) == [(0, 1), (0, 2), (0, 3), (5, 1)]
    assert not box.waiting and box.take(ROOM) == b""


def test_law_1_a_full_outbox_refuses_before_numbering() -> None:
    box = outbox(limit=2)
    assert [append(box), append(box), append(box), append(box, lane=1)] == [1, 2, 0, 0]
    assert sent(box) == [(0, 1), (0, 2)]
    assert append(box) == 0  # sending frees nothing
    box.acked(0, 1, LOG, 9)
    assert append(box) == 3  # and nothing was skipped
    assert sent(box) == [(0, 3)]


def test_law_3_only_an_ack_frees_memory_and_what_is_not_acknowledged_is_sent_again() -> None:
    box = outbox()
    for lane in (0, 0, 3, 0):
        append(box, lane)
    assert len(sent(box)) == box.size == 4
    box.channel_lost()
    assert sorted(sent(box)) == [(0, 1), (0, 2), (0, 3), (3, 1)]
    box.acked(0, 2, LOG, 5)
    box.channel_lost()
    append(box)
    assert sorted(sent(box)) == [(0, 3), (0, 4), (3, 1)]
    assert box.size == 3


def test_acks_are_idempotent_and_old_ones_harmless() -> None:
    box = outbox()
    for _ in range(4):
        append(box)
    for seq in (3, 3, 1, 0):
        box.acked(0, seq, LOG, seq + 10)
    assert box.size == 1
    seq, logs = box.acks[box.origins[0]]
    assert (seq, logs) == (3, {LOG: 13})
    box.acked(0, 4, OTHER_LOG, 2)  # another server goes on: a frontier names both logs
    assert box.acks[box.origins[0]] == (4, {LOG: 13, OTHER_LOG: 2})


def test_an_ack_of_what_was_never_numbered_frees_no_more_than_there_is() -> None:
    box = outbox()
    append(box)
    box.acked(0, 1_000, LOG, 1)
    assert box.size == 0 and box.acks[box.origins[0]][0] == 1
    assert append(box) == 2


def test_packets_hold_as_many_events_as_fit_and_at_least_one() -> None:
    box = outbox()
    for _ in range(5):
        append(box)
    size = len(box.take(1))  # a room that none fits: one event
    assert size == event.HEAD_BYTES
    assert len(box.take(2 * size + 1)) == 2 * size
    assert len(box.take(2 * size)) == 2 * size


def test_what_could_not_be_sent_stays_first() -> None:
    box = outbox()
    for _ in range(3):
        append(box)
    box.put_back(box.take(2 * event.HEAD_BYTES))
    append(box)
    assert sent(box) == [(0, 1), (0, 2), (0, 3), (0, 4)]


Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(1, 150)),
        st.tuples(st.just("fail"), st.integers(1, 150)),
        st.tuples(st.just("ack"), st.integers(0, 2)),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
def test_in_order_and_nothing_lost_whatever_the_channel_does(program: list[Step]) -> None:
    box = outbox(limit=12)
    numbered: dict[int, int] = defaultdict(int)
    seen: dict[int, int] = defaultdict(int)
    acked: dict[int, int] = defaultdict(int)

    def receive(raw: bytes) -> None:
        for one in event.decode(raw):
            assert one.seq <= seen[one.lane] + 1, "a gap"
            seen[one.lane] = max(seen[one.lane], one.seq)

    for step, argument in program:
        match step:
            case "append":
                seq = append(box, argument)
                if seq:
                    numbered[argument] += 1
                    assert seq == numbered[argument]
                else:
                    assert box.size == 12
            case "take":
                receive(box.take(argument))
            case "fail":
                if raw := box.take(argument):
                    box.put_back(raw)
            case "ack":
                acked[argument] = seen[argument]
                box.acked(argument, seen[argument], LOG, 1)
            case _:
                box.channel_lost()
        assert box.size == sum(numbered.values()) - sum(acked.values())
    box.channel_lost()
    while raw := box.take(ROOM):
        receive(raw)
    assert {lane: seq for lane, seq in seen.items() if seq} == dict(numbered)
