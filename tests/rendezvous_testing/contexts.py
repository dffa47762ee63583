"""Hypothesis strategies for what travels: ids, contexts, events and channel messages.

Ids are drawn from small pools beside the whole range, so that merges meet the same names.
"""

from hypothesis import strategies as st

from rendezvous_api import channel, event
from rendezvous_api.context import Context, Flags
from rendezvous_api.ids import (
    Bid,
    Incarnation,
    LogId,
    Origin,
    Rid,
    StoreKey,
    origin_of,
    rid_from_bytes,
    word,
)

U64_MAX = 2**64 - 1
u64s = st.integers(0, U64_MAX)
_names64 = st.integers(0, 4) | u64s


def _store(kind: str, epoch: int | None) -> StoreKey:
    return StoreKey(kind if epoch is None else kind + word(epoch))


rids: st.SearchStrategy[Rid] = st.builds(
    rid_from_bytes,
    st.integers(0, 4).map(lambda n: n.to_bytes(16, "big")) | st.binary(min_size=16, max_size=16),
)
bids: st.SearchStrategy[Bid] = st.builds(Bid, _names64)
incarnations: st.SearchStrategy[Incarnation] = st.builds(Incarnation, st.builds(word, _names64))
logs: st.SearchStrategy[LogId] = st.builds(LogId, st.builds(word, _names64))
lanes = st.integers(0, 15)
origins: st.SearchStrategy[Origin] = st.builds(origin_of, incarnations, lanes)
stores: st.SearchStrategy[StoreKey] = st.builds(
    _store, st.sampled_from("rpmkQ"), st.none() | _names64
)
zones = st.lists(st.integers(0, 3) | u64s, max_size=4).map(tuple)
flags: st.SearchStrategy[Flags] = st.builds(Flags, st.integers(0, 15))


def contexts(size: int = 3, of: st.SearchStrategy[Rid] = rids) -> st.SearchStrategy[Context]:
    """Contexts with up to ``size`` entries of each kind, of the requests ``of``."""
    return st.builds(
        Context,
        rid=of,
        branch=bids,
        zone=zones,
        child_zones=u64s,
        links=st.frozensets(rids, max_size=size),
        positions=st.dictionaries(stores, u64s, max_size=size),
        unknown=st.dictionaries(stores, st.booleans(), max_size=size),
        unresolved=st.frozensets(bids, max_size=size),
        logs=st.dictionaries(logs, u64s, max_size=size),
        origins=st.dictionaries(origins, u64s, max_size=size),
        time=st.integers(0, 2**33),
        flags=flags,
    )


_labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_frontiers = st.sampled_from(["", "s__________80~1", "fAAAAAAAAAAA~2.s__________80~1"])

bodies: st.SearchStrategy[event.Body] = st.one_of(
    st.builds(event.Open, st.sampled_from(event.Work), bids, _labels, _labels, _labels, _labels),
    st.builds(event.Close, _frontiers, _labels),
    st.builds(event.Fail),
    st.builds(event.Opaque),
    st.builds(event.Adopt, _labels, _labels),
    st.builds(event.Write, stores, u64s),
    st.builds(event.Unknown, stores, st.booleans()),
    st.builds(event.Link, rids),
    st.builds(event.Lineage, stores, stores, u64s),
)
events: st.SearchStrategy[event.Event] = st.builds(
    event.Event, lanes, st.integers(1, U64_MAX), rids, bids, bodies
)


def _packed(some: list[event.Event]) -> channel.Events:
    return channel.Events(b"".join([event.encode(each) for each in some]))


_u32s = st.integers(0, 2**32 - 1)
_hello_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40
)
_context_texts = st.text("abcXYZ019.~-_", max_size=60)

to_sidecar: st.SearchStrategy[channel.ToSidecar] = st.one_of(
    st.builds(channel.Hello, incarnations, _u32s, _hello_names, _labels),
    st.builds(_packed, st.lists(events, max_size=4)),
    st.builds(channel.Ask, _u32s, _u32s, _context_texts),
)
to_process: st.SearchStrategy[channel.ToProcess] = st.one_of(
    st.builds(channel.Acked, st.lists(st.tuples(lanes, u64s, logs, u64s), max_size=4).map(tuple)),
    st.builds(channel.Answered, _u32s, st.sampled_from(channel.Status), _context_texts),
    st.builds(
        channel.Lineages,
        st.lists(st.builds(event.Lineage, stores, stores, u64s), max_size=4).map(tuple),
    ),
)
