"""Tracing a running server: asking the owners of a pipe for records, and reading them (Linux)."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import errno
import fcntl
import math
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
from npipe.errors import PipeError, PipeNotFoundError, PipeResourceError, WinError, error_from_code
from npipe.names import PipeName, parse_name
from npipe.reasons import not_traced
from npipe.tracing.records import HEADER_SIZE, Assembler, RecordError, Ring, new_header
from npipe.transports.local.place import place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
_NO_RESOURCES: Final = {
    errno.EMFILE: WinError.TOO_MANY_OPEN_FILES,
    errno.ENFILE: WinError.TOO_MANY_OPEN_FILES,
    errno.ENOMEM: WinError.NOT_ENOUGH_MEMORY,
    errno.ENOSPC: WinError.NOT_ENOUGH_MEMORY,
    errno.EFBIG: WinError.NOT_ENOUGH_MEMORY,
}
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_SOCKET: Final = re.compile("s[0-9a-f]{16}")


class _Problems(list[str]):
    """Lines for people."""

    code: int = 0
    """Win32's code of the first of them."""

    def add(self, text: str, code: int) -> None:
        """Add one."""
        self.code = self.code or code
        self.append(text)


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
        return not_traced(self.name.path, code, forbidden=reason == _NOT_TRACEABLE)

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


def _no_resources(path: str, error: OSError) -> PipeError:
    return error_from_code(_NO_RESOURCES[error.errno or 0], path, "tracing")


class _Pipe:
    """A pipe whose owners are traced, and what tells that there may be new ones."""

    def __init__(self, name: PipeName) -> None:
        self.name = name
        self._root, self._folder, _ = place(name)
        self.arrival = binding.Arrival(self._root, self._folder, name.path)
        self._watches = True
        self._seen: set[str] = set()  # sockets of owners that were asked; none is used for a second owner

    @property
    def has_changed(self) -> bool:
        """Whether there may be new owners."""
        return self._watches and self.arrival.changed()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What is readable when there may be."""
        return (self.arrival.fileno(),) if self._watches else ()

    def _arm(self, problems: _Problems, *, needed: bool) -> None:
        """Be told of what comes from here on; what keeps it from that is raised if that is `needed`, else a problem."""
        try:
            if self._watches:
                self.arrival.arm()
        except PipeResourceError as error:
            if needed:
                raise
            self._watches = False
            problems.add(f"processes that begin to serve it later are not traced: {error}", error.winerror)

    def new_owners(
        self, snaplen: int, ring_size: int, problems: _Problems, *, again: bool, follow: bool
    ) -> Iterator[_Owner]:
        """Yield those that were not there before.

        Those that do not answer are problems; so is, `again`, what others refuse with, which is raised else.
        """
        path = self.name.path
        self._arm(problems, needed=follow)  # before the look: what comes behind it is told
        try:
            dirfd = os.open(os.path.join(self._root, self._folder), _FOLDER)  # noqa: PTH118
        except PermissionError as error:
            raise not_traced(path, WinError.ACCESS_DENIED) from error
        except OSError as error:
            if error.errno in _NO_RESOURCES:  # it may be there, and those that were seen are traced
                raise _no_resources(path, error) from error
            self._seen = set()
            raise not_traced(path, WinError.FILE_NOT_FOUND) from error
        try:
            there = {one for one in os.listdir(dirfd) if _SOCKET.fullmatch(one)}  # noqa: PTH208 - it is open
            new, self._seen = there - self._seen, there
            for socket_name in sorted(new):
                try:
                    yield _Owner(self.name, dirfd, socket_name, snaplen, ring_size)
                except ConnectionError:  # of a process that has died
                    continue
                except FileNotFoundError:  # it just dies, or has no instance just now
                    self._seen.discard(socket_name)
                except (TimeoutError, BlockingIOError):  # it is stopped, say
                    problems.add(f"{path}: a process that serves it does not answer", WinError.SEM_TIMEOUT)
                except PipeError as error:
                    if not again:
                        raise
                    problems.add(str(error), error.winerror)
                except PermissionError as error:
                    refused = not_traced(path, WinError.ACCESS_DENIED)
                    if not again:
                        raise refused from error
                    problems.add(str(refused), refused.winerror)
                except OSError as error:
                    if error.errno not in _NO_RESOURCES:
                        raise
                    without = _no_resources(path, error)
                    if not again:
                        raise without from error
                    self._seen.discard(socket_name)  # the next look asks it again
                    problems.add(str(without), without.winerror)
        finally:
            os.close(dirfd)


class Tracer:
    """Records of what the connections of pipes do, from their servers' processes, from now on.

    Args:
        names: the pipes, in any form of their names.
        snaplen: bytes of each message that are recorded, 0 for none.
        ring_size: bytes of memory for records that were not read yet, for each server's process; a power of two, 64
            KiB to 256 MiB. What finds no room there is lost, and counted.
        follow: a pipe need not be there yet, and the trace goes on when its last server has gone: for the next one.
            Else it ends with the last one. Processes that begin to serve one meanwhile are traced in either case.
        on_owner: called with the number of each process that begins to be traced.

    Raises:
        PipeNotFoundError: there is no such pipe (2).
        PipeAccessError: it is another user's, or its server does not let anybody trace it (5).
        PipeBusyError: four trace it already (231).
        PipeTimeoutError: its server does not answer (121).
        PipeStateError: its server's npipe is older than tracing (50), or it is a pipe of another machine (50).
        PipeProtocolError: it answers nonsense (13).
        PipeResourceError: no descriptors, no memory, or a limit of inotify's (4, 8, 1450).
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        snaplen: int = 65536,
        ring_size: int = 1 << 22,
        follow: bool = False,
        on_owner: Callable[[int], object] = lambda _: None,
    ) -> None:
        if not _LEAST_RING <= ring_size <= _MOST_RING or ring_size & (ring_size - 1):
            raise ValueError("ring_size is a power of two, 65536 to 268435456")
        if not 0 <= snaplen < 1 << 32:
            raise ValueError("snaplen is 0 to 4294967295")
        self._owners: list[_Owner] = []
        self.problems: Final = _Problems()
        """What was wrong with owners that are not traced, or not any more, a line each."""
        self._snaplen, self._ring_size = snaplen, ring_size
        self._follow, self._on_owner = follow, on_owner
        self._ended: list[_Owner] = []  # those whose end was not told
        self._pipes: list[_Pipe] = []
        self._lost = 0
        self._read: deque[Event] = deque()  # what the next call of events() yields first
        try:
            for name in names:
                pipe = _Pipe(parse_name(name))
                self._pipes.append(pipe)
                self._look_first(pipe)
        except BaseException:
            self.close()
            raise

    def _look_first(self, pipe: _Pipe) -> None:
        """Trace those that serve a pipe; raises why nobody can be."""
        name, count, silent = pipe.name, len(self._owners), len(self.problems)
        try:
            for owner in self._new_owners(pipe, again=False):
                self._take(owner)
        except PipeNotFoundError:
            if not self._follow:
                raise
        if len(self._owners) == count and not self._follow:
            code = WinError.FILE_NOT_FOUND if len(self.problems) == silent else WinError.SEM_TIMEOUT
            raise not_traced(name.path, code)

    def _look_again(self, pipe: _Pipe) -> None:
        """Trace those that have begun to serve a pipe; what is wrong with one of them is a problem, and no more."""
        try:
            for owner in self._new_owners(pipe, again=True):
                self._take(owner)
        except PipeNotFoundError:
            pass  # it has gone meanwhile
        except PipeError as error:
            self.problems.add(str(error), error.winerror)

    def _new_owners(self, pipe: _Pipe, *, again: bool) -> Iterator[_Owner]:
        return pipe.new_owners(self._snaplen, self._ring_size, self.problems, again=again, follow=self._follow)

    def _take(self, owner: _Owner) -> None:
        self._owners.append(owner)
        self._on_owner(owner.pid)

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

    def events(
        self, timeout: float | None = None, *, on_end: Callable[[str, int], object] = lambda *_: None
    ) -> Iterator[Event]:
        """Yield what happens, for `timeout` seconds (None: no limit); without `follow`, while there are owners.

        `on_end` is called with the full name of a pipe and the number of a process that is not traced there any more,
        as it has ended, say, when all that it has recorded was yielded.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while self._owners or self._read or self._ended or self._follow:
            for pipe in self._pipes:
                if pipe.has_changed:
                    self._look_again(pipe)
            batch = [event for owner in self._owners for event in owner.read()]
            batch.sort(key=lambda event: event.time)
            self._read.extend(batch)
            while self._read:
                yield self._read.popleft()
            self._drop([owner for owner in self._owners if owner.problem])
            self._tell_ends(on_end)
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                self._wait(0)  # for who has gone meanwhile
                while self._read:
                    yield self._read.popleft()
                self._tell_ends(on_end)
                return
            if not (self._owners or self._follow) or any(owner.has_more_or_waits() for owner in self._owners):
                continue
            self._wait(left)

    def _tell_ends(self, on_end: Callable[[str, int], object]) -> None:
        ended, self._ended = self._ended, []
        for owner in ended:
            on_end(owner.name.path, owner.pid)

    def _wait(self, left: float | None) -> None:
        poll = select.poll()
        by_number = {owner.socket.fileno(): owner for owner in self._owners}
        # Each tells that something has changed where its pipe's servers are, which the next look asks it for.
        for number in (*by_number, *(one for pipe in self._pipes for one in pipe.descriptors)):
            poll.register(number, select.POLLIN)
        ready = poll.poll(None if left is None else max(0, math.ceil(left * 1000)))
        gone = [owner for number, _ in ready if (owner := by_number.get(number)) is not None and not owner.take_wakes()]
        for owner in gone:
            self._read.extend(owner.read())
            self._read.extend(owner.assembler.finish())
        self._drop(gone)

    def _drop(self, owners: list[_Owner]) -> None:
        for owner in owners:
            self._owners.remove(owner)
            self._ended.append(owner)
            self._lost += owner.lost
            if owner.problem:
                self.problems.add(owner.problem, WinError.INVALID_DATA)
            owner.close()

    def close(self) -> None:
        """End the trace."""
        self._drop(list(self._owners))
        for pipe in self._pipes:
            pipe.arrival.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
