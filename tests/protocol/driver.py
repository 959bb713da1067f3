"""A process with one end of a pipe, which does what it is told: by the examples, or by npipe.

What it is told is a method of the end and its arguments; the answer is a code and a value. Content goes by the number
that it is made from, and back as a digest.
"""

from __future__ import annotations

import functools
import hashlib
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import client
import link
import owner

import npipe
from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

DEADLINE = 20.0  # seconds, for what is to happen
NO_DATA, IO_PENDING = 232, 997

P = ParamSpec("P")
T = TypeVar("T")


def content(seed: int, size: int) -> bytes:
    """What a message has that was made from this number."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    """What is compared."""
    return f"{len(data)}:{hashlib.sha256(data).hexdigest()}"


def by(timeout: float | None) -> float | None:
    """A deadline of the examples."""
    return None if timeout is None else time.monotonic() + timeout


def woken(call: Callable[P, T]) -> Callable[P, T]:
    """The call, which fails if nothing but its deadline has ended it: a wake that was lost is not to go unnoticed."""

    @functools.wraps(call)
    def timed(*arguments: P.args, **options: P.kwargs) -> T:
        began = time.monotonic()
        try:
            return call(*arguments, **options)
        finally:
            assert time.monotonic() - began < DEADLINE, f"nobody has woken {call.__qualname__}"

    return timed


class Example:
    """An end of the examples'."""

    def __init__(self, by_socket: bool) -> None:
        self.by_socket = by_socket
        self.link: Any = None
        self.owner: Any = None
        self.writes: list[Any] = []

    def listen(self, name: str, kind: str, quotas: list[int], instances: int, most: int) -> None:
        number = link.MESSAGE if kind == "message" else link.BYTE
        inbound, outbound = quotas
        self.owner = owner.Owner(
            name,
            instances=instances,
            kind=number,
            quotas=(inbound, outbound),
            max_instances=most,
            by_socket=self.by_socket,
        )

    def accept(self, timeout: float = DEADLINE) -> None:
        self.link = self.owner.accept(by(timeout))

    def stop(self) -> None:
        self.owner.close()

    def connect(self, name: str, timeout: float | None = DEADLINE, access: int = 3) -> None:
        self.link = client.connect(name, deadline=by(timeout), by_socket=self.by_socket, access=access)

    def wait(self, name: str, timeout: float | None = DEADLINE) -> None:
        client.wait(name, by(timeout))

    def query(self, name: str) -> list[Any]:
        answer, said = client.query(name)
        return [answer.type, answer.direction, answer.max_instances, answer.instances, answer.owner_pid, said]

    @woken
    def send(self, seed: int, size: int, timeout: float = DEADLINE) -> None:
        self.link.write(content(seed, size), by(timeout))

    @woken
    def receive(self, timeout: float = DEADLINE) -> str:
        return digest(self.link.receive(by(timeout)))

    def receive_bytes(self, size: int) -> str:
        data = b""
        while len(data) < size:
            data += self.link.read(size - len(data), by(DEADLINE)).data
        return digest(data)

    @woken
    def read(self, size: int) -> list[Any]:
        part = self.link.read(size, by(DEADLINE))
        return [digest(part.data), part.more]

    def start(self, seed: int, size: int) -> bool:
        self.writes.append(self.link.start_write(content(seed, size)))
        return bool(self.writes[-1].done)

    def done(self) -> list[bool]:
        self.link.producer.step()
        return [write.done for write in self.writes]

    def withdraw(self, which: int) -> list[Any]:
        return [self.link.withdraw(self.writes[which]), self.writes[which].delivered]

    @woken
    def finish(self, which: int) -> None:
        self.link.finish_write(self.writes[which], by(DEADLINE))

    @woken
    def flush(self, timeout: float = DEADLINE) -> None:
        self.link.flush(by(timeout))

    def write_headers(self, size: int) -> None:
        """Of so many bytes, where the payload's length fits into them."""

        def header(length: int) -> bytes:
            if size == 2 and length < 16384:
                return bytes((0x80 | length >> 8, length & 0xFF))
            return b"\xc0" + length.to_bytes(4, "little")

        link.plain_header = header

    def number_from(self, number: int) -> None:
        """As if so many deferred entries had been written already."""
        self.link.producer.next_number = number

    def break_rules(self) -> None:
        """Say that there is more in the ring than it holds."""
        producer = self.link.producer
        self.link.words.store64(producer.at + link.TAIL, producer.tail + producer.capacity + 1)
        self.link.wake(link.FOR_DATA | link.BYTE_FOR_DATA)

    def wake_for_nothing(self) -> None:
        """Whoever sleeps at the other end, and however."""
        for value in (0, 255):
            self.link.socket.send(bytes((value,)))
        self.link.words.change32(self.link.peer_sleep + link.SEQ, link.ALL_BITS, 0, 1)
        self.link.words.wake(self.link.peer_sleep + link.SEQ, link.FOR_DATA | link.FOR_ROOM)

    def end_as(self, state: int) -> None:
        self.link.end(state)

    def close(self) -> None:
        self.link.close()

    def abort(self) -> None:
        self.link.abort()


class Npipe:
    """An end of npipe's, by npipe.win32, with calls of the face `npipe` where it has another way."""

    def __init__(self, _: bool) -> None:
        self.handle: Any = None
        self.listening: list[tuple[Any, Any]] = []  # an instance, and what is signalled when its client comes
        self.came: list[Any] = []  # instances whose clients were quicker than ConnectNamedPipe
        self.name = ""
        self.message = True
        self.writes: list[Any] = []
        self.sent: list[bytes] = []

    def listen(self, name: str, kind: str, quotas: list[int], instances: int, most: int) -> None:
        self.name = rf"\\.\pipe\{name}"
        self.message = kind == "message"
        inbound, outbound = quotas
        mode = win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE if self.message else 0
        for _ in range(instances):
            made = win32pipe.CreateNamedPipe(
                self.name, 3 | win32file.FILE_FLAG_OVERLAPPED, mode, most, outbound, inbound, 50, None
            )
            overlapped = self._overlapped()
            try:
                pending = win32pipe.ConnectNamedPipe(made, overlapped) == IO_PENDING
            except pywintypes.error as error:
                if error.winerror != NO_DATA:
                    raise
                pending = False  # it has gone again
            if pending:
                self.listening.append((made, overlapped))
            else:  # nothing is signalled
                self.came.append(made)

    def _overlapped(self) -> Any:
        made = win32file.OVERLAPPED()
        made.hEvent = win32event.CreateEvent(None, True, False, None)
        return made

    def accept(self, timeout: float = DEADLINE) -> None:
        if self.came:
            self.handle = self.came.pop(0)
            return
        events = [overlapped.hEvent for _, overlapped in self.listening]
        found = win32event.WaitForMultipleObjects(events, False, int(timeout * 1000))
        if found == win32event.WAIT_TIMEOUT:
            raise pywintypes.error(121, "accept", "no client came")
        self.handle, _ = self.listening.pop(found - win32event.WAIT_OBJECT_0)

    def stop(self) -> None:
        for made in [*self.came, *(made for made, _ in self.listening)]:
            win32api.CloseHandle(made)
        self.came, self.listening = [], []

    def connect(self, name: str, timeout: float | None = DEADLINE, access: int = 3) -> None:
        self.name = rf"\\.\pipe\{name}"
        until = by(timeout)
        rights = (win32file.GENERIC_READ if access & 1 else 0) | (win32file.GENERIC_WRITE if access & 2 else 0)
        while True:
            try:
                self.handle = win32file.CreateFile(
                    self.name, rights, 0, None, win32file.OPEN_EXISTING, win32file.FILE_FLAG_OVERLAPPED, None
                )
                break
            except pywintypes.error as error:
                if error.winerror != 231 or until is None:
                    raise
                npipe.wait(self.name, timeout=max(0.0, until - time.monotonic()))
        self.message = bool(win32pipe.GetNamedPipeInfo(self.handle)[0] & win32pipe.PIPE_TYPE_MESSAGE)
        if self.message and access & 1:
            win32pipe.SetNamedPipeHandleState(self.handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)

    def hold(self, name: str, timeout: float = DEADLINE) -> None:
        """Connect by a request that is held, and leave again."""
        npipe.connect(rf"\\.\pipe\{name}", timeout=timeout).close()

    def wait(self, name: str, timeout: float | None = DEADLINE) -> None:
        if timeout is None:
            win32pipe.WaitNamedPipe(rf"\\.\pipe\{name}", 0)  # the pipe's own
        else:
            npipe.wait(rf"\\.\pipe\{name}", timeout=timeout)

    def query(self, name: str) -> list[Any]:
        (found,) = [one for one in npipe.list_pipes() if one.name.lower().endswith("\\" + name.lower())]
        return [found.name.rpartition("\\")[2], found.instances]

    def _finish(self, overlapped: Any, timeout: float) -> int:
        """Wait for an operation; one that is not over in time is cancelled."""
        if win32event.WaitForSingleObject(overlapped.hEvent, int(timeout * 1000)) == win32event.WAIT_TIMEOUT:
            try:
                completion.CancelIoEx(self.handle, overlapped)
            except pywintypes.error as error:
                if error.winerror != 1168:
                    raise
        return int(win32file.GetOverlappedResult(self.handle, overlapped, True))

    @woken
    def send(self, seed: int, size: int, timeout: float = DEADLINE) -> None:
        overlapped = self._overlapped()
        win32file.WriteFile(self.handle, content(seed, size), overlapped)
        self._finish(overlapped, timeout)

    def _read(self, size: int, timeout: float = DEADLINE) -> tuple[bytes, bool]:
        overlapped = self._overlapped()
        buffer = win32file.AllocateReadBuffer(size)
        code, _ = win32file.ReadFile(self.handle, buffer, overlapped)
        try:
            got = self._finish(overlapped, timeout)
        except pywintypes.error as error:
            if error.winerror != 234:
                raise
            return bytes(buffer), True
        return bytes(buffer[:got]), code == 234

    @woken
    def receive(self, timeout: float = DEADLINE) -> str:
        data, more = self._read(1 << 16, timeout)
        while more:
            part, more = self._read(1 << 18, timeout)
            data += part
        return digest(data)

    def receive_bytes(self, size: int) -> str:
        data = b""
        while len(data) < size:
            data += self._read(size - len(data))[0]
        return digest(data)

    @woken
    def read(self, size: int) -> list[Any]:
        data, more = self._read(size)
        return [digest(data), more]

    def start(self, seed: int, size: int) -> bool:
        overlapped = self._overlapped()
        self.sent.append(content(seed, size))
        win32file.WriteFile(self.handle, self.sent[-1], overlapped)
        self.writes.append(overlapped)
        return self.done()[-1]

    def done(self) -> list[bool]:
        def is_done(overlapped: Any) -> bool:
            try:
                win32file.GetOverlappedResult(self.handle, overlapped, False)
            except pywintypes.error as error:
                if error.winerror not in {995, 996}:
                    raise
                return False
            return True

        return [is_done(overlapped) for overlapped in self.writes]

    def withdraw(self, which: int) -> list[Any]:
        try:
            completion.CancelIoEx(self.handle, self.writes[which])
            win32file.GetOverlappedResult(self.handle, self.writes[which], True)
        except pywintypes.error as error:
            if error.winerror not in {995, 1168}:
                raise
            return [error.winerror == 995, None]
        return [False, None]

    @woken
    def finish(self, which: int) -> None:
        self._finish(self.writes[which], DEADLINE)

    @woken
    def flush(self, timeout: float = DEADLINE) -> None:
        del timeout
        win32file.FlushFileBuffers(self.handle)

    def close(self) -> None:
        win32api.CloseHandle(self.handle)

    def abort(self) -> None:
        win32pipe.DisconnectNamedPipe(self.handle)


def make(kind: str, *, by_socket: bool) -> Any:
    """An end in this process. Any: what it is told is what a line says."""
    return Example(by_socket) if kind == "example" else Npipe(by_socket)


def main(kind: str, by_socket: bool, told: Connection, root: str) -> None:
    """Do what comes, call by call."""
    os.environ["NPIPE_ROOT"] = root
    end = make(kind, by_socket=by_socket)
    calls = Calls(end, told)
    while True:
        try:
            what, *arguments = told.recv()
        except EOFError:
            return
        call = getattr(calls, what, None) or getattr(end, what)
        try:
            told.send((0, call(*arguments)))
        except (link.PipeError, npipe.PipeError, pywintypes.error) as error:
            print(what, error, file=sys.stderr, flush=True)  # for who reads a failure
            told.send((code_of(error), None))


def code_of(error: Exception) -> int:
    """Win32's code."""
    return error.code if isinstance(error, link.PipeError) else int(getattr(error, "winerror"))  # noqa: B009 - of both


class Calls:
    """What is made of several calls of an end."""

    def __init__(self, end: Any, told: Connection) -> None:
        self.end = end
        self.told = told

    def descriptors(self) -> int:
        """How many this process has open."""
        return len(list(Path("/proc/self/fd").iterdir()))

    def send_all(self, messages: list[tuple[int, int]]) -> None:
        for seed, size in messages:
            self.end.send(seed, size)

    def receive_all(self, count: int) -> list[str]:
        return [self.end.receive() for _ in range(count)]

    def receive_until(self, last: str) -> list[str]:
        """All that comes before this."""
        return list(iter(self.end.receive, last))

    def receive_rest(self) -> tuple[list[str], int]:
        """All that comes, and the code at the end; it stays the same."""
        got: list[str] = []
        try:
            while True:
                got.append(self.end.receive())
        except (link.PipeError, pywintypes.error) as error:
            code = code_of(error)
        for _ in range(3):
            try:
                got.append(self.end.receive())
            except (link.PipeError, pywintypes.error) as error:
                code = code if code_of(error) == code else -1
        return got, code

    def send_for_ever(self, seed: int, most: int) -> None:
        """Say after each message that it is written: somebody kills this process in the middle of it."""
        for count in range(1 << 30):
            self.end.send(seed + count, random.Random(seed + count).randrange(most))
            self.told.send((0, count))

    def send_some(self, seed: int, count: int, most: int, patience: float) -> list[int]:
        """Send messages that have little time, every other one none at all; which of them were written."""
        written = []
        for number in range(seed, seed + count):
            draw = random.Random(-number)
            try:
                self.end.send(number, draw.randrange(most), draw.choice([0, draw.random() * patience]))
                written.append(number)
            except (link.PipeError, pywintypes.error) as error:
                if code_of(error) not in {121, 995}:
                    raise
        return written
