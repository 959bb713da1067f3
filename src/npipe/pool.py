"""A pool of connections to one pipe, for requests from many threads."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, Self, TypeVar, Unpack, cast, overload

from npipe._buffers import plain_view
from npipe._display import literal
from npipe._process import refuse_copy
from npipe.errors import PipeError
from npipe.opening import connect
from npipe.options import ConnectOptions, flag, refuse_position, time_left
from npipe.pipe import CLOSE_TIMEOUT, MessagePipe, StreamPipe
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
from npipe.views import BorrowedBlock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

    from npipe._buffers import ReadableBuffer, WriteableBuffer
    from npipe.figures import PipeStats
    from npipe.options import Access, Mode, Peek, Peer, PipeInfo
    from npipe.remote import Remote
    from npipe.views import MessageView, Reservation

__all__ = ["Pool"]

if TYPE_CHECKING:
    import typing_extensions  # part of every type checker; not needed when it runs

    P = typing_extensions.TypeVar("P", bound=MessagePipe | StreamPipe, default=MessagePipe)
else:
    P = TypeVar("P", bound=MessagePipe | StreamPipe)

_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in _pools:
        pool._start_anew()  # noqa: SLF001 - the connections are the parent's, and so is whoever had the lock


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Pool(Generic[P]):
    r"""Up to `size` connections to one pipe, each for one use at a time, for any number of threads.

        with npipe.Pool(r"\\.\pipe\shout", size=4) as pool:
            print(pool.call(b"hello"))

    Connections are opened when they are needed, and stay open for the next use. Whoever finds all of them in use waits
    for one to come back: first come, first served. One that had its server go while it was idle is replaced before
    anything is sent. One of which the next user could not be sure (its answer is still to come, something in it is
    unread, a call on it has failed) is closed and never used again, so that no answer reaches a caller who did not ask
    for it.

    `size` is 1 to 65535. `mode`, `access`, `verify_owner`, `wait_for_server`, `max_message_size` and `remote` are
    connect's, for each connection. `timeout` in seconds is that of a use which names none, for all of it: its turn, the
    connection, the request and the answer.

    A context manager that closes it. A child of a fork has the pool without connections, and opens its own. Nothing is
    connected before the first use; PipeNameError (123, 3), PipeArgumentError (87) and TypeError tell of wrong
    arguments.
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
        # One that the same thread may have already: the garbage collector may end an abandoned block of connection().
        self._lock = threading.RLock()
        self._slots: Slots[P] = Slots(self._plan.size)
        self._done = Counters()

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
        with self._lock:
            return self._done.with_state(self._slots)

    # ---- Using it

    def call(self, request: ReadableBuffer, *, timeout: Timeout = "default", retry: bool = False) -> bytes:
        """Send `request` as one message over a connection of the pool and return the one message that answers.

        A request is sent once. If it certainly was not sent (the server had closed the connection before), another
        connection is tried within the time-out. If the server goes after it was sent, nobody knows whether it was
        carried out: that is an error, unless `retry` says that it may be sent twice. After an error the connection is
        closed, so a late answer reaches nobody.

        Args:
            request: any buffer of bytes or numbers.
            timeout: seconds for all of it: the wait for a connection, the connecting, the request and the answer; None:
                for ever; "default": the pool's.
            retry: the request is sent once more if the server has gone after it was sent, over another connection and
                within the time-out. That waits for a server to come back only with `wait_for_server`.

        Returns:
            The answer.

        Raises:
            PipeTimeoutError: no connection came back, the server did not take this one, or its answer did not come
                (121).
            PipeClosedError: the server went before its answer (109, 233); it closes each new connection (232); the pool
                is closed (6).
            PipeModeError: the pool's mode is "byte" (230).
            PipeAccessError: its access is not "duplex" (5).
            PipeMessageTooLargeError: the answer is longer than `max_message_size` (234).
            TypeError: the request is no buffer of bytes or numbers.
            PipeError: all that npipe.connect raises. Every PipeError from here has `sent`: False if the request
                certainly was not sent, so that to repeat it is safe; True if it was, or may have been.
        """
        time = self._plan.time(timeout, "calling")
        self._plan.check_call(request)
        exchange = Exchange(retry=flag(retry, "retry"))
        claim: Claim[P]
        claim, wakened = _new_claim()
        transacting = False
        try:
            self._take_turn(claim, wakened, time)
            while True:
                transacting, new = False, True
                try:
                    pipe, new = self._connection(claim, time)
                    left = time.left()
                    claim.clean, transacting = False, True
                    answer = cast("MessagePipe", pipe).transact(request, timeout=left)
                except PipeError as error:
                    if transacting:
                        self._drop(claim, patience=0)
                    if not self._goes_on(exchange, error, new=new, transacting=transacting):
                        raise
                else:
                    claim.clean = True
                    with self._lock:
                        self._done.answered += 1
                    return answer
        except PipeError as error:
            told = exchange.explained(error, transacting=transacting)
            if told is error:
                raise
            raise told from error
        finally:
            try:
                self._settle(claim, patience=0)
            except BaseException:  # a signal's handler: a connection is not lost by that
                self._settle(claim, patience=0)
                raise

    def connection(self, *, timeout: Timeout = "default") -> AbstractContextManager[P]:
        """Return a context manager that gives a connection for exclusive use, and takes it back at the block's end.

            with pool.connection() as pipe:
                pipe.send(b"first")
                print(pipe.recv())

        What the block gets is a MessagePipe or, with mode "byte", a StreamPipe. It is the block's alone, and closed for
        whoever keeps it.

        It is not used again, but closed as a `with` of a pipe closes it, if the block ends with an exception or has
        closed it, if a method of it has raised anything (a time-out: its answer may come late) or is still running in
        another thread, if something in it is unread, or if more messages were sent than received while it could do
        both: an answer may be on its way. On a byte pipe the last is not known: read all that you have asked for, or
        close the pipe.

        Args:
            timeout: seconds for the wait for its turn and the connecting; None: for ever; "default": the pool's.

        Returns:
            The context manager; it may be used once.

        Raises:
            PipeTimeoutError: no connection came back in time (121), at the block's begin, as the others.
            PipeClosedError: the pool is closed (6).
            PipeError: all that npipe.connect raises.
        """
        return self._lend(self._plan.time(timeout, "taking a connection of the pool"))

    @contextlib.contextmanager
    def _lend(self, time: Time) -> Iterator[P]:
        # A generator: if a signal's handler raises between here and the block, its end comes with that of the object.
        claim: Claim[P]
        claim, wakened = _new_claim()
        try:
            self._take_turn(claim, wakened, time)
            pipe = self._connection(claim, time, lent=True)[0]
            loan = Loan(pipe, pipe.name)
            limit = pipe.max_message_size if isinstance(pipe, MessagePipe) else None
            claim.clean = False
            try:
                yield cast("P", (_LentMessages if isinstance(pipe, MessagePipe) else _LentStream)(cast("Any", loan)))
                claim.clean = loan.take_back(both_ways=self._plan.both_ways) and is_as_new(pipe, limit)
            finally:
                loan.pipe = None
        finally:
            try:
                self._settle(claim, patience=CLOSE_TIMEOUT)
            except BaseException:  # a signal's handler
                self._settle(claim, patience=CLOSE_TIMEOUT)
                raise

    # ---- The parts of a use. What they do they do again without harm, if a signal's handler has interrupted it.

    def _take_turn(self, claim: Claim[P], wakened: threading.Lock, time: Time) -> None:
        """Wait until `claim` has a slot."""
        time.begin()
        with self._lock:
            if self._closed:
                raise self._plan.closed_error("using the pool")
            self._slots.ask(claim)
        while claim.slot is None:
            if time.over:
                with self._lock:
                    if claim.slot is None:
                        raise self._plan.all_in_use()
            else:
                _wait(wakened, time.deadline)
            if self._closed:
                raise self._plan.closed_error("waiting for a connection of the pool")

    def _connection(self, claim: Claim[P], time: Time, *, lent: bool = False) -> tuple[P, bool]:
        """Return the connection of a claim that has its turn, and whether it is a new one.

        `lent`: it is not for a transaction, which finds an empty message that is unread by itself.
        """
        slot = _slot_of(claim)
        if slot.pipe is not None:
            if is_quiet(slot.pipe) and not (lent and has_unread(slot.pipe)):
                return slot.pipe, False
            self._drop(claim, patience=0)
        slot.pipe = cast("P", connect(self._plan.given, **self._plan.options(time.left())))
        with self._lock:
            self._done.connected += 1
        return slot.pipe, True

    def _goes_on(self, exchange: Exchange, error: PipeError, *, new: bool, transacting: bool) -> bool:
        repeated = exchange.repeated
        goes_on = exchange.goes_on(error, new=new, transacting=transacting)
        if exchange.repeated and not repeated:
            with self._lock:
                self._done.repeated += 1
        return goes_on

    def _drop(self, claim: Claim[P], *, patience: float) -> None:
        """Close the connection of a claim; what was written stays readable for the server."""
        slot = _slot_of(claim)
        if slot.pipe is not None:
            slot.pipe.close(timeout=patience)
            slot.pipe = None
            claim.clean = True
            with self._lock:
                self._done.dropped += 1

    def _settle(self, claim: Claim[P], *, patience: float) -> None:
        """End a claim, of whatever state."""
        if claim.home is not self._slots:
            return  # it has not begun, or this is a child that was forked meanwhile: the connection is the parent's
        if claim.slot is not None and (self._closed or not claim.clean):
            self._drop(claim, patience=patience)
        with self._lock:
            self._slots.give_back(claim)
            if self._closed:
                self._close_idle()

    # ---- Closing

    def close(self) -> None:
        """Close all connections, those in use when they come back; who waits for one gets PipeClosedError (6).

        Closing twice is no error.
        """
        with self._lock:
            self._closed = True
            self._close_idle()
            for claim in tuple(self._slots.waiting):
                claim.wake()

    def _close_idle(self) -> None:
        for slot in self._slots.idle():
            if slot.pipe is not None:
                slot.pipe.close(timeout=0)
                slot.pipe = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return describe_pool("npipe.Pool", self._plan, self.stats, closed=self._closed)


def _new_claim() -> tuple[Claim[P], threading.Lock]:
    """Return a claim, and the lock in which it waits: whoever wakes it opens that."""
    wakened = threading.Lock()
    wakened.acquire()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # it is open already
            wakened.release()

    return Claim(wake), wakened


def _wait(wakened: threading.Lock, deadline: float | None) -> None:
    left = time_left(deadline)
    wakened.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX))


def _slot_of(claim: Claim[P]) -> Slot[P]:
    assert claim.slot is not None  # noqa: S101 - it has had its turn
    return claim.slot


# ---- What a block has


class _Lent(Generic[P]):
    """What the two kinds share."""

    def __init__(self, loan: Loan[P]) -> None:
        self._loan = loan

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

    def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush."""
        with self._loan.using() as pipe:
            pipe.flush(timeout=timeout)

    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close. The pool opens another one."""
        pipe = self._loan.pipe
        if pipe is not None:
            pipe.close(timeout=timeout)

    def abort(self) -> None:
        """See Pipe.abort. The pool opens another one."""
        pipe = self._loan.pipe
        if pipe is not None:
            pipe.abort()

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

    def fileno(self) -> int:
        """See Pipe.fileno."""
        return self._loan.borrowed.fileno()


class _LentMessages(_Lent[MessagePipe], MessagePipe):
    """A message pipe of a pool's."""

    @property
    def max_message_size(self) -> int:
        """See MessagePipe.max_message_size; what is set holds for this block."""
        return self._loan.borrowed.max_message_size

    @max_message_size.setter
    def max_message_size(self, size: int) -> None:
        self._loan.borrowed.max_message_size = size

    def send(self, data: ReadableBuffer, *more: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send."""
        with self._loan.using() as pipe:
            pipe.send(data, *more, timeout=timeout)
            self._loan.has_sent()

    def send_parts(self, *parts: ReadableBuffer, timeout: float | None = None) -> None:
        """See MessagePipe.send_parts."""
        with self._loan.using() as pipe:
            pipe.send_parts(*parts, timeout=timeout)
            self._loan.has_sent()

    def reserve(self, nbytes: int, *, timeout: float | None = None) -> Reservation:
        """See MessagePipe.reserve."""
        return BorrowedBlock(
            self._loan.borrowed.reserve(nbytes, timeout=timeout), self._loan.using(), self._loan.has_sent
        )

    def recv_view(self, *, timeout: float | None = None, copy: bool = False) -> MessageView:
        """See MessagePipe.recv_view."""
        return BorrowedBlock(
            self._loan.borrowed.recv_view(timeout=timeout, copy=copy), self._loan.using(), self._loan.has_received
        )

    def recv(self, *positional: object, timeout: float | None = None) -> bytes:
        """See MessagePipe.recv."""
        if positional:
            refuse_position(positional)
        with self._loan.using() as pipe:
            message = pipe.recv(timeout=timeout)
            self._loan.has_received()
            return message

    def recv_into(
        self, buffer: WriteableBuffer, *more: WriteableBuffer, exact: bool = False, timeout: float | None = None
    ) -> int:
        """See MessagePipe.recv_into."""
        with self._loan.using() as pipe:
            count = pipe.recv_into(buffer, *more, exact=exact, timeout=timeout)
            # into no room it has received nothing
            if not pipe.more_data and (count or any(plain_view(room).nbytes for room in (buffer, *more))):
                self._loan.has_received()
            return count

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        pipe = self._loan.pipe
        return pipe is not None and pipe.more_data

    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        with self._loan.using() as pipe:
            return pipe.transact(data, timeout=timeout)

    @property
    def _owed(self) -> int:
        pipe = self._loan.pipe
        return 0 if pipe is None else pipe._owed  # noqa: SLF001

    @property
    def _too_long(self) -> bool:
        pipe = self._loan.pipe
        return pipe is not None and pipe._too_long  # noqa: SLF001

    def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        with self._loan.using() as pipe:
            pipe.discard_reply(timeout=timeout)

    def __repr__(self) -> str:
        return f"<npipe.MessagePipe {literal(self.name)} of a pool, {'closed' if self.closed else 'open'}>"


class _LentStream(_Lent[StreamPipe], StreamPipe):
    """A byte pipe of a pool's."""

    def readinto(self, buffer: WriteableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.readinto."""
        with self._loan.using() as pipe:
            return pipe.readinto(buffer, timeout=timeout)

    def write(self, data: ReadableBuffer, *, timeout: float | None = None) -> int:
        """See StreamPipe.write."""
        with self._loan.using() as pipe:
            return pipe.write(data, timeout=timeout)

    def _read_some(self, size: int, timeout: float | None) -> bytes:
        with self._loan.using() as pipe:
            return pipe._read_some(size, timeout)  # noqa: SLF001

    def _read_all(self, timeout: float | None) -> bytes:
        with self._loan.using() as pipe:
            return pipe._read_all(timeout)  # noqa: SLF001

    def _put_back(self, data: bytes | bytearray) -> None:
        self._loan.borrowed._put_back(data)  # noqa: SLF001

    def __repr__(self) -> str:
        return f"<npipe.StreamPipe {literal(self.name)} of a pool, {'closed' if self.closed else 'open'}>"
