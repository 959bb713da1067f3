"""Messages in place: what `reserve` and `recv_view` of message pipes return (docs/zero-copy.md).

The copying ones are here too, for what has no ring: kernel32's pipes, and calls that are made in threads.
"""

# ruff: noqa: SLF001 - a block and its pipe know each other

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

from npipe._process import refuse_copy
from npipe.errors import PipeArgumentError, WinError
from npipe.reasons import still_exported

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import NoReturn

__all__ = ["AsyncMessageView", "AsyncReservation", "MessageView", "Reservation"]


class Reservation(Protocol):
    """Room for one message, which `with` gives as a writable memoryview; it is also that view's `obj`.

    The end of the block sends it, an exception withdraws it. For one block.
    """

    @property
    def size(self) -> int:
        """How many bytes will be sent: at first all that were reserved."""

    def shrink(self, size: int) -> None:
        """Send the first `size` bytes only. The view stays as long as it is.

        Raises:
            PipeArgumentError: it is more than will be sent now, or negative (87).
        """

    def __enter__(self) -> memoryview: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class MessageView(Protocol):
    """The next message, which `with` gives as a read-only memoryview.

    The end of the block consumes it; after an exception it is what the next read returns. For one block.
    """

    def __enter__(self) -> memoryview: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AsyncReservation(Protocol):
    """A Reservation for `async with`."""

    @property
    def size(self) -> int:
        """See Reservation.size."""

    def shrink(self, size: int) -> None:
        """See Reservation.shrink: send the first `size` bytes only."""

    async def __aenter__(self) -> memoryview: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AsyncMessageView(Protocol):
    """A MessageView for `async with`."""

    async def __aenter__(self) -> memoryview: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


# ---- Whose block it is


def this_task() -> object:
    """Return what runs here: a task, or a thread's number."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_task():
            return trio.lowlevel.current_task()
    if "asyncio" in sys.modules:
        import asyncio

        if asyncio._get_running_loop() is not None:  # what get_running_loop asks
            return asyncio.current_task() or threading.get_ident()
    return threading.get_ident()


# ---- Copies


class SendsCopies(Protocol):
    """A pipe that sends what was put together elsewhere. `_reserver` is who does that, as this_task has it, or None."""

    _reserver: object

    @property
    def name(self) -> str:
        """See Pipe.name."""


class TakesCopies(Protocol):
    """A pipe that gives a copy of a message before it is consumed."""

    @property
    def name(self) -> str:
        """See Pipe.name."""

    def _end_view(self, message: bytes, *, consumed: bool) -> None:
        """Give the turn to read back; what was not consumed is what the next read returns."""


class _Copy:
    """A block's bytes, in memory of their own."""

    def __init__(self) -> None:
        self._memory: bytearray | None = None
        self._view: memoryview | None = None

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: it is for one block."""
        refuse_copy(self, "make bytes of what it gives")

    def _lend(self, memory: bytearray, *, writable: bool) -> memoryview:
        self._memory = memory
        self._view = memoryview(memory) if writable else memoryview(memory).toreadonly()
        return self._view

    def _is_fresh(self) -> None:
        if self._memory is not None:
            raise RuntimeError("it is for one block")

    def _is_exported(self) -> bool:
        """End the block: whether something looks at its bytes all the same."""
        view, self._view = self._view, None
        try:
            if view is not None:
                view.release()
            if self._memory is not None:
                self._memory.append(0)  # which fails for what is looked at
                del self._memory[-1]
        except BufferError:
            return True
        return False


class _CopiedReservation(_Copy):
    def __init__(self, pipe: SendsCopies, size: int, timeout: float | None) -> None:
        super().__init__()
        self._pipe: Any = pipe
        self._length = self._size = checked_size(size, pipe.name)
        self._timeout = timeout

    @property
    def size(self) -> int:
        """See Reservation.size."""
        return self._size

    def shrink(self, size: int) -> None:
        """See Reservation.shrink."""
        if not 0 <= size <= self._size:
            detail = f"a reservation of {self._size} bytes cannot shrink to {size}"
            raise PipeArgumentError(WinError.INVALID_PARAMETER, self._pipe.name, None, detail)
        self._size = size

    def _begin(self) -> memoryview:
        self._is_fresh()
        view = self._lend(bytearray(self._length), writable=True)
        self._pipe._reserver = this_task()
        return view

    def _end(self, kind: type[BaseException] | None) -> memoryview | None:
        """Return what is to be sent."""
        self._pipe._reserver = None
        exported = self._is_exported()
        if kind is not None:
            return None
        if exported:
            raise still_exported(self._pipe.name, writes=True)
        return memoryview(cast("bytearray", self._memory))[: self._size]


class CopiedReservation(_CopiedReservation):
    """A Reservation whose message is sent as a copy."""

    def __enter__(self) -> memoryview:
        self._pipe._check_open_for("reserving")
        return self._begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data = self._end(kind)
        if data is not None:
            self._pipe.send(data, timeout=self._timeout)


class AsyncCopiedReservation(_CopiedReservation):
    """An AsyncReservation whose message is sent as a copy."""

    async def __aenter__(self) -> memoryview:
        self._pipe._check_open_for("reserving")
        return self._begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data = self._end(kind)
        if data is not None:
            await self._pipe.send(data, timeout=self._timeout)


class _CopiedView(_Copy):
    def __init__(self, pipe: TakesCopies, timeout: float | None) -> None:
        super().__init__()
        self._pipe: Any = pipe
        self._timeout = timeout
        self._message = b""

    def _end(self, kind: type[BaseException] | None) -> None:
        exported = self._is_exported()
        self._pipe._end_view(self._message, consumed=kind is None)
        if kind is None and exported:
            raise still_exported(self._pipe.name, writes=False)

    def _begin(self, message: bytes) -> memoryview:
        self._message = message
        return self._lend(bytearray(message), writable=False)


class CopiedView(_CopiedView):
    """A MessageView of a copy."""

    def __enter__(self) -> memoryview:
        self._is_fresh()
        return self._begin(self._pipe._begin_view(self._timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(kind)


class AsyncCopiedView(_CopiedView):
    """An AsyncMessageView of a copy."""

    async def __aenter__(self) -> memoryview:
        self._is_fresh()
        return self._begin(await self._pipe._begin_view(self._timeout))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(kind)


def checked_size(size: int, name: str) -> int:
    """Return the size of a message; TypeError for no number, PipeArgumentError (87) for one that no message has."""
    if not isinstance(size, int):
        raise TypeError(f"a number of bytes is required, not {type(size).__name__!r}")
    if not 0 <= size <= 0xFFFFFFFF:
        raise PipeArgumentError(WinError.INVALID_PARAMETER, name, None, f"a message cannot have {size} bytes")
    return size


# ---- Of a pool's connection


class _Borrowed:
    def __init__(self, inner: Any, using: AbstractContextManager[Any], done: Callable[[], None]) -> None:
        self._inner = inner
        self._using = using
        self._done = done
        self._stack: Any = None

    @property
    def size(self) -> int:
        """See Reservation.size."""
        size: int = self._inner.size
        return size

    def shrink(self, size: int) -> None:
        """See Reservation.shrink."""
        self._inner.shrink(size)


class BorrowedBlock(_Borrowed):
    """A Reservation or a MessageView, which counts as a use of the connection until its end."""

    def __enter__(self) -> memoryview:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._using)
            view: memoryview = stack.enter_context(self._inner)
            self._stack = stack.pop_all()
        return view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            self._done()


class AsyncBorrowedBlock(_Borrowed):
    """The same for `async with`."""

    async def __aenter__(self) -> memoryview:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._using)
            view: memoryview = await stack.enter_async_context(self._inner)
            self._stack = stack.pop_all()
        return view

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)
        if kind is None:
            self._done()
