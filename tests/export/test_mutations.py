"""Captured requests, cut and bent in every place: refused, or of the same client but for the field that was bent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from npipe.transports.export.handshake import parse
from tests.export.helpers import CAPTURED, Captured, Request
from tests.export.mutations import (
    SAID_BY,
    bytes_bent,
    checked,
    fields_of,
    unexplained,
    with_length,
    words_bent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # some thousand packets each

# One of each kind: the others differ in names and numbers. (`make test-fuzz` bends all of them.)
KINDS = [
    Captured("level5-composed", Request(level=5, groups=(1, 2)).packed()),
    *(
        captured
        for captured in CAPTURED
        if captured.name
        in ("level7-alice-encrypted", "level8-alice-encrypted", "level8-guest-claims-root", "level8-anonymous")
    ),
]


def of_each_kind() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("captured", KINDS, ids=lambda captured: captured.name)


@pytest.mark.parametrize("captured", [*CAPTURED, KINDS[0]], ids=lambda captured: captured.name)
def test_the_fields_are_where_the_other_reader_finds_them(captured: Captured) -> None:
    fields, who = fields_of(captured.packet), parse(captured.packet)
    assert set(fields) <= {field for said_by in SAID_BY.values() for field in said_by} | {"key"}

    def content(field: str) -> bytes:
        return bytes(captured.packet[place] for place in sorted(fields[field]))

    for field in ("account", "domain", "unix_user", "address"):
        assert content(field).decode() == getattr(who, field)
    assert int.from_bytes(content("uid"), "little") == who.uid
    assert int.from_bytes(content("gid"), "little") == who.gid
    assert len(fields["groups"]) == 8 * len(who.groups)
    assert len(fields["key"]) == 16


def _nothing_is_gained(captured: Captured, bent: Iterator[bytes]) -> tuple[int, int]:
    fields, original = fields_of(captured.packet), parse(captured.packet)
    taken = refused = 0
    for packet in bent:
        who = checked(packet)
        if who is None:
            refused += 1
            continue
        taken += 1
        assert list(unexplained(captured.packet, fields, original, packet, who)) == []
    return taken, refused


@of_each_kind()
def test_a_byte_that_is_bent_tells_of_nobody_else(captured: Captured) -> None:
    taken, refused = _nothing_is_gained(captured, bytes_bent(captured.packet))
    assert taken > 1000  # of those that change a name, a number, or nothing
    assert refused > 1000


@of_each_kind()
def test_a_word_that_is_bent_tells_of_nobody_else(captured: Captured) -> None:
    taken, refused = _nothing_is_gained(captured, words_bent(captured.packet))
    assert taken > 300
    assert refused > 1000


@of_each_kind()
def test_what_is_taken_out_or_put_in_is_noticed(captured: Captured) -> None:
    """With a length that fits: a field is not another one's because it has slipped."""
    packet, original = captured.packet, parse(captured.packet)
    fields = fields_of(packet)
    for size in (1, 2, 4, 8, 16):
        for place in range(4, len(packet) - size):
            touched = set(range(place - 1, place + size + 1))
            for bent in (
                packet[:place] + packet[place + size :],
                packet[:place] + bytes(size) + packet[place:],
                packet[: place + size] + packet[place:],
            ):
                who = checked(with_length(bent))
                if who is None or who == original:
                    continue
                for what in SAID_BY.keys() - {"port"}:
                    if getattr(who, what) != getattr(original, what):
                        assert any(touched & fields.get(field, set()) for field in SAID_BY[what]), (size, place, who)


@of_each_kind()
def test_a_prefix_is_refused_whatever_its_length_says(captured: Captured) -> None:
    for end in range(len(captured.packet)):
        assert checked(captured.packet[:end]) is None
        assert checked(with_length(captured.packet[:end])) is None
        for fill in (b"\0", b"\xff"):
            filled = captured.packet[:end] + fill * (len(captured.packet) - end)
            who = checked(with_length(filled))
            if who is not None:
                original = parse(captured.packet)
                assert not who.known or original.known
                assert who.sids == original.sids
