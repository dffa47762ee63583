"""Our member in a W3C baggage header, merged and found as text.

Textual, so that the user's other members survive to the letter; first, because receivers drop later
members when a header is too long (W3C Baggage §3.3.2).
"""

from rendezvous_api.limits import BAGGAGE_BYTES_MAX

KEY = "rdv"
BAGGAGE = "baggage"
_MEMBER = KEY + "="
_SPACE = " \t"  # OWS of RFC 9110


def with_member(baggage: str | None, value: str) -> str:
    """``baggage`` with our member first and any older one of ours gone.

    Members of the user that no longer fit ``BAGGAGE_BYTES_MAX`` are dropped from the end.
    """
    if not baggage:
        return _MEMBER + value
    others = without_member(baggage)
    merged = f"{_MEMBER}{value},{others}" if others else _MEMBER + value
    if len(merged) <= BAGGAGE_BYTES_MAX:
        return merged
    end = merged.rfind(",", 0, BAGGAGE_BYTES_MAX + 1)
    return merged[:end] if end > 0 else _MEMBER + value


def without_member(baggage: str) -> str:
    """``baggage`` less our members; unchanged, to the letter, where it holds none."""
    if KEY not in baggage:
        return baggage
    members = baggage.split(",")
    others = [member for member in members if member.partition("=")[0].strip(_SPACE) != KEY]
    return baggage if len(others) == len(members) else ",".join(others).strip(_SPACE)


def members_in(baggage: str) -> list[str]:
    """The values of our members in a baggage header, properties cut off."""
    if KEY not in baggage:
        return []
    found: list[str] = []
    for member in baggage.split(","):
        name, equals, value = member.partition("=")
        if equals and name.strip(_SPACE) == KEY:
            found.append(value.partition(";")[0].strip(_SPACE))
    return found
