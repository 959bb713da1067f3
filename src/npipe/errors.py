"""What can go wrong with a pipe: one exception per meaning, each with its Win32 code.

Every exception here is an `OSError` whose `winerror` is the same number on Linux and on Windows, and whose
text says what happened, to which pipe, and what to do about it. The codes and their meanings are those of
SEMANTICS §0.1; `error_from_code` turns a code into its exception.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

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
    REVISION_MISMATCH = 1306
    CANNOT_IMPERSONATE = 1368
    NO_SYSTEM_RESOURCES = 1450


class PipeError(OSError):
    """An operation on a named pipe failed.

    `winerror` is the Win32 code (the class's usual one when not given), `pipe_name` the pipe's name,
    `doing` what was being done ("reading"), `detail` what the caller knows beyond the code. `strerror` is the
    code's own text, `hint` what to do about it, and `errno` the nearest POSIX error.
    """

    usual_code: ClassVar[int] = WinError.INVALID_FUNCTION

    winerror: int
    pipe_name: str | None
    doing: str | None
    detail: str | None
    hint: str

    def __init__(
        self,
        winerror: int | None = None,
        pipe_name: str | None = None,
        doing: str | None = None,
        detail: str | None = None,
    ) -> None:
        code = int(self.usual_code if winerror is None else winerror)
        meaning = _MEANINGS.get(code, _UNKNOWN)
        if pipe_name is None:
            super().__init__(meaning.errno, meaning.text)
        else:
            super().__init__(meaning.errno, meaning.text, pipe_name)
        # On Windows this fills OSError's own slot, elsewhere it makes the attribute. Passing the code to
        # OSError instead would let Windows choose errno, and the two platforms would differ.
        self.winerror = code
        self.pipe_name = pipe_name
        self.doing = doing
        self.detail = detail
        # Another class that shares the code (87) means something else by it, and says it in `detail`.
        # The code's own hint blames the peer, who has nothing to do with a close of ours.
        closed_here = detail == "it was closed in this process"
        self.hint = meaning.hint if isinstance(self, meaning.error) and not closed_here else ""

    def __str__(self) -> str:
        text = f"[WinError {self.winerror}] {self.strerror}"
        if self.pipe_name is not None:
            text += f": '{_printable(self.pipe_name)}'"
        if self.doing:
            text += f", while {_printable(self.doing)}"
        remarks = "; ".join(_printable(remark) for remark in (self.detail, self.hint) if remark)
        return f"{text} ({remarks})" if remarks else text

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would hand back (errno, text), which is not what __init__ takes.
        return type(self), (self.winerror, self.pipe_name, self.doing, self.detail), self.__dict__.copy()


class PipeNotFoundError(PipeError, FileNotFoundError):
    """No pipe of that name exists, in any process (2), or its host cannot be reached (53)."""

    usual_code = WinError.FILE_NOT_FOUND


class PipeBusyError(PipeError):
    """No instance is listening, or the pipe has as many instances as it may have (231)."""

    usual_code = WinError.PIPE_BUSY


class PipeTimeoutError(PipeError, TimeoutError):
    """The time given was over before the operation could finish (121, 258). `detail` and `hint` say what that means.

    `sent` is for transactions: True when the request was sent, so that its answer is still to come and the pipe is owed
    it; False when the request was withdrawn. None for all else.
    """

    usual_code = WinError.SEM_TIMEOUT

    sent: bool | None = None


class PipeAccessError(PipeError, PermissionError):
    """The pipe's access rule, its direction or its first instance's exclusiveness forbids it (5)."""

    usual_code = WinError.ACCESS_DENIED


class PipeClosedError(PipeError, BrokenPipeError, EOFError):
    """The connection is over.

    109: the peer has closed and everything it wrote has been read. 232: the peer has closed, so nothing can
    be written. 233: the server has disconnected this instance. 6: this very object was closed before, here,
    so that whoever loops over a pipe has one exception for "no more" whichever end closed it.
    """

    usual_code = WinError.BROKEN_PIPE


class PipeModeError(PipeError):
    """The pipe's type or the handle's read mode does not allow the operation (87, 230)."""

    usual_code = WinError.BAD_PIPE


class PipeArgumentError(PipeError, ValueError):
    """An argument is outside of what it may be (87)."""

    usual_code = WinError.INVALID_PARAMETER


class PipeNameError(PipeError, ValueError):
    """The text is not the name of a pipe: malformed (123, 161), empty or on another device (3), too long (206)."""

    usual_code = WinError.INVALID_NAME


class PipeMessageTooLargeError(PipeError):
    """A message is longer than the room that was given for it (234, 122)."""

    usual_code = WinError.MORE_DATA


class PipeVersionError(PipeError):
    """The other process speaks another version of the protocol (1306)."""

    usual_code = WinError.REVISION_MISMATCH


class PipeStateError(PipeError):
    """The wrong end or the wrong moment for the operation (1, 50, 170, 229, 535, 536, 996, 997, 1168, 1368)."""

    usual_code = WinError.INVALID_FUNCTION


class PipeCancelledError(PipeError):
    """The operation was cancelled before it finished (995)."""

    usual_code = WinError.OPERATION_ABORTED


class PipeResourceError(PipeError):
    """The process or the system is out of descriptors (4) or memory (8, 1450)."""

    usual_code = WinError.NO_SYSTEM_RESOURCES


class PipeProtocolError(PipeError):
    """The peer broke the rules of the shared segment or of the rendezvous (13); this connection is over.

    Not a `PipeClosedError`: data may have been lost, and a program must not take this for an orderly end.
    """

    usual_code = WinError.INVALID_DATA


def error_from_code(
    code: int,
    name: str | None = None,
    doing: str | None = None,
    detail: str | None = None,
) -> PipeError:
    """Return (not raise) the exception for a Win32 `code`; a code that pipes do not use gives a plain `PipeError`.

    `name` is the pipe's name, `doing` what was being done ("reading"), `detail` anything known beyond the code.
    """
    return _MEANINGS.get(code, _UNKNOWN).error(code, name, doing, detail)


def short_write(name: str, count: int, size: int) -> PipeTimeoutError:
    """Return (not raise) the error of a PIPE_NOWAIT write of `count` of `size` bytes (SEMANTICS §6.2)."""
    detail = f"{count} of {size} bytes were written, for the handle is set to PIPE_NOWAIT and the pipe has no room"
    return PipeTimeoutError(WinError.SEM_TIMEOUT, name, "writing", detail)


def does_not_fit(name: str, size: int) -> PipeMessageTooLargeError:
    """Return (not raise) the error of a read of a whole message into a buffer of `size` bytes that is too small."""
    detail = f"it is longer than the buffer, which has {size} bytes; nothing was consumed"
    error = PipeMessageTooLargeError(WinError.MORE_DATA, name, "receiving a message", detail)
    error.hint = "give a larger buffer (peek().left is the message's length), or read it in parts, without exact"
    return error


_OWED_HINT = "recv() the answer, or discard_reply() it, before the next transact, or close the pipe"


def unanswered(name: str, *, sent: bool) -> PipeTimeoutError:
    """Return (not raise) the error of a transaction whose answer has not come in time."""
    if sent:
        detail, hint = "the request was sent, and its answer is still to come", _OWED_HINT
    else:
        # A server that reads bytes, or a message's parts, may have had some of it: the engine does not tell.
        detail = "the request is longer than the room in the pipe, and was withdrawn before all of it was sent"
        hint = "wait longer; a server that reads messages in parts may have had a part of it"
    error = PipeTimeoutError(WinError.SEM_TIMEOUT, name, "transacting", detail)
    error.sent, error.hint = sent, hint
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
    error = PipeStateError(WinError.IO_INCOMPLETE, name, "transacting", detail)
    error.hint = hint
    return error


def _printable(text: str) -> str:
    """Return `text` with control characters and lone surrogates escaped: a name may hold any, a log should not."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _Meaning(NamedTuple):
    """What one code stands for."""

    error: type[PipeError]
    errno: int
    text: str
    hint: str = ""


_UNKNOWN = _Meaning(PipeError, errno.EIO, "The pipe operation failed", "see Microsoft's list of system error codes")

_NAME_HINT = r"write \\.\pipe\NAME"

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
        "no process has created it, or its last instance was closed; start the server, check the name, "
        "and on Linux that both sides use the same root folder (NPIPE_ROOT)",
    ),
    WinError.PATH_NOT_FOUND: _Meaning(PipeNameError, errno.EINVAL, "Not the path of a pipe", _NAME_HINT),
    WinError.TOO_MANY_OPEN_FILES: _Meaning(
        PipeResourceError,
        errno.EMFILE,
        "Too many open descriptors",
        "close connections that are no longer needed, or raise the limit (ulimit -n)",
    ),
    WinError.ACCESS_DENIED: _Meaning(
        PipeAccessError,
        errno.EACCES,
        "Access to the pipe is denied",
        "the pipe's security, its direction or an exclusive owner forbids it; "
        "compare access= on both sides and security= and exclusive= of listen",
    ),
    WinError.INVALID_HANDLE: _Meaning(
        PipeClosedError, errno.EBADF, "The pipe object is closed", "it was closed in this process; open a new one"
    ),
    WinError.NOT_ENOUGH_MEMORY: _Meaning(
        PipeResourceError, errno.ENOMEM, "Not enough memory", "free some, or use smaller messages and fewer connections"
    ),
    WinError.INVALID_DATA: _Meaning(
        PipeProtocolError,
        errno.EPROTO,
        "The other process broke the pipe's protocol",
        "the connection was ended and no data of it can be trusted; connect again",
    ),
    WinError.NOT_SUPPORTED: _Meaning(
        PipeStateError, errno.EOPNOTSUPP, "The request is not supported", "not on this end, pipe or platform"
    ),
    WinError.BAD_NETPATH: _Meaning(
        PipeNotFoundError, errno.ENOENT, "The host of the pipe was not found", "check the host's name and the network"
    ),
    WinError.INVALID_PARAMETER: _Meaning(
        PipeModeError,
        errno.EINVAL,
        "The parameter is incorrect",
        "check modes, access, sizes and limits; only a message pipe can be read in message mode",
    ),
    WinError.BROKEN_PIPE: _Meaning(
        PipeClosedError,
        errno.EPIPE,
        "The pipe has been ended",
        "the other end is closed and everything it wrote has been read",
    ),
    WinError.SEM_TIMEOUT: _Meaning(
        PipeTimeoutError, errno.ETIMEDOUT, "The time given is over", "nothing was consumed; try again or wait longer"
    ),
    WinError.INSUFFICIENT_BUFFER: _Meaning(
        PipeMessageTooLargeError, errno.EMSGSIZE, "The buffer is too small", "give a larger one"
    ),
    WinError.INVALID_NAME: _Meaning(PipeNameError, errno.EINVAL, "Not the name of a pipe", _NAME_HINT),
    WinError.BAD_PATHNAME: _Meaning(PipeNameError, errno.EINVAL, "Not the path of a pipe", _NAME_HINT),
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
        "transact needs message mode and both directions, and peek a connected pipe",
    ),
    WinError.PIPE_BUSY: _Meaning(
        PipeBusyError,
        errno.EBUSY,
        "All pipe instances are busy",
        "every instance has a client; wait for one with npipe.wait or connect(timeout=...)",
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
        "the server disconnected this instance, or no client has come yet",
    ),
    WinError.MORE_DATA: _Meaning(
        PipeMessageTooLargeError,
        errno.EMSGSIZE,
        "The message is larger than the room for it",
        "its rest is still in the pipe; read on, or give a larger buffer or max_message_size",
    ),
    WinError.WAIT_TIMEOUT: _Meaning(
        PipeTimeoutError, errno.ETIMEDOUT, "The time given is over", "nothing was consumed; try again or wait longer"
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
        PipeCancelledError, errno.ECANCELED, "The operation was cancelled", "its pipe or listener was closed, or it was"
    ),
    WinError.IO_INCOMPLETE: _Meaning(
        PipeStateError, errno.EINPROGRESS, "The operation has not finished", "wait for it, then ask for its result"
    ),
    WinError.IO_PENDING: _Meaning(
        PipeStateError, errno.EINPROGRESS, "The operation is pending", "wait for it, then ask for its result"
    ),
    WinError.NOT_FOUND: _Meaning(
        PipeStateError, errno.EINVAL, "Nothing was found", "no operation to cancel, or no client has ever connected"
    ),
    WinError.REVISION_MISMATCH: _Meaning(
        PipeVersionError,
        errno.EPROTONOSUPPORT,
        "The other process speaks another version of the protocol",
        "install the same version of npipe on both sides",
    ),
    WinError.CANNOT_IMPERSONATE: _Meaning(
        PipeStateError, errno.EINVAL, "The client cannot be impersonated", "read a message of the client first"
    ),
    WinError.NO_SYSTEM_RESOURCES: _Meaning(
        PipeResourceError,
        errno.ENOBUFS,
        "Out of system resources",
        "close connections that are no longer needed, or raise the system's limits",
    ),
}
