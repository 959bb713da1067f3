"""Tokens: whom a process, or a thread, acts for, as it was when the token was opened."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe.win32 import _privileges, _security, _sid
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "AdjustTokenPrivileges",
    "CheckTokenMembership",
    "DuplicateToken",
    "DuplicateTokenEx",
    "GetTokenInformation",
    "ImpersonateLoggedOnUser",
    "ImpersonateSelf",
    "IsTokenRestricted",
    "OpenProcessToken",
    "OpenThreadToken",
    "RevertToSelf",
    "SetThreadToken",
]

PRIMARY: Final = 1
IMPERSONATION: Final = 2

_GROUP_ENABLED: Final = 0x7  # mandatory, enabled by default, enabled
_INTEGRITY: Final = 0x60  # SE_GROUP_INTEGRITY, enabled
_GROUP_LOGON_ID: Final = -0x40000000 | _GROUP_ENABLED
_IMPERSONATE: Final = 2  # SecurityImpersonation
_MEDIUM: Final = "S-1-16-8192"
_HIGH: Final = "S-1-16-12288"
_NOT_ALL_ASSIGNED: Final = 1300
_REMOVED: Final = 4  # SE_PRIVILEGE_REMOVED

_EVERYONE_HERE: Final = ("S-1-1-0", "S-1-5-11", "S-1-2-0", "S-1-5-32-545")
_ROOT: Final = ("S-1-5-18", "S-1-5-32-544")


@dataclass
class _Token:
    """Whom a token is of."""

    type: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    session: int
    privileges: dict[int, int]
    level: int = _IMPERSONATE

    def close(self) -> None:
        """Nothing is held."""


_thread = threading.local()  # token: what ImpersonateSelf and its like have given a thread, which acts as before


def _make(kind: int, uid: int, gid: int, groups: tuple[int, ...], session: int | None = None) -> PyHANDLE:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    session = os.getsid(0) if session is None else session
    return _handle(_Token(kind, uid, gid, groups, session, _privileges.held_by(uid)))


def _handle(token: _Token) -> PyHANDLE:
    from npipe.binding.win32 import targets as _targets

    return _targets.file_handle("token", token, False)


def _token(handle: object, function: str) -> _Token:
    from npipe.binding.win32 import targets as _targets

    token: _Token = _targets.file_of(handle, "token", function)
    return token


# ---- Opening


def OpenProcessToken(processHandle: object, DesiredAccess: int, /) -> PyHANDLE:
    """OpenProcessToken: of whom a process acts for, whomever a thread of it acts as. Raises 5 (it has ended), 6."""
    del DesiredAccess
    from npipe.binding import identity as _identity
    from npipe.win32 import _processes

    process = _processes.process_of(processHandle, "OpenProcessToken")
    if process is None:
        return _make(PRIMARY, *_identity.own_credentials())
    return _make(PRIMARY, *_credentials_of(process.pid))


def _credentials_of(pid: int) -> tuple[int, int, tuple[int, ...], int]:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
        session = os.getsid(pid)
    except OSError:
        raise make_error(5, "OpenProcessToken") from None
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    uid, gid = (int(fields[name].split()[1]) for name in ("Uid", "Gid"))  # the effective ones
    return uid, gid, tuple(map(int, fields["Groups"].split())), session


def OpenThreadToken(handle: object, desiredAccess: int, openAsself: object, /) -> PyHANDLE:
    """OpenThreadToken: of the client as whom this thread acts, so that a server can ask who its client is.

    `handle` is GetCurrentThread(). Raises 1008 when the thread acts as nobody, 50 for another thread, 6 for no thread.
    """
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    del desiredAccess, openAsself
    from npipe.binding import identity as _identity
    from npipe.binding.win32 import objects as _objects

    if not _objects.is_own_thread(handle, "OpenThreadToken"):
        raise make_error(50, "OpenThreadToken")
    if not _identity.is_impersonating():
        token = getattr(_thread, "token", None)
        if token is None:
            raise make_error(1008, "OpenThreadToken")
        return _handle(token)
    return _make(IMPERSONATION, os.geteuid(), os.getegid(), tuple(os.getgroups()))


def DuplicateTokenEx(
    ExistingToken: object,
    ImpersonationLevel: int,
    DesiredAccess: int,
    TokenType: int,
    TokenAttributes: object = None,
) -> PyHANDLE:
    """DuplicateTokenEx: another token, of that type and level. Raises 87, 6."""
    del DesiredAccess, TokenAttributes
    if TokenType not in (PRIMARY, IMPERSONATION) or not 0 <= ImpersonationLevel <= 3:
        raise make_error(87, "DuplicateTokenEx")
    token = _token(ExistingToken, "DuplicateTokenEx")
    return _handle(replace(token, type=TokenType, level=ImpersonationLevel, privileges=dict(token.privileges)))


def DuplicateToken(ExistingTokenHandle: object, ImpersonationLevel: int) -> PyHANDLE:
    """DuplicateToken: one to act with. Raises 87, 6."""
    if not 0 <= ImpersonationLevel <= 3:
        raise make_error(87, "DuplicateToken")
    token = _token(ExistingTokenHandle, "DuplicateToken")
    return _handle(replace(token, type=IMPERSONATION, level=ImpersonationLevel, privileges=dict(token.privileges)))


# ---- Asking


def GetTokenInformation(TokenHandle: object, TokenInformationClass: int, /) -> object:
    """GetTokenInformation: TokenUser (identifier, 0), TokenGroups ((identifier, attributes), ...) and so on.

    TokenElevation and TokenIntegrityLevel are those of an administrator for root. Raises 87 for classes that mean
    nothing here (TokenSource, TokenLinkedToken, ...), and of a primary token for TokenImpersonationLevel; 6 for what is
    no token.
    """
    token = _token(TokenHandle, "GetTokenInformation")
    answers = _ANSWERS.get(TokenInformationClass)
    if answers is None or (TokenInformationClass == 9 and token.type != IMPERSONATION):
        raise make_error(87, "GetTokenInformation")
    return answers(token)


def _groups(token: _Token) -> tuple[tuple[_sid.SID, int], ...]:
    return tuple((_sid.group_sid(gid), _GROUP_ENABLED) for gid in sorted({token.gid, *token.groups}))


def _default_dacl(token: _Token) -> _security.ACL:
    acl = _security.ACL()
    acl.AddAccessAllowedAce(2, 0x10000000, _sid.user_sid(token.uid))  # GENERIC_ALL
    return acl


def _integrity(token: _Token) -> tuple[_sid.SID, int]:
    return _sid.ConvertStringSidToSid(_MEDIUM if token.uid else _HIGH), _INTEGRITY


def _logon(token: _Token) -> tuple[tuple[_sid.SID, int]]:
    return ((_sid.SID((0, 0, 0, 0, 0, 5), (5, 0, token.session)), _GROUP_LOGON_ID),)


def _statistics(token: _Token) -> dict[str, Any]:
    return {
        "TokenId": id(token),
        "AuthenticationId": token.session,
        "TokenType": token.type,
        "ImpersonationLevel": token.level if token.type == IMPERSONATION else 0,
        "GroupCount": len(_groups(token)),
        "PrivilegeCount": len(token.privileges),
    }


_ANSWERS: Final = {
    1: lambda token: (_sid.user_sid(token.uid), 0),  # TokenUser
    2: _groups,  # TokenGroups
    3: lambda token: tuple(sorted(token.privileges.items())),  # TokenPrivileges
    4: lambda token: _sid.user_sid(token.uid),  # TokenOwner
    5: lambda token: _sid.group_sid(token.gid),  # TokenPrimaryGroup
    6: _default_dacl,  # TokenDefaultDacl
    8: lambda token: token.type,  # TokenType
    9: lambda token: token.level,  # TokenImpersonationLevel
    10: _statistics,  # TokenStatistics
    11: lambda _token: (),  # TokenRestrictedSids
    12: lambda token: token.session,  # TokenSessionId
    15: lambda _token: 0,  # TokenSandBoxInert
    18: lambda _token: 1,  # TokenElevationType: the default, there is no other token to be elevated to
    20: lambda token: int(token.uid == 0),  # TokenElevation
    21: lambda _token: 0,  # TokenHasRestrictions
    23: lambda _token: 0,  # TokenVirtualizationAllowed
    24: lambda _token: 0,  # TokenVirtualizationEnabled
    25: _integrity,  # TokenIntegrityLevel
    26: lambda _token: 0,  # TokenUIAccess
    27: lambda _token: 1,  # TokenMandatoryPolicy: no write up
    28: _logon,  # TokenLogonSid
}


def IsTokenRestricted(TokenHandle: object) -> bool:
    """IsTokenRestricted: False."""
    _token(TokenHandle, "IsTokenRestricted")
    return False


def CheckTokenMembership(TokenHandle: object, SidToCheck: _sid.SID) -> bool:
    """CheckTokenMembership: whether a token, or this thread (None), is of a user or in a group. Raises 6.

    Everyone, Authenticated Users, LOCAL and Users are all; LocalSystem and Administrators are root.
    """
    from npipe.binding import identity as _identity

    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    if not isinstance(SidToCheck, _sid.SID):
        raise TypeError("The object is not a PySID object")
    if TokenHandle is None:
        uid, groups = _identity.effective_uid(), {os.getegid(), *os.getgroups()}
    else:
        token = _token(TokenHandle, "CheckTokenMembership")
        uid, groups = token.uid, {token.gid, *token.groups}
    user, group = _sid.unix_id(SidToCheck)
    if user is not None or group is not None:
        return user == uid or group in groups
    return SidToCheck.text in _EVERYONE_HERE or (uid == 0 and SidToCheck.text in _ROOT)


# ---- Changing


def AdjustTokenPrivileges(
    TokenHandle: object, bDisableAllPrivileges: object, NewState: Iterable[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """AdjustTokenPrivileges: what was changed, as it was before; they are kept, and allow nothing.

    GetLastError tells 1300 if the user does not have them all. Raises 6.
    """
    from npipe.binding.win32 import handles as _handles

    token = _token(TokenHandle, "AdjustTokenPrivileges")
    wanted = [(number, 0) for number in token.privileges] if bDisableAllPrivileges else list(NewState)
    before = []
    missing = False
    for number, attributes in wanted:
        had = token.privileges.get(number)
        if had is None:
            missing = True
            continue
        if attributes & _REMOVED:
            del token.privileges[number]
        else:
            token.privileges[number] = had & ~2 | attributes & 2
        if token.privileges.get(number) != had:
            before.append((number, had))
    _handles.set_last_error(_NOT_ALL_ASSIGNED if missing else 0)
    return tuple(before)


def ImpersonateSelf(ImpersonationLevel: int) -> None:
    """ImpersonateSelf: this thread has a token of its own, for whom it acts anyway, until RevertToSelf. Raises 87."""
    if not 0 <= ImpersonationLevel <= 3:
        raise make_error(87, "ImpersonateSelf")
    own = _token(OpenProcessToken(-1, 0), "ImpersonateSelf")
    _thread.token = replace(own, type=IMPERSONATION, level=ImpersonationLevel)


def RevertToSelf() -> None:
    """RevertToSelf: this thread acts as its own process again, and has no token; it may be so already."""
    from npipe.binding import identity as _identity

    _thread.token = None
    _identity.RevertToSelf()


def ImpersonateLoggedOnUser(TokenHandle: object, /) -> None:
    """ImpersonateLoggedOnUser with a token of whom this thread acts for already.

    Raises 1314 for another user's: only ImpersonateNamedPipeClient lets a thread act as somebody else; 6.
    """
    from npipe.binding import identity as _identity

    token = _token(TokenHandle, "ImpersonateLoggedOnUser")
    if token.uid != _identity.effective_uid():
        raise make_error(1314, "ImpersonateLoggedOnUser")
    _thread.token = replace(token, type=IMPERSONATION, privileges=dict(token.privileges))


def SetThreadToken(Thread: object, Token: object) -> None:
    """SetThreadToken: None lets this thread act for its process again; a token as ImpersonateLoggedOnUser."""
    from npipe.binding import identity as _identity

    if Thread is not None:
        from npipe.binding.win32 import objects as _objects

        if not _objects.is_own_thread(Thread, "SetThreadToken"):
            raise make_error(50, "SetThreadToken")
    if Token is None:
        RevertToSelf()
        return
    token = _token(Token, "SetThreadToken")
    if token.uid != _identity.effective_uid():
        raise make_error(1314, "SetThreadToken")
    _thread.token = token
