"""NTSTATUS, as SMB servers answer, and what it means for a pipe."""

from __future__ import annotations

from typing import Final

from npipe.errors import (
    PipeAccessError,
    PipeArgumentError,
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeNameError,
    PipeNotFoundError,
    PipeResourceError,
    PipeStateError,
    PipeTimeoutError,
    WinError,
)

__all__ = [
    "BUFFER_OVERFLOW",
    "BUSY",
    "ENDED",
    "LOGON_REFUSED",
    "PENDING",
    "SESSION_OVER",
    "SUCCESS",
    "TOO_LONG",
    "UNSUPPORTED",
    "failure",
    "not_opened",
]

SUCCESS: Final = 0
PENDING: Final = 0x103
BUFFER_OVERFLOW: Final = 0x80000005

INVALID_PARAMETER: Final = 0xC000000D
ACCESS_DENIED: Final = 0xC0000022
PIPE_DISCONNECTED: Final = 0xC00000B0
IO_TIMEOUT: Final = 0xC00000B5
_PIPE_BROKEN: Final = 0xC000014B
_CONNECTION_DISCONNECTED: Final = 0xC000020C
_CONNECTION_RESET: Final = 0xC000020D

ENDED: Final = frozenset(
    {
        PIPE_DISCONNECTED,
        _PIPE_BROKEN,
        0xC00000B1,  # PIPE_CLOSING
        0xC0000011,  # END_OF_FILE
        _CONNECTION_DISCONNECTED,  # Samba 4.17: the server has ended within a transaction
        _CONNECTION_RESET,
    }
)
"""The server's end of the pipe is closed."""

TOO_LONG: Final = 0xC000002F
"""Of Samba: a message of more than 65,535 bytes, of which it has taken nothing."""

UNSUPPORTED: Final = frozenset(
    {
        0xC0000002,  # NOT_IMPLEMENTED
        0xC0000010,  # INVALID_DEVICE_REQUEST
        0xC00000BB,  # NOT_SUPPORTED
        0xC000019C,  # FS_DRIVER_REQUIRED
        0xC0000003,  # INVALID_INFO_CLASS
    }
)
"""The server does not have what was asked for."""

BUSY: Final = frozenset(
    {
        0xC00000AB,  # INSTANCE_NOT_AVAILABLE
        0xC00000AC,  # PIPE_NOT_AVAILABLE
        0xC00000AE,  # PIPE_BUSY
        0xC00000BF,  # NETWORK_BUSY: Samba, when the pipe's server is behind with accepting
    }
)
"""No instance is free just now."""

LOGON_REFUSED: Final = {
    0xC000006D: None,  # LOGON_FAILURE
    0xC000006A: None,  # WRONG_PASSWORD
    0xC0000064: None,  # NO_SUCH_USER
    0xC000006E: "the account may not be used that way",
    0xC000006F: "the account may not be used at this hour",
    0xC0000070: "the account may not be used from this machine",
    0xC0000071: "the password has expired",
    0xC0000072: "the account is disabled",
    0xC0000224: "the password has to be changed first",
    0xC0000234: "the account is locked",
    0xC0000193: "the account has expired",
    0xC00000A8: "the host takes no tickets of that kind",  # BAD_TOKEN_TYPE: Samba 4.17, of one with a PAC
    0xC000015B: "the account may not log on over the network",
}
"""The host does not accept the user, and why, if it tells."""

SESSION_OVER: Final = frozenset(
    {
        0xC0000203,  # USER_SESSION_DELETED
        0xC000035C,  # NETWORK_SESSION_EXPIRED
        0xC00000C9,  # NETWORK_NAME_DELETED
    }
)
"""The host has ended the session, or what the pipes are in (IPC$): nothing goes over that connection any more."""

_MISSING: Final = frozenset(
    {
        0xC0000034,  # OBJECT_NAME_NOT_FOUND
        0xC000003A,  # OBJECT_PATH_NOT_FOUND
        0xC000000F,  # NO_SUCH_FILE
    }
)
_NO_NAME: Final = frozenset({0xC0000033, 0xC000003B})  # OBJECT_NAME_INVALID, OBJECT_PATH_SYNTAX_BAD
_SHORT_OF: Final = frozenset({0xC000009A, 0xC0000205, 0xC000011F, 0xC00000D0})
_NO_LISTENER: Final = 0xC0000236  # CONNECTION_REFUSED
_NO_SHARE: Final = 0xC00000CC  # BAD_NETWORK_NAME
_NO_HANDLE: Final = frozenset({0xC0000008, 0xC0000128})  # INVALID_HANDLE, FILE_CLOSED
_UNKNOWN: Final = 59  # ERROR_UNEXP_NET_ERR


def not_opened(status: int, name: str | None, host: str) -> PipeError:
    """Return the error of a pipe that could not be opened (or of its host's logon), for a server's `status`."""
    doing = "opening the pipe"
    if status in LOGON_REFUSED:
        return PipeAccessError(WinError.LOGON_FAILURE, name, doing, LOGON_REFUSED[status])
    if status in _MISSING:
        hint = f"check the name, and that its server runs on {host} and lets other machines in"
        return PipeNotFoundError(WinError.FILE_NOT_FOUND, name, doing, f"{host} has no pipe of that name", hint=hint)
    if status == _NO_LISTENER:
        detail = f"{host} has the name, but no process serves it any more"
        return PipeNotFoundError(WinError.FILE_NOT_FOUND, name, doing, detail, hint="start its server")
    if status == _NO_SHARE:
        return PipeNotFoundError(WinError.BAD_NETPATH, name, doing, f"{host} has no pipes for other machines")
    if status in BUSY:
        return PipeBusyError(WinError.PIPE_BUSY, name, doing, "the pipe's server has no instance free just now")
    if status in (_CONNECTION_DISCONNECTED, _CONNECTION_RESET):
        detail = "the pipe's server has closed the connection at once: it does not let this user in, or ended just then"
        return PipeAccessError(WinError.ACCESS_DENIED, name, doing, detail, hint="see who may: allow= of its listen()")
    if status == ACCESS_DENIED:
        detail = f"{host} does not let this user open it"
        hint = "check the user; and encrypt=True of remote=, if the host demands that"
        return PipeAccessError(WinError.ACCESS_DENIED, name, doing, detail, hint=hint)
    return failure(status, name, doing)


def failure(status: int, name: str | None, doing: str) -> PipeError:
    """Return the error of a call that the server has answered with `status`, where that alone tells why."""
    told = f"the server has answered NTSTATUS 0x{status:08X}"
    if status in UNSUPPORTED:
        return PipeStateError(WinError.NOT_SUPPORTED, name, doing, f"the pipe's host does not have it ({told})")
    if status in SESSION_OVER:
        return PipeClosedError(WinError.NETNAME_DELETED, name, doing, f"the host has ended the session ({told})")
    if status in _NO_HANDLE:
        return PipeClosedError(WinError.NETNAME_DELETED, name, doing, f"the host has closed the pipe ({told})")
    if status in _MISSING:
        return PipeNotFoundError(WinError.FILE_NOT_FOUND, name, doing, told)
    if status in _NO_NAME:
        return PipeNameError(WinError.INVALID_NAME, name, doing, told)
    if status in _SHORT_OF:
        return PipeResourceError(WinError.NO_SYSTEM_RESOURCES, name, doing, f"at the host: {told}")
    if status == ACCESS_DENIED:
        return PipeAccessError(WinError.ACCESS_DENIED, name, doing, told)
    if status == IO_TIMEOUT:
        return PipeTimeoutError(WinError.SEM_TIMEOUT, name, doing, told)
    if status in BUSY:
        return PipeBusyError(WinError.PIPE_BUSY, name, doing, told)
    if status in ENDED:
        return PipeClosedError(WinError.BROKEN_PIPE, name, doing, told)
    if status == INVALID_PARAMETER:
        return PipeArgumentError(WinError.INVALID_PARAMETER, name, doing, told)
    return PipeError(_UNKNOWN, name, doing, told)
