"""Messages in place: what `reserve` and `recv_view` of message pipes return (docs/zero-copy.md).

The copying ones are here too, for what has no ring: kernel32's pipes, and calls that are made in threads.
"""

# ruff: noqa: SLF001 - a block and its pipe know each other

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from npipe._process import refuse_copy
from npipe.errors import PipeArgumentError, WinError
from npipe.reasons import still_exported

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import NoReturn, SupportsIndex

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
    """A pipe that sends what was put together elsewhere."""

    _reservers: list[tuple[object, object]]  # of every reservation that is out: it, and its thread or task

    @property
    def name(self) -> str:
        """See Pipe.name."""

    def _check_open_for(self, doing: str) -> None:
        """Raise what a write would that begins now; 170 to one of those too."""


class TakesCopies(Protocol):
    """A pipe that gives a copy of a message, which stays in it until the view of it ends.

    Its `_begin_view` gets a key and the time-out, and returns the copy; that of npipe.aio is awaited.
    """

    @property
    def name(self) -> str:
        """See Pipe.name."""

    def _end_view(self, key: object, *, consumed: bool) -> None:
        """Give the turn to read back, and consume the message if so; nothing if that key has no view out."""


def has_reserved(reservers: list[tuple[object, object]], owner: object) -> bool:
    """Whether a thread or task has one of those reservations out."""
    return any(one == owner for _, one in list(reservers))


class _Copy(bytearray):
    """A block's bytes, in memory of their own. As it is these bytes itself, what looks at them keeps it."""

    _what = "a block"
    _out = False  # somebody is in its block, or was

    def __init__(self) -> None:
        super().__init__()
        self._entered, self._left = threading.Lock(), threading.Lock()  # taken once, by whoever does that
        self._key = object()
        self._view: weakref.ref[memoryview] | None = None

    # ---- Each is one of its own, whatever its bytes

    def __repr__(self) -> str:
        return object.__repr__(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:  # type: ignore[override]  # bytearray has none
        return object.__hash__(self)

    def __bool__(self) -> bool:
        return True

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: it is for one block."""
        refuse_copy(self, "make bytes of what it gives")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """See __reduce__."""
        self.__reduce__()

    @property
    def in_place(self) -> bool:
        """Whether what its block has got stands in the pipe's buffer."""
        return False

    def _claim(self) -> None:
        """Begin to enter its block, which nobody else does meanwhile or later, unless this fails."""
        if not self._entered.acquire(blocking=False):
            raise RuntimeError(f"{self._what} is for one block")

    def _unclaim(self) -> None:
        """Let it be tried again: it could not be entered."""
        self._out = False
        self._release_view()
        self._entered.release()

    def _lend(self, *, writable: bool) -> memoryview:
        view = memoryview(self) if writable else memoryview(self).toreadonly()
        self._view = weakref.ref(view)  # no cycle: what is dropped in its block ends at once
        self._out = True
        return view

    def _leave(self) -> bool:
        """Whether the block is over now, and was not before."""
        return self._out and self._left.acquire(blocking=False)

    def _release_view(self) -> bool:
        """Release what the block has got. Whether something looks at the bytes all the same."""
        view = None if self._view is None else self._view()
        try:
            if view is not None:
                view.release()
            # These fail for bytes that are looked at, and take no memory, but for the first one.
            if len(self):
                self.append(self.pop())
            else:
                self.append(0)
                self.pop()
        except BufferError:
            return True
        return False


class _CopiedReservation(_Copy):
    _what = "a reservation"

    def __init__(self, pipe: SendsCopies, size: int, timeout: float | None) -> None:
        super().__init__()
        self._pipe: Any = pipe
        self._length = self._size = checked_size(size, pipe.name)
        self._timeout = timeout
        self._reserver: tuple[object, object] = (self._key, None)

    def __del__(self) -> None:
        if self._out:
            self._end_reserving()

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

    def _begin(self, owner: object) -> memoryview:
        self._claim()
        try:
            self._pipe._check_open_for("reserving")
            bytearray.__init__(self, self._length)
            self._reserver = (self._key, owner)
            self._pipe._reservers.append(self._reserver)
            return self._lend(writable=True)
        except BaseException:
            self._end_reserving()
            self._unclaim()
            raise

    def _end_reserving(self) -> None:
        with contextlib.suppress(ValueError):  # it has been done
            self._pipe._reservers.remove(self._reserver)

    def _end(self, kind: type[BaseException] | None) -> memoryview | None:
        """Return what is to be sent."""
        if not self._leave():
            return None
        self._end_reserving()
        exported = self._release_view()
        if kind is not None:
            return None
        if exported:
            raise still_exported(self._pipe.name, writes=True)
        return memoryview(self)[: self._size]


class CopiedReservation(_CopiedReservation):
    """A Reservation whose message is sent as a copy."""

    def __enter__(self) -> memoryview:
        return self._begin(threading.get_ident())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data = self._end(kind)
        if data is not None:
            self._pipe.send(data, timeout=self._timeout)


class AsyncCopiedReservation(_CopiedReservation):
    """An AsyncReservation whose message is sent as a copy."""

    async def __aenter__(self) -> memoryview:
        return self._begin(this_task())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data = self._end(kind)
        if data is not None:
            await self._pipe.send(data, timeout=self._timeout)


class _CopiedView(_Copy):
    _what = "a view"

    def __init__(self, pipe: TakesCopies, timeout: float | None) -> None:
        super().__init__()
        self._pipe: Any = pipe
        self._timeout = timeout

    def __del__(self) -> None:
        if self._out:
            self._pipe._end_view(self._key, consumed=False)

    def _begin(self, message: bytes) -> memoryview:
        bytearray.__init__(self, message)
        return self._lend(writable=False)

    def _give_up(self) -> None:
        self._pipe._end_view(self._key, consumed=False)
        self._unclaim()

    def _end(self, kind: type[BaseException] | None) -> None:
        if not self._leave():
            return
        try:
            exported = self._release_view()
        finally:
            self._pipe._end_view(self._key, consumed=kind is None)
        if kind is None and exported:
            raise still_exported(self._pipe.name, writes=False)


class CopiedView(_CopiedView):
    """A MessageView of a copy."""

    def __enter__(self) -> memoryview:
        self._claim()
        try:
            return self._begin(self._pipe._begin_view(self._key, self._timeout))
        except BaseException:
            self._give_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(kind)


class AsyncCopiedView(_CopiedView):
    """An AsyncMessageView of a copy."""

    async def __aenter__(self) -> memoryview:
        self._claim()
        try:
            return self._begin(await self._pipe._begin_view(self._key, self._timeout))
        except BaseException:
            self._give_up()
            raise

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
        stack, self._stack = self._stack, None
        if stack is None:
            return  # it is over
        stack.__exit__(kind, error, trace)
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
        stack, self._stack = self._stack, None
        if stack is None:
            return  # it is over
        await stack.__aexit__(kind, error, trace)
        if kind is None:
            self._done()
