"""What the core sends, as protocol messages."""

from collections.abc import Iterable

from rendezvous_api.event import Lineage
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core import Acked, Answered, Succeeded
from rendezvous_server.core.keys import parts_of


def ack(acked: Acked) -> bytes:
    """``ToSidecar.ack``."""
    parts = [parts_of(key) for key, _ in acked.origins]
    return pb.ToSidecar(
        ack=pb.Ack(
            log=acked.log,
            index=acked.index,
            incarnations=[incarnation for incarnation, _ in parts],
            lanes=[lane for _, lane in parts],
            seqs=[seq for _, seq in acked.origins],
        )
    ).SerializeToString()


def successor(succeeded: Succeeded) -> bytes:
    """``ToSidecar.successor``."""
    incarnation, lane = parts_of(succeeded.origin)
    return pb.ToSidecar(
        successor=pb.Successor(
            incarnation=incarnation,
            lane=lane,
            after=succeeded.after,
            successor=parts_of(succeeded.successor)[0],
        )
    ).SerializeToString()


def answer(answered: Answered, number: int) -> pb.Answer:
    """The answer to question ``number`` of its asker."""
    return pb.Answer(number=number, status=int(answered.status), context=answered.context)


def lineages(entries: Iterable[Lineage]) -> bytes:
    """``ToSidecar.lineages``."""
    known = list(entries)
    return pb.ToSidecar(
        lineages=pb.Lineages(
            olds=[entry.old for entry in known],
            news=[entry.new for entry in known],
            forks=[entry.fork for entry in known],
        )
    ).SerializeToString()


def refused(batch: int, reason: str) -> bytes:
    """``ToSidecar.refused``."""
    return pb.ToSidecar(refused=pb.Refused(batch=batch, reason=reason)).SerializeToString()
