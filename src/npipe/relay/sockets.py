"""Sockets as ends of a relay: Unix sockets and TCP, and what TLS stands on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe.relay.base import PIECE, Acceptor, Arrival, Channel, PeerLostError

if sys.platform != "win32":
    import fcntl
    import termios

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.relay.addresses import Address
    from npipe.relay.base import RelayOptions

__all__ = ["SocketAcceptor", "SocketChannel", "dial_socket", "listen_at", "place_of"]

_BACKLOG: Final = 4096
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))  # seconds, seconds, probes


class SocketChannel(Channel):
    """A connected stream socket."""

    def __init__(self, connection: socket.socket, label: str) -> None:
        connection.setblocking(False)
        if connection.family != getattr(socket, "AF_UNIX", None):
            # A peer that has gone for good while nothing is sent is otherwise never noticed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                if hasattr(socket, option):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._finished = False
        self._reading: asyncio.Task[bytes] | None = None
        self.label: str = label

    async def read(self) -> bytes | None:
        """See Channel.read. The loop's own sock_recv, cancelled, may have taken something already."""
        try:
            data = await self._receive()
        except OSError as error:
            raise PeerLostError(_reason(error)) from error
        if not data:
            self.read_ended = True
            return None
        return data

    if sys.platform == "win32":

        async def _receive(self) -> bytes:
            if self._reading is None:
                self._reading = self._loop.create_task(self._loop.sock_recv(self._socket, PIECE))
            data = await asyncio.shield(self._reading)  # cancelled, it goes on, and is the next read's
            self._reading = None
            return data

    else:

        async def _receive(self) -> bytes:
            while True:
                try:
                    return self._socket.recv(PIECE)
                except (BlockingIOError, InterruptedError):
                    readable: asyncio.Future[None] = self._loop.create_future()
                    self._loop.add_reader(self._socket, _set, readable)
                    try:
                        await readable  # cancelled, what has come is still the kernel's
                    finally:
                        self._loop.remove_reader(self._socket)

    async def write(self, data: bytes) -> None:
        """See Channel.write."""
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise PeerLostError(_reason(error)) from error

    async def finish(self) -> bool:
        """See Channel.finish."""
        if not self._finished:
            self._finished = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise PeerLostError(_reason(error)) from error
        return True

    async def gone(self) -> None:
        """See Channel.gone. Linux tells it: a hang-up of both ways, or a reset, which is an end with bytes unread."""
        if sys.platform != "linux":
            await super().gone()
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        try:
            watching = select.epoll()
        except OSError:  # no descriptor is left: it is not seen, and what there is to carry is carried
            await super().gone()
            return
        with watching as ends:
            ends.register(self._socket, 0)  # EPOLLHUP and EPOLLERR come unasked
            self._loop.add_reader(ends.fileno(), _set, waiter)
            try:
                await waiter
            finally:
                self._loop.remove_reader(ends.fileno())
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed == errno.EPIPE:  # so the kernel calls a reset behind the peer's end
            failed = errno.ECONNRESET
        if failed:
            raise PeerLostError(os.strerror(failed))

    async def shut(self) -> int:
        """See Channel.shut. What the kernel has is counted too, but on Windows."""
        dropped = 0 if self.read_ended or self._socket.fileno() < 0 else _unread(self._socket)
        reading, self._reading = self._reading, None
        if reading is not None:
            await asyncio.wait((reading,), timeout=0)  # if it has come, it is here now
            reading.cancel()
            (result,) = await asyncio.gather(reading, return_exceptions=True)
            dropped += len(result) if isinstance(result, bytes) else 0
        self._socket.close()
        return dropped


if sys.platform == "win32":

    def _unread(_connection: socket.socket) -> int:
        return 0

else:

    def _unread(connection: socket.socket) -> int:
        return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0])


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def place_of(name: object) -> str:
    """Return a socket's address as text: HOST:PORT, or a path."""
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name)


async def dial_socket(address: Address, options: RelayOptions) -> socket.socket:
    """Connect; OSError when it cannot be reached, TimeoutError when that takes too long."""
    del options
    loop = asyncio.get_running_loop()
    if address.kind == "unix":
        return await _dial_unix(address.path)
    failed: OSError | None = None
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, place in found:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, place)
        except OSError as error:
            connection.close()
            failed = failed or error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failed or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


async def _dial_unix(path: str) -> socket.socket:
    if sys.platform == "win32":
        raise OSError(errno.EAFNOSUPPORT, "no Unix sockets here")  # parse_address has refused it
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:  # the backlog is full; of room in it the kernel tells blocking calls only
                await asyncio.sleep(0.002)
            else:
                return connection
    except BaseException:
        connection.close()
        raise


class SocketAcceptor(Acceptor):
    """A socket that listens, or several for one name."""

    def __init__(self, listening: list[socket.socket], label: str, remove: Path | None = None) -> None:
        """`remove`: the path of a Unix socket, which goes with it."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._waiting: dict[socket.socket, asyncio.Task[tuple[socket.socket, object]]] = {}
        self._remove = remove
        self._made = None if remove is None else remove.lstat()
        self.label: str = label

    async def accept(self) -> Arrival:
        """See Acceptor.accept."""
        connection, place = await self.accept_socket()
        label = _credentials(connection) or place_of(place)

        async def opened() -> Channel:
            return SocketChannel(connection, label)

        return Arrival(label, opened, connection.close)

    async def accept_socket(self) -> tuple[socket.socket, object]:
        """Wait for a connection; return it and its peer's address. Cancelled, it has lost none."""
        for listening in self._listening:
            if listening not in self._waiting:
                self._waiting[listening] = self._loop.create_task(self._loop.sock_accept(listening))
        await asyncio.wait(self._waiting.values(), return_when=asyncio.FIRST_COMPLETED)
        listening, task = next((key, task) for key, task in self._waiting.items() if task.done())
        del self._waiting[listening]
        return task.result()

    async def close(self) -> None:
        """See Acceptor.close. Who was taken and not handed out is closed."""
        for task in self._waiting.values():
            task.cancel()
        for result in await asyncio.gather(*self._waiting.values(), return_exceptions=True):
            if isinstance(result, tuple):
                result[0].close()
        self._waiting.clear()
        # The path first: one to which nobody listens may be another relay's already.
        if self._remove is not None and self._made is not None:
            with contextlib.suppress(FileNotFoundError):
                now = self._remove.lstat()
                if (now.st_dev, now.st_ino) == (self._made.st_dev, self._made.st_ino):
                    self._remove.unlink()
        for listening in self._listening:
            listening.close()


def _credentials(connection: socket.socket) -> str | None:
    """Return who is at the other end of a Unix socket."""
    if sys.platform != "linux" or connection.family != socket.AF_UNIX:
        return None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    import pwd

    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return f"process {pid} of {user}"


async def listen_at(address: Address, options: RelayOptions) -> SocketAcceptor:
    """Listen; OSError when the place is taken or not to be had."""
    if address.kind == "unix":
        return _listen_unix(address, options)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listening: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            listening.append(one)
            if sys.platform != "win32":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(place)
            one.listen(_BACKLOG)
            one.setblocking(False)
    except BaseException:
        for one in listening:
            one.close()
        raise
    places = " ".join(place_of(one.getsockname()) for one in listening)
    return SocketAcceptor(listening, f"{address.kind}:{places}")


def _listen_unix(address: Address, options: RelayOptions) -> SocketAcceptor:
    if sys.platform == "win32":
        raise OSError(errno.EAFNOSUPPORT, "no Unix sockets here")  # parse_address has refused it
    path = Path(address.path)
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_at(path):
            os.fchmod(one.fileno(), options.socket_mode)  # Linux takes it over for the path, at no moment wider
            try:
                one.bind(address.path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                    raise
                path.unlink(missing_ok=True)
                one.bind(address.path)
            try:
                path.chmod(options.socket_mode)  # a umask may have made it narrower
                one.listen(_BACKLOG)
                one.setblocking(False)
                return SocketAcceptor([one], f"unix:{address.path}", path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except BaseException:
        one.close()
        raise


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _alone_at(_path: Path) -> contextlib.AbstractContextManager[None]:
        raise OSError(errno.EAFNOSUPPORT, "no Unix sockets here")  # parse_address has refused it

else:

    @contextlib.contextmanager
    def _alone_at(path: Path) -> Iterator[None]:
        """Let nobody else make or replace the socket meanwhile: one that is bound and does not listen looks left over.

        By a file beside it, PATH.lock, which is there for that long. OSError (EADDRINUSE) if somebody does so now.
        """
        lock = f"{path}.lock"
        while True:
            file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
                if not _is_at(file, lock):  # who had it has removed it
                    continue
                try:
                    yield
                finally:
                    Path(lock).unlink(missing_ok=True)
                return
            finally:
                os.close(file)


def _is_left_over(path: Path) -> bool:
    """Whether it is a socket to which nobody listens."""
    if sys.platform == "win32":
        raise OSError(errno.EAFNOSUPPORT, "no Unix sockets here")  # parse_address has refused it
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
    except FileNotFoundError:  # who listened has removed it meanwhile
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False
