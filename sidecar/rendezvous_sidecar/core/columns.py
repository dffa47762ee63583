"""Events to columns: one ``Batch`` of ``rendezvous.v1`` from the runs of many origins."""

from collections.abc import Iterable

from rendezvous_api.event import Adopt, Close, Lineage, Link, Open, Unknown, Write
from rendezvous_api.ids import rid_bytes
from rendezvous_api.v1 import rendezvous_pb2 as pb
from rendezvous_sidecar.core.lane import Run


class _Table(dict[str, int]):
    """Names to indexes, in order of first use; a missing one is added."""

    def __missing__(self, name: str) -> int:
        index = self[name] = len(self)
        return index


class _Rids(dict[bytes, int]):
    def __missing__(self, rid: bytes) -> int:
        index = self[rid] = len(self)
        return index


def batch_of(number: int, runs: Iterable[Run]) -> pb.Batch:
    """The batch ``number`` with the events of ``runs``, in their order."""
    names, rids = _Table({"": 0}), _Rids()
    kinds, works, unanswered = bytearray(), bytearray(), bytearray()
    requests: list[int] = []
    bids: list[int] = []
    batch = pb.Batch(number=number)
    for run in runs:
        batch.runs.add(
            incarnation=run.incarnation, lane=run.lane, first=run.first, count=len(run.items)
        )
        for kind, rid, bid, body, _ in run.items:
            kinds.append(kind)
            requests.append(rids[rid])
            bids.append(bid)
            match body:
                case Write(store, value):
                    batch.write_stores.append(names[store])
                    batch.write_values.append(value)
                case Open(work, parent, zone, service, region, tag):
                    works.append(work)
                    batch.open_parents.append(parent)
                    batch.open_zones.append(names[zone])
                    batch.open_services.append(names[service])
                    batch.open_regions.append(names[region])
                    batch.open_tags.append(names[tag])
                case Close(frontier, region):
                    batch.close_frontiers.append(names[frontier])
                    batch.close_regions.append(names[region])
                case Adopt(service, region):
                    batch.adopt_services.append(names[service])
                    batch.adopt_regions.append(names[region])
                case Unknown(store, is_unanswered):
                    batch.unknown_stores.append(names[store])
                    unanswered.append(is_unanswered)
                case Link(linked):
                    batch.links.append(rids[rid_bytes(linked)])
                case Lineage(old, new, fork):
                    batch.lineage_olds.append(names[old])
                    batch.lineage_news.append(names[new])
                    batch.lineage_forks.append(fork)
                case _:
                    pass  # Fail and Opaque have no columns of their own
    batch.kinds = bytes(kinds)
    batch.open_works = bytes(works)
    batch.unknown_unanswered = bytes(unanswered)
    batch.rids = b"".join(rids)
    batch.requests.extend(requests)
    batch.bids.extend(bids)
    batch.names.extend(names)
    return batch
