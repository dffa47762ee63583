"""The protocol's batch as the core's: plain lists, copied once."""

from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_server.core.batch import Batch


def columns(message: pb.Batch) -> Batch:
    """The columns of a received batch, unchecked."""
    return Batch(
        message.number,
        [(run.incarnation, run.lane, run.first, run.count) for run in message.runs],
        message.kinds,
        message.rids,
        list(message.requests),
        list(message.bids),
        list(message.names),
        message.open_works,
        list(message.open_parents),
        list(message.open_zones),
        list(message.open_services),
        list(message.open_regions),
        list(message.open_tags),
        list(message.close_frontiers),
        list(message.close_regions),
        list(message.adopt_services),
        list(message.adopt_regions),
        list(message.write_stores),
        list(message.write_values),
        list(message.unknown_stores),
        message.unknown_unanswered,
        list(message.links),
        list(message.lineage_olds),
        list(message.lineage_news),
        list(message.lineage_forks),
    )
