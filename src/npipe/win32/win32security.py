"""pywin32's `win32security`, as far as pipes need it: who may connect, and acting as the client.

Descriptors are made as on Windows (SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR, ACL, SID) and say who may connect to a
pipe; `npipe.win32._access` tells how. A name that is not here raises `AttributeError`.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import grp  # noqa: F401 - now: who acts as a client later may not be allowed to read the library
import os
import pwd  # noqa: F401
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

from npipe import win32_error as _error
from npipe.win32 import _sddl, _security, _sid
from npipe.win32._offered import _no_such
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE

error = _error.error

SECURITY_ATTRIBUTES = _security.SECURITY_ATTRIBUTES
SECURITY_DESCRIPTOR = _security.SECURITY_DESCRIPTOR
ACL = _security.ACL
SID = _sid.SID

ConvertStringSidToSid: Final = _sid.ConvertStringSidToSid
ConvertSidToStringSid: Final = _sid.ConvertSidToStringSid
CreateWellKnownSid: Final = _sid.CreateWellKnownSid
LookupAccountName: Final = _sid.LookupAccountName
LookupAccountSid: Final = _sid.LookupAccountSid

SDDL_REVISION_1 = _sddl.SDDL_REVISION_1
ConvertStringSecurityDescriptorToSecurityDescriptor: Final = _sddl.ConvertStringSecurityDescriptorToSecurityDescriptor

# --- Acting as the client --------------------------------------------------------------------------------------


def ImpersonateNamedPipeClient(handle: object) -> None:
    """Let this thread act as the client at the other end of a pipe, of which something has been read (SEMANTICS §11).

    `error` 1368 when nothing has been read, 1 at a client's end, 1314 when this process may not.
    """
    from npipe.binding.win32 import targets as _targets  # here: whoever only makes descriptors needs no engine

    _targets.ImpersonateNamedPipeClient(handle)  # type: ignore[attr-defined,unused-ignore]


def RevertToSelf() -> None:
    """Let this thread act as its own process again; it may be so already."""
    from npipe.binding import identity as _identity

    _identity.RevertToSelf()  # type: ignore[attr-defined,unused-ignore]


# --- Tokens: whom this process, or this thread, acts for ---------------------------------------------------------

TokenUser = 1
TokenGroups = 2
TokenOwner = 4
TokenPrimaryGroup = 5
TokenType = 8
TokenImpersonationLevel = 9
TokenPrimary = 1
TokenImpersonation = 2

_SE_GROUP_ENABLED = 0x7  # mandatory, enabled by default, enabled


class _Token(NamedTuple):
    """Whom a token is of, as it was when it was opened."""

    type: int
    uid: int
    gid: int
    groups: tuple[int, ...]

    def close(self) -> None:
        """Nothing is held."""


def OpenProcessToken(processHandle: object, DesiredAccess: int, /) -> PyHANDLE:
    """Return a token of whom this process acts for, whomever this thread acts as; `error` 6 for another process."""
    del DesiredAccess
    from npipe.binding import identity as _identity
    from npipe.binding.win32 import handles as _handles
    from npipe.binding.win32 import targets as _targets

    if int(_handles.PyHANDLE(processHandle).Detach()) != -1:
        raise make_error(6, "OpenProcessToken")
    return _targets.file_handle("token", _Token(TokenPrimary, *_identity.own_credentials()), False)


def OpenThreadToken(handle: object, desiredAccess: int, openAsself: object, /) -> PyHANDLE:
    """Return a token of the client as whom this thread acts, so that a server can ask who its client is.

    `handle` is GetCurrentThread(). `error` 1008 when the thread acts as nobody, 50 for another thread, 6 for no thread.
    """
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    del desiredAccess, openAsself
    from npipe.binding import identity as _identity
    from npipe.binding.win32 import objects as _objects
    from npipe.binding.win32 import targets as _targets

    if not _objects.is_own_thread(handle, "OpenThreadToken"):
        raise make_error(50, "OpenThreadToken")
    if not _identity.is_impersonating():
        raise make_error(1008, "OpenThreadToken")
    token = _Token(TokenImpersonation, os.geteuid(), os.getegid(), tuple(os.getgroups()))
    return _targets.file_handle("token", token, False)


def GetTokenInformation(TokenHandle: object, TokenInformationClass: int, /) -> object:
    """Return what a token says: TokenUser (identifier, 0), TokenGroups ((identifier, attributes), ...) and so on.

    `error` 87 for another class than these, TokenOwner, TokenPrimaryGroup, TokenType and, of a client's token,
    TokenImpersonationLevel; 6 for what is no token.
    """
    from npipe.binding.win32 import targets as _targets

    token: _Token = _targets.file_of(TokenHandle, "token", "GetTokenInformation")
    match TokenInformationClass:
        case 1:  # TokenUser
            return _sid.user_sid(token.uid), 0
        case 2:  # TokenGroups
            return tuple((_sid.group_sid(gid), _SE_GROUP_ENABLED) for gid in sorted({token.gid, *token.groups}))
        case 4:  # TokenOwner
            return _sid.user_sid(token.uid)
        case 5:  # TokenPrimaryGroup
            return _sid.group_sid(token.gid)
        case 8:  # TokenType
            return token.type
        case 9 if token.type == TokenImpersonation:  # TokenImpersonationLevel
            return SecurityImpersonation
    raise make_error(87, "GetTokenInformation")


# --- Security descriptors and their texts ----------------------------------------------------------------------

OWNER_SECURITY_INFORMATION = 0x1
GROUP_SECURITY_INFORMATION = 0x2
DACL_SECURITY_INFORMATION = 0x4
SACL_SECURITY_INFORMATION = 0x8
LABEL_SECURITY_INFORMATION = 0x10

SE_OWNER_DEFAULTED = 0x1
SE_GROUP_DEFAULTED = 0x2
SE_DACL_PRESENT = 0x4
SE_DACL_DEFAULTED = 0x8
SE_SACL_PRESENT = 0x10
SE_SACL_DEFAULTED = 0x20
SE_DACL_AUTO_INHERITED = 0x400
SE_SACL_AUTO_INHERITED = 0x800
SE_DACL_PROTECTED = 0x1000
SE_SACL_PROTECTED = 0x2000
SE_SELF_RELATIVE = 0x8000

SE_UNKNOWN_OBJECT_TYPE = 0
SE_FILE_OBJECT = 1
SE_SERVICE = 2
SE_PRINTER = 3
SE_REGISTRY_KEY = 4
SE_LMSHARE = 5
SE_KERNEL_OBJECT = 6
SE_WINDOW_OBJECT = 7

# --- Access control lists --------------------------------------------------------------------------------------

ACL_REVISION = 2
ACL_REVISION_DS = 4
ACCESS_ALLOWED_ACE_TYPE = 0
ACCESS_DENIED_ACE_TYPE = 1
SYSTEM_AUDIT_ACE_TYPE = 2

NO_INHERITANCE = 0x0
OBJECT_INHERIT_ACE = 0x1
CONTAINER_INHERIT_ACE = 0x2
NO_PROPAGATE_INHERIT_ACE = 0x4
INHERIT_ONLY_ACE = 0x8
INHERITED_ACE = 0x10
SUCCESSFUL_ACCESS_ACE_FLAG = 0x40
FAILED_ACCESS_ACE_FLAG = 0x80

# --- Security identifiers --------------------------------------------------------------------------------------

SECURITY_NULL_SID_AUTHORITY = (0, 0, 0, 0, 0, 0)
SECURITY_WORLD_SID_AUTHORITY = (0, 0, 0, 0, 0, 1)
SECURITY_LOCAL_SID_AUTHORITY = (0, 0, 0, 0, 0, 2)
SECURITY_CREATOR_SID_AUTHORITY = (0, 0, 0, 0, 0, 3)
SECURITY_NON_UNIQUE_AUTHORITY = (0, 0, 0, 0, 0, 4)
SECURITY_NT_AUTHORITY = (0, 0, 0, 0, 0, 5)
SECURITY_RESOURCE_MANAGER_AUTHORITY = (0, 0, 0, 0, 0, 9)

SidTypeUser = 1
SidTypeGroup = 2
SidTypeDomain = 3
SidTypeAlias = 4
SidTypeWellKnownGroup = 5
SidTypeDeletedAccount = 6
SidTypeInvalid = 7
SidTypeUnknown = 8
SidTypeComputer = 9

WinNullSid = 0
WinWorldSid = 1
WinLocalSid = 2
WinCreatorOwnerSid = 3
WinCreatorGroupSid = 4
WinDialupSid = 8
WinNetworkSid = 9
WinBatchSid = 10
WinInteractiveSid = 11
WinServiceSid = 12
WinAnonymousSid = 13
WinSelfSid = 16
WinAuthenticatedUserSid = 17
WinRestrictedCodeSid = 18
WinTerminalServerSid = 19
WinRemoteLogonIdSid = 20
WinLocalSystemSid = 22
WinLocalServiceSid = 23
WinNetworkServiceSid = 24
WinBuiltinDomainSid = 25
WinBuiltinAdministratorsSid = 26
WinBuiltinUsersSid = 27
WinBuiltinGuestsSid = 28
WinBuiltinPowerUsersSid = 29
WinUntrustedLabelSid = 65
WinLowLabelSid = 66
WinMediumLabelSid = 67
WinHighLabelSid = 68
WinSystemLabelSid = 69
WinCreatorOwnerRightsSid = 71

# --- Impersonation levels --------------------------------------------------------------------------------------

SecurityAnonymous = 0
SecurityIdentification = 1
SecurityImpersonation = 2
SecurityDelegation = 3

if not TYPE_CHECKING:  # a type checker knows the names that are here

    def __getattr__(name: str) -> object:
        raise _no_such("win32security", name)


del annotations, TYPE_CHECKING, NamedTuple  # `from win32security import *` is for what pywin32 has
