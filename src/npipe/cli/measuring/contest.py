"""The measurement: every contestant has a process of its own, and all take turns, so that noise hits all alike."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe.cli.measuring.links import ASYNC, AsyncLink, Link, dial_async, dial_blocking
from npipe.cli.measuring.messages import ECHO, END, ONE_WAY, SMALLEST, Messages, difference
from npipe.cli.measuring.results import Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

__all__ = ["NAMES", "Contest", "ContestError", "Settings"]

NAMES: Final = {
    "npipe": "npipe",
    "multiprocessing": "multiprocessing.connection",
    "seqpacket": "Unix socket (SEQPACKET)",
    "npipe.aio": "npipe.aio",
    "asyncio": "asyncio, Unix stream",
}
_WARM: Final = 200  # round trips at the beginning that do not count
_COLD: Final = 20  # those at the beginning of each turn
_TURN: Final = 0.1  # seconds, at the most: for round trips and one way each
_AT_ONCE: Final = 16  # messages between two looks at the clock
_PATIENCE: Final = 30.0  # seconds more than a turn should take: then the other process has hung
_LONGEST_ADDRESS: Final = 107  # bytes of a Unix socket's path


class ContestError(Exception):
    """A contestant has failed: its process has ended or hung, or has answered something else than was sent."""


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    seconds: float
    """For all of it."""
    size: int
    """Bytes of a message there and back."""
    bulk: int
    """Bytes of a message one way."""
    aio: bool
    """Event loops too."""
    kinds: tuple[str, ...] = tuple(NAMES)
    """Which of NAMES."""


class _Contestant:
    """One contestant: its process, the connection to it, and its figures."""

    def __init__(self, kind: str, folder: str, settings: Settings) -> None:
        self.measured = Measured(NAMES[kind])
        self._settings = settings
        self._process = _start(kind, address := _address(kind, folder), max(settings.size, settings.bulk))
        self._numbers = 0
        try:
            with self._patience():
                self._wait_until_ready()
                self._dial(kind, address)
        except BaseException:
            self._end_process()
            raise

    def _wait_until_ready(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        if self._process.stdout.readline().strip() != b"ready":
            raise self._ended()

    def _dial(self, kind: str, address: str) -> None:
        raise NotImplementedError

    def turn(self, seconds: float) -> None:
        """Measure for `seconds`, half of them round trips and half of them one way."""
        with self._patience(seconds), self._failing():
            self._exchange(seconds / 2)
            sent, took, verdict = self._pour(seconds / 2)
        if verdict != f"{sent} right":
            raise ContestError(f"{self.measured.name}: {verdict}, of {sent} that were sent one way")
        self.measured.messages_sent += sent
        self.measured.bytes_sent += sent * self._settings.bulk
        self.measured.seconds_sending += took

    def warm(self) -> None:
        """Do what is done later, without counting it."""
        with self._patience(), self._failing():
            self._exchange(0.0, least=_WARM)
            self._pour(0.0)
        self.measured.round_trips.clear()

    def _exchange(self, seconds: float, least: int = _COLD) -> None:
        raise NotImplementedError

    def _pour(self, seconds: float) -> tuple[int, float, str]:
        raise NotImplementedError

    def _wrong(self, number: int, expected: bytes | bytearray, found: bytes) -> ContestError:
        return ContestError(f"{self.measured.name}: {difference(number, expected, found)}")

    def close(self) -> None:
        """End the connection and the process."""
        self._end_process()

    def _end_process(self) -> None:
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None  # noqa: S101 - all are pipes
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def _patience(self, seconds: float = 0.0) -> Iterator[None]:
        """Kill the process when the block takes far too long, so that what waits for it ends."""
        timer = threading.Timer(seconds + _PATIENCE, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """Say which contestant it was whose connection broke."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error

    def _ended(self) -> ContestError:
        """Return the error for a process that is no more, with the last line that it wrote."""
        self._process.kill()  # if only its connection has ended
        _, said = self._process.communicate()
        lines = said.decode(errors="replace").strip().splitlines()
        return ContestError(f"{self.measured.name}: its process has ended{': ' + lines[-1] if lines else ''}")


class _Blocking(_Contestant):
    """One whose calls block."""

    _link: Link

    def _dial(self, kind: str, address: str) -> None:
        self._link = dial_blocking(kind, address, max(self._settings.size, self._settings.bulk))

    def _exchange(self, seconds: float, least: int = _COLD) -> None:
        send, recv, clock = self._link.send, self._link.recv, time.perf_counter_ns
        messages, times, number, done = Messages(self._settings.size, ECHO), [], self._numbers, 0
        until = clock() + int(seconds * 1e9)
        while True:
            message = messages.numbered(number)
            before = clock()
            send(message)
            reply = recv()
            after = clock()
            if reply != message:
                raise self._wrong(number, message, reply)
            times.append(after - before)
            number, done = number + 1, done + 1
            if after >= until and done > least:
                break
        self._numbers = number
        self.measured.round_trips += times[_COLD:]

    def _pour(self, seconds: float) -> tuple[int, float, str]:
        send, clock = self._link.send, time.perf_counter
        messages, number = Messages(self._settings.bulk, ONE_WAY), 0
        end = bytes(Messages(SMALLEST, END).numbered(0))
        before = clock()
        while True:
            for number in range(number, number + _AT_ONCE):  # noqa: B020 - it goes on from there
                send(messages.numbered(number))
            number += 1
            if clock() - before >= seconds:
                break
        send(end)
        verdict = self._link.recv()
        return number, clock() - before, verdict.decode(errors="replace")

    def close(self) -> None:
        self._link.close()
        super().close()


class _OnALoop(_Contestant):
    """One of an event loop."""

    _link: AsyncLink

    def _dial(self, kind: str, address: str) -> None:
        self._runner = asyncio.Runner()
        try:
            self._link = self._runner.run(dial_async(kind, address))
        except BaseException:
            self._runner.close()
            raise

    def _exchange(self, seconds: float, least: int = _COLD) -> None:
        self._runner.run(self._exchange_async(seconds, least))

    async def _exchange_async(self, seconds: float, least: int) -> None:
        send, recv, clock = self._link.send, self._link.recv, time.perf_counter_ns
        messages, times, number, done = Messages(self._settings.size, ECHO), [], self._numbers, 0
        until = clock() + int(seconds * 1e9)
        while True:
            message = messages.numbered(number)
            before = clock()
            await send(message)
            reply = await recv()
            after = clock()
            if reply != message:
                raise self._wrong(number, message, reply)
            times.append(after - before)
            number, done = number + 1, done + 1
            if after >= until and done > least:
                break
        self._numbers = number
        self.measured.round_trips += times[_COLD:]

    def _pour(self, seconds: float) -> tuple[int, float, str]:
        return self._runner.run(self._pour_async(seconds))

    async def _pour_async(self, seconds: float) -> tuple[int, float, str]:
        send, clock = self._link.send, time.perf_counter
        messages, number = Messages(self._settings.bulk, ONE_WAY), 0
        end = bytes(Messages(SMALLEST, END).numbered(0))
        before = clock()
        while True:
            for number in range(number, number + _AT_ONCE):  # noqa: B020 - it goes on from there
                await send(messages.numbered(number))
            number += 1
            if clock() - before >= seconds:
                break
        await send(end)
        verdict = await self._link.recv()
        return number, clock() - before, verdict.decode(errors="replace")

    def close(self) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                self._runner.run(self._link.close())
        finally:
            self._runner.close()
            super().close()


class Contest:
    """All contestants of this machine, connected and warm."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scope = contextlib.ExitStack()
        self._contestants: list[_Contestant] = []
        self.left_out: dict[str, str] = {}
        """Those that are not measured here, by name, and why."""

    def __enter__(self) -> Self:
        with self._scope:  # all that has been made is ended if one fails
            folder = self._scope.enter_context(tempfile.TemporaryDirectory(prefix="npipe-bench-"))
            kinds = [kind for kind in self._settings.kinds if self._settings.aio or kind not in ASYNC]
            for kind in kinds:
                why = _missing(kind, folder, max(self._settings.size, self._settings.bulk))
                if why is not None:
                    self.left_out[NAMES[kind]] = why
                    continue
                made = (_OnALoop if kind in ASYNC else _Blocking)(kind, folder, self._settings)
                self._scope.callback(made.close)
                self._contestants.append(made)
                made.warm()
            self._scope = self._scope.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._scope.close()

    def run(self, progress: Callable[[float], None]) -> list[Measured]:
        """Measure. `progress` is told between the turns which share is done."""
        count = len(self._contestants)
        rounds = max(2, round(self._settings.seconds / (count * 2 * _TURN)))
        turn = self._settings.seconds / (rounds * count)
        for number in range(rounds):
            # Another one begins each time: nobody always comes after the same neighbour's last message.
            for place in range(count):
                self._contestants[(number + place) % count].turn(turn)
                progress((number * count + place + 1) / (rounds * count))
        for contestant in self._contestants:
            contestant.measured.settle()
        return [contestant.measured for contestant in self._contestants]


def _start(kind: str, address: str, size: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "npipe.cli.measuring.child", kind, address, str(size)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _address(kind: str, folder: str) -> str:
    if kind in ("npipe", "npipe.aio") or sys.platform == "win32":
        return rf"\\.\pipe\npipe-bench-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    return str(Path(folder) / kind)


def _missing(kind: str, folder: str, size: int) -> str | None:
    """Return why a contestant cannot take part; None if it can."""
    if kind.startswith("npipe"):
        return None
    if sys.platform == "win32":
        return "Windows has none in Python" if kind in ("seqpacket", "asyncio") else None
    if len(os.fsencode(_address(kind, folder))) > _LONGEST_ADDRESS:
        return f"the path of the folder for temporary files is too long for a socket: {folder}"
    if kind == "seqpacket":
        return _too_large_for_a_packet(size)
    return None


def _too_large_for_a_packet(size: int) -> str | None:
    if sys.platform == "win32":
        raise NotImplementedError("Windows has no SOCK_SEQPACKET")
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, other:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * size)
        try:
            one.send(bytes(size))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return f"no packet of {size} bytes fits (sysctl net.core.wmem_max)"
    return None
