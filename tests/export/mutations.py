"""Requests that are cut and bent, and what of a request says which part of its client: read off once more, by hand.

The reader here has nothing in common with the one of npipe. It goes through a request that is known to be good, by the
layout of Samba's named_pipe_auth, and notes where each field stands.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from npipe.transports.export.handshake import HandshakeError, Identity, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXTREMES: Final = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
"""What a length, a number, a pointer or a user may be bent to."""

SLOWEST: Final = 2.0  # seconds that one request may take to parse: the longest takes milliseconds

# Of each thing that an Identity tells: the fields that say it.
SAID_BY: Final = {
    "level": ("level",),
    "account": ("account", "account's pointer"),
    "domain": ("domain", "domain's pointer"),
    "unix_user": ("unix_user", "unix_user's pointer"),
    "uid": ("uid",),
    "gid": ("gid",),
    "groups": ("groups",),
    "sids": ("sids",),
    "address": ("address",),
    "port": ("port",),
    "known": ("sids", "authenticated"),
    "anonymous": ("sids",),
    "encrypted": ("sids",),
    "probe": ("sids",),
}


class _Walk:
    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.at = 4
        self.places: defaultdict[str, set[int]] = defaultdict(set)

    def take(self, size: int, field: str = "", align: int = 1) -> int:
        self.at += -self.at % align
        value = int.from_bytes(self.packet[self.at : self.at + size], "little")
        if field:
            self.places[field].update(range(self.at, self.at + size))
        self.at += size
        return value

    def words(self, count: int, field: str = "") -> list[int]:
        return [self.take(4, field, 4) for _ in range(count)]

    def text(self, there: int, field: str = "") -> None:
        if there:
            size = self.words(3)[2]
            self.take(size - 1, field)
            self.take(1)  # its end: a string that goes on behind it is another matter

    def sids(self, field: str = "") -> None:
        for _ in range(self.take(4, align=4)):
            self.at += -self.at % 4
            parts = self.packet[self.at + 1]
            self.take(8 + 4 * parts, field)


def fields_of(packet: bytes) -> dict[str, set[int]]:
    """Return the places of the bytes of each field, of a good request."""
    walk = _Walk(packet)
    walk.take(4)  # the magic
    level = walk.words(2, "level")[0]
    walk.take(1)
    client_name, client_address = walk.words(2)
    walk.take(2, "port")
    server_name, server_address = walk.words(2)
    walk.take(2)
    walk.words(1)
    if level == 5:
        walk.take(1)
    walk.text(client_name)
    walk.text(client_address, "address")
    walk.text(server_name)
    walk.text(server_address)
    walk.words(2 + 5)
    walk.take(walk.words(1)[0], "key")
    walk.words(1)
    walk.take(16, align=4)
    walk.take(2, align=2)
    walk.at += -walk.at % 8
    walk.words(1)
    walk.sids("sids")
    walk.take(8, align=8)
    walk.words(1)
    if level == 8:
        walk.words(7)
        walk.sids()
        walk.take(2, align=2)
    walk.words(1)
    walk.take(8, "uid", 8)
    walk.take(8, "gid", 8)
    for _ in range(walk.words(1)[0]):
        walk.take(8, "groups", 8)
    # Of a name also whether there is one: that says it too.
    (account,), (principal,) = walk.words(1, "account's pointer"), walk.words(1)
    walk.take(1)
    texts = walk.words(1, "domain's pointer") + walk.words(7)
    walk.at += 48
    walk.take(2)
    walk.take(2)
    walk.words(1)
    walk.take(4 if level == 8 else 1, "authenticated", 4 if level == 8 else 1)
    walk.text(account, "account")
    walk.text(principal)
    for number, there in enumerate(texts):
        walk.text(there, "domain" if number == 0 else "")
    (unix_user,), (claimed,) = walk.words(1, "unix_user's pointer"), walk.words(1)
    walk.text(unix_user, "unix_user")
    walk.text(claimed)
    assert walk.at == len(packet)
    return dict(walk.places)


def bytes_bent(packet: bytes) -> Iterator[bytes]:
    """Each byte behind the length as 0, 255, one more, one less, and with each of its bits the other way."""
    for place in range(4, len(packet)):
        was = packet[place]
        for value in {0, 255, was + 1 & 255, was - 1 & 255, *(was ^ 1 << bit for bit in range(8))} - {was}:
            yield packet[:place] + bytes([value]) + packet[place + 1 :]


def words_bent(packet: bytes) -> Iterator[bytes]:
    """Each four bytes, wherever they begin, as one of EXTREMES, one more and one less."""
    for place in range(4, len(packet) - 3):
        was = int.from_bytes(packet[place : place + 4], "little")
        for value in {*EXTREMES, was + 1 & 0xFFFFFFFF, was - 1 & 0xFFFFFFFF} - {was}:
            yield packet[:place] + value.to_bytes(4, "little") + packet[place + 4 :]


def with_length(packet: bytes | bytearray) -> bytes:
    """The same, with its length in front."""
    return (max(0, len(packet) - 4)).to_bytes(4, "big") + bytes(packet[4:])


def checked(bent: bytes) -> Identity | None:
    """Parse; None if it is refused. Fails for another error than HandshakeError, and for one that takes for ever."""
    began = time.monotonic()
    try:
        return parse(bent)
    except HandshakeError:
        return None
    finally:
        assert time.monotonic() - began < SLOWEST


def unexplained(
    packet: bytes, fields: dict[str, set[int]], original: Identity, bent: bytes, who: Identity
) -> Iterable[str]:
    """What of `who`, whom a bent request of the same length tells, is another without that its own field was bent."""
    changed = {place for place, (was, now) in enumerate(zip(packet, bent, strict=True)) if was != now}
    for what, said_by in SAID_BY.items():
        if getattr(who, what) == getattr(original, what):
            continue
        if not any(changed & fields.get(field, set()) for field in said_by):
            yield what
