"""What pools of connections share, for threads and for event loops: who has which connection, and who waits for one."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

from npipe._buffers import plain_view
from npipe._display import literal
from npipe.errors import (
    PipeAccessError,
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeModeError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
)
from npipe.names import parse_name
from npipe.options import (
    ACCESS_READ,
    ACCESS_WRITE,
    check_timeout,
    client_access,
    deadline_of,
    flag,
    is_message_mode,
    message_limit,
    time_left,
    validate_pool_size,
)
from npipe.remote import check_remote
from npipe.transports import select

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from npipe import async_pipe as async_pipes
    from npipe import pipe as pipes
    from npipe._buffers import ReadableBuffer
    from npipe.options import Access, Mode
    from npipe.remote import Remote

    AnyPipe = pipes.MessagePipe | pipes.StreamPipe | async_pipes.MessagePipe | async_pipes.StreamPipe

__all__ = [
    "Claim",
    "Counters",
    "Exchange",
    "Loan",
    "Plan",
    "PoolStats",
    "Slot",
    "Slots",
    "Time",
    "Timeout",
    "describe_pool",
    "has_unread",
    "is_as_new",
    "is_quiet",
]

P = TypeVar("P")

Timeout = float | Literal["default"] | None
"""Seconds; None is for ever, and "default" the pool's own."""


@dataclass(frozen=True)
class PoolStats:
    """What a pool has, and what it has done since it was made."""

    size: int
    """Connections that it may have."""
    idle: int
    """Those that are open and wait for their next use. The server may have gone meanwhile."""
    in_use: int
    """Those that a call or a block has, the ones that are being opened included."""
    waiting: int
    """Calls and blocks that wait for one."""
    connected: int
    """Connections that have been opened."""
    dropped: int
    """Connections that have been closed, because another use could not be sure of them or the server had gone."""
    answered: int
    """Requests of `call` that have been answered."""
    repeated: int
    """Requests that `retry=True` has sent a second time."""


# ---- What a pool is made with


@dataclass(frozen=True)
class Plan:
    """What a pool was asked for, checked."""

    name: str
    """The full name, for texts."""
    given: str | os.PathLike[str]
    """The name to connect to."""
    size: int
    mode: Mode
    access: Access
    timeout: float | None
    verify_owner: bool
    wait_for_server: bool
    max_message_size: int | None
    remote: Remote | None

    @classmethod
    def checked(
        cls,
        name: str | os.PathLike[str],
        size: int,
        *,
        mode: Mode,
        access: Access,
        timeout: float | None,
        verify_owner: bool,
        wait_for_server: bool,
        max_message_size: int | None,
        remote: Remote | None,
    ) -> Plan:
        """Raise what `connect` would raise for its arguments, before anything is opened."""
        parsed = parse_name(name)
        select(parsed, check_remote(remote))
        places = validate_pool_size(size)
        is_message_mode(mode)
        client_access(access)
        message_limit(max_message_size, stranger=not flag(verify_owner, "verify_owner"))
        flag(wait_for_server, "wait_for_server")
        seconds = check_timeout(timeout)
        return cls(
            parsed.path, name, places, mode, access, seconds, verify_owner, wait_for_server, max_message_size, remote
        )

    def options(self, timeout: float | None) -> dict[str, Any]:
        """Return what `connect` is called with, beside the name."""
        return {
            "mode": self.mode,
            "access": self.access,
            "timeout": timeout,
            "verify_owner": self.verify_owner,
            "wait_for_server": self.wait_for_server,
            "max_message_size": self.max_message_size,
            "remote": self.remote,
        }

    @property
    def both_ways(self) -> bool:
        """Whether a connection both sends and receives, so that what was sent may have an answer."""
        return client_access(self.access) == ACCESS_READ | ACCESS_WRITE

    def time(self, timeout: Timeout, doing: str) -> Time:
        """Return the time of a use that begins now; `timeout` is checked."""
        return Time(self.name, self.timeout if timeout == "default" else check_timeout(timeout), doing)

    def check_call(self, request: ReadableBuffer) -> None:
        """Raise as plain_view for what is no request, PipeModeError (230), PipeAccessError (5) if calls cannot be."""
        plain_view(request)
        if not is_message_mode(self.mode):
            detail = 'this pool has mode="byte", and a call is one message and its answer'
            raise _with_hint(
                PipeModeError(WinError.BAD_PIPE, self.name, "calling", detail),
                'make the pool with mode="message", or use its connection()',
            )
        if not self.both_ways:
            detail = f"this pool has access={self.access!r}, and a call writes and reads"
            raise _with_hint(
                PipeAccessError(WinError.ACCESS_DENIED, self.name, "calling", detail),
                'make the pool with access="duplex", or use its connection()',
            )

    def closed_error(self, doing: str) -> PipeClosedError:
        """Return (not raise) what the use of a closed pool is."""
        error = PipeClosedError(WinError.INVALID_HANDLE, self.name, doing, "the pool was closed in this process")
        error.sent = False
        return _with_hint(error, "make a new one")

    def all_in_use(self) -> PipeTimeoutError:
        """Return (not raise) what it is when no connection has come back in time."""
        which = "the pool's one connection is" if self.size == 1 else f"all {self.size} connections of the pool are"
        error = PipeTimeoutError(
            WinError.SEM_TIMEOUT,
            self.name,
            "waiting for a connection of the pool",
            f"{which} in use, and none came back in that time; nothing was sent",
        )
        error.sent = False
        hint = "give them back sooner, make the pool larger, or wait longer; who has one and asks for another waits"
        return _with_hint(error, f"{hint} for itself")


def given_back(name: str) -> PipeClosedError:
    """Return (not raise) what the use of a connection is that its pool has again."""
    error = PipeClosedError(WinError.INVALID_HANDLE, name, None, "this connection was given back to its pool")
    return _with_hint(error, "use it in the block of connection() only")


E = TypeVar("E", bound=PipeError)


def _with_hint(error: E, hint: str) -> E:
    error.hint = hint
    return error


class Time:
    """The one time-out of a use of a pool: for its turn, the connection, the request and the answer together."""

    __slots__ = ("_doing", "_name", "_seconds", "deadline")

    def __init__(self, name: str, seconds: float | None, doing: str) -> None:
        self._name = name
        self._doing = doing
        self._seconds = seconds
        self.deadline: float | None = None

    def begin(self) -> None:
        """Let it run from now on."""
        self.deadline = deadline_of(self._seconds)

    @property
    def over(self) -> bool:
        """Whether it is."""
        return time_left(self.deadline) == 0

    def left(self) -> float | None:
        """Return the seconds that are left, None for ever; raises PipeTimeoutError (121) if none are.

        A time-out of 0 is not over before the last step, which is then a try.
        """
        left = time_left(self.deadline)
        if left == 0 and self._seconds != 0:
            error = PipeTimeoutError(WinError.SEM_TIMEOUT, self._name, self._doing, "nothing was sent")
            error.sent = False
            raise _with_hint(error, "wait longer")
        return left


# ---- Who has which connection


class Slot(Generic[P]):
    """The place of one connection, which may be open or not."""

    __slots__ = ("claim", "pipe")

    def __init__(self) -> None:
        self.claim: Claim[P] | None = None
        """Who has it. This, and no list, decides."""
        self.pipe: P | None = None


class Claim(Generic[P]):
    """One use of a pool, from the wait for its turn to the end."""

    __slots__ = ("clean", "home", "slot", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake: Callable[[], object] = wake
        """What ends its wait; once more does no harm."""
        self.home: Slots[P] | None = None
        """Whose slot it waits for or has. Not the pool's any more in a child that was forked meanwhile."""
        self.slot: Slot[P] | None = None
        """What it has been given."""
        self.clean: bool = True
        """Whether the next one may have the connection too: nothing has been done with it, or nothing is left of that.
        """


class Slots(Generic[P]):
    """All slots of a pool, and the claims that wait, first come first served. The caller has the pool's lock.

    A signal's handler may raise after every call in here, and the garbage collector may end an abandoned use, in the
    same thread, while another method of this runs. So nothing is ever in a local variable alone: what was interrupted
    is finished by the next call of the same method, and each pair of assignments that belongs together has no call in
    it, as the interpreter looks for signals and garbage only there.
    """

    def __init__(self, size: int) -> None:
        self.all: Final = tuple(Slot[P]() for _ in range(size))
        self._free = deque(self.all)
        """All that nobody has, the next one last: those with a connection stand behind those without.

        Others, and the same again, may be among them.
        """
        self.waiting: deque[Claim[P]] = deque()

    def ask(self, claim: Claim[P]) -> None:
        """Give `claim` a slot now, or when it is its turn: then it is woken."""
        claim.home = self
        self.waiting.append(claim)
        self._hand_out()

    def give_back(self, claim: Claim[P]) -> None:
        """End a claim that waits, or has a slot: the next one gets that. Once more does no harm."""
        waiting = self.waiting
        # The first in line may have its slot already, if what gave it that was interrupted: it is not to get one more.
        if (claim.slot is None or (waiting and waiting[0] is claim)) and claim in waiting:
            waiting.remove(claim)
        slot = claim.slot
        if slot is not None:
            if slot.claim is claim:
                slot.claim = None
            if slot.claim is None:
                (self._free.appendleft if slot.pipe is None else self._free.append)(slot)
            claim.slot = None
        self._hand_out()

    def _hand_out(self) -> None:
        waiting = self.waiting
        while waiting:
            claim = waiting[0]
            if claim.slot is None:
                slot = self._next_free()
                if slot is None:
                    return
                if claim.slot is None and slot.claim is None:
                    claim.slot = slot
                    slot.claim = claim
            claim.wake()
            if waiting and waiting[0] is claim:
                waiting.popleft()

    def _next_free(self) -> Slot[P] | None:
        free = self._free
        while free:
            slot = free[-1]
            if slot.claim is None:
                return slot
            if free and free[-1] is slot:
                free.pop()  # taken meanwhile
        return None

    def idle(self) -> list[Slot[P]]:
        """Those with a connection that nobody has."""
        return [slot for slot in self.all if slot.claim is None and slot.pipe is not None]

    def in_use(self) -> int:
        """How many somebody has."""
        return sum(slot.claim is not None for slot in self.all)


class Counters:
    """What a pool has done. The caller has the pool's lock."""

    def __init__(self) -> None:
        self.connected = 0
        self.dropped = 0
        self.answered = 0
        self.repeated = 0

    def with_state(self, slots: Slots[Any]) -> PoolStats:
        """Return it together with what there is now."""
        return PoolStats(
            size=len(slots.all),
            idle=len(slots.idle()),
            in_use=slots.in_use(),
            waiting=len(slots.waiting),
            connected=self.connected,
            dropped=self.dropped,
            answered=self.answered,
            repeated=self.repeated,
        )


def describe_pool(kind: str, plan: Plan, stats: PoolStats, *, closed: bool) -> str:
    """Return a pool's repr."""
    if closed:
        return f"<{kind} {literal(plan.name)}, closed, {stats.in_use} in use>"
    many = "connection" if plan.size == 1 else "connections"
    used = f"{stats.in_use} of {plan.size} {many} in use, {stats.idle} idle"
    return f"<{kind} {literal(plan.name)}, {used}, {stats.waiting} waiting>"


# ---- What a block has


class Loan(Generic[P]):
    """A connection for as long as a block has it, and what the pool has to know of its use."""

    def __init__(self, pipe: P, name: str) -> None:
        self.name = name
        self.pipe: P | None = pipe
        self._calls: set[object] = set()
        self._failed = False
        self._counting = threading.RLock()  # guards the next one: a block may have several threads
        self._unanswered = 0
        """Messages that were sent, less those received since."""

    @property
    def borrowed(self) -> P:
        """The connection; PipeClosedError (6) when it was given back."""
        pipe = self.pipe
        if pipe is None:
            raise given_back(self.name)
        return pipe

    @contextlib.contextmanager
    def using(self) -> Iterator[P]:
        """Give it to a call, whose failure leaves it in a state that nobody knows."""
        token = object()
        self._calls.add(token)  # before the look, as take_back does it the other way round
        try:
            yield self.borrowed
        except BaseException:
            self._failed = True
            raise
        finally:
            self._calls.discard(token)

    def has_sent(self) -> None:
        """Count a message that may have an answer."""
        with self._counting:
            self._unanswered += 1

    def has_received(self) -> None:
        """Count an answer; what comes unasked answers nothing."""
        with self._counting:
            if self._unanswered:  # no call in between: a signal's handler may count too
                self._unanswered -= 1

    def take_back(self, *, both_ways: bool) -> bool:
        """End the loan. Whether nothing speaks against another one; `both_ways`: what was sent may have an answer."""
        self.pipe = None
        return not (self._failed or self._calls or (both_ways and self._unanswered))


# ---- What may be sent again

_BEFORE_SENDING: Final = (
    WinError.ACCESS_DENIED,
    WinError.INVALID_HANDLE,
    WinError.BUSY,
    WinError.BAD_PIPE,
    WinError.PIPE_BUSY,
    WinError.NO_DATA,
    WinError.IO_INCOMPLETE,
)
"""What a transaction says before it has sent anything (SEMANTICS §8.1, §6.1). 109 and 233 may come after it too."""


class Exchange:
    """One request, over one connection or more: whether it was sent, and whether it may be sent again."""

    def __init__(self, *, retry: bool) -> None:
        self.sent: bool = False
        """Whether a server may have got it."""
        self.repeated: bool = False
        """Whether it was, or is to be, sent a second time."""
        self._retry = retry
        self._new_one_failed = False

    def goes_on(self, error: PipeError, *, new: bool, transacting: bool) -> bool:
        """Whether to try another connection after `error` of a transaction, or of connecting.

        `new`: it was the first transaction on its connection.
        """
        if transacting and error.sent is not False and error.winerror not in _BEFORE_SENDING:
            self.sent = True
            if self._retry and isinstance(error, PipeClosedError) and not self.repeated:
                self.repeated = True
                return True
            return False
        gone = isinstance(error, PipeClosedError) or (transacting and isinstance(error, (PipeModeError, PipeBusyError)))
        if not gone:
            return False
        if not new:
            return True  # it had been idle, and its server has gone or has written something: nobody's fault
        first, self._new_one_failed = not self._new_one_failed, True
        return first

    def explained(self, error: PipeError, *, transacting: bool) -> PipeError:
        """Return `error`, or what takes its place, which says what became of the request."""
        if transacting and isinstance(error, PipeModeError):
            # Its text would speak of modes, and those are right: the server has gone (SEMANTICS §8.1).
            error = PipeClosedError(WinError.NO_DATA, error.pipe_name, "calling")
        if isinstance(error, PipeClosedError) and error.winerror != WinError.INVALID_HANDLE:
            if self.sent:
                known = "whether it was carried out is not known"
                error.detail = f"the request was sent, and the server went before its answer: {known}"
                error.hint = "it was tried once more" if self.repeated else "retry=True sends it once more"
            else:
                error.detail = "the server has closed the new connection at once; nothing was sent"
                error.hint = "look at the server's log"
        elif self.sent and not transacting:
            known = "the request was sent before, and the server went without an answer to it"
            error.detail = f"{error.detail}; {known}" if error.detail else known
        elif self.sent and isinstance(error, PipeTimeoutError):
            error.hint = "its connection was closed, so that the answer reaches no other call; wait longer"
        error.sent = self.sent
        return error


# ---- Whether a connection is as good as a new one


def is_quiet(pipe: AnyPipe) -> bool:
    """Whether the server is there, as far as can be told, and nothing in the connection is unread."""
    try:
        pipe._look()  # noqa: SLF001
        return pipe.peek().available == 0
    except PipeAccessError:
        return True  # nothing can be read from it, nor asked
    except PipeStateError as error:  # its host has no peek (Samba): a read that waits there tells too
        return error.winerror == WinError.NOT_SUPPORTED and not has_unread(pipe)
    except PipeError:
        return False


def has_unread(pipe: AnyPipe) -> bool:
    """Whether there is something to read, be it an empty message; raises nothing."""
    try:
        return pipe._has_unread()  # noqa: SLF001
    except PipeAccessError:
        return False  # nothing can be read from it
    except PipeError:
        return True


def is_as_new(pipe: AnyPipe, limit: int | None) -> bool:
    """Whether nobody could tell the connection from a new one. `limit`: that of its messages, None on a byte pipe."""
    if pipe.closed or not is_quiet(pipe) or has_unread(pipe):
        return False
    if limit is None:
        return True
    messages = cast("pipes.MessagePipe | async_pipes.MessagePipe", pipe)
    messages.max_message_size = limit
    return not messages.more_data and not messages._owed  # noqa: SLF001
