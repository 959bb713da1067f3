"""An open pipe of another machine: the requests that are under way, and what becomes of their answers.

What is sent cannot be taken back: servers ignore a cancel, or obey it in their own ways. So

- a read that was given up stays at the server, and its answer is the next read's;
- so is the answer of a transaction;
- a write that was given up goes on; closing waits for it for a while.
"""

from __future__ import annotations

import os
import struct
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from npipe.errors import (
    PipeArgumentError,
    PipeClosedError,
    PipeError,
    PipeProtocolError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
)
from npipe.options import ACCESS_READ, ACCESS_WRITE, check_timeout
from npipe.reasons import PeerEnd, closed_by_fork, closed_here, ended
from npipe.transports.smb.library import (
    CreateDisposition,
    CreateOptions,
    CtlCode,
    FileInformationClass,
    ImpersonationLevel,
    IOCTLFlags,
    Open,
    ShareAccess,
    SMB2CloseRequest,
    SMB2CreateRequest,
    SMB2FlushRequest,
    SMB2IOCTLRequest,
    SMB2ReadRequest,
    SMB2SetInfoRequest,
    SMB2WriteRequest,
)
from npipe.transports.smb.status import (
    ACCESS_DENIED,
    BUFFER_OVERFLOW,
    ENDED,
    INVALID_PARAMETER,
    PIPE_DISCONNECTED,
    SESSION_OVER,
    SUCCESS,
    TOO_LONG,
    UNSUPPORTED,
    failure,
    not_opened,
)
from npipe.transports.smb.wire import wait_event
from npipe.transports.stopping import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._tapping import Tapped
    from npipe.transports.smb.connections import Link
    from npipe.transports.stopping import Stop

__all__ = [
    "GOODWILL",
    "LONGEST_MESSAGE",
    "READ_SIZE",
    "End",
    "RemoteFile",
    "deadline_of",
    "list_names",
    "open_file",
    "wait_named_pipe",
]

READ_SIZE: Final = 65536
"""Bytes that a read asks for: any message through Samba (which does not tell that more of one comes), and one credit.
"""

LONGEST_MESSAGE: Final = 65535
"""Bytes of a message through Samba, at most; and at least one."""

GOODWILL: Final = 5.0
"""Seconds for the answer of a host's, where a call is told not to wait."""


_LOOKS: Final = 0.0  # the deadline of a call that is told not to wait: no clock has it


def deadline_of(timeout: float | None) -> float | None:
    """Check a time-out, and return the time.monotonic at which it is over, from now on; of 0, one that End knows."""
    timeout = check_timeout(timeout)
    return None if timeout is None else time.monotonic() + timeout if timeout else _LOOKS


class End(NamedTuple):
    """When a call ends, however many answers it takes: one for the whole call."""

    deadline: float | None
    looks: bool
    """Whether it is told not to wait: the host has GOODWILL to say what there is."""

    @classmethod
    def of(cls, deadline: float | None) -> Self:
        """Return the end of a call, part of whose time may be over already, or all: it asks for no more then."""
        return cls(time.monotonic() + GOODWILL, True) if deadline == _LOOKS else cls(deadline, False)


_CREDIT: Final = 65536  # bytes that one pays for
_WRITE_AT_ONCE: Final = 131_072

_GENERIC_READ: Final = 0x80000000
_GENERIC_WRITE: Final = 0x40000000
_READ_ATTRIBUTES: Final = 0x80
_WRITE_ATTRIBUTES: Final = 0x100
_PIPE_INFORMATION: Final = 23  # FilePipeInformation
_INFO_FILE: Final = 1
_NO_FILE: Final = b"\xff" * 16
_HEADER: Final = 64
_FEW: Final = 16  # writes that were given up, all of which are looked at before each next one
_PATIENCE_FOREVER: Final = -(2**63)


def open_file(
    link: Link, path: str, name: str, *, access: int, deadline: float | None, stop: Stop = NEVER
) -> RemoteFile:
    """CreateFile over a connection, which the file then uses. Raises the errors of opening; the link is released."""
    request: Any = None

    def keep(sent: Any) -> None:
        nonlocal request
        request = sent

    create = SMB2CreateRequest()
    create["impersonation_level"] = ImpersonationLevel.Identification
    wanted = _READ_ATTRIBUTES | _WRITE_ATTRIBUTES
    wanted |= (_GENERIC_READ if access & ACCESS_READ else 0) | (_GENERIC_WRITE if access & ACCESS_WRITE else 0)
    create["desired_access"] = wanted
    create["share_access"] = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE
    create["create_disposition"] = CreateDisposition.FILE_OPEN
    create["create_options"] = CreateOptions.FILE_NON_DIRECTORY_FILE
    create["buffer_path"] = path.encode("utf-16-le", "surrogatepass")
    try:
        status, response = _ask(link, create, keep, name, "opening the pipe", deadline, stop)
        request = None
        if status != SUCCESS:
            raise not_opened(status, name, link.host)  # noqa: TRY301 - the link is released
        return RemoteFile(link, _file_id(response, name), name, access)
    except BaseException:
        if request is not None:
            link.abandon(request, lambda status, response: _close_late(link, status, response))
        link.release()
        raise


def _close_late(link: Link, status: int, response: Any) -> None:
    """Close what was opened for somebody who had given up."""
    if status == SUCCESS:
        try:
            link.say(_close_request(_file_id(response, None)))
        except PipeError:
            link.close()


def _file_id(response: Any, name: str | None) -> bytes:
    body: bytes = response["data"].get_value()
    identity = body[64:80]
    if len(identity) != 16:
        raise _nonsense(name, "opening the pipe")
    return identity


def _close_request(file_id: bytes) -> Any:
    close = SMB2CloseRequest()
    close["file_id"] = file_id
    return close


def _nonsense(name: str | None, doing: str) -> PipeProtocolError:
    return PipeProtocolError(WinError.INVALID_DATA, name, doing, "the host's answer makes no sense")


def lost(name: str | None, doing: str | None) -> PipeClosedError:
    """Return the error of a call whose connection is over: 64."""
    return PipeClosedError(WinError.NETNAME_DELETED, name, doing, "the network connection to its host has ended")


def _ask(
    link: Link,
    message: Any,
    keep: Callable[[Any], None],
    name: str | None,
    doing: str,
    deadline: float | None,
    stop: Stop = NEVER,
) -> tuple[int, Any]:
    """Send a request that no file waits with others for; return its status and answer. Raises StoppedError."""
    try:
        with stop.waking(link.wake):
            request = link.submit(message, keep, deadline, given_up=lambda: stop.is_set)
    except ConnectionError:
        raise lost(name, doing) from None
    if request is None:
        stop.check()
        raise PipeTimeoutError(WinError.SEM_TIMEOUT, name, doing, f"{link.host} has not answered in that time")
    with stop.waking(lambda: _wake(request)):
        return _answer(link, request, name, doing, deadline, stop)


def _wake(request: Any) -> None:
    """Let whoever waits for a request's answer look again."""
    with request.response_event_lock:
        request.response_event.set()


def _answer(
    link: Link, request: Any, name: str | None, doing: str, deadline: float | None, stop: Stop
) -> tuple[int, Any]:
    while True:
        in_time = wait_event(request.response_event, deadline)
        with request.response_event_lock:
            answer = link.answered(request)
            if answer is not None:
                link.done(request)
                link.was_used = link.was_used or not link.lost
                return answer
            if link.lost:
                raise lost(name, doing)
            request.response_event.clear()
        stop.check()
        if not in_time:
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, name, doing, f"{link.host} has not answered in that time")


def wait_named_pipe(
    link: Link, path: str, name: str, timeout: float | None, *, use_default: bool, stop: Stop = NEVER
) -> None:
    """FSCTL_PIPE_WAIT, where the host has it. Raises PipeStateError (50) where not; the link stays the caller's."""
    doing = "waiting for an instance"
    text = path.encode("utf-16-le", "surrogatepass")
    ticks = _PATIENCE_FOREVER if timeout is None else -int(timeout * 10_000_000)
    specified = 0 if use_default else 1
    data = struct.pack("<qIBx", 0 if use_default else ticks, len(text), specified) + text
    request: Any = None

    def keep(sent: Any) -> None:
        nonlocal request
        request = sent

    deadline = None if timeout is None else time.monotonic() + (timeout or GOODWILL)
    try:
        status, _ = _ask(link, _ioctl(CtlCode.FSCTL_PIPE_WAIT, _NO_FILE, data, 0), keep, name, doing, deadline, stop)
        request = None
    finally:
        if request is not None:
            link.abandon(request)
    if status == SUCCESS:
        return
    if status in UNSUPPORTED or status == INVALID_PARAMETER:
        raise failure(next(iter(UNSUPPORTED)) if status == INVALID_PARAMETER else status, name, doing)
    raise _while(not_opened(status, name, link.host), doing)


def list_names(link: Link, deadline: float | None) -> list[tuple[str, int]]:
    """Return the host's pipes, and how many instances each has. Raises PipeStateError (50); the link is released."""
    doing = "listing pipes"
    opened = Open(link.tree, "")
    found: list[tuple[str, int]] = []
    request: Any = None

    def keep(sent: Any) -> None:
        nonlocal request
        request = sent

    try:
        create = SMB2CreateRequest()
        create["impersonation_level"] = ImpersonationLevel.Identification
        create["desired_access"] = _LIST_DIRECTORY | _READ_ATTRIBUTES
        create["share_access"] = ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE
        create["create_disposition"] = CreateDisposition.FILE_OPEN
        create["create_options"] = CreateOptions.FILE_DIRECTORY_FILE
        create["buffer_path"] = b"\0\0"
        status, response = _ask(link, create, keep, None, doing, deadline)
        request = None
        if status != SUCCESS:
            raise _not_listed(link.host, status)
        opened.file_id = _file_id(response, None)
        try:
            while True:
                query, _ = opened.query_directory("*", FileInformationClass.FILE_DIRECTORY_INFORMATION, send=False)
                status, response = _ask(link, query, keep, None, doing, deadline)
                request = None
                if status in _NO_MORE:
                    return found
                if status != SUCCESS:
                    raise _not_listed(link.host, status)
                found += _names(response["data"].get_value())
        finally:
            link.say(_close_request(opened.file_id))
    finally:
        if request is not None:
            link.abandon(request)
        link.release()


def _names(body: bytes) -> list[tuple[str, int]]:
    """Return names and numbers of instances out of FILE_DIRECTORY_INFORMATION."""
    if len(body) < _QUERY_ANSWER.size:
        raise _nonsense(None, "listing pipes")
    _, offset, length = _QUERY_ANSWER.unpack_from(body)
    data = _part(body, offset, length)
    found: list[tuple[str, int]] = []
    while data is not None and len(data) >= _DIRECTORY_ENTRY:
        step, instances, size = _ENTRY.unpack_from(data)
        name = bytes(data[_DIRECTORY_ENTRY : _DIRECTORY_ENTRY + size])
        if len(name) != size:
            break
        text = name.decode("utf-16-le", "surrogatepass")
        if text not in (".", ".."):
            found.append((text, instances))
        if not step:
            return found
        data = data[step:]
    raise _nonsense(None, "listing pipes")


def _not_listed(host: str, status: int) -> PipeError:
    if status == ACCESS_DENIED or status in SESSION_OVER:
        return failure(status, None, "listing pipes")
    detail = f"{host} does not list its pipes for other machines (NTSTATUS 0x{status:08X}); Samba never does"
    return PipeStateError(WinError.NOT_SUPPORTED, None, "listing pipes", detail, hint="ask for a pipe by its name")


def _while(error: PipeError, doing: str) -> PipeError:
    error.doing = doing
    return error


def _ioctl(code: int, file_id: bytes, data: bytes, room: int) -> Any:
    request = SMB2IOCTLRequest()
    request["ctl_code"] = code
    request["file_id"] = file_id
    request["max_output_response"] = room
    request["flags"] = IOCTLFlags.SMB2_0_IOCTL_IS_FSCTL
    request["buffer"] = data
    return request


_LIST_DIRECTORY: Final = 1
_NO_MORE: Final = frozenset({0x80000006, 0xC000000F})  # NO_MORE_FILES, NO_SUCH_FILE
_QUERY_ANSWER: Final = struct.Struct("<HHI")
_ENTRY: Final = struct.Struct("<I36xq12xI")  # of FileDirectoryInformation: next one, end of file, length of the name
_DIRECTORY_ENTRY: Final = 64
_READ_ANSWER: Final = struct.Struct("<HBxI")
_IOCTL_ANSWER: Final = struct.Struct("<HHI16sIIII")


class RemoteFile:
    """An open pipe. One thread at a time reads or transacts; its caller sees to that."""

    def __init__(self, link: Link, file_id: bytes, name: str, access: int) -> None:
        self.link: Link = link
        self.name: str = name
        self.access: int = access
        self.closed: bool = False
        self.forked: bool = False
        self.over: bool = False  # the server's end is known to be closed
        self._id = file_id
        self.pending: Any = None
        """The read or transaction whose answer is the next thing that is read."""
        self._is_transaction = False
        self._lock = threading.Lock()  # for the next three
        self._writes: set[Any] = set()
        self._waiting: list[Any] = []  # once for each thread
        self._submitting = 0  # threads
        self._many = 0  # writes, before it is worth while to look which are answered
        self.tap: Tapped | None = None
        """Who records this process (npipe._tapping)."""
        _files.add(self)

    # ---- Waiting

    def _submit(
        self,
        message: Any,
        keep: Callable[[Any], None],
        deadline: float | None,
        doing: str,
        *,
        cost: int = 1,
        stop: Stop = NEVER,
    ) -> Any:
        with self._lock:
            self._submitting += 1
        try:
            request = self.link.submit(message, keep, deadline, cost=cost, given_up=lambda: self.closed or stop.is_set)
        except ConnectionError:
            raise self._why_not(doing) from None
        finally:
            with self._lock:
                self._submitting -= 1
        if self.closed:  # nobody waits for its answer
            if request is not None:
                self.link.done(request)
            raise self._why_not(doing)
        return request

    def _why_not(self, doing: str | None, *, before: bool = False) -> PipeError:
        """Return the error of a call that finds no connection any more."""
        if self.forked:
            return closed_by_fork(self.name, doing)
        if self.closed:
            return closed_here(self.name, doing, code=WinError.INVALID_HANDLE if before else WinError.BROKEN_PIPE)
        return lost(self.name, doing)

    def check_open(self, doing: str | None) -> None:
        """Raise PipeClosedError (6) if it is closed, and (64) if the connection is lost."""
        if self.closed:
            raise self._why_not(doing, before=True)

    def _await(
        self,
        request: Any,
        deadline: float | None,
        doing: str,
        *,
        once: bool = False,
        until: Callable[[], bool] | None = None,
    ) -> tuple[int, Any] | None:
        """Wait for an answer; None when the time is over, or `until` says so, or (`once`) the server has none yet."""
        link, in_time = self.link, True
        with self._lock:
            self._waiting.append(request)
        try:
            while True:
                with request.response_event_lock:
                    request.response_event.clear()
                    answer = link.answered(request)
                    if answer is not None:
                        return answer
                    if self.closed or link.lost:
                        raise self._why_not(doing)
                    interim = request.response is not None
                if not in_time or (once and interim) or (until is not None and until()):
                    return None
                in_time = wait_event(request.response_event, deadline)
        finally:
            with self._lock:
                self._waiting.remove(request)

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._lock:
            waiting, submitting = list(self._waiting), self._submitting
        for request in waiting:
            _wake(request)
        if submitting:  # else it may be a collected pipe that is closed, which may take no lock of the connection's
            self.link.wake()

    # ---- Reading

    @property
    def has_pending(self) -> bool:
        """Whether a read or a transaction was given up whose answer has not been fetched."""
        return self.pending is not None

    @property
    def has_answer(self) -> bool:
        """Whether the answer of that is there."""
        pending = self.pending
        if pending is None:
            return False
        with pending.response_event_lock:
            return self.link.answered(pending) is not None

    def _keep_pending(self, request: Any) -> None:
        self.pending = request

    def fetch(self, end: End, doing: str, *, until: Callable[[], bool] | None = None) -> tuple[memoryview, bool] | None:
        """Return the next piece of what the server has written, and whether its message goes on; None: see `until`.

        One of at most READ_SIZE bytes. Who has put it away sets `pending` to None, in the same statement, so that no
        signal's handler comes between. Raises PipeTimeoutError (121): then nothing is consumed.
        """
        deadline = end.deadline
        once = False
        if self.pending is None:
            if deadline is not None and deadline <= time.monotonic():  # pieces before it have taken the time
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
            self._is_transaction = False
            once = end.looks  # the server says at once that there is something, or else that the answer comes later
            read = SMB2ReadRequest()
            read["file_id"] = self._id
            read["length"] = READ_SIZE
            read["padding"] = b"\x50"
            if self._submit(read, self._keep_pending, deadline, doing) is None:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
        elif end.looks:
            deadline = time.monotonic()  # it has said so before
        request = self.pending
        try:
            answer = self._await(request, deadline, doing, once=once, until=until)
        except PipeClosedError as error:
            self._tell_gone(error.winerror)
            raise
        if answer is None:
            if until is not None and until():
                return None
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
        status, response = answer
        transacting = self._is_transaction
        if status not in (SUCCESS, BUFFER_OVERFLOW):
            self.pending = None
            self.link.done(request)
            raise self._failed(status, "transacting" if transacting else doing)
        body: bytes = response["data"].get_value()
        data = _ioctl_data(body) if transacting else _read_data(body)
        more = status == BUFFER_OVERFLOW
        self.link.done(request)
        if data is None or len(data) > READ_SIZE or (more and not data):
            self.pending = None
            self.link.close()
            raise _nonsense(self.name, doing)
        if self.tap is not None:
            self.tap.read(data, more=more)
        return data, more

    def begin_transaction(self, data: bytes, deadline: float | None, is_sent: Callable[[], None]) -> bool:
        """Send FSCTL_PIPE_TRANSCEIVE, whose answer is fetched as that of a read. False: nothing was sent in time."""

        def keep(request: Any) -> None:
            self.pending = request
            is_sent()

        self._is_transaction = True
        message = _ioctl(CtlCode.FSCTL_PIPE_TRANSCEIVE, self._id, data, READ_SIZE)
        is_begun = self._submit(message, keep, deadline, "transacting", cost=_cost(len(data))) is not None
        if is_begun and self.tap is not None:
            self.tap.wrote(data)
        return is_begun

    def _failed(self, status: int, doing: str) -> PipeError:
        """Return the error for an answer that is none."""
        if status in ENDED:
            was_over, self.over = self.over, True
            self._tell_gone(WinError.BROKEN_PIPE)
            writes = doing == "writing"
            if status == PIPE_DISCONNECTED and self.link.has_modes:
                how, code = PeerEnd.DISCONNECTED, WinError.PIPE_NOT_CONNECTED
            else:  # of Samba's: for whatever end
                how, code = PeerEnd.CLOSED, WinError.NO_DATA if writes else WinError.BROKEN_PIPE
            if doing == "transacting" and was_over:
                code = WinError.BAD_PIPE
            return ended(code, self.name, doing, is_server=False, how=how)
        if status == TOO_LONG:
            return too_long(self.name, doing)
        return failure(status, self.name, doing)

    def _tell_gone(self, code: int) -> None:
        if self.tap is not None and not self.closed:
            self.tap.gone(code)

    # ---- Writing

    def write(self, data: bytes, deadline: float | None, *, stream: bool = False) -> None:
        """WriteFile: returns when the server has taken it all. A `stream` may be cut into several writes."""
        if not data:
            raise empty(self.name)
        if not stream:
            self.check_length(len(data), "writing")
        size = len(data)
        step = min(_WRITE_AT_ONCE, self.link.wire.max_write_size) if stream else size
        for start in range(0, size, step):
            request = self.begin_write(data[start : start + step], deadline)
            if request is None:
                raise _not_sent(self.name, start, size)
            self.end_write(request, deadline, start + step, size)

    def check_length(self, size: int, doing: str) -> None:
        """Raise PipeArgumentError (87) for a message that is longer than the host takes."""
        wire = self.link.wire
        most = wire.max_write_size if doing == "writing" else min(wire.max_transact_size, wire.max_write_size)
        if not self.link.has_modes:
            most = min(most, LONGEST_MESSAGE)
        if size > most:
            raise too_long(self.name, doing, most)

    def begin_write(self, data: bytes, deadline: float | None, is_sent: Callable[[], None] | None = None) -> Any:
        """Send a write; return its request, or None: nothing was sent in time."""

        def keep(request: Any) -> None:
            with self._lock:
                self._writes.add(request)
            if is_sent is not None:
                is_sent()

        self._forget_answered()
        write = SMB2WriteRequest()
        write["file_id"] = self._id
        write["length"] = len(data)
        write["buffer"] = data
        request = self._submit(write, keep, deadline, "writing", cost=_cost(len(data)))
        if request is not None and self.tap is not None:
            self.tap.wrote(data)  # also of one that is given up: it goes on
        return request

    def _forget_answered(self) -> None:
        """Forget writes that were given up, and that the server has taken since.

        Where there are many, not before each of the next ones, which would take the square of their number.
        """
        if len(self._writes) < self._many:
            return
        for request in list(self._writes):
            with request.response_event_lock:
                answer = self.link.answered(request)
            with self._lock:
                forgets = answer is not None and request not in self._waiting
                if forgets:
                    self._writes.discard(request)
            if forgets:
                self.link.done(request)
        left = len(self._writes)
        self._many = 2 * left if left > _FEW else 0

    def end_write(self, request: Any, deadline: float | None, sent: int = 0, size: int = 0) -> None:
        """Wait until the server has taken it all. One that was given up goes on: `sent` of `size` bytes, for its text.

        (`sent` may be more than there are.)
        """
        end = End.of(deadline)
        answer = self._await(request, end.deadline, "writing", once=end.looks)
        if answer is None:
            raise _goes_on(self.name, self.link.host, min(sent, size), size)
        with self._lock:
            self._writes.discard(request)
        self.link.done(request)
        if answer[0] != SUCCESS:
            raise self._failed(answer[0], "writing")

    def writes_over(self, deadline: float | None) -> bool:
        """Wait until the server has answered all writes; False when the deadline came first."""
        for request in list(self._writes):
            try:
                if self._await(request, deadline, "writing") is None:
                    return False
            except PipeClosedError:
                return True
            with self._lock:
                self._writes.discard(request)
            self.link.done(request)
        return True

    # ---- The rest

    def _ask(self, message: Any, doing: str, deadline: float | None, stop: Stop = NEVER) -> tuple[int, Any]:
        """Make a call that is answered soon."""
        request: Any = None

        def keep(sent: Any) -> None:
            nonlocal request
            request = sent

        self.check_open(doing)
        try:
            with stop.waking(self.wake):
                if self._submit(message, keep, deadline, doing, stop=stop) is None:
                    stop.check()
                    raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
                answer = self._await(request, deadline, doing, until=lambda: stop.is_set)
            if answer is None:
                stop.check()
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, doing)
            return answer
        finally:
            if request is not None:
                self.link.abandon(request)

    def set_message_mode(self, message_mode: bool, deadline: float | None, stop: Stop = NEVER) -> bool | None:
        """SetNamedPipeHandleState. None: the server has no read modes; False: its pipe is of bytes."""
        if self.link.has_modes is False:
            return None
        message = SMB2SetInfoRequest()
        message["info_type"] = _INFO_FILE
        message["file_info_class"] = _PIPE_INFORMATION
        message["file_id"] = self._id
        message["buffer"] = struct.pack("<II", int(message_mode), 0)
        status, _ = self._ask(message, "setting the pipe's modes", deadline, stop)
        if status in UNSUPPORTED:
            self.link.has_modes = False
            return None
        if status == INVALID_PARAMETER:
            self.link.has_modes = True
            return False
        if status != SUCCESS:
            raise self._failed(status, "setting the pipe's modes")
        self.link.has_modes = True
        return True

    def peek(self, size: int) -> tuple[bytes, int, int]:
        """FSCTL_PIPE_PEEK: the first bytes, how many there are, and the length of the first message."""
        room = 16 + min(size, READ_SIZE - 16)
        message = _ioctl(CtlCode.FSCTL_PIPE_PEEK, self._id, b"", room)
        status, response = self._ask(message, "peeking", time.monotonic() + GOODWILL)
        if status not in (SUCCESS, BUFFER_OVERFLOW):
            raise self._failed(status, "peeking")
        data = _ioctl_data(response["data"].get_value())
        if data is None or len(data) < 16:
            raise _nonsense(self.name, "peeking")
        _state, available, _count, length = struct.unpack_from("<4I", data)
        return bytes(data[16:]), available, length

    def flush(self, deadline: float | None) -> None:
        """FlushFileBuffers."""
        message = SMB2FlushRequest()
        message["file_id"] = self._id
        status, _ = self._ask(message, "flushing", deadline)
        if status != SUCCESS:
            raise self._failed(status, "flushing")

    def close(self) -> bool:
        """Close it, and end the calls of other threads. Whether it was open."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
        self.wake()
        link = self.link
        link.say(_close_request(self._id))
        for request in (*self._writes, self.pending):
            if request is not None:
                link.done(request)
        link.release()
        if self.tap is not None:
            self.tap.closed()
        return True

    def forget(self) -> None:
        """Be closed: this is a forked child, and the pipe is the parent's."""
        self.tap = None
        self.closed = self.forked = True
        self._lock = threading.Lock()


_files: weakref.WeakSet[RemoteFile] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for file in _files:
        file.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _cost(size: int) -> int:
    return max(1, -(-size // _CREDIT))


def _read_data(body: bytes) -> memoryview | None:
    """Return what a READ has brought; None if the answer makes no sense."""
    if len(body) < _READ_ANSWER.size:
        return None
    _, offset, length = _READ_ANSWER.unpack_from(body)
    return _part(body, offset, length)


def _ioctl_data(body: bytes) -> memoryview | None:
    """Return what an IOCTL has brought; None if the answer makes no sense."""
    if len(body) < _IOCTL_ANSWER.size:
        return None
    *_, offset, length = _IOCTL_ANSWER.unpack_from(body)
    return _part(body, offset, length)


def _part(body: bytes, offset: int, length: int) -> memoryview | None:
    if not length:
        return memoryview(b"")
    start = offset - _HEADER
    if start < 0 or start + length > len(body):
        return None
    return memoryview(body)[start : start + length]


# ---- Errors


def empty(name: str) -> PipeArgumentError:
    """Return the error (87) of a message without a byte."""
    detail = "a message to another machine has 1 to 65,535 bytes, for Samba loses empty ones; nothing was sent"
    return PipeArgumentError(WinError.INVALID_PARAMETER, name, "writing", detail)


def too_long(name: str, doing: str, most: int = LONGEST_MESSAGE) -> PipeArgumentError:
    """Return the error (87) of a message that the host, or Samba, does not carry."""
    detail = f"a message to another machine has 1 to {most:,} bytes, and this one is longer; nothing was sent"
    return PipeArgumentError(WinError.INVALID_PARAMETER, name, doing, detail, hint="send it in parts")


def _not_sent(name: str, before: int, size: int) -> PipeTimeoutError:
    detail = f"{before} of {size} bytes were sent" if before else "nothing was sent"
    return PipeTimeoutError(
        WinError.SEM_TIMEOUT, name, "writing", f"{detail}: the connection to the host has had no room in that time"
    )


def _goes_on(name: str, host: str, sent: int, size: int) -> PipeTimeoutError:
    what = "it was sent" if sent == size else f"{sent} of {size} bytes were sent"
    detail = f"{what} to {host}, and the pipe's server has not taken it in that time; it cannot be withdrawn"
    hint = "do not write it again" if sent == size else "write only the rest again"
    error = PipeTimeoutError(WinError.SEM_TIMEOUT, name, "writing", detail, hint=hint)
    error.sent = True
    return error
