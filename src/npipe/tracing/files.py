"""Traces in files: pcapng, for Wireshark, and JSON lines. What is read may be anybody's (docs/tracing.md)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from npipe.tracing.events import Event, Flags, Kind, TraceFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["LINKTYPE", "TraceWriter", "as_json", "as_object", "read_trace", "shown_time"]

LINKTYPE: Final = 147
"""LINKTYPE_USER0."""

_SECTION, _INTERFACE, _PACKET, _STATISTICS = 0x0A0D0D0A, 1, 6, 5
_BYTE_ORDER: Final = 0x1A2B3C4D
_HEAD: Final = struct.Struct("<BBHIQIIII")  # of a packet: docs/tracing.md
_VERSION: Final = 1
_MOST_BLOCK: Final = 1 << 28
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def shown_time(nanoseconds: int) -> str:
    """Return a time in ISO 8601, UTC, to the nanosecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:  # an owner's or a file's word
        return f"{nanoseconds} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def as_json(event: Event) -> str:
    """Return an event as a line of JSON: data is "text" if it is printable UTF-8, else "base64"."""
    return json.dumps(as_object(event))


def as_object(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it."""
    line: dict[str, Any] = {
        "time": shown_time(event.time),
        "ns": event.time,
        "event": event.kind.name.lower(),
        "pipe": event.pipe,
        "owner": event.owner,
        "connection": event.connection,
        "peer": event.peer,
        "side": "server" if event.flags & Flags.SERVER else "client",
    }
    if event.kind is Kind.DATA:
        line |= {
            "direction": event.direction,
            "type": "message" if event.flags & Flags.MESSAGE else "byte",
            "first": bool(event.flags & Flags.FIRST),
            "last": bool(event.flags & Flags.LAST),
            "withdrawn": bool(event.flags & Flags.WITHDRAWN),
        }
    line |= {"code": event.code, "size": event.size}
    if event.kind is Kind.DATA:
        line["captured"] = len(event.data)
        try:
            line["text"] = event.data.decode()
        except UnicodeDecodeError:
            line["base64"] = base64.b64encode(event.data).decode()
    return line


def _event_of_json(line: Any) -> Event:
    flags = Flags.SERVER if line["side"] == "server" else Flags(0)
    data = b""
    if line["event"] == "data":
        for flag, is_set in (
            (Flags.OUT, line["direction"] == "out"),
            (Flags.MESSAGE, line["type"] == "message"),
            (Flags.FIRST, line["first"]),
            (Flags.LAST, line["last"]),
            (Flags.WITHDRAWN, line["withdrawn"]),
        ):
            flags |= flag if is_set else Flags(0)
        data = line["text"].encode() if "text" in line else base64.b64decode(line["base64"], validate=True)
    numbers = [line[what] for what in ("ns", "owner", "connection", "peer", "code", "size")]
    if not all(type(number) is int and 0 <= number < 1 << 64 for number in numbers) or type(line["pipe"]) is not str:
        raise ValueError("a field is of another kind")
    time, owner, connection, peer, code, size = numbers
    if code >= 1 << 32:
        raise ValueError("a code is too large")
    return Event(time, Kind[line["event"].upper()], flags, line["pipe"], owner, connection, peer, code, size, data)


def _block(kind: int, body: bytes) -> bytes:
    size = 12 + len(body)
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


_END_OF_OPTIONS: Final = struct.pack("<HH", 0, 0)


class TraceWriter:
    """Writes events into a file, pcapng or JSON lines (a name that ends in .json or .jsonl).

    Each event is written with one call, and whole or not at all: OSError is raised when the disk is full, and what the
    file has then is a trace. `fresh`: FileExistsError if the file is there already.
    """

    def __init__(self, path: str | os.PathLike[str], *, fresh: bool = False) -> None:
        self._lines = Path(path).suffix in {".json", ".jsonl"}
        self._interfaces: dict[tuple[str, int], int] = {}
        how = os.O_EXCL if fresh else os.O_TRUNC
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | how | getattr(os, "O_BINARY", 0), 0o600)
        self._good = 0
        self.count: int = 0
        """Events that were written."""
        if not self._lines:
            program = _option(4, b"npipe") + _END_OF_OPTIONS
            self._put(_block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1) + program))

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError:
            with contextlib.suppress(OSError):  # a pipe or a device keeps what it has got
                os.ftruncate(self._file, self._good)
                os.lseek(self._file, self._good, os.SEEK_SET)
            raise
        self._good += len(data)

    def _interface(self, event: Event) -> int:
        key = event.pipe, event.owner
        number = self._interfaces.get(key)
        if number is None:
            name = event.pipe.encode("utf-8", "backslashreplace")[:60000]
            described = f"process {event.owner}".encode()
            options = _option(2, name) + _option(3, described) + _option(9, b"\x09") + _END_OF_OPTIONS
            self._put(_block(_INTERFACE, struct.pack("<HHI", LINKTYPE, 0, 0) + options))
            number = self._interfaces[key] = len(self._interfaces)
        return number

    def write(self, event: Event) -> None:
        """Write an event; OSError: it is not in the file, and what was there before is."""
        if self._lines:
            self._put(as_json(event).encode() + b"\n")
        else:
            interface = self._interface(event)
            head = _HEAD.pack(
                _VERSION,
                event.kind,
                event.flags,
                event.code,
                event.connection,
                event.owner & 0xFFFFFFFF,
                event.peer & 0xFFFFFFFF,
                min(event.size, 0xFFFFFFFF),
                0,
            )
            packet = head + event.data
            moment = event.time & (1 << 64) - 1
            whole = max(len(packet), len(head) + (event.size if event.kind is Kind.DATA else 0))
            whole = min(whole, 0xFFFFFFFF)
            fields = struct.pack("<IIIII", interface, moment >> 32, moment & 0xFFFFFFFF, len(packet), whole)
            self._put(_block(_PACKET, fields + _padded(packet)))
        self.count += 1

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_trace(path: str | os.PathLike[str]) -> Iterator[Event]:
    """Yield the events of a file; TraceFileError: it is no trace, or is cut short: what came before was whole."""
    with Path(path).open("rb") as file:
        begin = file.peek(4)[:4]  # it may be a pipe: nothing can be put back, and few bytes may have come yet
        if begin and struct.pack("<I", _SECTION).startswith(begin):
            yield from _read_blocks(file, os.fspath(path))
        elif begin[:1] == b"{":
            yield from _read_lines(file, os.fspath(path))
        else:
            raise TraceFileError(f"{os.fspath(path)}: neither pcapng nor JSON lines of npipe")


def _read_lines(file: BinaryIO, path: str) -> Iterator[Event]:
    for number, line in enumerate(file, 1):
        try:
            event = _event_of_json(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            cut = "cut short" if not line.endswith(b"\n") else "not npipe's"
            raise TraceFileError(f"{path}: line {number} is {cut}") from error
        yield event


def _read_blocks(file: BinaryIO, path: str) -> Iterator[Event]:
    interfaces: list[str] = []
    count = 0
    while True:
        begin = file.read(8)
        if not begin:
            return
        cut = TraceFileError(f"{path}: cut short after {count} records")
        if len(begin) < 8:
            raise cut
        kind, size = struct.unpack("<II", begin)
        if size % 4 or not 12 <= size <= _MOST_BLOCK:
            raise TraceFileError(f"{path}: a block of {size} bytes after {count} records: damaged, or not npipe's")
        rest = file.read(size - 8)
        if len(rest) < size - 8:
            raise cut
        if struct.unpack("<I", rest[-4:])[0] != size:
            raise TraceFileError(f"{path}: damaged after {count} records")
        body = rest[:-4]
        try:
            if kind == _SECTION:
                _check_section(body)
                interfaces.clear()
            elif kind == _INTERFACE:
                interfaces.append(_pipe_of(body))
            elif kind == _PACKET:
                yield _event_of_packet(body, interfaces)
                count += 1
        except (struct.error, ValueError, IndexError) as error:
            raise TraceFileError(f"{path}: not npipe's, after {count} records: {error}") from error


def _check_section(body: bytes) -> None:
    order, major, _, _ = struct.unpack_from("<IHHq", body)
    if order != _BYTE_ORDER or major != 1:
        raise ValueError("another byte order or version of pcapng")


def _pipe_of(body: bytes) -> str:
    linktype, _, _ = struct.unpack_from("<HHI", body)
    if linktype != LINKTYPE:
        raise ValueError(f"an interface of link type {linktype}")
    position, name, nanoseconds = 8, None, False
    while position < len(body):
        code, length = struct.unpack_from("<HH", body, position)
        value = body[position + 4 : position + 4 + length]
        if code == 0:
            break
        if code == 2:
            name = value.decode("utf-8")
        elif code == 9:
            nanoseconds = value == b"\x09"
        position += 4 + length + -length % 4
    if name is None or not nanoseconds:
        raise ValueError("an interface without a pipe's name, or with other times")
    return name


def _event_of_packet(body: bytes, interfaces: list[str]) -> Event:
    interface, high, low, captured, _ = struct.unpack_from("<IIIII", body)
    packet = body[20 : 20 + captured]
    if len(packet) < captured:
        raise ValueError("a packet that is longer than its block")
    version, kind, flags, code, connection, owner, peer, size, _ = _HEAD.unpack_from(packet)
    if version != _VERSION or flags & ~63:
        raise ValueError(f"a record of version {version}")
    data = packet[_HEAD.size :]
    if len(data) > size:
        raise ValueError("a record with more data than there was")
    return Event(
        high << 32 | low, Kind(kind), Flags(flags), interfaces[interface], owner, connection, peer, code, size, data
    )
