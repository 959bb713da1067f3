"""A pool of connections to one pipe, for requests from many tasks."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, Unpack, cast, overload

from npipe._buffers import plain_view
from npipe._display import literal
from npipe._process import refuse_copy
from npipe.aio.opening import connect
from npipe.async_pipe import MessagePipe, StreamPipe
from npipe.errors import PipeError, PipeStateError, WinError
from npipe.loops.current import current
from npipe.options import ConnectOptions, flag, refuse_position
from npipe.pipe import CLOSE_TIMEOUT
from npipe.pooling import (
    Claim,
    Counters,
    Exchange,
    Loan,
    Plan,
    PoolStats,
    Slot,
    Slots,
    Time,
    Timeout,
    describe_pool,
    has_unread,
    is_as_new,
    is_quiet,
)
from npipe.views import AsyncBorrowedBlock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe.figures import PipeStats
    from npipe.loops.base import Loop, Waiters
    from npipe.options import Access, Mode, Peek, Peer, PipeInfo
    from npipe.remote import Remote
    from npipe.views import AsyncMessageView, AsyncReservation

__all__ = ["Pool"]

if TYPE_CHECKING:
    import typing_extensions  # part of every type checker; not needed when it runs

    P = typing_extensions.TypeVar("P", bound=MessagePipe | StreamPipe, default=MessagePipe)
else:
    P = TypeVar("P", bound=MessagePipe | StreamPipe)

_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in _pools:
        pool._start_anew()  # noqa: SLF001 - the connections and the loop are the parent's


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Pool(Generic[P]):
    r"""Up to `size` connections to one pipe, each for one use at a time, for any number of tasks; see npipe.Pool.

        async with npipe.aio.Pool(r"\\.\pipe\shout", size=4) as pool:
            print(await pool.call(b"hello"))

    Arguments are those of npipe.Pool. It belongs to the event loop that first uses it, as its connections do: another
    one gets PipeStateError (50). It may be made outside of a loop. Who cancels a task that waits or calls loses no
    connection by that, also if it had just been given one: the next one that waits gets it.

    An async context manager that closes it.
    """

    @overload
    def __init__(
        self: Pool[MessagePipe],
        name: str | os.PathLike[str],
        size: int = 4,
        *,
        mode: Literal["message"] = "message",
        **options: Unpack[ConnectOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Pool[StreamPipe],
        name: str | os.PathLike[str],
        size: int = 4,
        *,
        mode: Literal["byte"],
        **options: Unpack[ConnectOptions],
    ) -> None: ...
    def __init__(
        self,
        name: str | os.PathLike[str],
        size: int = 4,
        *,
        mode: Mode = "message",
        access: Access = "duplex",
        timeout: float | None = 20.0,
        verify_owner: bool = True,
        wait_for_server: bool = False,
        max_message_size: int | None = None,
        remote: Remote | None = None,
    ) -> None:
        self._plan = Plan.checked(
            name,
            size,
            mode=mode,
            access=access,
            timeout=timeout,
            verify_owner=verify_owner,
            wait_for_server=wait_for_server,
            max_message_size=max_message_size,
            remote=remote,
        )
        self._closed = False
        self._start_anew()
        _pools.add(self)

    def _start_anew(self) -> None:
        self._slots: Slots[P] = Slots(self._plan.size)
        self._done = Counters()
        self._loop: Loop | None = None

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a pool can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and make a pool there")

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._plan.name

    @property
    def size(self) -> int:
        """How many connections it may have."""
        return self._plan.size

    @property
    def closed(self) -> bool:
        """Whether it is closed. Connections that are in use are open until they come back."""
        return self._closed

    @property
    def stats(self) -> PoolStats:
        """What the pool has now, and what it has done."""
        return self._done.with_state(self._slots)

    # ---- Using it

    async def call(self, request: ReadableBuffer, *, timeout: Timeout = "default", retry: bool = False) -> bytes:
        """Send `request` as one message over a connection of the pool and return the one message that answers.

        See npipe.Pool.call, which says when a request is sent again. Cancelled, the connection is closed if the request
        may have been sent, and its answer reaches nobody.

        Args:
            request: any buffer of bytes or numbers.
            timeout: seconds for all of it; None: for ever; "default": the pool's.
            retry: the request is sent once more if the server has gone after it was sent.

        Returns:
            The answer.

        Raises:
            PipeError: those of npipe.Pool.call, for the same reasons.
        """
        time = self._plan.time(timeout, "calling")
        self._plan.check_call(request)
        exchange = Exchange(retry=flag(retry, "retry"))
        claim: Claim[P]
        claim, wakened = self._new_claim()
        transacting = False
        try:
            await self._take_turn(claim, wakened, time)
            while True:
                transacting, new = False, True
                try:
                    pipe, new = await self._connection(claim, time)
                    left = time.left()
                    claim.clean, transacting = False, True
                    answer = await cast("MessagePipe", pipe).transact(request, timeout=left)
                except PipeError as error:
                    if transacting:
                        self._drop(claim)
                    if not self._goes_on(exchange, error, new=new, transacting=transacting):
                        raise
                else:
                    claim.clean = True
                    self._done.answered += 1
                    return answer
        except PipeError as error:
            told = exchange.explained(error, transacting=transacting)
            if told is error:
                raise
            raise told from error
        finally:
            self._settle(claim)

    def connection(self, *, timeout: Timeout = "default") -> AbstractAsyncContextManager[P]:
        """Return an async context manager that gives a connection for exclusive use, and takes it back.

            async with pool.connection() as pipe:
                await pipe.send(b"first")
                print(await pipe.recv())

        See npipe.Pool.connection. A call on the pipe that was cancelled has failed, so the connection is closed.

        Args:
            timeout: seconds for the wait for its turn and the connecting; None: for ever; "default": the pool's.

        Returns:
            The context manager; it may be used once.

        Raises:
            PipeError: those of npipe.Pool.connection, for the same reasons, at the block's begin.
        """
        return self._lend(self._plan.time(timeout, "taking a connection of the pool"))

    @contextlib.asynccontextmanager
    async def _lend(self, time: Time) -> AsyncIterator[P]:
        claim: Claim[P]
        claim, wakened = self._new_claim()
        try:
            await self._take_turn(claim, wakened, time)
            pipe = (await self._connection(claim, time, lent=True))[0]
            loan = Loan(pipe, pipe.name)
            limit = pipe.max_message_size if isinstance(pipe, MessagePipe) else None
            claim.clean = False
            abandoned = False
            try:
                yield cast("P", (_LentMessages if isinstance(pipe, MessagePipe) else _LentStream)(cast("Any", loan)))
                back = loan.take_back(both_ways=self._plan.both_ways)
                claim.clean = back and await pipe._checked(lambda: is_as_new(pipe, limit))  # noqa: SLF001
                if claim.clean:
                    pipe.busy_wait = 0.0
            except GeneratorExit:
                abandoned = True  # by whoever had the block: nobody may wait here
                raise
            finally:
                loan.pipe = None
                if not (claim.clean or abandoned):
                    await pipe.close()  # writes that are under way get their time, as with a pipe of its own
        finally:
            self._settle(claim)

    # ---- The parts of a use

    def _new_claim(self) -> tuple[Claim[P], Waiters]:
        """Return a claim, and where it waits to be woken. PipeStateError (50) on another loop than the pool's."""
        loop = self._own_loop()
        waiters = loop.waiters()
        return Claim(waiters.wake_all), waiters

    def _own_loop(self) -> Loop:
        loop = current()
        if self._loop is None:
            self._loop = loop
        elif self._loop.identity is not loop.identity:
            detail = "the pool belongs to the event loop that used it first, as its connections do"
            error = PipeStateError(WinError.NOT_SUPPORTED, self._plan.name, "using the pool", detail)
            error.hint = "make a pool in each loop"
            error.sent = False
            raise error
        return self._loop

    async def _take_turn(self, claim: Claim[P], wakened: Waiters, time: Time) -> None:
        """Wait until `claim` has a slot."""
        time.begin()
        if self._closed:
            raise self._plan.closed_error("using the pool")
        self._slots.ask(claim)
        while claim.slot is None:
            if time.over:
                raise self._plan.all_in_use()
            await wakened.wait(time.deadline)
            if self._closed:
                raise self._plan.closed_error("waiting for a connection of the pool")

    async def _connection(self, claim: Claim[P], time: Time, *, lent: bool = False) -> tuple[P, bool]:
        """Return the connection of a claim that has its turn, and whether it is a new one.

        `lent`: it is not for a transaction, which finds an empty message that is unread by itself.
        """
        slot = _slot_of(claim)
        if slot.pipe is not None:
            kept = slot.pipe
            claim.clean = False  # while it is looked at: a host may have to be asked
            if await kept._checked(lambda: is_quiet(kept) and not (lent and has_unread(kept))):  # noqa: SLF001
                claim.clean = True
                return kept, False
            self._drop(claim)
        slot.pipe = pipe = cast("P", await connect(self._plan.given, **self._plan.options(time.left())))
        self._done.connected += 1
        return pipe, True

    def _goes_on(self, exchange: Exchange, error: PipeError, *, new: bool, transacting: bool) -> bool:
        repeated = exchange.repeated
        goes_on = exchange.goes_on(error, new=new, transacting=transacting)
        self._done.repeated += exchange.repeated and not repeated
        return goes_on

    def _drop(self, claim: Claim[P]) -> None:
        """Close the connection of a claim, without a wait; what was written stays readable for the server."""
        slot = _slot_of(claim)
        if slot.pipe is not None:
            slot.pipe._end(discard=False)  # noqa: SLF001 - close() may wait, and a cancelled task may not
            slot.pipe = None
            claim.clean = True
            self._done.dropped += 1

    def _settle(self, claim: Claim[P]) -> None:
        """End a claim, of whatever state."""
        if claim.home is not self._slots:
            return  # it has not begun, or this is a child that was forked meanwhile: the connection is the parent's
        if claim.slot is not None and (self._closed or not claim.clean):
            self._drop(claim)
        self._slots.give_back(claim)
        if self._closed:
            self._close_idle()

    # ---- Closing

    async def close(self) -> None:
        """Close all connections, those in use when they come back; who waits for one gets PipeClosedError (6).

        Closing twice is no error. Does not wait. Raises PipeStateError (50) on another loop than the pool's.
        """
        if self._loop is not None:
            self._own_loop()
        self._closed = True
        self._close_idle()
        for claim in tuple(self._slots.waiting):
            claim.wake()

    def _close_idle(self) -> None:
        for slot in self._slots.idle():
            if slot.pipe is not None:
                slot.pipe._end(discard=False)  # noqa: SLF001
                slot.pipe = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return describe_pool("npipe.aio.Pool", self._plan, self.stats, closed=self._closed)


def _slot_of(claim: Claim[P]) -> Slot[P]:
    assert claim.slot is not None  # noqa: S101 - it has had its turn
    return claim.slot


# ---- What a block has


class _Lent(Generic[P]):
    """What the two kinds share."""

    _has_transport = False

    def __init__(self, loan: Loan[P]) -> None:
        self._loan = loan

    @property
    def busy_wait(self) -> float:
        """See Pipe.busy_wait; what is set holds for this block."""
        return self._loan.borrowed.busy_wait

    @busy_wait.setter
    def busy_wait(self, seconds: float) -> None:
        self._loan.borrowed.busy_wait = seconds

    @property
    def name(self) -> str:
        """See Pipe.name."""
        return self._loan.name

    @property
    def closed(self) -> bool:
        """See Pipe.closed; true when it was given back."""
        pipe = self._loan.pipe
        return pipe is None or pipe.closed

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        return self._loan.borrowed.peek(size)

    async def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush."""
        with self._loan.using() as pipe:
            await pipe.flush(timeout=timeout)

    async def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close. The pool opens another one."""
        pipe = self._loan.pipe
        if pipe is not None:
            await pipe.close(timeout=timeout)

    def _end(self, *, discard: bool) -> None:
        pipe = self._loan.pipe
        if pipe is not None:
            pipe._end(discard=discard)  # noqa: SLF001

    @property
    def peer(self) -> Peer:
        """See Pipe.peer."""
        return self._loan.borrowed.peer

    @property
    def stats(self) -> PipeStats:
        """See Pipe.stats: of the connection, with all that was borrowed of it."""
        return self._loan.borrowed.stats

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info."""
        return self._loan.borrowed.info

    def fileno(self) -> NoReturn:
        """See Pipe.fileno."""
        self._loan.borrowed.fileno()


class _LentMessages(_Lent[MessagePipe], MessagePipe):
    """A message pipe of a pool's."""

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size; what is set holds for this block."""
        return self._loan.borrowed.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._loan.borrowed.max_message_size = size

    async def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send."""
        with self._loan.using() as pipe:
            await pipe.send(data, *more, timeout=timeout)
            self._loan.has_sent()

    async def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts."""
        with self._loan.using() as pipe:
            await pipe.send_parts(*parts, timeout=timeout)
            self._loan.has_sent()

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> AsyncReservation:
        """See MessagePipe.reserve."""
        return AsyncBorrowedBlock(
            self._loan.borrowed.reserve(nbytes, timeout=timeout), self._loan.using(), self._loan.has_sent
        )

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> AsyncMessageView:
        """See MessagePipe.recv_view."""
        return AsyncBorrowedBlock(
            self._loan.borrowed.recv_view(timeout=timeout, copy=copy), self._loan.using(), self._loan.has_received
        )

    async def recv(self, *positional: object, timeout: float | None = None) -> bytes:
        """See MessagePipe.recv."""
        if positional:
            refuse_position(positional)
        with self._loan.using() as pipe:
            message = await pipe.recv(timeout=timeout)
            self._loan.has_received()
            return message

    async def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """See MessagePipe.recv_into."""
        with self._loan.using() as pipe:
            count = await pipe.recv_into(buffer, *more, exact=exact, timeout=timeout)
            # into no room it has received nothing
            if not pipe.more_data and (count or any(plain_view(room).nbytes for room in (buffer, *more))):
                self._loan.has_received()
            return count

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        pipe = self._loan.pipe
        return pipe is not None and pipe.more_data

    async def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        with self._loan.using() as pipe:
            return await pipe.transact(data, timeout=timeout)

    @property
    def _owed(self) -> int:
        pipe = self._loan.pipe
        return 0 if pipe is None else pipe._owed  # noqa: SLF001

    async def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        with self._loan.using() as pipe:
            await pipe.discard_reply(timeout=timeout)

    def __repr__(self) -> str:
        return f"<npipe.aio.MessagePipe {literal(self.name)} of a pool, {'closed' if self.closed else 'open'}>"


class _LentStream(_Lent[StreamPipe], StreamPipe):
    """A byte pipe of a pool's."""

    async def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        with self._loan.using() as pipe:
            return await pipe.readinto(buffer, timeout=timeout)

    async def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write."""
        with self._loan.using() as pipe:
            return await pipe.write(data, timeout=timeout)

    async def _read_some(self, size: int, timeout: float | None) -> bytes:
        with self._loan.using() as pipe:
            return await pipe._read_some(size, timeout)  # noqa: SLF001

    async def _read_all(self, timeout: float | None) -> bytes:
        with self._loan.using() as pipe:
            return await pipe._read_all(timeout)  # noqa: SLF001

    def _write_now(self, data: bytes) -> int:
        return self._loan.borrowed._write_now(data)  # noqa: SLF001

    def _is_message_type(self) -> bool:
        return self._loan.borrowed._is_message_type()  # noqa: SLF001

    def __repr__(self) -> str:
        return f"<npipe.aio.StreamPipe {literal(self.name)} of a pool, {'closed' if self.closed else 'open'}>"
