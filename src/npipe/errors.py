"""What can go wrong with a pipe: one exception per meaning, each with its Win32 code.

Every exception here is an `OSError` whose `winerror` is the same number on Linux and on Windows, and whose
text says what happened, to which pipe, and what to do about it. The codes and their meanings are those of
SEMANTICS §0.1; `error_from_code` turns a code into its exception.
"""

from __future__ import annotations

import errno
import sys
from enum import IntEnum
from typing import Any, ClassVar, Final, NamedTuple

from npipe._text import printable

__all__ = [
    "PipeAccessError",
    "PipeArgumentError",
    "PipeBusyError",
    "PipeCancelledError",
    "PipeClosedError",
    "PipeError",
    "PipeMessageTooLargeError",
    "PipeModeError",
    "PipeNameError",
    "PipeNotFoundError",
    "PipeProtocolError",
    "PipeResourceError",
    "PipeStateError",
    "PipeTimeoutError",
    "PipeVersionError",
    "PipeViewError",
    "WinError",
    "error_from_code",
]


class WinError(IntEnum):
    """The Win32 codes that pipes use, named as in winerror.h without the `ERROR_` in front."""

    SUCCESS = 0
    INVALID_FUNCTION = 1
    FILE_NOT_FOUND = 2
    PATH_NOT_FOUND = 3
    TOO_MANY_OPEN_FILES = 4
    ACCESS_DENIED = 5
    INVALID_HANDLE = 6
    NOT_ENOUGH_MEMORY = 8
    INVALID_DATA = 13
    NOT_SUPPORTED = 50
    BAD_NETPATH = 53
    NETNAME_DELETED = 64
    INVALID_PARAMETER = 87
    BROKEN_PIPE = 109
    SEM_TIMEOUT = 121
    INSUFFICIENT_BUFFER = 122
    INVALID_NAME = 123
    BAD_PATHNAME = 161
    BUSY = 170
    WAIT_IO_COMPLETION = 192
    FILENAME_EXCED_RANGE = 206
    PIPE_LOCAL = 229
    BAD_PIPE = 230
    PIPE_BUSY = 231
    NO_DATA = 232
    PIPE_NOT_CONNECTED = 233
    MORE_DATA = 234
    WAIT_TIMEOUT = 258
    PIPE_CONNECTED = 535
    PIPE_LISTENING = 536
    OPERATION_ABORTED = 995
    IO_INCOMPLETE = 996
    IO_PENDING = 997
    NOT_FOUND = 1168
    USER_MAPPED_FILE = 1224
    REVISION_MISMATCH = 1306
    LOGON_FAILURE = 1326
    CANNOT_IMPERSONATE = 1368
    NO_SYSTEM_RESOURCES = 1450


class PipeError(OSError):
    """An operation on a named pipe failed.

    `winerror` is the Win32 code (the class's usual one when not given), `pipe_name` the pipe's name, `doing` what was
    being done ("reading"), `detail` the reason, as far as whoever raised it knows more than the code says. `strerror`
    says what the code means there (`text`, or the code's own words), `hint` what to do about it, and `errno` is the
    nearest POSIX error. `str` has all of it on one line, with a very long name cut short. docs/errors.md has each code
    with its causes and cures.
    """

    usual_code: ClassVar[int] = WinError.INVALID_FUNCTION
    _reason_first: ClassVar[bool] = False
    """Whether the text has the reason before the name."""

    winerror: int
    filename: str | None
    pipe_name: str | None
    doing: str | None
    detail: str | None
    hint: str
    sent: bool | None = None
    """Of transactions and of a pool's calls: whether the request was sent. True of a write to another machine that goes
    on after its time-out. None for all else."""

    def __init__(
        self,
        winerror: int | None = None,
        pipe_name: str | None = None,
        doing: str | None = None,
        detail: str | None = None,
        *,
        hint: str | None = None,
        text: str | None = None,
    ) -> None:
        code = int(self.usual_code if winerror is None else winerror)
        meaning = _MEANINGS.get(code, _UNKNOWN)
        words = meaning.text if text is None else text
        if pipe_name is None:
            super().__init__(meaning.errno, words)
        else:
            super().__init__(meaning.errno, words, pipe_name)
        # On Windows this fills OSError's own slot, elsewhere it makes the attribute. Passing the code to
        # OSError instead would let Windows choose errno, and the two platforms would differ.
        self.winerror = code
        self.pipe_name = pipe_name
        self.doing = doing
        self.detail = detail
        if hint is not None:
            self.hint = hint
        elif not isinstance(self, meaning.error) or (detail is not None and not meaning.is_cure):
            self.hint = ""  # another class's (87), or a guess where the reason is known
        else:
            self.hint = meaning.hint if detail is not None else _HINTS.get((code, doing), meaning.hint)

    def __str__(self) -> str:
        text = f"[WinError {self.winerror}] {self.strerror}"
        name = "" if self.pipe_name is None else f": {_shown(self.pipe_name)}"
        if self.doing:
            name += f", while {printable(self.doing)}"
        remarks = "; ".join(printable(remark) for remark in (self.detail, self.hint) if remark)
        if not remarks:
            return text + name
        return f"{text} ({remarks}){name}" if self._reason_first else f"{text}{name} ({remarks})"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would hand back (errno, text), which is not what __init__ takes.
        known = (self.winerror, self.pipe_name, self.doing, self.detail)
        return _remake, (type(self), *known, self.hint, self.strerror), self.__dict__.copy()


class PipeNotFoundError(PipeError, FileNotFoundError):
    """No pipe of that name exists, in any process (2), or its host cannot be reached (53)."""

    usual_code: ClassVar[int] = WinError.FILE_NOT_FOUND


class PipeBusyError(PipeError):
    """No instance is listening, the pipe has as many instances as it may have, or a message is unread (231)."""

    usual_code: ClassVar[int] = WinError.PIPE_BUSY


class PipeTimeoutError(PipeError, TimeoutError):
    """The time given was over before the operation could finish (121, 258). The text says what became of the data.

    A read has consumed nothing.

    `sent` is for transactions: True when the request was sent, so that its answer is still to come and the pipe is owed
    it; False when the request was withdrawn. It is True of a write to another machine too that goes on, as nothing
    takes it back. None for all else.
    """

    usual_code: ClassVar[int] = WinError.SEM_TIMEOUT


class PipeAccessError(PipeError, PermissionError):
    """The pipe's access rule, its direction or its first instance's exclusiveness forbids it (5).

    Of a pipe of another machine also: its host does not accept the user (1326).
    """

    usual_code: ClassVar[int] = WinError.ACCESS_DENIED


class PipeClosedError(PipeError, BrokenPipeError, EOFError):
    """The connection is over; the text says which end ended it, and how.

    109: the peer has closed and everything it wrote has been read, or this end was closed by another thread or task
    while the call waited; of a listener, it is closed. 232: the peer has closed, so nothing can be written. 233: the
    server has disconnected this client. 64: the connection to another machine is lost. 6: this very object was closed
    before, here, or belongs to the process that this one was forked from; so that whoever loops over a pipe has one
    exception for "no more" whichever end closed it.
    """

    usual_code: ClassVar[int] = WinError.BROKEN_PIPE
    peer_end: int = 0
    """How the peer has ended, a npipe.reasons.PeerEnd; 0 where that is not known."""


class PipeModeError(PipeError):
    """The pipe's type or the handle's read mode does not allow the operation (87, 230)."""

    usual_code: ClassVar[int] = WinError.BAD_PIPE


class PipeArgumentError(PipeError, ValueError):
    """An argument is outside of what it may be (87)."""

    usual_code: ClassVar[int] = WinError.INVALID_PARAMETER


class PipeNameError(PipeError, ValueError):
    """The text is not the name of a pipe: malformed or too long (123), empty or on another device (3)."""

    usual_code: ClassVar[int] = WinError.INVALID_NAME
    _reason_first = True


class PipeMessageTooLargeError(PipeError):
    """A message is longer than the room that was given for it (234, 122)."""

    usual_code: ClassVar[int] = WinError.MORE_DATA


class PipeVersionError(PipeError):
    """The other process speaks another version of the protocol (1306)."""

    usual_code: ClassVar[int] = WinError.REVISION_MISMATCH


class PipeStateError(PipeError):
    """The wrong end or the wrong moment for the operation (1, 50, 170, 229, 535, 536, 996, 997, 1168, 1368)."""

    usual_code: ClassVar[int] = WinError.INVALID_FUNCTION


class PipeViewError(PipeError, BufferError):
    """The block of a view is over, and an array or a slice of it is not (1224)."""

    usual_code: ClassVar[int] = WinError.USER_MAPPED_FILE


class PipeCancelledError(PipeError):
    """The operation was cancelled before it finished (995)."""

    usual_code: ClassVar[int] = WinError.OPERATION_ABORTED


class PipeResourceError(PipeError):
    """The process or the system is out of descriptors (4) or memory (8, 1450)."""

    usual_code: ClassVar[int] = WinError.NO_SYSTEM_RESOURCES


class PipeProtocolError(PipeError):
    """The peer broke the rules of the shared segment or of the rendezvous (13); this connection is over.

    Not a `PipeClosedError`: data may have been lost, and a program must not take this for an orderly end.
    """

    usual_code: ClassVar[int] = WinError.INVALID_DATA


def error_from_code(
    code: int,
    name: str | None = None,
    doing: str | None = None,
    detail: str | None = None,
    hint: str | None = None,
) -> PipeError:
    """Return (not raise) the exception for a Win32 `code`; a code that pipes do not use gives a plain `PipeError`.

    `name` is the pipe's name, `doing` what was being done ("reading"), `detail` the reason if it is known beyond the
    code, `hint` what to do about that.
    """
    return _MEANINGS.get(code, _UNKNOWN).error(code, name, doing, detail, hint=hint)


def short_write(name: str, count: int, size: int) -> PipeTimeoutError:
    """Return (not raise) the error of a PIPE_NOWAIT write of `count` of `size` bytes (SEMANTICS §6.2)."""
    detail = f"{count} of {size} bytes were written, for the handle is set to PIPE_NOWAIT and the pipe has no room"
    return PipeTimeoutError(WinError.SEM_TIMEOUT, name, "writing", detail)


def does_not_fit(name: str, size: int) -> PipeMessageTooLargeError:
    """Return (not raise) the error of a read of a whole message into a buffer of `size` bytes that is too small."""
    detail = f"it is longer than the buffer, which has {size} bytes; nothing was consumed"
    hint = "give a larger buffer (peek().left is the message's length), or read it in parts, without exact"
    text = "The message is too large"
    return PipeMessageTooLargeError(WinError.MORE_DATA, name, "receiving a message", detail, text=text, hint=hint)


_OWED_HINT = "recv() the answer, or discard_reply() it, before the next transact, or close the pipe"


def unanswered(name: str, *, sent: bool) -> PipeTimeoutError:
    """Return (not raise) the error of a transaction whose answer has not come in time."""
    if sent:
        detail, hint = "the request was sent, and its answer is still to come", _OWED_HINT
    else:
        # A server that reads bytes, or a message's parts, may have had some of it: the engine does not tell.
        detail = "the request is longer than the room in the pipe, and was withdrawn before all of it was sent"
        hint = "give it more time, or let the server read faster; one that reads in parts may have had a part of it"
    error = PipeTimeoutError(WinError.SEM_TIMEOUT, name, "transacting", detail, hint=hint)
    error.sent = sent
    return error


def reply_owed(name: str, *, too_long: bool = False) -> PipeStateError:
    """Return (not raise) the error of a transaction on a pipe that is owed the answer of an earlier one.

    `too_long`: that answer is there, and longer than max_message_size.
    """
    if too_long:
        detail = "the answer of an earlier transact is longer than max_message_size, and still unread"
        hint = "discard_reply() it, or set a larger max_message_size and recv() it, before the next transact"
    else:
        detail = "an earlier transact sent its request and ended before the answer came: this one would get that answer"
        hint = _OWED_HINT
    text = "The pipe is owed an answer"
    return PipeStateError(WinError.IO_INCOMPLETE, name, "transacting", detail, text=text, hint=hint)


_LONGEST_SHOWN: Final = 100  # characters of a name in a text


def _shown(name: str) -> str:
    """Return a name in quotes, as a text shows it."""
    if len(name) <= _LONGEST_SHOWN:
        return f"'{printable(name)}'"
    return f"'{printable(name[:60])}…{printable(name[-20:])}' ({len(name)} characters)"


def _remake(kind: type[PipeError], *known: Any) -> PipeError:
    """Make an exception again from what it has told `pickle` or `copy`."""
    *arguments, hint, text = known
    error = kind(*arguments, hint=hint)
    if error.strerror == text:
        return error
    return kind(*arguments, hint=hint, text=text)


class _Meaning(NamedTuple):
    """What one code stands for."""

    error: type[PipeError]
    errno: int
    text: str
    hint: str = ""
    is_cure: bool = False
    """Whether the hint holds for every reason, so that it also stands beside one."""


_UNKNOWN = _Meaning(PipeError, errno.EIO, "The pipe operation failed", "see Microsoft's list of system error codes")

_NAME_HINT = r"write \\.\pipe\NAME"

_TIMED_OUT: Final = {
    "reading": "nothing was consumed: what comes later is there for the next read",
    "receiving a message": "nothing was consumed: a message that comes later is there for the next recv",
    "writing": "nothing was sent: the other end has not read enough to make room for it",
    "flushing": "the other end has not read everything yet; what was written stays in the pipe for it",
    "waiting for a client": "no client has come in that time; the pipe goes on listening",
    "opening the pipe": "no instance came free in that time; nothing was sent",
    "waiting for an instance": "no instance was listening in that time; wait again, or longer",
    "transacting": "see error.sent for whether the request was sent",
}

_HINTS: Final[dict[tuple[int, str | None], str]] = {
    (code, doing): hint for code in (WinError.SEM_TIMEOUT, WinError.WAIT_TIMEOUT) for doing, hint in _TIMED_OUT.items()
}
"""By what was being done; else the code's own."""

_MEANINGS: dict[int, _Meaning] = {
    WinError.SUCCESS: _Meaning(PipeError, 0, "The operation completed", "this is no error"),
    WinError.INVALID_FUNCTION: _Meaning(
        PipeStateError,
        errno.EINVAL,
        "This end of the pipe cannot do that",
        "listening and disconnecting are for the server's end",
    ),
    WinError.FILE_NOT_FOUND: _Meaning(
        PipeNotFoundError,
        errno.ENOENT,
        "No such pipe",
        "start its server, or check the name"
        if sys.platform == "win32"
        else "start its server, check the name, or give both processes the same NPIPE_ROOT",
        is_cure=True,
    ),
    WinError.PATH_NOT_FOUND: _Meaning(PipeNameError, errno.EINVAL, "Not the path of a pipe", _NAME_HINT, is_cure=True),
    WinError.TOO_MANY_OPEN_FILES: _Meaning(
        PipeResourceError,
        errno.EMFILE,
        "Too many open descriptors",
        "close connections that are no longer needed, or raise the limit (ulimit -n)",
        is_cure=True,
    ),
    WinError.ACCESS_DENIED: _Meaning(
        PipeAccessError,
        errno.EACCES,
        "Access to the pipe is denied",
        "compare access= on both sides, and security= and exclusive= of listen",
    ),
    WinError.INVALID_HANDLE: _Meaning(
        PipeClosedError,
        errno.EBADF,
        "The pipe object is closed",
        "it was closed in this process; open a new one to go on",
    ),
    WinError.NOT_ENOUGH_MEMORY: _Meaning(
        PipeResourceError,
        errno.ENOMEM,
        "Not enough memory",
        "free some, or use smaller messages and fewer connections",
        is_cure=True,
    ),
    WinError.INVALID_DATA: _Meaning(
        PipeProtocolError,
        errno.EPROTO,
        "The other process broke the pipe's protocol",
        "the connection was ended and no data of it can be trusted; connect again",
        is_cure=True,
    ),
    WinError.NOT_SUPPORTED: _Meaning(
        PipeStateError, errno.EOPNOTSUPP, "The request is not supported", "this end, pipe or platform does not have it"
    ),
    WinError.BAD_NETPATH: _Meaning(
        PipeNotFoundError,
        errno.ENOENT,
        "The host of the pipe was not found",
        "check the host's name and the network",
        is_cure=True,
    ),
    WinError.NETNAME_DELETED: _Meaning(
        PipeClosedError,
        errno.ECONNRESET,
        "The connection to the pipe's host is lost",
        "open the pipe again to go on; what was under way may or may not have arrived",
        is_cure=True,
    ),
    WinError.INVALID_PARAMETER: _Meaning(
        PipeModeError,
        errno.EINVAL,
        "The parameter is incorrect",
        "check modes, access, sizes and limits",
    ),
    WinError.BROKEN_PIPE: _Meaning(
        PipeClosedError,
        errno.EPIPE,
        "The pipe has been ended",
        "the other end is closed",
    ),
    WinError.SEM_TIMEOUT: _Meaning(
        PipeTimeoutError, errno.ETIMEDOUT, "The time given is over", "wait again, or longer"
    ),
    WinError.INSUFFICIENT_BUFFER: _Meaning(
        PipeMessageTooLargeError, errno.EMSGSIZE, "The buffer is too small", "give a larger one"
    ),
    WinError.INVALID_NAME: _Meaning(PipeNameError, errno.EINVAL, "Not the name of a pipe", _NAME_HINT, is_cure=True),
    WinError.BAD_PATHNAME: _Meaning(PipeNameError, errno.EINVAL, "Not the path of a pipe", _NAME_HINT, is_cure=True),
    WinError.BUSY: _Meaning(
        PipeStateError, errno.EBUSY, "The pipe is in use", "one task at a time may read; let the first one finish"
    ),
    WinError.WAIT_IO_COMPLETION: _Meaning(
        PipeError, errno.EINTR, "The wait was ended by a completion routine", "wait again"
    ),
    WinError.FILENAME_EXCED_RANGE: _Meaning(
        PipeNameError, errno.ENAMETOOLONG, "The name of the pipe is too long", "256 characters at most, prefix included"
    ),
    WinError.PIPE_LOCAL: _Meaning(
        PipeStateError, errno.EINVAL, "The pipe is local", "a local client has no other computer's name"
    ),
    WinError.BAD_PIPE: _Meaning(
        PipeModeError,
        errno.EINVAL,
        "The pipe is in the wrong state or mode",
        "the call needs another state of the pipe, or another read mode",
    ),
    WinError.PIPE_BUSY: _Meaning(
        PipeBusyError,
        errno.EBUSY,
        "All pipe instances are busy",
        "wait for one: connect(timeout=...) or npipe.wait()",
    ),
    WinError.NO_DATA: _Meaning(
        PipeClosedError,
        errno.EPIPE,
        "The pipe is being closed",
        "the other end is closed, so nothing more can be written",
    ),
    WinError.PIPE_NOT_CONNECTED: _Meaning(
        PipeClosedError,
        errno.EPIPE,
        "No process is on the other end of the pipe",
        "open a new connection to go on",
    ),
    WinError.MORE_DATA: _Meaning(
        PipeMessageTooLargeError,
        errno.EMSGSIZE,
        "The message is larger than the room for it",
        "its rest is still in the pipe; read on, or give a larger buffer or max_message_size",
    ),
    WinError.WAIT_TIMEOUT: _Meaning(
        PipeTimeoutError, errno.ETIMEDOUT, "The time given is over", "wait again, or longer"
    ),
    WinError.PIPE_CONNECTED: _Meaning(
        PipeStateError,
        errno.EISCONN,
        "A client is already connected",
        "it came before the server asked for one; go on and use the connection",
    ),
    WinError.PIPE_LISTENING: _Meaning(
        PipeStateError, errno.ENOTCONN, "The instance is still listening", "no client has come yet; accept one first"
    ),
    WinError.OPERATION_ABORTED: _Meaning(
        PipeCancelledError, errno.ECANCELED, "The operation was cancelled", "begin it again if it is still wanted"
    ),
    WinError.IO_INCOMPLETE: _Meaning(
        PipeStateError, errno.EINPROGRESS, "The operation has not finished", "wait for it, then ask for its result"
    ),
    WinError.IO_PENDING: _Meaning(
        PipeStateError, errno.EINPROGRESS, "The operation is pending", "wait for it, then ask for its result"
    ),
    WinError.NOT_FOUND: _Meaning(
        PipeStateError, errno.EINVAL, "Nothing was found", "what was asked for is not there (any more)"
    ),
    WinError.USER_MAPPED_FILE: _Meaning(
        PipeViewError,
        errno.EBUSY,
        "Something still looks at the bytes of a view whose block has ended",
        "delete arrays and slices of it (del array) before the end of the block, or copy what is to last",
        is_cure=True,
    ),
    WinError.REVISION_MISMATCH: _Meaning(
        PipeVersionError,
        errno.EPROTONOSUPPORT,
        "The other process speaks another version of the protocol",
        "install the same version of npipe on both sides",
        is_cure=True,
    ),
    WinError.LOGON_FAILURE: _Meaning(
        PipeAccessError,
        errno.EACCES,
        "The host does not know the user, or not by that password",
        "check username, domain and password of remote=, or of npipe.remote.configure()",
        is_cure=True,
    ),
    WinError.CANNOT_IMPERSONATE: _Meaning(
        PipeStateError, errno.EINVAL, "The client cannot be impersonated", "read a message of the client first"
    ),
    WinError.NO_SYSTEM_RESOURCES: _Meaning(
        PipeResourceError,
        errno.ENOBUFS,
        "Out of system resources",
        "close connections that are no longer needed, or raise the system's limits",
        is_cure=True,
    ),
}
