"""Security identifiers: Windows' well-known ones, and this system's users and groups.

A user with the number N is `S-1-22-1-N`, a group is `S-1-22-2-N`, as Samba has it.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from npipe.binding.buffers import Readable
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "SID",
    "WELL_KNOWN",
    "ConvertSidToStringSid",
    "ConvertStringSidToSid",
    "CreateWellKnownSid",
    "LookupAccountName",
    "LookupAccountSid",
    "WellKnown",
    "group_sid",
    "parse_sid",
    "unix_id",
    "user_sid",
]

ERROR_INVALID_PARAMETER: Final = 87
ERROR_NONE_MAPPED: Final = 1332
ERROR_INVALID_SID: Final = 1337

_MAX_SUBAUTHORITIES: Final = 15
_UNIX: Final = 22
_USERS: Final = 1
_GROUPS: Final = 2
_USER_DOMAIN: Final = "Unix User"
_GROUP_DOMAIN: Final = "Unix Group"

SidTypeUser: Final = 1
SidTypeGroup: Final = 2
SidTypeDomain: Final = 3
SidTypeAlias: Final = 4
SidTypeWellKnownGroup: Final = 5
SidTypeLabel: Final = 10


class SID(Readable):
    """A security identifier: `SID()`, which Initialize fills, `SID(buffer)`, or `SID(authority, subauthorities)`.

    `authority` is six bytes as numbers, such as SECURITY_NT_AUTHORITY. A size, `SID(bufSize)` or behind the others, is
    taken for pywin32's sake.
    """

    __slots__ = ("_authority", "_subauthorities")

    def __init__(self, source: Any = None, subauthorities: Iterable[int] | None = None, bufSize: int = 32) -> None:
        del bufSize
        self._authority: int | None = None
        self._subauthorities: list[int] = []
        if subauthorities is not None:
            numbers = list(subauthorities)
            self.Initialize(source, len(numbers))
            for index, number in enumerate(numbers):
                self.SetSubAuthority(index, number)
        elif source is not None and not isinstance(source, int):
            self._load(bytes(memoryview(source)))

    def _load(self, data: bytes) -> None:
        if len(data) < 8 or data[0] != 1 or data[1] > _MAX_SUBAUTHORITIES or len(data) < 8 + 4 * data[1]:
            raise ValueError("PySID: Invalid SID")
        self._authority = int.from_bytes(data[2:8], "big")
        self._subauthorities = list(struct.unpack_from(f"<{data[1]}I", data, 8))

    def Initialize(self, authority: Sequence[int], count: int) -> None:
        """Make it `S-1-AUTHORITY` with `count` subauthorities, which are 0."""
        if len(authority) != 6:
            raise TypeError(f"an authority is 6 bytes, not {len(authority)}")
        if not 0 <= count <= _MAX_SUBAUTHORITIES:
            raise make_error(ERROR_INVALID_PARAMETER, "InitializeSid")
        self._authority = int.from_bytes(bytes(authority), "big")
        self._subauthorities = [0] * count

    def IsValid(self) -> bool:
        """Return whether it has been filled."""
        return self._authority is not None

    def SetSubAuthority(self, index: int, value: int) -> None:
        """Set a subauthority; `ValueError` for an index beyond those that there are."""
        self._check(index)
        self._subauthorities[index] = value & 0xFFFFFFFF

    def GetSubAuthority(self, index: int) -> int:
        """Return a subauthority; `ValueError` for an index beyond those that there are."""
        self._check(index)
        return self._subauthorities[index]

    def GetSubAuthorityCount(self) -> int:
        """Return how many subauthorities there are."""
        return len(self._subauthorities)

    def GetLength(self) -> int:
        """Return how many bytes it takes."""
        return 8 + 4 * len(self._subauthorities)

    def GetSidIdentifierAuthority(self) -> tuple[int, ...]:
        """Return the authority as six numbers."""
        if self._authority is None:
            raise ValueError("GetSidIdentifierAuthority: Invalid SID in object")
        return tuple(self._authority.to_bytes(6, "big"))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self._subauthorities):
            raise ValueError("The index is out of range")

    @property
    def text(self) -> str:
        """Its text form, "S-1-5-18"; empty before it is filled."""
        if self._authority is None:
            return ""
        authority = str(self._authority) if self._authority < 1 << 32 else f"0x{self._authority:012X}"
        return "-".join(["S-1", authority, *map(str, self._subauthorities)])

    def copy(self) -> SID:
        """Return another one that is equal."""
        other = SID()
        other._authority, other._subauthorities = self._authority, self._subauthorities.copy()
        return other

    def __bytes__(self) -> bytes:
        count = len(self._subauthorities)
        head = bytes((1, count)) + (self._authority or 0).to_bytes(6, "big")
        return head + struct.pack(f"<{count}I", *self._subauthorities)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SID):
            return NotImplemented
        return self._authority == other._authority and self._subauthorities == other._subauthorities

    def __hash__(self) -> int:
        return hash((self._authority, *self._subauthorities))

    def __repr__(self) -> str:
        return f"PySID:{self.text or '<invalid>'}"


# --- Windows' own ----------------------------------------------------------------------------------------------


class WellKnown(NamedTuple):
    """An identifier that means the same on every machine."""

    number: int
    """WELL_KNOWN_SID_TYPE, the Win*Sid of its name."""
    text: str
    name: str
    domain: str
    kind: int
    """SidType*."""
    short: str
    """Its two letters in a security descriptor's text; empty for none."""


_NT: Final = "NT AUTHORITY"
_BUILTIN: Final = "BUILTIN"
_LABELS: Final = "Mandatory Label"

WELL_KNOWN: Final = (
    WellKnown(0, "S-1-0-0", "NULL SID", "", SidTypeWellKnownGroup, ""),
    WellKnown(1, "S-1-1-0", "Everyone", "", SidTypeWellKnownGroup, "WD"),
    WellKnown(2, "S-1-2-0", "LOCAL", "", SidTypeWellKnownGroup, ""),
    WellKnown(3, "S-1-3-0", "CREATOR OWNER", "", SidTypeWellKnownGroup, "CO"),
    WellKnown(4, "S-1-3-1", "CREATOR GROUP", "", SidTypeWellKnownGroup, "CG"),
    WellKnown(8, "S-1-5-1", "DIALUP", _NT, SidTypeWellKnownGroup, ""),
    WellKnown(9, "S-1-5-2", "NETWORK", _NT, SidTypeWellKnownGroup, "NU"),
    WellKnown(10, "S-1-5-3", "BATCH", _NT, SidTypeWellKnownGroup, ""),
    WellKnown(11, "S-1-5-4", "INTERACTIVE", _NT, SidTypeWellKnownGroup, "IU"),
    WellKnown(12, "S-1-5-6", "SERVICE", _NT, SidTypeWellKnownGroup, "SU"),
    WellKnown(13, "S-1-5-7", "ANONYMOUS LOGON", _NT, SidTypeWellKnownGroup, "AN"),
    WellKnown(16, "S-1-5-10", "SELF", _NT, SidTypeWellKnownGroup, "PS"),
    WellKnown(17, "S-1-5-11", "Authenticated Users", _NT, SidTypeWellKnownGroup, "AU"),
    WellKnown(18, "S-1-5-12", "RESTRICTED", _NT, SidTypeWellKnownGroup, "RC"),
    WellKnown(19, "S-1-5-13", "TERMINAL SERVER USER", _NT, SidTypeWellKnownGroup, ""),
    WellKnown(20, "S-1-5-14", "REMOTE INTERACTIVE LOGON", _NT, SidTypeWellKnownGroup, ""),
    WellKnown(22, "S-1-5-18", "SYSTEM", _NT, SidTypeWellKnownGroup, "SY"),
    WellKnown(23, "S-1-5-19", "LOCAL SERVICE", _NT, SidTypeWellKnownGroup, "LS"),
    WellKnown(24, "S-1-5-20", "NETWORK SERVICE", _NT, SidTypeWellKnownGroup, "NS"),
    WellKnown(25, "S-1-5-32", "BUILTIN", _BUILTIN, SidTypeDomain, ""),
    WellKnown(26, "S-1-5-32-544", "Administrators", _BUILTIN, SidTypeAlias, "BA"),
    WellKnown(27, "S-1-5-32-545", "Users", _BUILTIN, SidTypeAlias, "BU"),
    WellKnown(28, "S-1-5-32-546", "Guests", _BUILTIN, SidTypeAlias, "BG"),
    WellKnown(29, "S-1-5-32-547", "Power Users", _BUILTIN, SidTypeAlias, "PU"),
    WellKnown(65, "S-1-16-0", "Untrusted Mandatory Level", _LABELS, SidTypeLabel, ""),
    WellKnown(66, "S-1-16-4096", "Low Mandatory Level", _LABELS, SidTypeLabel, "LW"),
    WellKnown(67, "S-1-16-8192", "Medium Mandatory Level", _LABELS, SidTypeLabel, "ME"),
    WellKnown(68, "S-1-16-12288", "High Mandatory Level", _LABELS, SidTypeLabel, "HI"),
    WellKnown(69, "S-1-16-16384", "System Mandatory Level", _LABELS, SidTypeLabel, "SI"),
    WellKnown(71, "S-1-3-4", "OWNER RIGHTS", "", SidTypeWellKnownGroup, "OW"),
)


def CreateWellKnownSid(WellKnownSidType: int, DomainSid: SID | None = None) -> SID:
    """Return one of Windows' own identifiers by its number, Win*Sid; error 87 for one that is not known here."""
    del DomainSid  # for those that a domain has, which are not here
    for known in WELL_KNOWN:
        if known.number == WellKnownSidType:
            return parse_sid(known.text, "CreateWellKnownSid")
    raise make_error(ERROR_INVALID_PARAMETER, "CreateWellKnownSid")


# --- Text ------------------------------------------------------------------------------------------------------


def ConvertStringSidToSid(StringSid: str) -> SID:
    """Return the identifier for "S-1-…", or for the two letters of a well-known one; error 1337 for anything else."""
    return parse_sid(StringSid, "ConvertStringSidToSid")


def ConvertSidToStringSid(Sid: SID) -> str:
    """Return the text form, "S-1-5-18"; error 1337 for an identifier that was never filled."""
    if not isinstance(Sid, SID):
        raise TypeError("The object is not a PySID object")
    if not Sid.IsValid():
        raise make_error(ERROR_INVALID_SID, "ConvertSidToStringSid")
    return Sid.text


def parse_sid(text: str, funcname: str) -> SID:
    """Return the identifier for a text form; error 1337 in the name of `funcname`."""
    if not isinstance(text, str):
        raise TypeError(f"an identifier's text form is text, not {type(text).__name__}")
    for known in WELL_KNOWN:
        if known.short and known.short == text.upper():
            text = known.text
    letter, *parts = text.upper().split("-")
    try:
        revision, authority, *subauthorities = (_number(part) for part in parts)
    except ValueError:
        raise make_error(ERROR_INVALID_SID, funcname) from None
    fits = authority < 1 << 48 and all(number < 1 << 32 for number in subauthorities)
    if letter != "S" or revision != 1 or not fits or len(subauthorities) > _MAX_SUBAUTHORITIES:
        raise make_error(ERROR_INVALID_SID, funcname)
    return SID(authority.to_bytes(6, "big"), subauthorities)


def _number(text: str) -> int:
    """Return a number in digits, or hexadecimal ones after 0x, and nothing else that int() takes."""
    digits = text.removeprefix("0X")
    if not digits.isascii() or not digits.isalnum():
        raise ValueError(text)
    return int(digits, 16 if digits != text else 10)


# --- Users and groups of this system ---------------------------------------------------------------------------


def user_sid(uid: int) -> SID:
    """Return the identifier of the user with this number."""
    return SID(_UNIX.to_bytes(6, "big"), (_USERS, uid))


def group_sid(gid: int) -> SID:
    """Return the identifier of the group with this number."""
    return SID(_UNIX.to_bytes(6, "big"), (_GROUPS, gid))


def unix_id(sid: SID) -> tuple[int | None, int | None]:
    """Return (uid, None) for a user's identifier, (None, gid) for a group's, and else (None, None)."""
    if (
        not sid.IsValid()
        or sid.GetSidIdentifierAuthority() != (0, 0, 0, 0, 0, _UNIX)
        or sid.GetSubAuthorityCount() != 2
    ):
        return None, None
    number = sid.GetSubAuthority(1)
    kind = sid.GetSubAuthority(0)
    return number if kind == _USERS else None, number if kind == _GROUPS else None


def LookupAccountName(systemName: str | None, accountName: str) -> tuple[SID, str, int]:
    r"""Return (identifier, domain, SidType*) for a name on this system; error 1332 for one that nobody has.

    A user of this system comes before a group, and both before Windows' own names ("Everyone", "Administrators").
    `DOMAIN\name` looks in one of them: this machine's name or "." for users and groups, "Unix User", "Unix Group",
    "BUILTIN", "NT AUTHORITY". `systemName` is None or empty: there are no other systems.
    """
    domain, _, name = accountName.rpartition("\\")
    if systemName and not _is_here(systemName.lstrip("\\")):
        raise make_error(ERROR_NONE_MAPPED, "LookupAccountName")
    here = not domain or _is_here(domain)
    if here or domain == _USER_DOMAIN:
        uid = _uid_of(name)
        if uid is not None:
            return user_sid(uid), _USER_DOMAIN, SidTypeUser
    if here or domain == _GROUP_DOMAIN:
        gid = _gid_of(name)
        if gid is not None:
            return group_sid(gid), _GROUP_DOMAIN, SidTypeGroup
    for known in WELL_KNOWN:
        if known.name.upper() == name.upper() and domain.upper() in ("", known.domain.upper()):
            return parse_sid(known.text, "LookupAccountName"), known.domain, known.kind
    raise make_error(ERROR_NONE_MAPPED, "LookupAccountName")


def LookupAccountSid(systemName: str | None, sid: SID) -> tuple[str, str, int]:
    """Return (name, domain, SidType*) for an identifier; error 1332 for one that nobody here has."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    if not isinstance(sid, SID):
        raise TypeError("The object is not a PySID object")
    if systemName and not _is_here(systemName.lstrip("\\")):
        raise make_error(ERROR_NONE_MAPPED, "LookupAccountSid")
    for known in WELL_KNOWN:
        if known.text == sid.text:
            return known.name, known.domain, known.kind
    import grp  # here, as in npipe.options: the package can be imported where these do not exist
    import pwd

    uid, gid = unix_id(sid)
    try:
        if uid is not None:
            return pwd.getpwuid(uid).pw_name, _USER_DOMAIN, SidTypeUser
        if gid is not None:
            return grp.getgrgid(gid).gr_name, _GROUP_DOMAIN, SidTypeGroup
    except (KeyError, OverflowError):  # OverflowError: more than a uid_t
        pass
    raise make_error(ERROR_NONE_MAPPED, "LookupAccountSid")


def _is_here(system: str) -> bool:
    host = socket.gethostname()
    return system == "." or system.upper() in (host.upper(), host.partition(".")[0].upper())


def _uid_of(name: str) -> int | None:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL, or what no name can hold
        return None


def _gid_of(name: str) -> int | None:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
