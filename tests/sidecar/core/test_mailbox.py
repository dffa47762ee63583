"""A process that does not read costs a bounded amount of memory and no ack."""

from rendezvous_api.channel import Acked, Answered, Status, decode_to_process
from rendezvous_api.ids import LogId, word
from rendezvous_sidecar.core.mailbox import Mailbox
from rendezvous_sidecar.limits import MAILBOX_MESSAGES_MAX

LOG = LogId(word(0xA))


def acked(lane: int, seq: int) -> Acked:
    return Acked(((lane, seq, LOG, seq),))


def test_acks_overwrite_each_other_per_lane() -> None:
    mailbox = Mailbox()
    for message in (acked(0, 1), acked(1, 5), acked(0, 3)):
        assert mailbox.put(message)
    packet = mailbox.first()
    assert packet is not None
    assert decode_to_process(packet) == Acked(((1, 5, LOG, 5), (0, 3, LOG, 3)))
    mailbox.sent()
    assert mailbox.first() is None


def test_acks_of_different_logs_do_not_overwrite_each_other() -> None:
    """After a failover each log holds a part of the lane: a frontier names both."""
    mailbox, other = Mailbox(), LogId(word(0xB))
    mailbox.put(acked(0, 3))
    mailbox.put(Acked(((0, 5, other, 1),)))
    mailbox.put(Acked(((0, 6, other, 2),)))
    packet = mailbox.first()
    assert packet is not None
    assert decode_to_process(packet) == Acked(((0, 3, LOG, 3), (0, 6, other, 2)))


def test_a_packet_stays_until_it_is_sent() -> None:
    mailbox = Mailbox()
    mailbox.put(Answered(1, Status.ANSWERED, ""))
    assert mailbox.first() == mailbox.first() is not None


def test_answers_go_first_and_in_order() -> None:
    mailbox = Mailbox()
    mailbox.put(acked(0, 1))
    mailbox.put(Answered(1, Status.ANSWERED, "a"))
    mailbox.put(Answered(2, Status.BUSY, "b"))
    seen: list[object] = []
    while (packet := mailbox.first()) is not None:
        seen.append(decode_to_process(packet))
        mailbox.sent()
    assert seen == [Answered(1, Status.ANSWERED, "a"), Answered(2, Status.BUSY, "b"), acked(0, 1)]


def test_answers_beyond_the_bound_are_refused_and_acks_are_not() -> None:
    mailbox = Mailbox()
    for number in range(MAILBOX_MESSAGES_MAX):
        assert mailbox.put(Answered(number, Status.ANSWERED, ""))
    assert not mailbox.put(Answered(9, Status.ANSWERED, ""))
    assert mailbox.put(acked(0, 1))
