"""pywin32's security descriptors, as far as they say who may connect to a pipe.

They are kept, handed back and turned into an `AccessRule` (`access_rule`, below); nothing else looks at them.
"""
# ruff: noqa: N801, N802, N803 - pywin32's names

from __future__ import annotations

import operator
from typing import Any, Final, NamedTuple

from npipe.win32._sid import (
    SID,
    ConvertSidToStringSid,
    ConvertStringSidToSid,
    CreateWellKnownSid,
    LookupAccountName,
    LookupAccountSid,
)
from npipe.win32_error import make_error

__all__ = [
    "ACL",
    "SECURITY_ATTRIBUTES",
    "SECURITY_DESCRIPTOR",
    "SID",
    "Ace",
    "ConvertSidToStringSid",
    "ConvertStringSidToSid",
    "CreateWellKnownSid",
    "LookupAccountName",
    "LookupAccountSid",
]

ACL_REVISION: Final = 2
ACCESS_ALLOWED_ACE_TYPE: Final = 0
ACCESS_DENIED_ACE_TYPE: Final = 1
SYSTEM_AUDIT_ACE_TYPE: Final = 2

SE_OWNER_DEFAULTED: Final = 0x1
SE_GROUP_DEFAULTED: Final = 0x2
SE_DACL_PRESENT: Final = 0x4
SE_DACL_DEFAULTED: Final = 0x8
SE_SACL_PRESENT: Final = 0x10
SE_SACL_DEFAULTED: Final = 0x20
SE_SELF_RELATIVE: Final = 0x8000

_SETTABLE: Final = 0x3F00  # what SetSecurityDescriptorControl may change: protected and inherited lists
_REVISION: Final = 1


def _as_sid(sid: object) -> SID:
    """Return a copy: what is done to an identifier later changes no list that it was put in."""
    if not isinstance(sid, SID):
        raise TypeError("The object is not a PySID object")
    return sid.copy()


def _signed(mask: int) -> int:
    """Return an access mask as pywin32 hands it out: GENERIC_READ, the highest bit, is negative."""
    return mask - (1 << 32) if mask & 0x80000000 else mask


# --- Access control lists --------------------------------------------------------------------------------------


class Ace(NamedTuple):
    """An entry: somebody is allowed or denied something, or audited."""

    type: int
    flags: int
    mask: int
    """Access rights, not negative."""
    sid: SID


class ACL:
    """An access control list. `ACL(size)` takes a size for pywin32's sake; a list is as long as it has to be."""

    __slots__ = ("_aces",)

    def __init__(self, bufSize: int = 64) -> None:
        del bufSize
        self._aces: list[Ace] = []

    @property
    def aces(self) -> tuple[Ace, ...]:
        """Its entries, in their order."""
        return tuple(self._aces)

    def copy(self) -> ACL:
        """Return another list with the same entries."""
        other = ACL()
        other._aces = self._aces.copy()
        return other

    def append(self, ace: Ace) -> None:
        """Put an entry behind the others."""
        self._add(*ace)

    def Initialize(self) -> None:
        """Make it empty, which lets nobody in."""
        self._aces.clear()

    def IsValid(self) -> bool:
        """Return True."""
        return True

    def GetAclRevision(self) -> int:
        """Return ACL_REVISION."""
        return ACL_REVISION

    def GetAclSize(self) -> int:
        """Return how many bytes it takes on Windows."""
        return 8 + sum(8 + len(bytes(ace.sid)) for ace in self._aces)

    def AddAccessAllowedAce(self, *arguments: Any) -> None:
        """Allow `([revision,] mask, sid)`; pywin32 takes it with and without the revision."""
        mask, sid = _without_revision("AddAccessAllowedAce", arguments)
        self._add(ACCESS_ALLOWED_ACE_TYPE, 0, mask, sid)

    def AddAccessDeniedAce(self, *arguments: Any) -> None:
        """Deny `([revision,] mask, sid)`; an entry counts for the rights that no entry before it has settled."""
        mask, sid = _without_revision("AddAccessDeniedAce", arguments)
        self._add(ACCESS_DENIED_ACE_TYPE, 0, mask, sid)

    def AddAccessAllowedAceEx(self, revision: int, aceflags: int, access: int, sid: SID) -> None:
        """Allow, with flags of inheritance."""
        del revision
        self._add(ACCESS_ALLOWED_ACE_TYPE, aceflags, access, sid)

    def AddAccessDeniedAceEx(self, revision: int, aceflags: int, access: int, sid: SID) -> None:
        """Deny, with flags of inheritance."""
        del revision
        self._add(ACCESS_DENIED_ACE_TYPE, aceflags, access, sid)

    def AddAuditAccessAce(self, dwAceRevision: int, dwAccessMask: int, sid: SID, bSuccess: int, bFailure: int) -> None:
        """Add an entry of a system list, which is kept and not looked at."""
        del dwAceRevision
        self._add(SYSTEM_AUDIT_ACE_TYPE, 0x40 * bool(bSuccess) | 0x80 * bool(bFailure), dwAccessMask, sid)

    def GetAceCount(self) -> int:
        """Return how many entries there are."""
        return len(self._aces)

    def GetAce(self, index: int) -> tuple[tuple[int, int], int, SID]:
        """Return ((type, flags), mask, sid); error 87 for an index beyond the end."""
        ace = self._aces[self._index(index, "GetAce")]
        return (ace.type, ace.flags), _signed(ace.mask), ace.sid.copy()

    def DeleteAce(self, index: int) -> None:
        """Remove an entry; error 87 for an index beyond the end."""
        del self._aces[self._index(index, "DeleteAce")]

    def _index(self, index: int, funcname: str) -> int:
        if not 0 <= index < len(self._aces):
            raise make_error(87, funcname)
        return index

    def _add(self, kind: int, flags: int, mask: int, sid: object) -> None:
        self._aces.append(Ace(kind, flags & 0xFF, operator.index(mask) & 0xFFFFFFFF, _as_sid(sid)))


def _without_revision(funcname: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
    if len(arguments) not in (2, 3):
        raise TypeError(f"{funcname}() takes ([revision,] mask, sid), not {len(arguments)} arguments")
    return arguments[-2], arguments[-1]


def _as_acl(acl: object) -> ACL | None:
    """Return a copy: Windows copies a list into the descriptor too."""
    if acl is None:
        return None
    if not isinstance(acl, ACL):
        raise TypeError("The object is not a PyACL object")
    return acl.copy()


# --- Security descriptors --------------------------------------------------------------------------------------


class SECURITY_DESCRIPTOR:
    """An owner, a group, and who may do what. A new one has none of these, which means the defaults."""

    __slots__ = ("_control", "_dacl", "_group", "_owner", "_sacl")

    def __init__(self, source: int | None = None) -> None:
        if source is not None and not isinstance(source, int):  # a size, for pywin32's sake
            raise TypeError("npipe makes no security descriptor from a buffer: use the text form, SDDL")
        self.Initialize()

    def Initialize(self) -> None:
        """Remove everything."""
        self._owner: SID | None = None
        self._group: SID | None = None
        self._dacl: ACL | None = None
        self._sacl: ACL | None = None
        self._control = 0

    def IsValid(self) -> bool:
        """Return True."""
        return True

    def IsSelfRelative(self) -> bool:
        """Return True, as in pywin32, whose descriptors hold their parts."""
        return True

    def SetSecurityDescriptorDacl(self, bSaclPresent: int, SACL: ACL | None, bSaclDefaulted: int) -> None:
        """Set who may do what: (present, list, defaulted). A list that is present and None lets everyone in.

        The list is copied. The argument's names are pywin32's.
        """
        self._dacl = _as_acl(SACL) if bSaclPresent else None
        self._mark(SE_DACL_PRESENT, bSaclPresent)
        self._mark(SE_DACL_DEFAULTED, bSaclDefaulted)

    SetDacl = SetSecurityDescriptorDacl

    def GetSecurityDescriptorDacl(self) -> ACL | None:
        """Return a copy of the list; None when there is none, or one that is None."""
        return _as_acl(self._dacl)

    def SetSecurityDescriptorSacl(self, bSaclPresent: int, SACL: ACL | None, bSaclDefaulted: int) -> None:
        """Set what is audited, which is kept and not looked at."""
        self._sacl = _as_acl(SACL) if bSaclPresent else None
        self._mark(SE_SACL_PRESENT, bSaclPresent)
        self._mark(SE_SACL_DEFAULTED, bSaclDefaulted)

    def GetSecurityDescriptorSacl(self) -> ACL | None:
        """Return a copy of the list of what is audited, or None."""
        return _as_acl(self._sacl)

    def SetSecurityDescriptorOwner(self, sid: SID | None, bOwnerDefaulted: int) -> None:
        """Set the owner, which is kept: a pipe's owner is the user who creates it."""
        self._owner = None if sid is None else _as_sid(sid)
        self._mark(SE_OWNER_DEFAULTED, bOwnerDefaulted)

    def GetSecurityDescriptorOwner(self) -> SID | None:
        """Return the owner, or None."""
        return None if self._owner is None else self._owner.copy()

    def SetSecurityDescriptorGroup(self, sid: SID | None, bOwnerDefaulted: int) -> None:
        """Set the owner's group, which is kept and not looked at."""
        self._group = None if sid is None else _as_sid(sid)
        self._mark(SE_GROUP_DEFAULTED, bOwnerDefaulted)

    def GetSecurityDescriptorGroup(self) -> SID | None:
        """Return the group, or None."""
        return None if self._group is None else self._group.copy()

    def GetSecurityDescriptorControl(self) -> tuple[int, int]:
        """Return (SE_* flags, revision)."""
        return self._control | SE_SELF_RELATIVE, _REVISION

    def SetSecurityDescriptorControl(self, ControlBitsOfInterest: int, ControlBitsToSet: int) -> None:
        """Set those of the flags that have to do with inheritance; error 87 for others."""
        if (ControlBitsOfInterest | ControlBitsToSet) & ~_SETTABLE:
            raise make_error(87, "SetSecurityDescriptorControl")
        self._control = self._control & ~ControlBitsOfInterest | ControlBitsToSet & ControlBitsOfInterest

    def GetLength(self) -> int:
        """Return how many bytes it takes on Windows."""
        sids = sum(len(bytes(sid)) for sid in (self._owner, self._group) if sid is not None)
        return 20 + sids + sum(acl.GetAclSize() for acl in (self._dacl, self._sacl) if acl is not None)

    def _mark(self, flag: int, on: int) -> None:
        self._control = self._control | flag if on else self._control & ~flag


class SECURITY_ATTRIBUTES:
    """What CreateNamedPipe, CreateFile and CreateEvent take: a security descriptor, and whether handles are inherited.

    A new one has an empty SECURITY_DESCRIPTOR, and that one's methods too: `sa.SetSecurityDescriptorDacl(1, None, 0)`.
    """

    __slots__ = ("_descriptor", "_inherit")

    def __init__(self) -> None:
        self._inherit = 1
        self._descriptor: SECURITY_DESCRIPTOR | None = SECURITY_DESCRIPTOR()

    @property
    def bInheritHandle(self) -> int:
        """Whether child processes inherit the handle: 0 or another number, as it was set; 1 at first, as in pywin32."""
        return self._inherit

    @bInheritHandle.setter
    def bInheritHandle(self, value: int) -> None:
        self._inherit = operator.index(value)

    @property
    def SECURITY_DESCRIPTOR(self) -> SECURITY_DESCRIPTOR | None:
        """The descriptor itself, not a copy; None for the defaults."""
        return self._descriptor

    @SECURITY_DESCRIPTOR.setter
    def SECURITY_DESCRIPTOR(self, value: SECURITY_DESCRIPTOR | None) -> None:
        if value is not None and not isinstance(value, SECURITY_DESCRIPTOR):
            raise TypeError("The object is not a PySECURITY_DESCRIPTOR object")
        self._descriptor = value

    def Initialize(self) -> None:
        """Remove everything: an empty descriptor, nothing inherited."""
        self.__init__()  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        if name in _FORWARDED and self._descriptor is not None:
            return getattr(self._descriptor, name)
        raise AttributeError(f"'PySECURITY_ATTRIBUTES' object has no attribute {name!r}", name=name, obj=self)


_FORWARDED: Final = frozenset(name for name in vars(SECURITY_DESCRIPTOR) if name[0].isupper())
