"""Tracing a running server: asking the owners of a pipe for records, and reading them (Linux)."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import fcntl
import mmap
import os
import re
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from npipe import binding
from npipe.errors import WinError, error_from_code
from npipe.names import PipeName, parse_name
from npipe.tracing.records import HEADER_SIZE, Assembler, RecordError, Ring, new_header
from npipe.transports.local.place import place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from npipe.tracing.events import Event

__all__ = ["Tracer"]

_MAGIC: Final = 0x5250504E
_VERSION: Final = 1
_TRACE: Final = 6
_ANSWER: Final = struct.Struct("<12I")
_PATIENCE: Final = 1.0  # seconds for an owner to answer
_LEAST_RING: Final = 1 << 16
_MOST_RING: Final = 1 << 28
_NOT_TRACEABLE: Final = 6
_RETRY: Final = 65539
_MOST_WAKES: Final = 64
_REASONS: Final[dict[int, str]] = {
    WinError.ACCESS_DENIED: "a pipe is traced by its server's user and root alone",
    WinError.PIPE_BUSY: "as many as can already trace it",
    WinError.INVALID_FUNCTION: "its server has an npipe that cannot be traced",
    WinError.INVALID_DATA: "its server did not take the memory for the records",
}


class _Owner:
    """One process that has instances of a pipe, and the memory into which it writes records."""

    def __init__(self, name: PipeName, folder: int, socket_name: str, snaplen: int, ring_size: int) -> None:
        self.name = name
        self.pid = 0
        self.problem: str | None = None
        self._map: mmap.mmap | None = None
        self._ring: Ring | None = None
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.socket.settimeout(_PATIENCE)
            self.socket.connect(f"/proc/self/fd/{folder}/{socket_name}")
            self.pid, uid, _ = struct.unpack(
                "3i", self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            )
            if uid not in (0, os.geteuid()) and os.geteuid() != 0:
                raise self._refused(WinError.ACCESS_DENIED, 0)  # noqa: TRY301
            self._ask(snaplen, ring_size)
        except BaseException:
            self.close()
            raise
        self.assembler = Assembler(name.path, self.pid)

    def _refused(self, code: int, reason: int) -> Exception:
        if code == WinError.ACCESS_DENIED and reason == _NOT_TRACEABLE:
            return error_from_code(code, self.name.path, "tracing", "its server does not let anybody trace it")
        return error_from_code(code, self.name.path, "tracing", _REASONS.get(code))

    def _ask(self, snaplen: int, ring_size: int) -> None:
        memory = os.memfd_create("npipe-trace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(memory, 0, HEADER_SIZE + ring_size)  # ours: not as the owner comes to write there
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self._map = mmap.mmap(memory, HEADER_SIZE + ring_size)
            header = new_header(ring_size)
            self._map[: len(header)] = header
            self._ring = Ring(memoryview(self._map), snaplen)
            request = struct.pack("<8I", _MAGIC, _VERSION, _TRACE, 0, 0, 0, snaplen, 0)
            socket.send_fds(self.socket, [request], [memory])
            answer = self.socket.recv(_ANSWER.size + 1)
        finally:
            os.close(memory)
        if not answer:
            raise self._refused(WinError.FILE_NOT_FOUND, 0)
        if len(answer) != _ANSWER.size:
            raise self._refused(WinError.INVALID_DATA, 0)
        magic, version, kind, code, *_, reason = _ANSWER.unpack(answer)
        if (magic, version) != (_MAGIC, _VERSION) or (kind != _TRACE and code == 0):
            raise self._refused(WinError.INVALID_DATA, 0)
        if code == _RETRY:  # its last instance has gone
            raise self._refused(WinError.FILE_NOT_FOUND, 0)
        if code:
            raise self._refused(code, reason)
        self.socket.setblocking(False)

    def read(self) -> Iterator[Event]:
        """Return what has come; after nonsense nothing does any more."""
        if self._ring is None:
            return
        try:
            for record in self._ring.read():
                yield from self.assembler.take(record)
        except RecordError as error:
            self.problem = f"{self.name.path}: what process {self.pid} records makes no sense: {error}"
            self.close()

    def has_more_or_waits(self) -> bool:
        """Whether there is more to read; if not, a byte comes through the socket when there is."""
        if self._ring is None:
            return False
        self._ring.await_more(waits=True)
        binding.full_fence()
        return self._ring.has_more

    def take_wakes(self) -> bool:
        """Take what has come through the socket; False: the owner has gone, or has said that the pipe has."""
        try:
            for _ in range(_MOST_WAKES):  # it may send without an end
                said = self.socket.recv(_ANSWER.size + 1)
                if len(said) != 1:
                    return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    @property
    def lost(self) -> int:
        """How many records were lost."""
        return 0 if self._ring is None else self._ring.lost

    def close(self) -> None:
        """End it: the owner stops recording."""
        self.socket.close()
        if self._ring is not None:
            self._ring.release()
            self._ring = None
        if self._map is not None:
            self._map.close()
            self._map = None


class Tracer:
    """Records of what the connections of pipes do, from their servers' processes, from now on.

    Args:
        names: the pipes, in any form of their names.
        snaplen: bytes of each message that are recorded, 0 for none.
        ring_size: bytes of memory for records that were not read yet, for each server's process; a power of two, 64
            KiB to 256 MiB. What finds no room there is lost, and counted.

    Raises:
        PipeNotFoundError: there is no such pipe (2).
        PipeAccessError: it is another user's, or its server does not let anybody trace it (5).
        PipeBusyError: four trace it already (231).
    """

    def __init__(self, names: Iterable[str], *, snaplen: int = 65536, ring_size: int = 1 << 22) -> None:
        if not _LEAST_RING <= ring_size <= _MOST_RING or ring_size & (ring_size - 1):
            raise ValueError("ring_size is a power of two, 65536 to 268435456")
        if not 0 <= snaplen < 1 << 32:
            raise ValueError("snaplen is 0 to 4294967295")
        self._owners: list[_Owner] = []
        self.problems: list[str] = []
        """What was wrong with owners that are not traced any more, a line each."""
        self._lost = 0
        self._read: deque[Event] = deque()  # what the next call of events() yields first
        try:
            for name in names:
                self._add(parse_name(name), snaplen, ring_size)
        except BaseException:
            self.close()
            raise

    def _add(self, name: PipeName, snaplen: int, ring_size: int) -> None:
        root, folder, _ = place(name)
        count, silent = len(self._owners), 0
        try:
            dirfd = os.open(os.path.join(root, folder), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # noqa: PTH118
        except PermissionError as error:
            raise error_from_code(WinError.ACCESS_DENIED, name.path, "tracing", None) from error
        except OSError as error:
            raise error_from_code(WinError.FILE_NOT_FOUND, name.path, "tracing", None) from error
        try:
            for socket_name in sorted(os.listdir(dirfd)):  # noqa: PTH208 - of a folder that is open
                if re.fullmatch("s[0-9a-f]{16}", socket_name):
                    try:
                        self._owners.append(_Owner(name, dirfd, socket_name, snaplen, ring_size))
                    except (ConnectionError, FileNotFoundError):  # of a process that has died, or just dies
                        continue
                    except (TimeoutError, BlockingIOError):  # it is stopped, say
                        silent += 1
                        self.problems.append(f"{name.path}: a process that serves it does not answer")
        finally:
            os.close(dirfd)
        if len(self._owners) == count and silent:
            raise error_from_code(WinError.SEM_TIMEOUT, name.path, "tracing", "its server does not answer")
        if len(self._owners) == count:
            raise error_from_code(WinError.FILE_NOT_FOUND, name.path, "tracing", None)

    @property
    def pids(self) -> list[int]:
        """The processes that are traced."""
        return [owner.pid for owner in self._owners]

    @property
    def pending(self) -> bool:
        """Whether events() has something to yield that was read before."""
        return bool(self._read)

    @property
    def lost(self) -> int:
        """How many records found no room, so far."""
        return self._lost + sum(owner.lost for owner in self._owners)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield what happens, until all owners have gone, or for `timeout` seconds (None: no limit)."""
        until = None if timeout is None else time.monotonic() + timeout
        while self._owners or self._read:
            batch = [event for owner in self._owners for event in owner.read()]
            batch.sort(key=lambda event: event.time)
            self._read.extend(batch)
            while self._read:
                yield self._read.popleft()
            self._drop([owner for owner in self._owners if owner.problem])
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return
            if not self._owners or any(owner.has_more_or_waits() for owner in self._owners):
                continue
            self._wait(left)

    def _wait(self, left: float | None) -> None:
        poll = select.poll()
        by_number = {owner.socket.fileno(): owner for owner in self._owners}
        for number in by_number:
            poll.register(number, select.POLLIN)
        ready = poll.poll(None if left is None else max(0, left * 1000))
        gone = [by_number[number] for number, _ in ready if not by_number[number].take_wakes()]
        for owner in gone:
            self._read.extend(owner.read())
            self._read.extend(owner.assembler.finish())
        self._drop(gone)

    def _drop(self, owners: list[_Owner]) -> None:
        for owner in owners:
            self._owners.remove(owner)
            self._lost += owner.lost
            if owner.problem:
                self.problems.append(owner.problem)
            owner.close()

    def close(self) -> None:
        """End the trace."""
        self._drop(list(self._owners))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
