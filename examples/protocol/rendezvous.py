"""Where a pipe is, and what a client and an owner say there (docs/protocol.md, sections 1 to 3)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from link import ACCESS_DENIED, INVALID_DATA, PipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = 0x5250504E  # "NPPR"
VERSION: Final = 1
OPEN, WAIT, QUERY, NUDGE, DESCRIBE, TRACE, STAY = 1, 2, 3, 4, 5, 6, 16
HOLD, KEEP, FOR = 1, 2, 4

OK, INVALID_FUNCTION, FILE_NOT_FOUND, BUSY, IO_PENDING = 0, 1, 2, 231, 997
REVISION_MISMATCH, NO_RESOURCES, LOOK_AGAIN = 1306, 1450, 65539
NEVER_SAID: Final = (65537, 65538)

_REQUEST: Final = struct.Struct("<6IQ")
_ANSWER: Final = struct.Struct("<12I")


# ---- Names and folders (section 1)


def root_folder() -> str:
    """The folder below which this user's pipes are."""
    if given := os.environ.get("NPIPE_ROOT"):
        return given
    if Path("/run/npipe").is_dir():
        return "/run/npipe"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return f"{runtime}/npipe"
    return f"{tempfile.gettempdir()}/npipe-{os.geteuid()}"  # $TMPDIR, $TEMP, $TMP, /tmp, /var/tmp, /usr/tmp


def _upcase(char: str) -> str:
    """One character to one other at most, and only in the basic plane."""
    if char > "\uffff":
        return char
    return next((mapped for mapped in (char.upper(), char.title()) if len(mapped) == 1), char)


def folder_of(name: str) -> str:
    """The name of a pipe's folder."""
    key = "".join(map(_upcase, name)).encode("utf-8", "surrogatepass")
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    parts = [chr(byte) if byte in plain else f"%{byte:02X}" for byte in key]
    if parts[0] == ".":
        parts[0] = "%2E"
    if sum(map(len, parts)) <= 200:
        return "".join(parts)
    kept = ""
    for part in parts:
        if len(kept) + len(part) > 100:
            break
        kept += part
    return f"{kept}~{hashlib.sha256(key).hexdigest()}"


def _may_be_trusted(status: os.stat_result) -> bool:
    return status.st_uid in {os.geteuid(), 0}


def open_root(root: str) -> int:
    """Open the root folder, and check whose it is."""
    link = os.lstat(root)
    if stat.S_ISLNK(link.st_mode) and not _may_be_trusted(link):
        raise PipeError(ACCESS_DENIED, "the root is somebody else's symbolic link")
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    status = os.fstat(opened)
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not _may_be_trusted(status) or (others_write and not status.st_mode & stat.S_ISVTX):
        os.close(opened)
        raise PipeError(ACCESS_DENIED, "the root is not to be trusted")
    return opened


@contextlib.contextmanager
def opened_folder(root: str, folder: str) -> Iterator[int]:
    """The folder of a pipe, for looking. PipeError 2: there is none."""
    try:
        rootfd = open_root(root)
    except FileNotFoundError:
        raise PipeError(FILE_NOT_FOUND, "there is no pipe") from None
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=rootfd)
    except FileNotFoundError:
        raise PipeError(FILE_NOT_FOUND, "there is no such pipe") from None
    except OSError as error:
        raise PipeError(ACCESS_DENIED, f"the pipe's folder may not be entered: {error}") from None
    finally:
        os.close(rootfd)
    try:
        yield opened
    finally:
        os.close(opened)


def sockets_in(folder: int) -> list[str]:
    """The owners' sockets."""
    return [name for name in os.listdir(folder) if name.startswith("s") and len(name) == 17]


def address_in(folder: int, name: str) -> str:
    """A socket's address, however long the folder's path is."""
    return f"/proc/self/fd/{folder}/{name}"


def connect_to(folder: int, name: str, deadline: float) -> socket.socket:
    """Connect to an owner; waits until `deadline` for room among those that it has not accepted."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        wait = max(deadline - time.monotonic(), 0.001)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(wait), int(wait % 1 * 1e6)))
        made.connect(address_in(folder, name))
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


class Peer(NamedTuple):
    """Who is at the other end, by the kernel's word."""

    pid: int
    uid: int
    gid: int


def peer_of(connected: socket.socket) -> Peer:
    """Ask the kernel who is there."""
    return Peer(*struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def hang_up(connected: socket.socket) -> None:
    """Shut down, then close: a close alone is not seen while a forked child has a duplicate."""
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
    connected.close()


# ---- Messages (section 3)


class Request(NamedTuple):
    """What a client says. The last three: access, zero, and the offer or where to go on."""

    magic: int
    version: int
    kind: int
    flags: int
    access: int
    zero: int
    offer: int


REQUEST_SIZE: Final = _REQUEST.size


def pack_request(kind: int, flags: int = 0, access: int = 0) -> bytes:
    """A request of this version."""
    return _REQUEST.pack(MAGIC, VERSION, kind, flags, access, 0, 0)


def unpack_request(data: bytes) -> Request:
    """A request of 32 bytes, or the beginning of one."""
    return Request(*_REQUEST.unpack(data[: _REQUEST.size].ljust(_REQUEST.size, b"\0")))


class Answer(NamedTuple):
    """What an owner says."""

    magic: int
    version: int
    kind: int
    code: int
    default_timeout_ms: int  # QUERY: the pipe's id
    type: int
    direction: int
    max_instances: int
    instances: int
    owner_pid: int
    listening: int  # OPEN: the pipe's id
    last: int  # QUERY: size of the name; OPEN with code 0: the offered segment is used again; a reason


def pack_answer(answer: Answer) -> bytes:
    """An answer's 48 bytes."""
    return _ANSWER.pack(*answer)


class Said(NamedTuple):
    """An answer, and what came with it."""

    answer: Answer
    name: str  # behind an answer to QUERY
    segment: int  # a descriptor, or -1


def receive_answer(connected: socket.socket, kind: int, deadline: float) -> Said | None:
    """Wait for an answer. None: the owner has hung up without one.

    Raises:
        TimeoutError: there is none in time.
        PipeError: 1306 it is of another version; 13 it makes no sense.
    """
    poll = select.poll()
    poll.register(connected, select.POLLIN | select.POLLRDHUP)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError("the owner is silent")
    try:
        data, descriptors, flags, _ = socket.recv_fds(connected, _ANSWER.size + 1024 + 1, 4, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if not data:
        return None
    for more in descriptors[1:]:
        os.close(more)
    segment = descriptors[0] if descriptors else -1
    wanted = False
    try:
        cut_off = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        answer, name = _understood(b"" if cut_off else data, kind)
        wanted = (kind, answer.code) == (OPEN, OK)
    finally:
        if segment >= 0 and not wanted:
            os.close(segment)
    return Said(answer, name, segment if wanted else -1)


def _understood(data: bytes, kind: int) -> tuple[Answer, str]:
    """An answer, and the name behind it."""
    if len(data) >= 8:
        magic, version = struct.unpack("<II", data[:8])
        if magic == MAGIC and version != VERSION:
            raise PipeError(REVISION_MISMATCH, f"the server's protocol is version {version}")
    if len(data) < _ANSWER.size:
        raise PipeError(INVALID_DATA, "the server's answer makes no sense")
    answer = Answer(*_ANSWER.unpack(data[: _ANSWER.size]))
    name = data[_ANSWER.size :]
    longer = answer.last if kind == QUERY and answer.code == OK else 0
    if answer.magic != MAGIC or answer.code in NEVER_SAID or len(name) != longer:
        raise PipeError(INVALID_DATA, "the server's answer makes no sense")
    return answer, name.decode("utf-8", "replace")
