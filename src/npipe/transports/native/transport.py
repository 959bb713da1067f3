"""Pipes of this machine on Windows: kernel32's, through pywin32.

Every handle is overlapped, so that reads and writes at the same time never wait for each other, and every call that
waits can be ended: by its time-out, by a close in another thread, by Ctrl-C.
"""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pywintypes
import win32event
import win32file
import win32pipe

from npipe._tapping import tapped
from npipe.errors import (
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeNotFoundError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
    error_from_code,
)
from npipe.figures import PipeReport
from npipe.observing import is_wait_told, note_wait
from npipe.options import (
    ACCESS_READ,
    ACCESS_WRITE,
    FILE_FLAG_FIRST_PIPE_INSTANCE,
    PIPE_READMODE_MESSAGE,
    PipeListing,
    as_long,
    deadline_of,
    time_left,
)
from npipe.reasons import another_machine, no_messages, not_counted
from npipe.transports.native.access import check_owner, client_of, security_attributes, security_text
from npipe.transports.native.handles import (
    SLICE,
    File,
    close_file,
    closed_count,
    closed_event,
    direction_of,
    own_instances,
    tell_closed,
    wait_for_any,
)
from npipe.transports.native.pipes import NativeMessagePipe, NativeStreamPipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.names import PipeName
    from npipe.options import CreateOptions, Peer, Security
    from npipe.transports.base import ServerEnd

__all__ = [
    "PAUSE",
    "TRANSPORT",
    "NativeArrival",
    "NativeClientHandle",
    "NativeServerEnd",
    "NativeTransport",
    "create_instance",
    "open_client",
    "prepare_client",
    "wait_named_pipe",
]

PAUSE: Final = 0.05  # seconds between looks at what nothing tells: whether others' pipes have come or gone
_PATIENCE: Final = 1.0  # seconds that a client has to read its last answer when its instance is the name's only one
_DRIVER_GONE: Final = 676  # Wine's WaitNamedPipe, when the last instance goes meanwhile (SEMANTICS §12)
_READ_CONTROL: Final = 0x20000  # to see the owner
_FILE_READ_ATTRIBUTES: Final = 0x80
_FILE_WRITE_ATTRIBUTES: Final = 0x100
_GENERIC_READ: Final = 0x80000000
_GENERIC_WRITE: Final = 0x40000000
# A server may learn who its client is, and may not act in the client's name.
_SQOS: Final = 0x110000  # SECURITY_SQOS_PRESENT | SECURITY_IDENTIFICATION
_OVERLAPPED: Final = 0x40000000
_REJECT_REMOTE: Final = 8


class NativeServerEnd:
    """An instance of a pipe of this machine, until it has a client."""

    def __init__(self, file: File, name: PipeName, options: CreateOptions) -> None:
        self._file = file
        self._name = name
        self._options = options
        self._recalled: Any = None  # an event, made when somebody asks for it first; set once, and then another one is
        own_instances.add(file)

    def connect(self, timeout: float | None = None, recalls: Any = None) -> int:
        """See ServerEnd.connect."""
        handle = self._file.handle
        try:
            return self._file.run(
                lambda ov: win32pipe.ConnectNamedPipe(handle, ov), timeout, "waiting for a client", until=recalls
            )[0]
        except PipeClosedError as error:
            if error.winerror == WinError.INVALID_HANDLE:  # closed between two calls, or in one: it is the same
                raise PipeClosedError(WinError.BROKEN_PIPE, self._file.name, error.doing, error.detail) from None
            raise

    def recalls(self) -> Any:
        """See ServerEnd.recalls. It and `recall` are called with the listening's lock."""
        if self._recalled is None:
            self._recalled = win32event.CreateEvent(None, True, False, None)
        return self._recalled

    def recall(self) -> None:
        """See ServerEnd.recall."""
        if self._recalled is not None:
            win32event.SetEvent(self._recalled)
            self._recalled = None  # behind it: a handler that comes in between leaves one that ends a wait too many

    def has_data(self) -> bool:
        """See ServerEnd.has_data."""
        try:
            self._file.ask(lambda handle: win32pipe.PeekNamedPipe(handle, 0), "peeking")
        except PipeError:
            return False  # nothing is left, or this end may not read
        return True

    def pipe(self, on_close: Callable[[ServerEnd, bool], None]) -> NativeMessagePipe | NativeStreamPipe:
        """See ServerEnd.pipe."""
        direction = self._options.direction
        kind = NativeMessagePipe if self._options.message_mode else NativeStreamPipe
        pipe = kind(self._file, access=direction, is_server=True, direction=direction)
        pipe._adopt(self._options, lambda discard: on_close(self, discard))  # noqa: SLF001 - made here
        return pipe

    def another(self) -> NativeServerEnd:
        """See ServerEnd.another."""
        return TRANSPORT.create(self._name, self._options, first_instance=False)

    def replace(self, discard: bool = False) -> NativeServerEnd:
        """See ServerEnd.replace.

        While the name has other instances it does not vanish, and this one is closed first. The only one is
        disconnected and listens again, after its client has had a moment to read what was written.
        """
        file = self._file
        file.end(0.0)
        if not discard and self._name_has_others():
            close_file(file)
            return self.another()
        fresh = File(file.handle, file.name)
        if not discard:
            try:
                fresh.flush(_PATIENCE)
            except PipeTimeoutError:
                close_file(file)
                return self.another()
            except PipeError:
                pass  # the client has gone
        file.handle = None
        with contextlib.suppress(pywintypes.error):
            win32pipe.DisconnectNamedPipe(fresh.handle)
        end = NativeServerEnd(fresh, self._name, self._options)
        # It listens from this call on, and goes on doing so when the call is over (SEMANTICS §3.2).
        with contextlib.suppress(PipeError):
            end.connect(0.0)
        tell_closed()
        return end

    def _name_has_others(self) -> bool:
        try:
            return bool(win32pipe.GetNamedPipeHandleState(self._file.handle)[1] > 1)
        except pywintypes.error:
            return False  # an outbound one may not ask

    def left_behind(self) -> None:
        """See ServerEnd.left_behind. Between a call of Win32 and the next step of Python nothing can be noted."""

    @property
    def closed(self) -> bool:
        """See ServerEnd.closed."""
        return self._file.closed

    def close_handle(self, discard: bool = False) -> None:
        """See ServerEnd.close_handle."""
        self._file.end(0.0)
        close_file(self._file, discard=discard)


# ---- The transport


def open_client(name: PipeName, access: int, *, message_mode: bool) -> Any:
    """CreateFile: an overlapped handle, or PipeBusyError (231) at once.

    No more rights than that takes: others' pipes may grant just these. Reading and writing each bring the attributes of
    their kind; message-read mode is set by one who may write them, and what a pipe is, told to one who may read them.
    """
    rights = _READ_CONTROL | _FILE_READ_ATTRIBUTES | (_GENERIC_READ if access & ACCESS_READ else 0)
    rights |= _GENERIC_WRITE if access & ACCESS_WRITE else _FILE_WRITE_ATTRIBUTES if message_mode else 0
    try:
        return win32file.CreateFile(name.path, rights, 0, None, win32file.OPEN_EXISTING, _OVERLAPPED | _SQOS, None)
    except pywintypes.error as error:
        raise _not_opened(error.winerror, name) from None


def _not_opened(code: int, name: PipeName) -> PipeError:
    """Return the error of CreateFile on a pipe, of which Windows tells the code alone."""
    detail = hint = None
    if code == WinError.ACCESS_DENIED:
        detail = "its direction, or its security, does not allow that access to this user; Windows does not tell which"
        hint = 'connect with access="read" or "write" if it is outbound or inbound; else ask whose pipe it is'
    elif code == WinError.PIPE_BUSY:
        detail = "no instance of the pipe is listening just now"
        hint = "wait for one: connect(timeout=...) or npipe.wait()"
    return error_from_code(code, name.path, "opening the pipe", detail, hint)


def _exists(name: PipeName) -> bool:
    """Whether a pipe of that name is there, whoever may open it."""
    try:
        win32pipe.WaitNamedPipe(name.path, 1)
    except pywintypes.error as error:
        return bool(error.winerror == WinError.SEM_TIMEOUT)
    return True


def _why_not_created(name: PipeName, code: int, *, first_instance: bool) -> tuple[str | None, str | None]:
    """Return what can be found out of why CreateNamedPipe has failed, and the cure; None for what cannot."""
    if code == WinError.PIPE_BUSY:
        cure = "close an instance, choose another name, or have the first one made with a higher max_instances"
        return "the pipe has all the instances that it may have (max_instances)", cure
    if code != WinError.ACCESS_DENIED or not _exists(name):
        return None, None
    if first_instance:
        cure = "end the process that has it, choose another name, or share it: exclusive=False in both"
        return "the name is taken: a pipe of that name is there already", cure
    detail = "a pipe of that name is there, with another direction or type, or a security that does not let this user "
    return detail + "add instances; Windows does not tell which", "listen with the same access and mode"


def prepare_client(handle: Any, name: PipeName, *, message_mode: bool, verify_owner: bool) -> int:
    """Check whose pipe a client has opened, set its read mode, return its direction. Closed when that fails."""
    try:
        if verify_owner:
            check_owner(handle, name.path)
        direction = direction_of(handle)
        if message_mode:
            win32pipe.SetNamedPipeHandleState(handle, PIPE_READMODE_MESSAGE, None, None)
    except pywintypes.error as error:
        handle.Close()
        if error.winerror == WinError.INVALID_PARAMETER:
            raise no_messages(name.path, "opening the pipe") from None
        raise error_from_code(error.winerror, name.path, "setting the pipe's modes") from None
    except BaseException:
        handle.Close()
        raise
    return direction


def create_instance(name: PipeName, options: CreateOptions, *, first_instance: bool) -> Any:
    """CreateNamedPipe: an overlapped handle, which listens."""
    attributes = security_attributes(options.security)
    try:
        return win32pipe.CreateNamedPipe(
            name.path,
            options.direction | _OVERLAPPED | (FILE_FLAG_FIRST_PIPE_INSTANCE if first_instance else 0),
            _REJECT_REMOTE | options.pipe_type | options.read_mode,
            options.max_instances,
            as_long(options.out_buffer_size),
            as_long(options.in_buffer_size),
            as_long(options.default_timeout_ms),
            attributes,
        )
    except pywintypes.error as error:
        reason = _why_not_created(name, error.winerror, first_instance=first_instance)
        raise error_from_code(error.winerror, name.path, "creating an instance", *reason) from None


def wait_named_pipe(
    name: PipeName, timeout: float | None, *, use_default: bool, given_up: Callable[[], bool] = lambda: False
) -> None:
    """WaitNamedPipe, in slices in which it may be given up. See Transport.wait."""
    deadline = deadline_of(timeout)
    looks_first = is_wait_told()  # nothing else says whether there was a wait
    while True:
        left = SLICE if deadline is None else min(SLICE, time_left(deadline) or 0.0)
        # 0 would mean the pipe's own time-out.
        milliseconds = 1 if looks_first else 0 if use_default else max(1, math.ceil(left * 1000))
        try:
            win32pipe.WaitNamedPipe(name.path, milliseconds)
        except pywintypes.error as error:
            if error.winerror == _DRIVER_GONE:
                raise PipeNotFoundError(WinError.FILE_NOT_FOUND, name.path, "waiting for an instance") from None
            if error.winerror != WinError.SEM_TIMEOUT:
                raise error_from_code(error.winerror, name.path, "waiting for an instance") from None
        else:
            return
        if looks_first:
            note_wait()
            looks_first = False
            if not given_up() and use_default:
                continue
        if given_up() or use_default or (deadline is not None and time.monotonic() >= deadline):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path, "waiting for an instance")


class NativeClientHandle:
    """A client's handle with Win32's own calls, for the program of Microsoft's article."""

    def __init__(self, handle: Any, name: str) -> None:
        self._file = File(handle, name)
        self._tap = tapped(name, is_server=False, is_message=True, peer=self._peer)

    def _peer(self) -> int:
        try:
            pid: int = self._file.ask(win32pipe.GetNamedPipeServerProcessId)
        except PipeError:
            return 0
        return pid

    def set_state(self, mode: int) -> None:
        """SetNamedPipeHandleState."""
        doing = "setting the pipe's modes"
        self._file.ask(lambda handle: win32pipe.SetNamedPipeHandleState(handle, mode, None, None), doing)

    def write_file(self, data: bytes, timeout: float | None = None) -> int:
        """WriteFile."""
        handle = self._file.handle
        count = self._file.run(lambda ov: win32file.WriteFile(handle, data, ov)[0], timeout, "writing", writing=True)[1]
        if self._tap is not None:
            self._tap.wrote(data, count=count)
        return count

    def read_file(self, size: int, timeout: float | None = None) -> tuple[int, bytes]:
        """ReadFile: 0 or 234, and the bytes."""
        handle, buffer = self._file.handle, memoryview(bytearray(size))
        code, count = self._file.run(lambda ov: win32file.ReadFile(handle, buffer, ov)[0], timeout, "reading")
        if self._tap is not None:
            self._tap.read(buffer[:count], more=code == WinError.MORE_DATA)
        return code, bytes(buffer[:count])

    def close_handle(self) -> None:
        """CloseHandle."""
        if self._file.end(0.0):
            close_file(self._file)
            if self._tap is not None:
                self._tap.closed()


class NativeArrival:
    """See Arrival. Nothing tells that a pipe has come, so whoever waits looks again after a pause."""

    def arm(self) -> None:
        """See Arrival.arm."""

    def wait(self, timeout: float | None) -> bool:
        """See Arrival.wait."""
        time.sleep(PAUSE if timeout is None else min(PAUSE, timeout))
        return timeout is None or timeout > PAUSE

    def close(self) -> None:
        """See Arrival.close."""


class NativeTransport:
    """Windows' own pipes as a transport."""

    def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> NativeMessagePipe | NativeStreamPipe:
        """See Transport.connect. Windows keeps no order among those who wait."""
        deadline = deadline_of(timeout)
        while True:
            try:
                handle = open_client(name, access, message_mode=message_mode)
                break
            except PipeBusyError:
                if timeout == 0:
                    raise
                note_wait()
            try:
                self.wait(name, time_left(deadline))
            except PipeTimeoutError as error:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path, "opening the pipe") from error
        direction = prepare_client(handle, name, message_mode=message_mode, verify_owner=verify_owner)
        kind = NativeMessagePipe if message_mode else NativeStreamPipe
        return kind(File(handle, name.path), access=access, is_server=False, direction=direction)

    def open(self, name: PipeName, *, access: int) -> NativeClientHandle:
        """CreateFile, step by step as Win32 does it: a handle in byte-read mode, or PipeBusyError (231) at once."""
        return NativeClientHandle(open_client(name, access, message_mode=True), name.path)

    def arrival(self, name: PipeName) -> NativeArrival:  # noqa: ARG002  # they are all alike
        """See Transport.arrival."""
        return NativeArrival()

    def place(self, name: PipeName) -> NoReturn:
        """See Transport.place."""
        raise PipeStateError(WinError.NOT_SUPPORTED, name.path, detail="Windows has no folders of pipes")

    def security_text(self, security: Security) -> str:
        """See Transport.security_text."""
        return security_text(security)

    def why_not_created(self, name: PipeName, code: int, *, first_instance: bool) -> tuple[str | None, str | None]:
        """See Transport.why_not_created."""
        return _why_not_created(name, code, first_instance=first_instance)

    def client_of(self, handle: Any) -> Peer:
        """See Transport.client_of."""
        return client_of(handle)

    def create(
        self,
        name: PipeName,
        options: CreateOptions,
        *,
        first_instance: bool,
        timeout: float | None = None,  # noqa: ARG002  # there is nothing to wait for
    ) -> NativeServerEnd:
        """See Transport.create."""
        return NativeServerEnd(
            File(create_instance(name, options, first_instance=first_instance), name.path), name, options
        )

    def wait(self, name: PipeName, timeout: float | None, *, use_default: bool = False) -> None:
        """See Transport.wait."""
        wait_named_pipe(name, timeout, use_default=use_default)

    def root(self) -> None:
        """See Transport.root."""

    def list_pipes(self) -> list[PipeListing]:
        """See Transport.list_pipes. Type, direction and owner are not told: to ask for them is to connect."""
        try:
            found = win32file.FindFilesW(r"\\.\pipe\*")
        except pywintypes.error as error:
            raise error_from_code(error.winerror, None, "listing pipes") from None
        return sorted(
            (
                PipeListing(
                    name=rf"\\.\pipe\{entry[8]}",
                    type=None,
                    direction=None,
                    instances=entry[5],
                    max_instances=None,
                    pid=None,
                    user=None,
                )
                for entry in found
            ),
            key=lambda listing: listing.name,
        )

    def inspect(self, name: PipeName) -> PipeReport:
        """See Transport.inspect. How many instances there are, and no more: to ask for the rest is to connect."""
        if name.host is not None:
            raise another_machine(name.path, name.host, name.here)
        wanted = name.path.casefold()
        for listing in self.list_pipes():
            if listing.name.casefold() == wanted:
                return PipeReport(listing.name, None, None, listing.instances, None, ())
        raise PipeNotFoundError(WinError.FILE_NOT_FOUND, name.path, "asking for the pipe's counts")

    def listener_stats(self, name: PipeName) -> NoReturn:
        """See Transport.listener_stats."""
        raise not_counted(name.path, "asking for the listener's counts")

    def stats(self) -> NoReturn:
        """See Transport.stats."""
        raise not_counted(None, "asking for this process's counts")

    def instances_closed(self) -> int:
        """See Transport.instances_closed."""
        return closed_count()

    def wait_instance_closed(self, name: PipeName, seen: int, timeout: float | None) -> None:
        """See Transport.wait_instance_closed. It may return early: nothing tells of other processes' instances."""
        event = closed_event(seen)
        if event is None:
            return
        patience = PAUSE if self._others_own(name) else 1.0
        if wait_for_any((int(event),), patience if timeout is None else min(patience, timeout)) is None and (
            timeout is not None and timeout <= patience
        ):
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path)

    def _others_own(self, name: PipeName) -> bool:
        """Whether other processes own instances of a name, as far as that can be told."""
        own = [file for file in list(own_instances) if file.name == name.path]
        for file in own:
            with contextlib.suppress(PipeError):
                return bool(file.ask(win32pipe.GetNamedPipeHandleState)[1] > len(own))
        return True

    def wake_waiting_listeners(self) -> None:
        """See Transport.wake_waiting_listeners."""
        tell_closed()


TRANSPORT = NativeTransport()
