"""Windows' privileges: their names and numbers, and which of them a user of this system has."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

from typing import Final

from npipe.win32_error import make_error, text_of

__all__ = [
    "LookupPrivilegeDisplayName",
    "LookupPrivilegeName",
    "LookupPrivilegeValue",
    "held_by",
    "number_of",
]

_FIRST: Final = 2
_NAMES: Final = (
    "SeCreateTokenPrivilege",
    "SeAssignPrimaryTokenPrivilege",
    "SeLockMemoryPrivilege",
    "SeIncreaseQuotaPrivilege",
    "SeMachineAccountPrivilege",
    "SeTcbPrivilege",
    "SeSecurityPrivilege",
    "SeTakeOwnershipPrivilege",
    "SeLoadDriverPrivilege",
    "SeSystemProfilePrivilege",
    "SeSystemtimePrivilege",
    "SeProfileSingleProcessPrivilege",
    "SeIncreaseBasePriorityPrivilege",
    "SeCreatePagefilePrivilege",
    "SeCreatePermanentPrivilege",
    "SeBackupPrivilege",
    "SeRestorePrivilege",
    "SeShutdownPrivilege",
    "SeDebugPrivilege",
    "SeAuditPrivilege",
    "SeSystemEnvironmentPrivilege",
    "SeChangeNotifyPrivilege",
    "SeRemoteShutdownPrivilege",
    "SeUndockPrivilege",
    "SeSyncAgentPrivilege",
    "SeEnableDelegationPrivilege",
    "SeManageVolumePrivilege",
    "SeImpersonatePrivilege",
    "SeCreateGlobalPrivilege",
    "SeTrustedCredManAccessPrivilege",
    "SeRelabelPrivilege",
    "SeIncreaseWorkingSetPrivilege",
    "SeTimeZonePrivilege",
    "SeCreateSymbolicLinkPrivilege",
)
"""In the order of their numbers, from 2 on, which are the same on every Windows."""

_ENABLED: Final = 3  # by default, and so now
_EVERYONE: Final = ("SeChangeNotifyPrivilege", "SeCreateSymbolicLinkPrivilege")
_ROOT_NOW: Final = ("SeImpersonatePrivilege", "SeCreateGlobalPrivilege")
_NOBODY: Final = ("SeCreateTokenPrivilege", "SeTrustedCredManAccessPrivilege")


def number_of(name: str) -> int | None:
    """Return a privilege's number, None for a name that is none's."""
    for place, known in enumerate(_NAMES):
        if known.lower() == name.lower():
            return place + _FIRST
    return None


def held_by(uid: int) -> dict[int, int]:
    """Return {number: attributes} of the privileges of a user: root has all but those that nobody has."""
    held = {}
    for number, name in enumerate(_NAMES, _FIRST):
        if name in _EVERYONE or (uid == 0 and name in _ROOT_NOW):
            held[number] = _ENABLED
        elif uid == 0 and name not in _NOBODY:
            held[number] = 0
    return held


def LookupPrivilegeValue(systemName: str | None, privilegeName: str, /) -> int:
    """LookupPrivilegeValue: a privilege's number. Raises 1313 for a name that is none's."""
    del systemName
    number = number_of(text_of(privilegeName))
    if number is None:
        raise make_error(1313, "LookupPrivilegeValue")
    return number


def LookupPrivilegeName(SystemName: str | None, luid: int) -> str:
    """LookupPrivilegeName. Raises 1313 for a number that is none's."""
    del SystemName
    if not 0 <= luid - _FIRST < len(_NAMES):
        raise make_error(1313, "LookupPrivilegeName")
    return _NAMES[luid - _FIRST]


def LookupPrivilegeDisplayName(SystemName: str | None, Name: str) -> str:
    """LookupPrivilegeDisplayName: the name again; the sentences that Windows has are not here. Raises 1313."""
    number = number_of(text_of(Name))
    if number is None:
        raise make_error(1313, "LookupPrivilegeDisplayName")
    return LookupPrivilegeName(SystemName, number)
