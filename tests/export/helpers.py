"""What smbd says, by hand: requests of any level, captured ones, and a client of the gateway's in smbd's place."""

from __future__ import annotations

import contextlib
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator


class Captured(NamedTuple):
    """A request that an smbd has sent, with its length in front; the session's key is zeros."""

    name: str
    packet: bytes


CAPTURED: Final = [
    Captured(path.stem, bytes.fromhex(path.read_text("ascii")))
    for path in sorted((Path(__file__).parent / "requests").glob("*.hex"))
]
_PACKETS: Final = dict(CAPTURED)
ALICE: Final = _PACKETS["level8-alice-encrypted"]
SIGNED: Final = _PACKETS["level8-alice-signed"]
BOB: Final = _PACKETS["level8-bob-signed"]
GUEST: Final = _PACKETS["level8-guest-claims-root"]
ANONYMOUS: Final = _PACKETS["level8-anonymous"]
PROBE: Final = _PACKETS["level8-samba4.25-wait-probe"]

KEY: Final = bytes(range(0xA0, 0xB0))
"""A session's key that is found again wherever it is kept."""


class Packer:
    """NDR32, little-endian, aligned from the packet's first byte."""

    def __init__(self) -> None:
        self.data = bytearray(4)

    def align(self, to: int) -> None:
        self.data += bytes(-len(self.data) % to)

    def number(self, size: int, value: int) -> None:
        self.align(size)
        self.data += value.to_bytes(size, "little")

    def numbers(self, size: int, *values: int) -> None:
        for value in values:
            self.number(size, value)

    def text(self, text: str) -> None:
        raw = text.encode() + b"\0"
        self.numbers(4, len(raw), 0, len(raw))
        self.data += raw

    def sid(self, text: str) -> None:
        _, revision, authority, *parts = text.split("-")
        self.align(4)
        self.data += bytes([int(revision), len(parts)]) + int(authority).to_bytes(6, "big")
        self.numbers(4, *map(int, parts))


@dataclass
class Request:
    """A request as smbd composes it."""

    level: int = 8
    account: str = "alice"
    domain: str = "HERE"
    unix_user: str = "alice"
    claimed: str = "alice"
    uid: int = 1000
    gid: int = 1000
    groups: tuple[int, ...] = (1000,)
    sids: tuple[str, ...] = ("S-1-5-21-1-2-3-1000", "S-1-1-0", "S-1-5-2", "S-1-5-11")
    device_sids: tuple[str, ...] = ()
    host: str = "vm"
    address: str = "127.0.0.1"
    port: int = 4711
    authenticated: bool = True
    key: bytes = field(default=KEY, repr=False)

    def packed(self) -> bytes:
        """Return its bytes."""
        out = Packer()
        out.data += b"NPAM"
        out.numbers(4, self.level, self.level)
        out.number(1, 1)
        out.numbers(4, 1, 2)
        out.number(2, self.port)
        out.numbers(4, 3, 4)
        out.number(2, 445)
        out.number(4, 5)
        if self.level == 5:
            out.number(1, 0)
        for text in (self.host, self.address, self.host, self.address):
            out.text(text)
        out.numbers(4, 6, 0, 7, 8, 9, 10, 0, len(self.key))
        out.data += self.key
        out.number(4, 0)
        out.data += bytes(16)
        out.number(2, 0)
        self._tokens(out)
        self._user(out)
        out.data[:4] = (len(out.data) - 4).to_bytes(4, "big")
        return bytes(out.data)

    def _tokens(self, out: Packer) -> None:
        out.align(8)
        out.numbers(4, len(self.sids), len(self.sids))
        for sid in self.sids:
            out.sid(sid)
        out.number(8, 0)
        out.number(4, 0)
        if self.level == 8:
            out.numbers(4, 0, 0, 0, len(self.device_sids), 0, 0, 0, len(self.device_sids))
            for sid in self.device_sids:
                out.sid(sid)
            out.number(2, 1)
        out.align(4)
        out.number(4, len(self.groups))
        out.numbers(8, self.uid, self.gid)
        out.number(4, len(self.groups))
        out.align(8)
        out.numbers(8, *self.groups)

    def _user(self, out: Packer) -> None:
        out.align(4)
        out.numbers(4, 11, 0)
        out.number(1, 0)
        out.numbers(4, 12, 0, 13, 0, 0, 0, 0, 14)
        out.align(4)
        out.data += bytes(48)
        out.numbers(2, 0, 0)
        out.number(4, 0x10)
        if self.level == 8:
            out.number(4, 0x120 if self.authenticated else 0x121)
        else:
            out.number(1, int(self.authenticated))
        for text in (self.account, self.domain, "Full Name", "SERVER"):
            out.text(text)
        out.align(4)
        out.numbers(4, 15, 16)
        out.text(self.unix_user)
        out.text(self.claimed)


def exported(directory: Path) -> list[str]:
    """Return what smbd finds in a folder."""
    return sorted(path.name for path in (directory / "np").iterdir() if not path.name.startswith(".LOCK"))


def framed(*messages: bytes) -> bytes:
    """Return messages as smbd frames them."""
    return b"".join(struct.pack("<H", len(message)) + message for message in messages)


class Smbd:
    """A connection to the gateway in smbd's place."""

    def __init__(self, directory: Path, name: str, request: bytes | None = ALICE) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(20)
        try:
            self.socket.connect(str(directory / "np" / name.lower()))
        except OSError:
            self.socket.close()
            raise
        self.reply = b""
        if request is not None:
            self.socket.sendall(request)
            self.reply = self.receive(36)

    def receive(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while len(data) < size and (piece := self.socket.recv(size - len(data))):
                data += piece
        return data

    @property
    def let_in(self) -> bool:
        """Whether the request was answered."""
        return len(self.reply) == 36

    def send(self, *messages: bytes) -> None:
        """Send messages."""
        self.socket.sendall(framed(*messages))

    def message(self) -> bytes | None:
        """Return the next message; None at the end."""
        head = self.receive(2)
        if len(head) < 2:
            return None
        size = struct.unpack("<H", head)[0]
        data = self.receive(size)
        assert len(data) == size
        return data

    def messages(self) -> Iterator[bytes]:
        """Messages until the end."""
        while (message := self.message()) is not None:
            yield message

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
