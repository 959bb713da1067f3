"""`asyncio.windows_events`: the Proactor loop, on npipe's loop for pipes; its policies; `PipeServer`."""
# ruff: noqa: SLF001 - what a module of asyncio's knows of the others

from __future__ import annotations

import asyncio
import contextlib
import importlib
import signal
import sys
import threading
import weakref
from abc import ABC
from typing import TYPE_CHECKING, Any, Final

import npipe.aio
from npipe._doors.event_loop import windows_utils
from npipe._doors.event_loop.proactor import (
    CONNECT_PIPE_INIT_DELAY,
    CONNECT_PIPE_MAX_DELAY,
    INFINITE,
    NULL,
    IocpProactor,
)
from npipe._doors.event_loop.windows_utils import BUFSIZE, PipeHandle, TransportsPipe
from npipe._doors.os_errors import os_error
from npipe._doors.winapi import _winapi as _winapi_module
from npipe.errors import PipeError
from npipe.win32._offered import missing_name

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from npipe.async_pipe import StreamPipe

    _PipeEventLoop = asyncio.SelectorEventLoop
    _Policy: Any = object
else:
    from asyncio import unix_events as _unix

    _PipeEventLoop = npipe.aio.PipeEventLoop
    _Policy = getattr(_unix, "_UnixDefaultEventLoopPolicy", None) or _unix._DefaultEventLoopPolicy

_winapi: Any = _winapi_module  # whose constants no type checker sees

_NOT_FOUND: Final = 2
_INVALID_NAME: Final = 123

ERROR_CONNECTION_REFUSED: Final = 1225
ERROR_CONNECTION_ABORTED: Final = 1236

SelectorEventLoop = asyncio.SelectorEventLoop
_WindowsSelectorEventLoop = SelectorEventLoop


class ProactorEventLoop(_PipeEventLoop):
    """The loop that is the default on Windows: pipes beside all that the loop of this system has."""

    def __init__(self, proactor: IocpProactor | None = None) -> None:
        super().__init__()
        self._proactor = IocpProactor() if proactor is None else proactor
        self._proactor.set_loop(self)

    def run_forever(self) -> None:
        """See asyncio.AbstractEventLoop.run_forever. In the main thread, signals that reach any thread wake it."""
        with _woken_by_signals(self):
            super().run_forever()

    def close(self) -> None:
        """See asyncio.AbstractEventLoop.close."""
        if not self.is_running() and not self.is_closed():
            self._proactor.close()
        super().close()

    async def create_pipe_connection(self, protocol_factory: Any, address: str) -> Any:
        """See npipe.aio.PipeEventLoop. The errors are those of Python on Windows."""
        with _errors_of_windows(address, _NOT_FOUND):
            return await super().create_pipe_connection(protocol_factory, address)  # type: ignore[misc]

    async def start_serving_pipe(self, protocol_factory: Any, address: str) -> Any:
        """See npipe.aio.PipeEventLoop. The errors are those of Python on Windows."""
        with _errors_of_windows(address, _INVALID_NAME):
            return await super().start_serving_pipe(protocol_factory, address)  # type: ignore[misc]

    def _extra_of_pipe(self, pipe: StreamPipe) -> dict[str, Any]:
        """Return what a transport says on Windows: the extra "pipe" is a PipeHandle."""
        return {"pipe": TransportsPipe(pipe)}

    # ---- Sockets: the Proactor loop's reads block nothing on one that blocks either

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """See asyncio.AbstractEventLoop.sock_recv."""
        await self._readable(sock)
        return await super().sock_recv(sock, n)

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """See asyncio.AbstractEventLoop.sock_recv_into."""
        await self._readable(sock)
        return await super().sock_recv_into(sock, buf)

    async def sock_accept(self, sock: socket.socket) -> Any:
        """See asyncio.AbstractEventLoop.sock_accept."""
        await self._readable(sock)
        return await super().sock_accept(sock)

    async def _readable(self, sock: socket.socket) -> None:
        if self.get_debug() or sock.gettimeout() == 0:
            return
        readable: asyncio.Future[None] = self.create_future()

        def tell() -> None:
            if not readable.done():
                readable.set_result(None)

        self.add_reader(sock, tell)
        try:
            await readable
        finally:
            self.remove_reader(sock)

    # ---- Transports of pipes' handles that the program has; those of descriptors are the system's own

    def _make_read_pipe_transport(self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        if isinstance(pipe, PipeHandle):
            return _transports()._ProactorReadPipeTransport(self, pipe, protocol, waiter, extra)
        return super()._make_read_pipe_transport(pipe, protocol, waiter, extra)  # type: ignore[misc]

    def _make_write_pipe_transport(self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        if isinstance(pipe, PipeHandle):
            return _transports()._ProactorWritePipeTransport(self, pipe, protocol, waiter, extra)
        return super()._make_write_pipe_transport(pipe, protocol, waiter, extra)  # type: ignore[misc]

    def _make_duplex_pipe_transport(self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> Any:
        return _transports()._ProactorDuplexPipeTransport(self, pipe, protocol, waiter, extra)


ProactorEventLoop.__module__ = "asyncio.windows_events"


@contextlib.contextmanager
def _errors_of_windows(address: object, code: int) -> Iterator[None]:
    """Raise what Python on Windows raises: `code` for a bare name, which npipe takes for a pipe's."""
    if isinstance(address, str) and not address.replace("/", "\\").startswith("\\\\"):
        raise os_error(code)
    try:
        yield
    except PipeError as error:
        raise os_error(error.winerror) from error


@contextlib.contextmanager
def _woken_by_signals(loop: Any) -> Iterator[None]:
    """Have signals wake the loop while it runs, as the Proactor loop's do; the loop of this system asks for handlers.

    A program that waits for signals by a descriptor of its own keeps that.
    """
    if threading.current_thread() is not threading.main_thread() or loop.is_closed() or loop.is_running():
        yield
        return
    descriptor = loop._csock.fileno()
    before = signal.set_wakeup_fd(descriptor)
    if before != -1:
        signal.set_wakeup_fd(before)
        yield
        return
    try:
        yield
    finally:
        if not loop._signal_handlers:
            signal.set_wakeup_fd(-1)


def _transports() -> Any:
    """Return the library's own transports over a proactor."""
    return importlib.import_module("asyncio.proactor_events")


EventLoop = ProactorEventLoop


class WindowsSelectorEventLoopPolicy(_Policy):  # type: ignore[misc,unused-ignore]
    """A policy whose loops are the selector's, which have no pipes."""

    _loop_factory = SelectorEventLoop


class WindowsProactorEventLoopPolicy(_Policy):  # type: ignore[misc,unused-ignore]
    """A policy whose loops have pipes: Windows' default one."""

    _loop_factory = ProactorEventLoop


for _policy in (WindowsSelectorEventLoopPolicy, WindowsProactorEventLoopPolicy):
    _policy.__module__ = "asyncio.windows_events"

DefaultEventLoopPolicy = WindowsProactorEventLoopPolicy

# Their names from Python 3.14 on.
_WindowsSelectorEventLoopPolicy = WindowsSelectorEventLoopPolicy
_WindowsProactorEventLoopPolicy = WindowsProactorEventLoopPolicy
_DefaultEventLoopPolicy = DefaultEventLoopPolicy


class PipeServer(ABC):  # noqa: B024 - so that what serves pipes is one
    """A pipe's name that is taken, with an instance that listens: for `loop._proactor.accept_pipe`.

    What `start_serving_pipe` returns is one too.
    """

    def __init__(self, address: str) -> None:
        """Raise PermissionError if the name is taken."""
        self._address: str | None = address
        self._free_instances: weakref.WeakSet[PipeHandle] = weakref.WeakSet()
        self._accept_pipe_future: asyncio.Future[Any] | None = None
        self._pipe: PipeHandle | None = None
        self._pipe = self._server_pipe_handle(True)

    def _get_unconnected_pipe(self) -> PipeHandle | None:
        """Return the instance that listens; another one does from now on."""
        pipe, self._pipe = self._pipe, self._server_pipe_handle(False)
        return pipe

    def _server_pipe_handle(self, first: bool) -> PipeHandle | None:
        if self._address is None:
            return None
        mode = _winapi.PIPE_ACCESS_DUPLEX | _winapi.FILE_FLAG_OVERLAPPED
        if first:
            mode |= _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE
        kind = _winapi.PIPE_TYPE_MESSAGE | _winapi.PIPE_READMODE_MESSAGE | _winapi.PIPE_WAIT
        most, forever = _winapi.PIPE_UNLIMITED_INSTANCES, _winapi.NMPWAIT_WAIT_FOREVER
        handle = _winapi.CreateNamedPipe(self._address, mode, kind, most, BUFSIZE, BUFSIZE, forever, NULL)
        pipe = PipeHandle(handle)
        self._free_instances.add(pipe)
        return pipe

    def closed(self) -> bool:
        """Whether it is closed."""
        return self._address is None

    def close(self) -> None:
        """Close what listens; connections live on."""
        if getattr(self, "_address", None) is None:
            return
        accepting, self._accept_pipe_future = self._accept_pipe_future, None
        if accepting is not None:
            accepting.cancel()
        self._address = None
        for pipe in list(self._free_instances):
            pipe.close()
        self._free_instances.clear()
        self._pipe = None

    __del__ = close


PipeServer.__module__ = "asyncio.windows_events"
PipeServer.register(npipe.aio.PipeServer)

__all__ = ["IocpProactor", "ProactorEventLoop", "SelectorEventLoop"]
__all__ += ["EventLoop"] if sys.version_info >= (3, 13) else []
if sys.version_info < (3, 14):
    __all__ += ["DefaultEventLoopPolicy", "WindowsProactorEventLoopPolicy", "WindowsSelectorEventLoopPolicy"]

_PRIVATE: Final = (CONNECT_PIPE_INIT_DELAY, CONNECT_PIPE_MAX_DELAY, INFINITE, windows_utils)  # names of the module's


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what Python itself asks for
        raise AttributeError(name)
    raise missing_name("asyncio.windows_events", name, "npipe has what pipes need: docs/porting.md")
