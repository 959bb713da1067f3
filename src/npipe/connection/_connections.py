"""Connections, the two ends of a new one, and waiting for several."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import os
import select
import socket
import struct
import time
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self, TypeVar

from npipe._display import refuse_construction
from npipe._process import refuse_copy
from npipe._tapping import active, tapped
from npipe.binding import ChannelEnd as _End
from npipe.binding import make_segment
from npipe.figures import Totals
from npipe.options import look_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from npipe.binding.channel import Armed

__all__ = ["NO_NAME", "Connection", "Pipe", "begin_trace", "channel", "wait"]

NO_NAME: Final = "npipe.connection"
"""What a trace has in the place of a name: of connections of `Pipe`, or that came from another process."""

_CREDENTIALS: Final = struct.Struct("3i")

SendT = TypeVar("SendT", contravariant=True)
RecvT = TypeVar("RecvT", covariant=True)


class Connection(_End, Generic[SendT, RecvT]):
    """One end of a connection, as multiprocessing.connection.Connection is one.

    `Client`, `Listener.accept` and `Pipe` return it. Several processes may hold the same end: children that were
    forked, and whoever it was sent to. The other end is told that it is over (EOFError, BrokenPipeError) when the last
    of them has closed it or has died.

    Several threads may use it at once: each message goes and comes as a whole.
    """

    if TYPE_CHECKING:

        def send(self, obj: SendT) -> None: ...
        def recv(self) -> RecvT: ...

    def __init__(self, *_: object, **__: object) -> None:
        refuse_construction("npipe.connection.Connection")

    @property
    def stats(self) -> Totals:
        """What calls of this process have moved at this end, also when it is closed."""
        return Totals(int(not self.closed), 1, *self._moved)

    @classmethod
    def _made(cls) -> Self:
        return cls.__new__(cls)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: it goes to another process by multiprocessing alone."""
        refuse_copy(self, "send it over a connection, or give it to a multiprocessing.Process")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        ways = {(True, True): "duplex", (True, False): "reads", (False, True): "writes"}
        state = "closed" if self.closed else ways.get((self.readable, self.writable), "open")
        return f"<npipe.connection.Connection, {state}>"


def channel(
    own_socket: int,
    segment: int,
    events: tuple[int, int],
    side: int,
    *,
    ways: tuple[bool, bool],
    strange: bool = False,
) -> Any:
    """Return the end of a channel whose descriptors these are; it owns them from here on.

    Args:
        own_socket: one side of the socket pair.
        segment: the shared memory.
        events: of the two directions.
        side: which of the two it is.
        ways: whether it may read, and write.
        strange: the other side may be somebody else's program, with ends that do what they like.
    """
    made: Connection[Any, Any] = Connection._made()  # noqa: SLF001
    made._attach(segment, own_socket, *events, side, *ways, strange)  # noqa: SLF001
    begin_trace(made, NO_NAME, is_server=side == 0)
    return made


def begin_trace(made: Any, name: str, *, is_server: bool) -> None:
    """Let who records this process, if anybody does, know of a connection; `name`: of the pipe that it began as."""
    if active() and made._tap is None:  # noqa: SLF001
        made._tap = tapped(name, is_server=is_server, is_message=True, peer=lambda: _peer_of(made))  # noqa: SLF001


def _peer_of(made: Any) -> int:
    fds, _ = made._descriptors()  # noqa: SLF001
    with socket.socket(fileno=os.dup(fds[1])) as own:
        pid: int = _CREDENTIALS.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
    return pid


def _close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def new_channel(fds: list[int]) -> tuple[int, int, int]:
    """Make a channel's segment and events, and enter them in `fds`.

    Each is made and entered in one step of C: the handler of a signal may raise between any two others.
    """
    fds += starmap(make_segment, [()])
    fds += map(os.eventfd, [0, 0], [os.EFD_CLOEXEC | os.EFD_NONBLOCK] * 2)
    segment, event0, event1 = fds[-3:]
    return segment, event0, event1


def attached(fds: list[int], side: int) -> Any:
    """Return the end of a channel to a stranger, which takes [socket, segment, event, event] out of the list."""
    made: Connection[Any, Any] = Connection._made()  # noqa: SLF001
    own = (map(fds.pop, [0]) for _ in range(3))
    segment = map(fds.pop, [1])
    # One step of C: from here on they are its, also if it fails.
    list(map(made._attach, segment, *own, [side], [True], [True], [True]))  # noqa: SLF001
    return made


def Pipe(duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:  # noqa: N802 - multiprocessing's name
    """Return the two ends of a new connection, as multiprocessing.connection.Pipe.

    Args:
        duplex: both ends send and receive. Without, the first one only receives and the second one only sends.

    Returns:
        Two Connections.

    Raises:
        OSError: no descriptors or memory.
    """
    fds: list[int] = []
    try:
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds += first.detach(), second.detach()
        segment, event0, event1 = new_channel(fds)
        again = [os.dup(fd) for fd in (segment, event0, event1)]
    except BaseException:
        _close(fds)
        raise
    try:
        one = channel(fds[0], segment, (event0, event1), 0, ways=(True, duplex))
    except BaseException:
        _close([fds[1], *again])
        raise
    return one, channel(fds[1], again[0], (again[1], again[2]), 1, ways=(duplex, True))


_AGAIN = 0.5
"""Seconds until the next look at a channel: who was to tell of a message may have been killed before it did."""

_VAIN, _DEAF = 16, 0.01
"""After so many times that events have told of nothing, so many seconds without them: they may be a stranger's."""


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until one of several objects is ready, as multiprocessing.connection.wait.

    Args:
        object_list: connections of npipe's or of multiprocessing's, sockets, sentinels of processes, and what else has
            a descriptor.
        timeout: seconds; None: for ever. Zero or less: only look.

    Returns:
        Those that are ready: a read would not wait, be it for the end. A connection that only writes is when nobody has
        the other end any more.

    Raises:
        OSError: one of them is closed.
        PipeArgumentError: the time-out is NaN (87).
    """
    objects = list(object_list)
    timeout = look_timeout(timeout)
    deadline = None if timeout is None else time.monotonic() + timeout
    vain = 0
    while True:
        ready: set[int] = set()
        armed: dict[int, Armed] = {}
        try:
            _look(objects, ready, armed)
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            if armed:
                deaf = vain % _VAIN == _VAIN - 1
                again = _DEAF if deaf else _AGAIN
                left = again if left is None else min(left, again)
            else:
                deaf = False
            found = _poll(objects, armed, 0.0 if ready else left, deaf=deaf)
            ready |= {at for at in found if _is_ready(objects[at], armed.get(at))}
            vain += bool(found) or deaf
        finally:
            armed.clear()  # in one go, which no handler of a signal interrupts
        if ready or (deadline is not None and time.monotonic() >= deadline):
            return [objects[at] for at in sorted(ready)]


def _is_ready(one: Any, armed: Armed | None) -> bool:
    """Whether a look at what its descriptors tell finds the same: if not somebody else has read it."""
    return armed is None or not armed.reads or bool(one.poll(0))


def _look(objects: list[Any], ready: set[int], armed: dict[int, Armed]) -> None:
    """Enter which connections are ready, and those that tell when they are."""
    for at, one in enumerate(objects):
        if isinstance(one, _End) and not one._arm(armed, at):  # noqa: SLF001
            ready.add(at)


def _poll(objects: list[Any], armed: dict[int, Armed], timeout: float | None, *, deaf: bool) -> set[int]:
    """Return which of them may be ready, by their descriptors; `deaf`: of connections the end alone tells."""
    whose: dict[int, list[int]] = {}
    poll = select.poll()
    for at, one in enumerate(objects):
        if at in armed:
            event, own_socket = armed[at].descriptors
            poll.register(own_socket, select.POLLRDHUP)
            whose.setdefault(own_socket, []).append(at)
            if armed[at].reads and not deaf:
                poll.register(event, select.POLLIN)
                whose.setdefault(event, []).append(at)
        elif not isinstance(one, _End):
            fd = one if isinstance(one, int) else one.fileno()
            poll.register(fd, select.POLLIN)
            whose.setdefault(fd, []).append(at)
    # Rounded up: it is not to go round for what is left of a millisecond. As much as poll takes at once.
    milliseconds = None if timeout is None else int(min(-(-timeout * 1000 // 1), 2.0**31 - 1))
    return {at for fd, _ in poll.poll(milliseconds) for at in whose[fd]}
