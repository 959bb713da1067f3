"""One client of another machine: what comes from smbd goes into the pipe, and what the server writes goes to smbd.

- A message is two bytes of length, little-endian, and its bytes, 1 to 65535 of them; a byte pipe is a plain stream.
- A message goes to smbd in one write, for one that a client cancels in the middle of it is lost with all that follow
  (Samba 4.22). So it is begun only when the socket has room for all of it.
- When the server has closed its end, the socket stays open until smbd has taken all: else unread messages are lost
  (Samba 4.22 again). A client that reads nothing for LINGER seconds is not waited for any longer.
- A client's end is an end of file, after which all that it wrote still goes into the pipe, until the server has read
  nothing of it for LINGER seconds. Then the pipe is closed. Until then what the server writes goes nowhere.
"""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import asyncio
import contextlib
import fcntl
import select
import struct
import termios
from typing import TYPE_CHECKING, Final

from npipe.async_pipe import MessagePipe
from npipe.errors import PipeError

if TYPE_CHECKING:
    import socket

    from npipe.async_pipe import StreamPipe
    from npipe.binding import PolledHandle

__all__ = ["LINGER", "MOST_MESSAGE", "Incoming", "Relay", "all_is_taken"]

MOST_MESSAGE: Final = 65535
"""Bytes of a message that smbd carries."""

LINGER: Final = 30.0
"""Seconds without a read, of a client of what the server wrote before it closed, or of the server of what its client
wrote, after which what is left is lost. Who reads on gets all: what is kept is finite. Of the server's reads one is
seen when the pipe has room for the next message, or for the next _PIECE of a stream, as a whole."""

_READ: Final = 65536
_MUCH: Final = 256 * 1024  # bytes that may wait here for the pipe
_PIECE: Final = 16384  # bytes of a stream that go into the pipe at once: what is counted of it
_PAUSE: Final = 0.05  # seconds, between attempts while no descriptor is left
_HEADER: Final = struct.Struct("<H")


class Incoming:
    """What comes from smbd, as far as it has come; it is read no further than _MUCH ahead."""

    def __init__(self, connection: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._reading = False
        self._dropping = False
        self.ended: bool = False
        """Whether nothing more will come: smbd has closed it, for its client."""
        self.hung_up: asyncio.Event = asyncio.Event()
        """Whether smbd has closed it. There may be more to read, of one that is not read for the moment."""
        self._hang_up: asyncio.Task[None] | None = None  # waits for that while it is not read
        self._read_on()

    def _read_on(self) -> None:
        if not self._reading and not self.ended:
            self._reading = True
            self._stop_looking()
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def pause(self) -> None:
        """Read nothing for the moment."""
        self._stop_looking()
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket.fileno())

    def _stop_looking(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None

    async def _look_for_the_end(self) -> None:
        while True:
            try:
                await _hung_up(self._socket.fileno())
                break
            except OSError:  # no descriptor for it, for the moment
                await asyncio.sleep(_PAUSE)
        self.hung_up.set()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.pause()
            self.ended = True
            self.hung_up.set()
        elif not self._dropping:
            self._buffer += data
            if len(self._buffer) >= _MUCH:
                self.pause()
                self._hang_up = self._loop.create_task(self._look_for_the_end())
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until more has come, or the end. One task at a time."""
        self._read_on()
        if self.ended:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def end(self) -> None:
        """Wait for the end; what comes before it is kept, up to _MUCH."""
        while not self.ended:
            if len(self._buffer) >= _MUCH:
                await asyncio.Event().wait()  # it will be told when it is read
            await self.changed()

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._buffer

    def drop(self) -> None:
        """Drop what has come, and what will come: the pipe is closed."""
        self._dropping = True
        self._buffer.clear()
        self._read_on()

    async def message(self) -> bytes | None:
        """Return the next message; None at the end. One that was cut off is none."""
        buffer = self._buffer
        while True:
            if len(buffer) >= _HEADER.size:
                end = _HEADER.size + _HEADER.unpack_from(buffer)[0]
                if len(buffer) >= end:
                    data = bytes(memoryview(buffer)[_HEADER.size : end])
                    del buffer[:end]
                    return data
            if self.ended:
                return None
            await self.changed()

    async def piece(self) -> bytes | None:
        """Return the next of what has come; None at the end."""
        while not self._buffer:
            if self.ended:
                return None
            await self.changed()
        data = bytes(memoryview(self._buffer)[:_PIECE])
        del self._buffer[:_PIECE]
        return data


class Relay:
    """Carries between smbd's connection and a client's end of the pipe, until one of the two ends."""

    def __init__(
        self,
        connection: socket.socket,
        incoming: Incoming,
        handle: PolledHandle,
        pipe: MessagePipe | StreamPipe,
        *,
        reads: bool,
        writes: bool,
    ) -> None:
        """Begin nothing yet. `reads`, `writes`: what the client's end may do."""
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._incoming = incoming
        self._handle = handle
        self._pipe = pipe
        self._reads = reads
        self._writes = writes
        self._room = select.poll()
        self._room.register(connection, select.POLLOUT)
        self._taken = 0  # messages, or pieces of a stream, that the pipe has taken
        self._gone = False  # smbd has closed it
        self._sending = False

    async def run(self) -> None:
        """Carry until the end, and close both."""
        inward = asyncio.ensure_future(self._inward())
        outward = asyncio.ensure_future(self._outward())
        parting = asyncio.ensure_future(self._part())
        try:
            await asyncio.wait((inward, outward, parting), return_when=asyncio.FIRST_COMPLETED)
            if not outward.done() and (not inward.done() or (await inward)):
                return  # the client has gone, and all that it wrote is in the pipe, or nobody takes it
            await outward
            if not self._gone:
                self._incoming.drop()
                await _read_to_the_end(self._socket)
        finally:
            for task in (inward, outward, parting):
                task.cancel()
            await asyncio.gather(inward, outward, parting, return_exceptions=True)
            self._incoming.pause()
            with contextlib.suppress(PipeError):
                await self._pipe.close(timeout=0)

    async def settle(self, patience: float) -> None:
        """Carry what the server has written so far, and let smbd take it, for `patience` seconds: the process ends."""
        with contextlib.suppress(PipeError, TimeoutError):
            async with asyncio.timeout(patience):
                while self._reads and not self._gone and (self._sending or self._pipe._has_unread()):  # noqa: SLF001
                    await asyncio.sleep(0)  # the other task's turn
                if not self._gone:
                    await all_is_taken(self._socket, patience)

    # ---- The two ways

    async def _part(self) -> None:
        """Wait until the client has gone, and nothing of what it wrote is taken for LINGER seconds."""
        await self._incoming.hung_up.wait()
        taken = -1
        while self._taken != taken:
            taken = self._taken
            await asyncio.sleep(LINGER)

    async def _inward(self) -> bool:
        """From smbd into the pipe. True: the client has gone; False: the pipe takes no more."""
        pipe, incoming = self._pipe, self._incoming
        try:
            if not self._writes:
                if incoming.empty:
                    await incoming.changed()
                return True  # it may not write: this is the end, or the end of it
            if isinstance(pipe, MessagePipe):
                while (data := await incoming.message()) is not None:
                    await pipe.send(data)
                    self._taken += 1
            else:
                while (data := await incoming.piece()) is not None:
                    await pipe.write(data)
                    self._taken += 1
        except PipeError:
            return False
        return True

    async def _outward(self) -> None:
        """From the pipe to smbd, until the server has closed it and all is out."""
        pipe = self._pipe
        if not self._reads:
            await _hung_up(self._handle.poll_socket())
            return
        try:
            if isinstance(pipe, MessagePipe):
                while True:
                    data = await pipe.recv()
                    if data:  # an empty one, of a reservation that was cut short, would be an error to smbd
                        await self._send(_HEADER.pack(len(data)) + data)
            else:
                while True:
                    await self._send(await pipe.read(_READ))
        except PipeError:
            return

    async def _send(self, data: bytes) -> None:
        """Write `data` to smbd, in one write if it is a message; to nobody when it has gone."""
        if self._gone:
            return
        self._sending = True
        try:
            view = memoryview(data)
            while view:
                # Writable is a Unix socket of which three quarters are free: enough for the longest message.
                if not self._room.poll(0):
                    await self._writable()
                try:
                    sent = self._socket.send(view)
                except (BlockingIOError, InterruptedError):
                    continue
                view = view[sent:]
        except OSError:
            self._gone = True
        finally:
            self._sending = False

    async def _writable(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._socket.fileno(), _finish, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_writer(self._socket.fileno())


async def all_is_taken(connection: socket.socket, patience: float) -> bool:
    """Wait until the other side has read all that was written to it; False when it has not in `patience` seconds.

    Each time that it reads something the socket has more room, of which epoll tells by an edge.
    """
    with contextlib.suppress(TimeoutError), select.epoll() as edges:
        edges.register(connection, select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(patience):
            while True:
                events = edges.poll(0)
                if any(event & select.EPOLLHUP for _, event in events) or not _unread(connection):
                    return True
                waiter: asyncio.Future[None] = loop.create_future()
                loop.add_reader(edges.fileno(), _finish, waiter)
                try:
                    await waiter
                finally:
                    loop.remove_reader(edges.fileno())
    return False


async def _read_to_the_end(connection: socket.socket) -> None:
    """Wait until the other side has read all that was written to it, or nothing of it for LINGER seconds."""
    unread = _unread(connection)
    while not await all_is_taken(connection, LINGER):
        before, unread = unread, _unread(connection)
        if unread >= before:
            return


def _unread(connection: socket.socket) -> int:
    """Return how much memory what was written, and is not read, takes."""
    number: int = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
    return number


async def _hung_up(descriptor: int) -> None:
    """Wait until a socket's peer has closed it, whatever there is to read."""
    loop = asyncio.get_running_loop()
    with select.epoll() as ends:
        ends.register(descriptor, select.EPOLLRDHUP)
        waiter: asyncio.Future[None] = loop.create_future()
        loop.add_reader(ends.fileno(), _finish, waiter)
        try:
            await waiter
        finally:
            loop.remove_reader(ends.fileno())


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
