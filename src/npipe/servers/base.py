"""What the three servers share: their options, instances and clients, how they start and end, and the handler's call.

The servers stand on `npipe.win32` alone, so that they are the same programs on Windows. What is not in pywin32, who a
client is and who may be one, is here.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from npipe._buffers import content_of
from npipe._process import check_threads, refuse_copy
from npipe._tapping import tapped
from npipe.clients import Connection as AnyConnection
from npipe.clients import ServerStats, describe_server, takes_connection
from npipe.errors import PipeArgumentError, PipeError, error_from_code
from npipe.exporting import Export, open_to_network
from npipe.names import parse_name
from npipe.observing import INFO, Event, active, tell
from npipe.options import (
    Peer,
    as_long,
    check_timeout,
    default_timeout_ms,
    flag,
    is_message_mode,
    message_limit,
    parse_security,
    pipe_direction,
    refuse_outbound,
    validate_buffer_size,
    validate_instances,
)
from npipe.reasons import server_elsewhere
from npipe.transports import default
from npipe.win32 import pywintypes, win32event, win32file, win32pipe, win32security, winerror

if sys.platform != "win32":
    from npipe.binding.win32.targets import PipeTarget, forbid_tracing, pipe_counts, pipe_target
    from npipe.transports.local.reports import stats_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from npipe._buffers import ReadableBuffer
    from npipe._tapping import Tapped
    from npipe.figures import PipeStats
    from npipe.options import Security
    from npipe.remote_access import RemoteAccess
    from npipe.servers import Handler

__all__ = ["BUFSIZE", "PAUSE_MS", "Connection", "PipeServer", "current_connection", "security_attributes", "wait_for"]

logger: Final = logging.getLogger("npipe")

BUFSIZE: Final = 65536
"""Bytes that one read takes at most; a longer message is joined from its pieces (ERROR_MORE_DATA)."""

PAUSE_MS: Final = 50
"""Between attempts at what nothing tells the end of: descriptors or memory have run out, others have all instances."""

GONE: Final = frozenset({winerror.ERROR_BROKEN_PIPE, winerror.ERROR_NO_DATA, winerror.ERROR_PIPE_NOT_CONNECTED})
"""What calls fail with when the client has left, which is how every conversation ends."""

_LONGEST_MS: Final = 0x7FFFFFFF

_answering = threading.local()


class Connection(AnyConnection):
    """One client of a server, for its handler, `on_connect` and `on_disconnect`."""

    def __init__(self, number: int, handle: pywintypes.HANDLEType) -> None:
        super().__init__(number)
        self._handle = handle
        self._received = 0  # how many bytes of the request that is being read have come
        self._tap: Tapped | None = None  # who records this process, where the engine does not (npipe._tapping)
        self._moved: PipeStats | None = None  # by its end, for observers
        self._is_told = False  # observers know of its end
        if sys.platform != "win32":
            self._target: PipeTarget | None = None  # what the handle stood for, for its counts, until its end

    def _pid_or_none(self) -> int:
        try:
            return self.pid
        except PipeError:  # it has gone already
            return 0

    def _ask_peer(self) -> Peer:
        try:
            return default().client_of(self._handle)
        except pywintypes.error as error:
            raise error_from_code(error.winerror) from error


class PipeServer:
    """A server that runs in a thread of its own from its construction until `close`; see npipe.serve.

    A model provides `_run`, which is that thread, and creates the instances that listen from the start.
    """

    _open_mode = 0
    """FILE_FLAG_* of all instances."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: Handler,
        *,
        mode: str = "message",
        access: str = "duplex",
        max_instances: int | None = None,
        in_buffer_size: int = 65536,
        out_buffer_size: int = 65536,
        default_timeout: float | None = 0.05,
        security: str | Security = "owner",
        max_message_size: int | None = None,
        traceable: bool = True,
        exclusive: bool = True,
        on_connect: Callable[[Connection], object] | None = None,
        on_disconnect: Callable[[Connection], object] | None = None,
    ) -> None:
        parsed = parse_name(name)
        if parsed.host is not None:
            raise server_elsewhere(parsed.path, parsed.host, parsed.here)
        check_threads(parsed.path, "serving")
        self._parsed = parsed
        self._name = parsed.path
        self._handler: Callable[..., ReadableBuffer | None] = handler
        self._with_connection = takes_connection(handler)
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._exclusive = flag(exclusive, "exclusive")
        self._traceable = flag(traceable, "traceable")
        refuse_outbound(access)
        self._direction = pipe_direction(access)
        self._pipe_mode = win32pipe.PIPE_WAIT | win32pipe.PIPE_REJECT_REMOTE_CLIENTS
        if is_message_mode(mode):
            self._pipe_mode |= win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE
        self._max_instances = validate_instances(max_instances)
        self._out_size = validate_buffer_size(out_buffer_size, "out_buffer_size")
        self._in_size = validate_buffer_size(in_buffer_size, "in_buffer_size")
        self._default_timeout = default_timeout_ms(default_timeout)
        checked = parse_security(security)
        self._security = security_attributes(checked)
        self._pid = os.getpid()
        self._largest = message_limit(max_message_size, stranger=checked.lets_others_in)
        self._counts = threading.RLock()  # a leaf, but for a signal's handler; for the next four
        self._clients = 0  # how many there have been
        self._answered = 0  # of those who have left: each connection counts its own
        self._failed = 0
        self._here: dict[int, Connection] = {}  # by number: those that are connected
        self._open: set[int] = set()  # likewise, as far as observers know; under _counts, as are the next two
        self._accepts = True
        self._stop_told = False
        self._stop = win32event.CreateEvent(None, True, False, None)  # is set for good when the server is to end
        self._lock = threading.RLock()  # for the fields below, and those that a model says it for
        self._ending = False
        self._has_ended = False
        self._export: Export | None = None
        self._over = win32event.CreateEvent(None, True, False, None)
        self._thread = threading.Thread(target=self._main, name="npipe-server", daemon=True)

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: a server can be neither pickled nor copied."""
        refuse_copy(self, "pass the pipe's name, and serve it there with npipe.serve")

    def _begin(self) -> None:
        """Begin to serve: the last step of the constructor."""
        if active(INFO):
            tell(Event("listening", self._name, is_server=True))
        try:
            self._thread.start()
        except BaseException:
            self._accept_no_more()
            raise

    def _main(self) -> None:
        try:
            self._run()
        finally:
            with self._lock:
                self._has_ended = True
                export = self._export
            try:
                if export is not None:
                    export.close()
                self._accept_no_more()
            finally:
                win32event.SetEvent(self._over)

    def _let_in(self, access: RemoteAccess) -> None:
        """Let clients of other machines in too, as long as the server runs."""
        export = open_to_network(self._parsed, access)
        with self._lock:
            self._export = export
            ended = self._has_ended
        if ended:
            export.close()

    def _run(self) -> None:
        raise NotImplementedError

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._name

    # ---- What it tells of itself

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._here)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The clients that are connected now, in the order in which they came."""
        with self._counts:
            return tuple(self._here.values())

    @property
    def stats(self) -> ServerStats:
        """What the server has done so far."""
        with self._counts:
            answered = self._answered + sum(connection.requests for connection in self._here.values())
            return ServerStats(answered, self._failed, self._clients)

    def __repr__(self) -> str:
        closed = self._ending or self._is_forked
        return describe_server(type(self).__name__, self._name, closed=closed, clients=self.clients, stats=self.stats)

    @property
    def _is_forked(self) -> bool:
        """Whether this is a child of the process that serves: the thread and the instances are the parent's."""
        return self._pid != os.getpid()

    # ---- Instances and clients

    def _create_instance(self, *, first: bool = False) -> pywintypes.HANDLEType:
        """CreateNamedPipe: an instance, which listens. `first` has to be the only one of its name."""
        made = win32pipe.CreateNamedPipe(
            self._name,
            self._direction | self._open_mode | (win32pipe.FILE_FLAG_FIRST_PIPE_INSTANCE if first else 0),
            self._pipe_mode,
            self._max_instances,
            as_long(self._out_size),
            as_long(self._in_size),
            as_long(self._default_timeout),
            self._security,
        )
        if not self._traceable and sys.platform != "win32":  # where nobody can
            forbid_tracing(made, "serve")
        return made

    def _create_first_instance(self, *, first: bool = True) -> pywintypes.HANDLEType:
        """Create an instance for the constructor, which raises what `listen` would raise."""
        try:
            return self._create_instance(first=first and self._exclusive)
        except pywintypes.error as error:
            reason = default().why_not_created(self._parsed, error.winerror, first_instance=first and self._exclusive)
            raise error_from_code(error.winerror, self._name, "creating an instance", *reason) from error

    def _number(self) -> int:
        with self._counts:
            self._clients += 1
            return self._clients

    def _tell(self, hook: Callable[[Connection], object] | None, connection: Connection) -> None:
        """Call a hook, whose failures are its own."""
        if hook is not None:
            try:
                hook(connection)
            except BaseException:  # SystemExit too: this thread goes on for others
                logger.exception("client %d: a hook failed", connection.number)

    def _tell_arrival(self, connection: Connection) -> None:
        with self._counts:
            self._here[connection.number] = connection
            self._open.add(connection.number)
        if active():
            tell(Event("opened", self._name, is_server=True))
        if sys.platform != "win32":
            with contextlib.suppress(pywintypes.error):  # closed meanwhile, by who gives the server up
                connection._target = pipe_target(connection._handle, "serve")
        else:
            messages = bool(self._pipe_mode & win32pipe.PIPE_TYPE_MESSAGE)
            connection._tap = tapped(
                self._parsed.path, is_server=True, is_message=messages, peer=connection._pid_or_none
            )
        self._tell(self._on_connect, connection)

    def _tell_departure(self, connection: Connection) -> None:
        with self._counts:
            if self._here.pop(connection.number, None) is not None:  # a close may have given it up before
                self._answered += connection.requests
        if connection._tap is not None:
            connection._tap.closed()
        self._tell_closed(connection)
        self._tell(self._on_disconnect, connection)

    def _give_up_connections(self) -> None:
        """Count nobody as connected any more: all handles are closed."""
        with self._counts:
            connections = list(self._here.values())
            self._answered += sum(connection.requests for connection in connections)
            self._here.clear()
        for connection in connections:
            self._tell_closed(connection)
        self._accept_no_more()

    # ---- Observers (npipe.observe): a server's end is told after those of all its connections

    def _count(self, connection: Connection) -> None:
        """Keep what a connection has moved: its handle is closed or disconnected, and not used again yet."""
        if sys.platform != "win32":
            target, connection._target = connection._target, None
            if target is not None and active():
                connection._moved = stats_of(*pipe_counts(target))

    def _tell_closed(self, connection: Connection) -> None:
        """Tell of a connection's end, once."""
        with self._counts:
            if connection._is_told:
                return
            connection._is_told = True
        self._count(connection)
        try:
            if active():
                tell(Event("closed", self._name, is_server=True, stats=connection._moved))
        finally:
            with self._counts:
                self._open.discard(connection.number)
            self._tell_stopped()

    def _accept_no_more(self) -> None:
        """Nobody comes any more."""
        with self._counts:
            self._accepts = False
        self._tell_stopped()

    def _tell_stopped(self) -> None:
        """Tell of the server's end, once, if this was the last of it."""
        with self._counts:
            if self._accepts or self._open or self._stop_told:
                return
            self._stop_told = True
        if active(INFO):
            tell(Event("stopped", self._name, is_server=True))

    def _admits(self, connection: Connection, count: int, *, whole: bool) -> bool:
        """Whether a client may send so many bytes more of its request; `whole`: they are its last ones."""
        connection._received += count
        if connection._received > self._largest and self._pipe_mode & win32pipe.PIPE_TYPE_MESSAGE:
            logger.warning(
                "client %d: its request is longer than max_message_size, %d bytes, and its connection is closed",
                connection.number,
                self._largest,
            )
            return False
        if whole:
            connection._received = 0
        return True

    # ---- The handler

    def _call_handler(self, connection: Connection, request: bytes) -> bytes | None:
        """Return the handler's answer; TypeError for one that is neither bytes nor None."""
        _answering.connection = connection
        tap = connection._tap
        if tap is not None:
            tap.read(request)
        try:
            answer = self._handler(request, connection) if self._with_connection else self._handler(request)
            if answer is not None and type(answer) is not bytes:
                _refuse_awaitable(answer)
                answer = content_of(answer)  # of its own: the handler may go on using a bytearray
        except BaseException:
            with self._counts:
                self._failed += 1
            raise
        finally:
            _answering.connection = None
        if tap is not None and answer is not None:
            tap.wrote(answer)
        return answer

    # ---- The end

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most `timeout` seconds (None: for ever). Whether it has."""
        timeout = check_timeout(timeout)
        return self._is_forked or wait_for(self._over, timeout)

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OneThreadServer(PipeServer):
    """A server whose one thread does everything: it waits for the stop event too, and calls the handler itself."""

    _open_mode = win32file.FILE_FLAG_OVERLAPPED

    def __init__(self, name: str | os.PathLike[str], handler: Handler, **options: Any) -> None:
        super().__init__(name, handler, **options)
        self._deadline: float | None = None  # under _lock; when requests that are being answered lose their patience
        self._in_handler = False  # under _lock
        self._abandoned = False  # under _lock; the handles were closed while a handler would not return

    def _answer(self, connection: Connection, request: bytes) -> tuple[bool, bytes | None]:
        """Return whether the conversation goes on, and the handler's answer."""
        with self._lock:
            if self._ending:
                return False, None
            self._in_handler = True
        try:
            return True, self._call_handler(connection, request)
        except BaseException as error:  # SystemExit too: this thread goes on for others
            if isinstance(error, PipeError):
                logger.warning("client %d: the handler failed, its connection is closed: %s", connection.number, error)
            else:
                logger.exception("client %d: the handler failed, its connection is closed", connection.number)
            return False, None
        finally:
            with self._lock:
                self._in_handler = False

    def _time_left(self) -> int:
        """Return the milliseconds until the deadline, for a wait."""
        with self._lock:
            deadline = self._deadline
        return win32event.INFINITE if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))

    def _close_handles(self) -> None:
        """Close the handles of all instances, from another thread, while the server's own is in the handler."""
        raise NotImplementedError

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; the request that is being answered and answers that are being written get `timeout` seconds.

        Then all connections are ended. From the handler itself it returns at once, and the server ends after the
        answer.
        """
        timeout = check_timeout(timeout)
        if self._is_forked:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if not self._ending or (deadline is not None and (self._deadline is None or deadline < self._deadline)):
                self._deadline = deadline
            self._ending = True
        win32event.SetEvent(self._stop)
        if threading.current_thread() is self._thread:
            return
        over = wait_for(self._over, timeout)
        while not over:
            with self._lock:
                stuck = self._in_handler
                gives_up = stuck and not self._abandoned
                if gives_up:
                    self._abandoned = True
                    self._close_handles()
            if gives_up:
                self._give_up_connections()  # without the lock: observers are told, who may ask the server
            if stuck:
                return
            over = wait_for(self._over, PAUSE_MS / 1000)  # nothing holds it up now


def _refuse_awaitable(answer: object) -> None:
    """Raise TypeError for what the handler should have awaited: a lambda's call of a coroutine function, say."""
    if inspect.iscoroutine(answer):
        answer.close()  # else it warns that it was never awaited
    if inspect.isawaitable(answer):
        raise TypeError("the handler has returned an awaitable, which nobody awaits here: use npipe.aio.serve")


def wait_for(event: pywintypes.HANDLEType, timeout: float | None) -> bool:
    """Wait until an event is set, at most `timeout` seconds (None: for ever). Whether it is.

    For ends of threads, in place of what `threading` has: Ctrl-C in Thread.join makes the thread look ended, and in
    Event.wait it can leave the event's lock taken for good.
    """
    milliseconds = win32event.INFINITE if timeout is None else min(max(0, math.ceil(timeout * 1000)), _LONGEST_MS)
    return win32event.WaitForSingleObject(event, milliseconds) == win32event.WAIT_OBJECT_0


def current_connection() -> Connection | None:
    """Return whom the handler that runs in this thread is answering; None outside of handlers."""
    connection: Connection | None = getattr(_answering, "connection", None)
    return connection


# ---- Who may connect, and who has


def security_attributes(security: str | Security) -> pywintypes.SECURITY_ATTRIBUTES:
    """Return a `Security`, or the word for one, as CreateNamedPipe takes it: who may connect, and for what.

    The owner's entry lets him create further instances too. Raises PipeArgumentError (87) for what is no security.
    """
    text = default().security_text(parse_security(security))
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    try:
        attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(
            text, win32security.SDDL_REVISION_1
        )
    except pywintypes.error as error:
        raise PipeArgumentError(error.winerror, detail=f"{text!r} is no security descriptor") from None
    return attributes
