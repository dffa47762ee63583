"""The codec: round trips, hostile input, and what happens where a context does not fit."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rendezvous_api import codec
from rendezvous_api.context import Context, Flags
from rendezvous_api.errors import LocalError, MalformedContext
from rendezvous_api.ids import Bid, LogId, Origin, Rid, StoreKey, rid_from_bytes, word
from rendezvous_api.limits import CONTEXT_BYTES_MAX, CONTEXT_INPUT_BYTES_MAX, LINKS_MAX
from rendezvous_testing.contexts import contexts, stores

RID = rid_from_bytes(bytes(range(16)))
ORIGIN = Origin("__________80")
ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")


def store(number: int) -> StoreKey:
    return StoreKey("r" + word(number))


def positions(count: int) -> dict[StoreKey, int]:
    return {store(number): 2**40 + number for number in range(count)}


@given(contexts())
def test_what_is_encoded_is_decoded_again(context: Context) -> None:
    text = codec.encode(context, limit_bytes=CONTEXT_INPUT_BYTES_MAX)
    assert codec.decode(text) == context


@given(contexts(size=12), st.frozensets(stores, max_size=3))
@settings(max_examples=200)
def test_encoding_keeps_the_limit_and_the_alphabet(
    context: Context, keep: frozenset[StoreKey]
) -> None:
    text = codec.encode(context, keep=keep)
    assert len(text) <= CONTEXT_BYTES_MAX
    assert set(text) <= ALPHABET


@given(contexts(size=12), st.integers(codec.ESSENTIAL_BYTES, CONTEXT_BYTES_MAX))
@settings(max_examples=200)
def test_safety_what_is_left_out_is_said(context: Context, limit_bytes: int) -> None:
    """DESIGN §2: frontier, unresolved calls and unknown stores never silently; positions as more,
    but only such as the frontier covers."""
    got = codec.decode(codec.encode(context, limit_bytes=limit_bytes))
    assert (got.rid, got.branch, got.time) == (context.rid, context.branch, context.time)
    whole = (
        got.zone == context.zone
        and got.links == context.links
        and got.unknown == context.unknown
        and got.unresolved == context.unresolved
        and got.logs == context.logs
        and got.origins == context.origins
    )
    assert whole or got.flags & Flags.INCOMPLETE
    assert got.flags & context.flags == context.flags
    for key, value in got.positions.items():
        assert context.positions[key] == value
    if len(got.positions) < len(context.positions):
        covered = got.logs == context.logs and got.origins == context.origins
        covered = covered and bool(got.logs or got.origins)
        assert got.flags & (Flags.MORE if covered else Flags.INCOMPLETE)


def test_positions_are_dropped_first_and_marked_more() -> None:
    full = Context(
        RID,
        positions=positions(40),
        logs={LogId(word(1)): 7},
        origins={ORIGIN: 4},
        unresolved=frozenset({Bid(9)}),
        unknown={StoreKey("p"): True},
        links=frozenset({rid_from_bytes(bytes(16))}),
    )
    got = codec.decode(codec.encode(full))
    assert got.flags == Flags.MORE
    assert 0 < len(got.positions) < 40
    assert (got.logs, got.origins, got.unknown) == (full.logs, full.origins, full.unknown)
    assert (got.unresolved, got.links) == (full.unresolved, full.links)


def test_a_position_to_keep_stays_before_all_others() -> None:
    keep = frozenset({store(38), store(39)})
    got = codec.decode(
        codec.encode(Context(RID, positions=positions(40), origins={ORIGIN: 1}), keep=keep)
    )
    assert keep <= got.positions.keys()
    assert got.flags == Flags.MORE


def test_a_position_to_keep_that_does_not_fit_makes_the_context_incomplete() -> None:
    full = Context(RID, positions=positions(40), origins={ORIGIN: 1})
    got = codec.decode(codec.encode(full, keep=frozenset(full.positions)))
    assert got.flags == Flags.INCOMPLETE


def test_positions_that_no_frontier_covers_are_incomplete_never_more() -> None:
    got = codec.decode(codec.encode(Context(RID, positions=positions(40))))
    assert got.flags == Flags.INCOMPLETE


@pytest.mark.parametrize(
    "context",
    [
        Context(RID, origins={Origin(word(number) + "0"): 1 for number in range(40)}),
        Context(RID, logs={LogId(word(number)): 1 for number in range(40)}),
        Context(RID, unresolved=frozenset(Bid(number) for number in range(60))),
        Context(RID, unknown={store(number): False for number in range(60)}),
        Context(RID, links=frozenset(rid_from_bytes(bytes([n] * 16)) for n in range(30))),
        Context(RID, zone=(2**60,) * 60, child_zones=3),
    ],
    ids=["origins", "logs", "unresolved", "unknown", "links", "zone"],
)
def test_anything_else_that_does_not_fit_is_incomplete(context: Context) -> None:
    text = codec.encode(context)
    assert len(text) <= CONTEXT_BYTES_MAX
    assert codec.decode(text).flags == Flags.INCOMPLETE


def test_a_context_of_exactly_the_limit_is_whole() -> None:
    text = codec.encode(Context(RID, positions=positions(5), origins={ORIGIN: 1}))
    context = codec.decode(text)
    limit = max(len(text), codec.ESSENTIAL_BYTES)
    assert codec.encode(context, limit_bytes=limit) == text
    assert codec.decode(codec.encode(context, limit_bytes=limit - 1)).flags == Flags.MORE


def test_a_limit_without_room_for_the_essentials_is_our_own_fault() -> None:
    with pytest.raises(LocalError, match=f"needs {codec.ESSENTIAL_BYTES} bytes; 20 were given"):
        codec.encode(Context(RID), limit_bytes=20)


def test_the_essentials_always_fit() -> None:
    largest = Context(RID, Bid(2**64 - 1), child_zones=2**64 - 1, time=2**64 - 1, flags=Flags(15))
    assert codec.decode(codec.encode(largest, limit_bytes=codec.ESSENTIAL_BYTES)) == largest
    assert len(codec.encode(largest)) == codec.ESSENTIAL_BYTES


@given(st.text(max_size=200))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    for candidate in (text, f"1.{RID}.{text}"):
        try:
            codec.decode(candidate)
        except MalformedContext as exc:
            assert len(str(exc)) < 400
        codec.is_foreign(candidate)


FIELDS = st.text("bzclpauxfstg019aFAQw~-_é\n", max_size=20)


@given(st.lists(FIELDS, max_size=6))
@example(["b" + "A" * 10 + "~"])
@settings(max_examples=400)
def test_what_is_accepted_is_understood(fields: list[str]) -> None:
    """What decodes, however odd, encodes to a text with the same meaning."""
    try:
        context = codec.decode(".".join([f"1.{RID}", *fields]))
    except MalformedContext:
        return
    assert codec.decode(codec.encode(context, limit_bytes=CONTEXT_INPUT_BYTES_MAX)) == context


@given(contexts(), st.data())
@settings(max_examples=300)
def test_a_mutated_context_is_decoded_or_refused(context: Context, data: st.DataObject) -> None:
    text = codec.encode(context)
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.text(max_size=3) | st.text("~.-_0aAgz", max_size=3))
    mutated = text[:at] + put + text[at + cut :]
    try:
        got = codec.decode(mutated)
    except MalformedContext:
        return
    assert codec.decode(codec.encode(got, limit_bytes=CONTEXT_INPUT_BYTES_MAX)) == got


@given(contexts())
def test_a_context_cut_anywhere_is_decoded_or_refused(context: Context) -> None:
    text = codec.encode(context)
    for end in range(len(text)):
        try:
            codec.decode(text[:end])
        except MalformedContext:
            continue


def test_an_oversized_context_is_refused_unread() -> None:
    largest = f"1.{RID}.q".ljust(CONTEXT_INPUT_BYTES_MAX, "a")
    assert codec.decode(largest).rid == RID
    with pytest.raises(MalformedContext, match="a context of 4097 bytes"):
        codec.decode(largest + "a")


def test_more_links_than_the_limit_are_incomplete() -> None:
    links = [rid_from_bytes(number.to_bytes(16, "big")) for number in range(LINKS_MAX + 1)]
    text = f"1.{RID}.l" + "~".join(links)
    got = codec.decode(text)
    assert len(got.links) == LINKS_MAX
    assert got.flags == Flags.INCOMPLETE
    whole = codec.decode(f"1.{RID}.l" + "~".join([*links[:-1], links[0]]))
    assert whole.links == frozenset(links[:-1])
    assert whole.flags == Flags(0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2.x", "not a version 1 context: '2.x'"),
        ("1.short", "not a rid: '1.short'"),
        (f"1.{RID}.t0x1", f"not a number: '1.{RID}.t0x1'"),
        (f"1.{RID}.bAAAA", "not 64 bits in 11 characters: 'AAAA'"),
    ],
)
def test_a_refusal_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(MalformedContext) as caught:
        codec.decode(text)
    assert str(caught.value) == said


def test_rids_compare_as_texts_because_each_has_only_one() -> None:
    """A second spelling of one rid would make two cells of one request."""
    alias = Rid(RID[:-1] + "x")
    with pytest.raises(MalformedContext):
        codec.decode(f"1.{alias}")
