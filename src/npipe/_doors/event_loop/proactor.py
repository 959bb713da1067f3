"""`loop._proactor`: operations on pipes' handles, and waits for objects, for the event loop.

npipe's own transports do without. A completion port tells of the ends; a thread waits for its packets, from the first
operation on until the loop is closed.
"""
# ruff: noqa: SLF001 - what a module of asyncio's knows of the others

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.event_loop.windows_utils import PipeHandle
from npipe._doors.winapi import _overlapped as _overlapped_module
from npipe._doors.winapi import _winapi as _winapi_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer, WriteableBuffer

    _Finish = Callable[[], Any]

__all__ = ["CONNECT_PIPE_INIT_DELAY", "CONNECT_PIPE_MAX_DELAY", "INFINITE", "NULL", "IocpProactor"]

_overlapped: Any = _overlapped_module  # whose constants no type checker sees
_winapi: Any = _winapi_module

NULL: Final = 0
INFINITE: Final = 0xFFFFFFFF
CONNECT_PIPE_INIT_DELAY = 0.001
"""Seconds until a connection to a busy pipe is tried again, the first time."""
CONNECT_PIPE_MAX_DELAY = 0.100
"""The longest such time: it doubles with each try."""
_END: Final = 0x6E70  # the key of the packet that ends the thread


class _OverlappedFuture(asyncio.Future[Any]):
    """The end of an operation; cancelling it cancels the operation."""

    _ov: Any = None

    def cancel(self, msg: Any = None) -> bool:
        """See asyncio.Future.cancel."""
        operation, self._ov = self._ov, None
        if operation is not None and not self.done():
            operation.cancel()
        return super().cancel(msg=msg)


class _WaitHandleFuture(asyncio.Future[bool]):
    """The end of a wait for an object; cancelling it ends the wait."""

    _wait: int | None = None

    def cancel(self, msg: Any = None) -> bool:
        """See asyncio.Future.cancel."""
        self._unregister()
        return super().cancel(msg=msg)

    def _unregister(self) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            _overlapped.UnregisterWait(wait)


class IocpProactor:
    """What programs call of `asyncio.IocpProactor`: operations that return futures of its loop."""

    def __init__(self, concurrency: int = INFINITE) -> None:
        self._concurrency = concurrency
        self._loop: Any = None
        self._iocp: int | None = None
        self._closed = False
        self._thread: threading.Thread | None = None
        self._registered: weakref.WeakSet[Any] = weakref.WeakSet()  # pipes whose packets come to the port
        self._cache: dict[int, tuple[asyncio.Future[Any], Any, object, _Finish]] = {}  # by the operation's address

    def __repr__(self) -> str:
        return f"<{type(self).__name__} overlapped#={len(self._cache)}{' closed' if self._closed else ''}>"

    def set_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the loop of the futures."""
        self._loop = loop

    def _port(self) -> int:
        """Return the completion port; whoever asks first makes it."""
        if self._closed:
            raise RuntimeError("IocpProactor is closed")
        if self._iocp is None:
            self._iocp = _overlapped.CreateIoCompletionPort(
                _overlapped.INVALID_HANDLE_VALUE, NULL, 0, self._concurrency
            )
            self._thread = threading.Thread(target=self._run, args=(self._iocp,), name="npipe-proactor", daemon=True)
            self._thread.start()
        return self._iocp

    def _run(self, port: int) -> None:
        """Hand packets to the loop, until the one that ends this."""
        while True:
            _, _, key, address = _overlapped.GetQueuedCompletionStatus(port, INFINITE) or (0, 0, 0, 0)
            if key == _END:
                return
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._completed, address)

    def _completed(self, address: int) -> None:
        future, _, _, finish = self._cache.pop(address, (None, None, None, None))
        if future is not None and finish is not None and not future.done():
            _settle(future, finish)

    def _register(self, operation: Any, pipe: object, finish: _Finish) -> asyncio.Future[Any]:
        """Return the future of an operation that has been started; it is kept until its packet comes."""
        future = _OverlappedFuture(loop=self._loop)
        future._ov = operation
        self._cache[operation.address] = (future, operation, pipe, finish)
        if not operation.pending:
            _settle(future, finish)
        return future

    def _begin(self, pipe: Any) -> Any:
        """Return a new operation on a pipe whose packets come here."""
        port = self._port()
        if pipe not in self._registered:
            _overlapped.CreateIoCompletionPort(pipe.fileno(), port, 0, 0)
            self._registered.add(pipe)
        return _overlapped.Overlapped(NULL)

    def _result(self, value: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        future.set_result(value)
        return future

    # ---- Pipes

    def recv(self, conn: Any, nbytes: int, flags: int = 0) -> asyncio.Future[bytes]:
        """Read at most `nbytes` bytes; b"" at the end. A socket is read too."""
        del flags
        if isinstance(conn, socket.socket):
            return self._task(self._loop.sock_recv(conn, nbytes))
        operation = self._begin(conn)
        try:
            operation.ReadFile(conn.fileno(), nbytes)
        except BrokenPipeError:
            return self._result(b"")
        return self._register(operation, conn, operation.getresult)

    def recv_into(self, conn: Any, buf: WriteableBuffer, flags: int = 0) -> asyncio.Future[int]:
        """Read into a buffer; the number of bytes, 0 at the end. A socket is read too."""
        del flags
        if isinstance(conn, socket.socket):
            return self._task(self._loop.sock_recv_into(conn, buf))
        operation = self._begin(conn)
        try:
            operation.ReadFileInto(conn.fileno(), buf)
        except BrokenPipeError:
            return self._result(0)
        return self._register(operation, conn, operation.getresult)

    def send(self, conn: Any, buf: ReadableBuffer, flags: int = 0) -> asyncio.Future[int]:
        """Write a buffer; the number of bytes. To a socket too."""
        del flags
        if isinstance(conn, socket.socket):
            return self._task(self._send_all(conn, buf))
        operation = self._begin(conn)
        operation.WriteFile(conn.fileno(), buf)
        return self._register(operation, conn, operation.getresult)

    def accept_pipe(self, pipe: Any) -> asyncio.Future[Any]:
        """Wait until an instance (a PipeHandle) has a client; the result is the instance."""
        operation = self._begin(pipe)
        if operation.ConnectNamedPipe(pipe.fileno()):
            return self._result(pipe)

        def finish() -> Any:
            operation.getresult()
            return pipe

        return self._register(operation, pipe, finish)

    async def connect_pipe(self, address: str) -> PipeHandle:
        """Connect to a pipe; tries again while all its instances are busy. FileNotFoundError if there is none."""
        delay = CONNECT_PIPE_INIT_DELAY
        while True:
            try:
                return PipeHandle(_overlapped.ConnectPipe(address))
            except OSError as error:
                if getattr(error, "winerror", None) != _overlapped.ERROR_PIPE_BUSY:
                    raise
            delay = min(delay * 2, CONNECT_PIPE_MAX_DELAY)
            await asyncio.sleep(delay)

    # ---- Objects

    def wait_for_handle(self, handle: int, timeout: float | None = None) -> asyncio.Future[bool]:
        """Wait for an object at most `timeout` seconds (None: for ever); whether it is signalled."""
        port = self._port()
        operation = _overlapped.Overlapped(NULL)  # for its address alone
        future = _WaitHandleFuture(loop=self._loop)

        def finish() -> bool:
            future._unregister()
            return bool(_winapi.WaitForSingleObject(handle, 0) == _winapi.WAIT_OBJECT_0)

        self._cache[operation.address] = (future, operation, None, finish)
        milliseconds = INFINITE if timeout is None else math.ceil(timeout * 1000)
        try:
            future._wait = _overlapped.RegisterWaitWithQueue(handle, port, operation.address, milliseconds)
        except BaseException:
            del self._cache[operation.address]
            raise
        future.add_done_callback(lambda _: self._cache.pop(operation.address, None))
        return future

    # ---- Sockets, by the loop's own means

    def _task(self, call: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.ensure_future(call, loop=self._loop)
        return future

    async def _send_all(self, conn: socket.socket, buf: ReadableBuffer) -> int:
        data = memoryview(buf).cast("B")
        await self._loop.sock_sendall(conn, data)
        return len(data)

    def accept(self, listener: socket.socket) -> asyncio.Future[Any]:
        """Accept a socket's client; the socket and its address."""
        return self._task(self._loop.sock_accept(listener))

    def connect(self, conn: socket.socket, address: Any) -> asyncio.Future[None]:
        """Connect a socket; TypeError for what is no address."""
        _check_address(conn, address)
        return self._task(self._loop.sock_connect(conn, address))

    def sendto(self, conn: socket.socket, buf: ReadableBuffer, flags: int = 0, addr: Any = None) -> asyncio.Future[int]:
        """Send a datagram; TypeError for what is no address."""
        del flags
        _check_address(conn, addr)
        return self._task(self._loop.sock_sendto(conn, buf, addr))

    # ---- Ending

    def close(self) -> None:
        """Cancel what is under way, and end."""
        if self._closed:
            return
        self._closed = True
        for future, *_ in list(self._cache.values()):
            if self._loop is not None and not self._loop.is_closed():
                future.cancel()
            elif not future.done() and isinstance(future, _OverlappedFuture) and future._ov is not None:
                future._ov.cancel()
        port, self._iocp = self._iocp, None
        if port is not None and self._thread is not None:
            _overlapped.PostQueuedCompletionStatus(port, 0, _END, 0)
            self._thread.join()
            _winapi.CloseHandle(port)
        self._cache.clear()


IocpProactor.__module__ = "asyncio.windows_events"


def _settle(future: asyncio.Future[Any], finish: _Finish) -> None:
    try:
        value = finish()
    except OSError as error:
        future.set_exception(error)
    else:
        future.set_result(value)


def _check_address(conn: socket.socket, address: Any) -> None:
    if conn.family in (socket.AF_INET, socket.AF_INET6) and not isinstance(address, tuple):
        raise TypeError(f"expected a tuple, not {type(address).__name__}")
