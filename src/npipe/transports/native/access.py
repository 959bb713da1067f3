"""Who may connect to a pipe on Windows, as SDDL, and whose a pipe is."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"  # noqa: S101 - for type checkers

import socket
from typing import TYPE_CHECKING, Any, Final

import pywintypes
import win32api
import win32pipe
import win32security

from npipe.errors import (
    PipeAccessError,
    PipeArgumentError,
    WinError,
    error_from_code,
)
from npipe.options import Peer

if TYPE_CHECKING:
    from npipe.options import Security

__all__ = ["check_owner", "client_of", "peer_of", "security_attributes", "security_text"]

# FILE_READ_ATTRIBUTES, FILE_WRITE_ATTRIBUTES, which setting the read mode takes, and READ_CONTROL, to see the owner.
_ATTRIBUTES: Final = 0x20180
_FILE_GENERIC_READ: Final = 0x120089
# Without the right to create instances, which only the owner has. Clients may ask for GENERIC_WRITE all the same: the
# pipe file system does not look at that right when a client opens.
_FILE_CREATE_PIPE_INSTANCE: Final = 0x4
_FILE_GENERIC_WRITE: Final = 0x120116 & ~_FILE_CREATE_PIPE_INSTANCE
_LOCAL_SYSTEM: Final = "S-1-5-18"
_ADMINISTRATORS: Final = "S-1-5-32-544"
_TRUST: Final = "connect with verify_owner=False if you trust it"


def security_text(security: Security) -> str:
    """Return a `Security` as SDDL: who may connect, and for what. The owner may create further instances too.

    The pipe belongs to this user, also where new objects would belong to the administrators. LocalSystem may connect,
    as root may elsewhere. Raises PipeArgumentError (87) for an unknown user or group.
    """
    if security.sddl is not None:
        return security.sddl
    rights = _ATTRIBUTES | (_FILE_GENERIC_READ if security.read else 0) | (_FILE_GENERIC_WRITE if security.write else 0)
    me = _own_sid()
    entries = [(rights | _FILE_CREATE_PIPE_INSTANCE, me), (rights, "SY")]
    entries += [(rights, _sid_of(who, "user")) for who in security.users]
    entries += [(rights, _sid_of(who, "group")) for who in security.groups]
    if security.everyone:
        entries.append((rights, "WD"))
    return f"O:{me}D:P" + "".join(f"(A;;{mask:#x};;;{sid})" for mask, sid in entries)


def security_attributes(security: Security) -> Any:
    """Return a `Security` as CreateNamedPipe takes it. Raises PipeArgumentError (87, 1336 …) for what is none."""
    text = security_text(security)
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    try:
        attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(
            text, win32security.SDDL_REVISION_1
        )
    except pywintypes.error as error:
        raise PipeArgumentError(error.winerror, detail=f"{text!r} is no security descriptor") from None
    return attributes


def _own_sid() -> str:
    token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32security.TOKEN_QUERY)
    return _sid_text(win32security.GetTokenInformation(token, win32security.TokenUser)[0])


def _sid_text(sid: Any) -> str:
    text: str = win32security.ConvertSidToStringSid(sid)
    return text


def _sid_of(who: str | int, what: str) -> str:
    text = str(who)
    if text.upper().startswith("S-1-"):
        return text
    try:
        return _sid_text(win32security.LookupAccountName(None, text)[0])
    except pywintypes.error:
        detail = f"there is no {what} {who!r} on this system"
        raise PipeArgumentError(WinError.INVALID_PARAMETER, detail=detail) from None


def _token_user(pid: int) -> Any:
    """Return the user a process runs as."""
    process = win32api.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
    token = win32security.OpenProcessToken(process, win32security.TOKEN_QUERY)
    return win32security.GetTokenInformation(token, win32security.TokenUser)[0]


def _user_of(pid: int) -> str | None:
    """Return the name of the user a process runs as; None when that cannot be told."""
    try:
        user: str = win32security.LookupAccountSid(None, _token_user(pid))[0]
    except pywintypes.error:
        return None  # it has ended, or is none of our business
    return user


def client_of(handle: Any) -> Peer:
    """Return who the client of an instance is. Raises pywin32's error."""
    return peer_of(win32pipe.GetNamedPipeClientProcessId(handle))


def peer_of(pid: int) -> Peer:
    """Describe a process of this machine."""
    return Peer(pid=pid, uid=None, user=_user_of(pid), host=socket.gethostname())


def check_owner(handle: Any, name: str) -> None:
    """Raise PipeAccessError (5) for a pipe of a user that is neither this one nor the system."""
    try:
        descriptor = win32security.GetSecurityInfo(
            handle, win32security.SE_KERNEL_OBJECT, win32security.OWNER_SECURITY_INFORMATION
        )
        owner = descriptor.GetSecurityDescriptorOwner()
        if owner is None:  # Wine knows no owner: then whoever runs the server
            owner = _token_user(win32pipe.GetNamedPipeServerProcessId(handle))
        text = _sid_text(owner)
    except (pywintypes.error, TypeError) as error:
        code = getattr(error, "winerror", 0)
        if code in (WinError.BROKEN_PIPE, WinError.NO_DATA, WinError.PIPE_NOT_CONNECTED):  # it has ended already
            raise error_from_code(code, name, "opening the pipe") from None
        detail = f"its owner cannot be told ({error})"
        raise PipeAccessError(WinError.ACCESS_DENIED, name, "opening the pipe", detail, hint=_TRUST) from None
    if text not in (_own_sid(), _LOCAL_SYSTEM, _ADMINISTRATORS):
        detail = f"the pipe belongs to {text}, not to you, the system or its administrators"
        raise PipeAccessError(WinError.ACCESS_DENIED, name, "opening the pipe", detail, hint=_TRUST)
