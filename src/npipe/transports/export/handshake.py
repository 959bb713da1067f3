"""What smbd says of a client before its data, and the answer: named_pipe_auth, of Samba's levels 5, 7 and 8.

A request is a length (big-endian), a magic, a level, and then NDR32, little-endian, whose alignments count from the
packet's first byte. All of it is checked before it is believed. What cannot be parsed is refused as a whole, and so is
what is left over at the end. The SMB session's key, which the request holds, is stepped over: nothing here returns or
shows it, and the errors name fields and places, never content.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["LENGTH_SIZE", "LEVELS", "MOST_REQUEST", "HandshakeError", "Identity", "compose_reply", "length_of", "parse"]

LEVELS: Final = (5, 7, 8)
"""5: Samba 4.16 to 4.17.8 and 4.18.0 to 4.18.2; 7: up to 4.19; 8: from 4.20 on."""

LENGTH_SIZE: Final = 4
"""Bytes of the length that a request begins with."""

MOST_REQUEST: Final = 256 * 1024
"""Bytes of a request at most, ours: a user of a thousand groups has about 40,000."""

_MAGIC: Final = b"NPAM"
_LEAST_REQUEST: Final = 64
_NCACN_NP: Final = 1
_GUEST_FLAG: Final = 1
_SID_PARTS: Final = 15
_AUTHENTICATED: Final = "S-1-5-11"
_ANONYMOUS: Final = "S-1-5-7"
_ENCRYPTED: Final = "S-1-22-1397571891-"
_FLAGS: Final = "S-1-22-2041152804-"
_PROBE: Final = 4
_REPLY: Final = struct.Struct("<III HHI QI")


class HandshakeError(ValueError):
    """A request is not one of named_pipe_auth's, or not one that is understood here."""


@dataclass(frozen=True)
class Identity:
    """Whom smbd has let in, as its request tells."""

    level: int
    account: str
    """The name in Samba's account database, or in the domain."""
    domain: str
    unix_user: str
    """The user of this system that Samba has made of it."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    sids: tuple[str, ...]
    address: str
    """The client's."""
    port: int
    known: bool
    """Whether it has proved who it is: neither a guest nor anonymous."""
    anonymous: bool
    encrypted: bool
    """Whether its open came encrypted."""
    probe: bool
    """Whether it only asks if the pipe is there (FSCTL_PIPE_WAIT of Samba 4.25)."""


class _Reader:
    """A packet, read from its beginning. Each step says which field it is for."""

    def __init__(self, packet: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(packet)
        self._at = 0

    def skip(self, count: int, what: str) -> int:
        """Step over `count` bytes, and return where they begin."""
        begin = self._at
        if count > len(self._view) - begin:
            raise HandshakeError(f"{what} at {begin} is beyond the end, {len(self._view)}")
        self._at = begin + count
        return begin

    def align(self, to: int) -> None:
        self.skip(-self._at % to, "padding")

    def number(self, size: int, what: str) -> int:
        self.align(size)
        begin = self.skip(size, what)
        return int.from_bytes(self._view[begin : begin + size], "little")

    def count(self, size: int, what: str) -> int:
        """Return a number of things, of which each takes at least `size` bytes of what is left."""
        number = self.number(4, what)
        if number * size > len(self._view) - self._at:
            raise HandshakeError(f"{what} at {self._at - 4} are more than the rest holds")
        return number

    def pointer(self, what: str) -> bool:
        return self.number(4, what) != 0

    def needed(self, what: str) -> None:
        if not self.pointer(what):
            raise HandshakeError(f"there is no {what}")

    def absent(self, what: str) -> None:
        if self.number(4, what) != 0:
            raise HandshakeError(f"{what} at {self._at - 4}: not understood here")

    def text(self, what: str) -> str:
        """Return a string behind a pointer: its room, its offset, its length with the NUL, its bytes."""
        room = self.count(1, what)
        offset = self.number(4, what)
        length = self.count(1, what)
        if offset or length != room or length == 0:
            raise HandshakeError(f"{what} at {self._at - 12} has a length that makes no sense")
        begin = self.skip(length, what)
        raw = bytes(self._view[begin : begin + length])
        if raw.find(0) != length - 1:
            raise HandshakeError(f"{what} at {begin} does not end with its only NUL")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise HandshakeError(f"{what} at {begin} is not UTF-8") from None

    def sid(self) -> str:
        self.align(4)
        begin = self.skip(8, "SID")
        revision, parts = self._view[begin], self._view[begin + 1]
        if revision != 1 or parts > _SID_PARTS:
            raise HandshakeError(f"SID at {begin} is none")
        authority = int.from_bytes(self._view[begin + 2 : begin + 8], "big")
        numbers = [self.number(4, "SID") for _ in range(parts)]
        return "-".join(["S", "1", str(authority), *map(str, numbers)])

    def end(self) -> None:
        if self._at != len(self._view):
            raise HandshakeError(f"it ends at {self._at}, and {len(self._view)} bytes are there")


def length_of(beginning: bytes | bytearray | memoryview) -> int:
    """Return how many bytes follow the first four of a request. Raises HandshakeError for a length that is none."""
    length = int.from_bytes(bytes(beginning[:LENGTH_SIZE]), "big")
    if not _LEAST_REQUEST <= length + LENGTH_SIZE <= MOST_REQUEST:
        raise HandshakeError(f"a request of {length} bytes")
    return length


def parse(packet: bytes | bytearray | memoryview) -> Identity:
    """Return what a whole request says. Raises HandshakeError, and nothing else, for whatever else it is."""
    if len(packet) < LENGTH_SIZE or length_of(packet) != len(packet) - LENGTH_SIZE:
        raise HandshakeError(f"{len(packet)} bytes, which is not what the first four say")
    reader = _Reader(packet)
    reader.skip(LENGTH_SIZE, "length")
    magic = reader.skip(4, "magic")
    if bytes(memoryview(packet)[magic : magic + 4]) != _MAGIC:
        raise HandshakeError("no magic")
    level = reader.number(4, "level")
    if level not in LEVELS or reader.number(4, "switch") != level:
        raise HandshakeError("a level that is not understood here")
    if reader.number(1, "transport") != _NCACN_NP:
        raise HandshakeError("a transport that is not a named pipe")
    has_client_name, has_client_address = reader.pointer("client's name"), reader.pointer("client's address")
    port = reader.number(2, "client's port")
    has_server_name, has_server_address = reader.pointer("server's name"), reader.pointer("server's address")
    reader.number(2, "server's port")
    reader.needed("session")
    if level == 5:
        reader.number(1, "need of an idle server")
    if has_client_name:
        reader.text("client's name")
    address = _address(reader.text("client's address")) if has_client_address else ""
    if has_server_name:
        reader.text("server's name")
    if has_server_address:
        reader.text("server's address")
    reader.needed("session's information")
    reader.skip(reader.count(1, "credentials"), "credentials")
    identity = _session(reader, level, address, port)
    reader.end()
    return identity


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise HandshakeError("the client's address is none") from None
    return text


def _session(reader: _Reader, level: int, address: str, port: int) -> Identity:
    """Read auth_session_info and what it points to."""
    for what in ("security token", "Unix token", "user's information", "Unix user"):
        reader.needed(what)
    reader.absent("torture's data")
    reader.skip(reader.count(1, "key"), "key")  # the session's, which is nobody's business here
    reader.absent("credentials")
    reader.align(4)
    reader.skip(16, "session's number")
    reader.number(2, "kind of ticket")
    sids = _security_token(reader, level)
    uid, gid, groups = _unix_token(reader)
    account, domain, authenticated = _user(reader, level)
    reader.align(4)
    has_unix_name, has_claimed = reader.pointer("Unix name"), reader.pointer("claimed name")
    unix_user = reader.text("Unix name") if has_unix_name else ""
    if has_claimed:
        reader.text("claimed name")  # what the client says of itself, and nobody has checked
    anonymous = _ANONYMOUS in sids
    return Identity(
        level=level,
        account=account,
        domain=domain,
        unix_user=unix_user,
        uid=uid,
        gid=gid,
        groups=groups,
        sids=sids,
        address=address,
        port=port,
        known=authenticated and _AUTHENTICATED in sids and not anonymous,
        anonymous=anonymous,
        encrypted=any(sid.startswith(_ENCRYPTED) for sid in sids),
        probe=any(sid.startswith(_FLAGS) and int(sid.rpartition("-")[2]) & _PROBE for sid in sids),
    )


def _security_token(reader: _Reader, level: int) -> tuple[str, ...]:
    reader.align(8)  # at level 7 too
    count = reader.number(4, "SIDs")
    if reader.count(8, "SIDs") != count:
        raise HandshakeError("two numbers of SIDs")
    sids = tuple(reader.sid() for _ in range(count))
    reader.number(8, "privileges")
    reader.number(4, "rights")
    if level < 8:
        return sids
    for what in ("local claims", "user's claims", "device's claims"):
        reader.absent(what)
    devices = reader.number(4, "device's SIDs")
    for what in ("local claims", "user's claims", "device's claims"):
        reader.absent(what)
    if reader.count(8, "device's SIDs") != devices:
        raise HandshakeError("two numbers of the device's SIDs")
    for _ in range(devices):
        reader.sid()
    reader.number(2, "evaluation of claims")
    return sids


def _unix_token(reader: _Reader) -> tuple[int, int, tuple[int, ...]]:
    reader.align(4)
    room = reader.count(8, "groups")
    uid, gid = reader.number(8, "uid"), reader.number(8, "gid")
    count = reader.number(4, "groups")
    if count != room:
        raise HandshakeError("two numbers of groups")
    reader.align(8)
    groups = tuple(reader.number(8, "group") for _ in range(count))
    if max(uid, gid, *groups) >= 0xFFFFFFFF:  # (uid_t)-1 is no user
        raise HandshakeError("a user or group that this system cannot have")
    return uid, gid, groups


def _user(reader: _Reader, level: int) -> tuple[str, str, bool]:
    """Read auth_user_info: the account, its domain, and whether the user has proved to be that."""
    reader.align(4)
    has_account, has_principal = reader.pointer("account"), reader.pointer("principal")
    reader.number(1, "making of the principal")
    names = ("domain", "domain's name", "full name", "script", "profile", "home", "drive", "logon server")
    present = [reader.pointer(name) for name in names]
    reader.align(4)
    reader.skip(6 * 8, "times")
    reader.number(2, "logons")
    reader.number(2, "wrong passwords")
    reader.number(4, "flags")
    if level < 8:
        authenticated = reader.number(1, "whether authenticated") == 1
    else:
        authenticated = not reader.number(4, "user's flags") & _GUEST_FLAG
    account = reader.text("account") if has_account else ""
    if has_principal:
        reader.text("principal")
    texts = [reader.text(name) if there else "" for name, there in zip(names, present, strict=True)]
    return account, texts[0], authenticated


def compose_reply(level: int, *, message_type: bool, status: int = 0) -> bytes:
    """Return the answer to a request of `level`. smbd looks at level and type alone: to refuse is to hang up."""
    reply = _REPLY.pack(
        int.from_bytes(_MAGIC, "little"), level, level, 2 if message_type else 1, 0x05FF, 0, 4096, status
    )
    return len(reply).to_bytes(LENGTH_SIZE, "big") + reply
