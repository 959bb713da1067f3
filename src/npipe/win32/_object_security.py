"""Who may do what with an object: the security of pipes, files and what else has handles, asked and set.

A pipe has the descriptor that its first instance in this process was created with; SetSecurityInfo and its like change
it, and with it who may connect from then on (`npipe.win32._access` tells how). Of a pipe whose instances are another
process's its owner is known, not its list.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import stat
import sys
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.win32._access import access_rule
from npipe.win32._security import ACL, SE_DACL_PRESENT, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR
from npipe.win32._sid import SID, group_sid, user_sid
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "GetKernelObjectSecurity",
    "GetSecurityInfo",
    "MapGenericMask",
    "SetKernelObjectSecurity",
    "SetSecurityInfo",
    "default_descriptor",
    "descriptor_of_file",
    "known",
    "note_client",
    "note_instance",
    "parts",
]

_OWNER: Final = 1
_GROUP: Final = 2
_DACL: Final = 4
_SACL: Final = 8

_READ_CONTROL: Final = 0x20000
_WRITE_DAC: Final = 0x40000
_WRITE_OWNER: Final = 0x80000
_GENERIC_ALL: Final = 0x10000000
_FILE_ALL_ACCESS: Final = 0x1F01FF
_FILE_MAPPING: Final = (0x120089, 0x120116, 0x1200A0, _FILE_ALL_ACCESS)  # read, write, execute, all


class _Shared:
    """What the instances of one pipe have in common in this process."""

    def __init__(self, descriptor: SECURITY_DESCRIPTOR, direction: int) -> None:
        self.descriptor = descriptor
        self.direction = direction


_pipes: weakref.WeakValueDictionary[tuple[str, str], _Shared] = weakref.WeakValueDictionary()


def note_instance(handle: PyHANDLE, place: tuple[str, str], attributes: Any, open_mode: int) -> None:
    """Note with which security an instance was created; of a pipe's first one here it is the pipe's."""
    target = _targets.pipe_target(handle, "CreateNamedPipe")
    shared = _pipes.get(place)
    if shared is None:
        shared = _pipes.setdefault(place, _Shared(_of_new_pipe(attributes), open_mode & 3))
    target.security = shared
    target.rights = open_mode & (_WRITE_DAC | _WRITE_OWNER)


def note_client(handle: PyHANDLE, place: tuple[str, str], access: int) -> None:
    """Note which pipe a client's handle is of."""
    target = _targets.pipe_target(handle, "CreateFile")
    target.security = place
    target.rights = _WRITE_DAC | _WRITE_OWNER if access & _GENERIC_ALL else access & (_WRITE_DAC | _WRITE_OWNER)


def _of_new_pipe(attributes: Any) -> SECURITY_DESCRIPTOR:
    """Return what a pipe has of a SECURITY_ATTRIBUTES: with an owner and a list in any case."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    given = attributes.SECURITY_DESCRIPTOR if isinstance(attributes, SECURITY_ATTRIBUTES) else None
    made = default_descriptor(os.geteuid(), os.getegid())
    if given is None:
        return made
    owner, group = given.GetSecurityDescriptorOwner(), given.GetSecurityDescriptorGroup()
    if owner is not None:
        made.SetSecurityDescriptorOwner(owner, 0)
    if group is not None:
        made.SetSecurityDescriptorGroup(group, 0)
    if given.GetSecurityDescriptorControl()[0] & SE_DACL_PRESENT:
        made.SetSecurityDescriptorDacl(1, _mapped(given.GetSecurityDescriptorDacl()), 0)
    return made


def default_descriptor(uid: int, gid: int) -> SECURITY_DESCRIPTOR:
    """Return a descriptor that grants everything to its owner."""
    descriptor = SECURITY_DESCRIPTOR()
    descriptor.SetSecurityDescriptorOwner(user_sid(uid), 0)
    descriptor.SetSecurityDescriptorGroup(group_sid(gid), 0)
    acl = ACL()
    acl.AddAccessAllowedAce(2, _FILE_ALL_ACCESS, user_sid(uid))
    descriptor.SetSecurityDescriptorDacl(1, acl, 0)
    return descriptor


def _mapped(acl: ACL | None) -> ACL | None:
    """Return a list as an object has it: generic rights are the object's own."""
    if acl is None:
        return None
    mapped = ACL()
    for ace in acl.aces:
        mapped.append(ace._replace(mask=MapGenericMask(ace.mask, _FILE_MAPPING)))
    return mapped


def MapGenericMask(AccessMask: int, GenericMapping: tuple[int, int, int, int], /) -> int:
    """MapGenericMask: a mask whose generic rights are those of `GenericMapping`: (read, write, execute, all)."""
    mask = AccessMask & 0xFFFFFFFF
    for bit, rights in zip((0x80000000, 0x40000000, 0x20000000, _GENERIC_ALL), GenericMapping, strict=True):
        if mask & bit:
            mask = mask & ~bit | rights
    return mask


# ---- Asking


def known(handle: Any, function: str) -> tuple[SECURITY_DESCRIPTOR, bool]:
    """Return (the descriptor of what a handle stands for, whether its list is known)."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    kind = _handles.handle_kind(handle, function) if handle is None or int(handle) != -1 else "process"
    if kind == "pipe":
        return _of_pipe(handle, function)
    if kind == "file":
        return descriptor_of_file(os.fstat(_targets.file_of(handle, "file", function).descriptor)), True
    if kind == "process" and int(handle) != -1:
        try:
            status = Path(f"/proc/{_targets.file_of(handle, 'process', function).pid}").stat()
        except OSError:
            raise make_error(5, function) from None
        return default_descriptor(status.st_uid, status.st_gid), True
    return default_descriptor(os.geteuid(), os.getegid()), True


def _of_pipe(handle: Any, function: str) -> tuple[SECURITY_DESCRIPTOR, bool]:
    target = _targets.pipe_target(handle, function)
    shared = target.security if isinstance(target.security, _Shared) else _pipes.get(target.security)
    if shared is not None:
        return shared.descriptor, True
    _is_server, connected, _has_read, _pid, uid = _targets.pipe_peer(handle, function)
    if not connected:
        raise make_error(233, function)
    return default_descriptor(uid, _group_of(uid)), False


def _group_of(uid: int) -> int:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    import pwd

    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def descriptor_of_file(status: os.stat_result) -> SECURITY_DESCRIPTOR:
    """Return what the mode of a file grants to its owner, its group and others."""
    descriptor = default_descriptor(status.st_uid, status.st_gid)
    acl = ACL()
    trustees = (user_sid(status.st_uid), group_sid(status.st_gid), SID((0, 0, 0, 0, 0, 1), (0,)))
    for place, sid in enumerate(trustees):
        mask = _READ_CONTROL | _WRITE_DAC | _WRITE_OWNER if place == 0 else 0
        for bit, rights in zip((4, 2, 1), _FILE_MAPPING[:3], strict=True):
            mask |= rights if stat.S_IMODE(status.st_mode) >> (6 - 3 * place) & bit else 0
        if mask:
            acl.AddAccessAllowedAce(2, mask, sid)
    descriptor.SetSecurityDescriptorDacl(1, acl, 0)
    return descriptor


def parts(found: tuple[SECURITY_DESCRIPTOR, bool], info: int, function: str) -> SECURITY_DESCRIPTOR:
    """Return those parts of a descriptor that were asked for. Raises 50 (its list is not known), 1314 (auditing)."""
    source, has_list = found
    if info & _SACL:
        raise make_error(1314, function)
    if info & _DACL and not has_list:
        raise make_error(50, function)
    result = SECURITY_DESCRIPTOR()
    if info & _OWNER:
        result.SetSecurityDescriptorOwner(source.GetSecurityDescriptorOwner(), 0)
    if info & _GROUP:
        result.SetSecurityDescriptorGroup(source.GetSecurityDescriptorGroup(), 0)
    if info & _DACL:
        result.SetSecurityDescriptorDacl(1, source.GetSecurityDescriptorDacl(), 0)
    return result


def GetSecurityInfo(handle: PyHANDLE | int, ObjectType: int, SecurityInfo: int, /) -> SECURITY_DESCRIPTOR:
    """GetSecurityInfo: what OWNER_SECURITY_INFORMATION and its like ask of the object behind a handle.

    Of a pipe's client the owner is the server's user. Raises 50 (the list of a pipe whose server is another process),
    1314 (auditing), 6.
    """
    del ObjectType
    return parts(known(handle, "GetSecurityInfo"), SecurityInfo, "GetSecurityInfo")


def GetKernelObjectSecurity(handle: PyHANDLE | int, info: int, /) -> SECURITY_DESCRIPTOR:
    """GetKernelObjectSecurity: as GetSecurityInfo."""
    return parts(known(handle, "GetKernelObjectSecurity"), info, "GetKernelObjectSecurity")


# ---- Setting


def SetSecurityInfo(
    handle: PyHANDLE | int,
    ObjectType: int,
    SecurityInfo: int,
    Owner: SID | None,
    Group: SID | None,
    Dacl: ACL | None,
    Sacl: ACL | None,
    /,
) -> None:
    """SetSecurityInfo of a pipe, by the handle of an instance: who may connect from now on.

    The handle needs WRITE_DAC in its open mode for the list, WRITE_OWNER for owner and group: else 5. Raises 50 (a
    client's handle, or no pipe), 1307 (another owner than this user), 1314 (auditing), 6.
    """
    del ObjectType
    _set(handle, SecurityInfo, (Owner, Group, Dacl), "SetSecurityInfo")
    del Sacl


def SetKernelObjectSecurity(handle: PyHANDLE | int, info: int, security: SECURITY_DESCRIPTOR, /) -> None:
    """SetKernelObjectSecurity: as SetSecurityInfo, with the parts of a descriptor."""
    _set(handle, info, _parts_of(security), "SetKernelObjectSecurity")


def _parts_of(security: object) -> tuple[SID | None, SID | None, ACL | None]:
    if not isinstance(security, SECURITY_DESCRIPTOR):
        raise TypeError("The object is not a PySECURITY_DESCRIPTOR object")
    return (
        security.GetSecurityDescriptorOwner(),
        security.GetSecurityDescriptorGroup(),
        security.GetSecurityDescriptorDacl(),
    )


def _set(handle: Any, info: int, given: tuple[SID | None, SID | None, ACL | None], function: str) -> None:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    owner, group, dacl = given
    for part, kind, name in ((owner, SID, "PySID"), (group, SID, "PySID"), (dacl, ACL, "PyACL")):
        if part is not None and not isinstance(part, kind):
            raise TypeError(f"The object is not a {name} object")
    if (handle is not None and int(handle) == -1) or _handles.handle_kind(handle, function) != "pipe":
        raise make_error(50, function)
    target = _targets.pipe_target(handle, function)
    needed = (_WRITE_DAC if info & _DACL else 0) | (_WRITE_OWNER if info & (_OWNER | _GROUP) else 0)
    if needed & ~(target.rights or 0):
        raise make_error(5, function)
    if info & _SACL:
        raise make_error(1314, function)
    shared = target.security
    if not isinstance(shared, _Shared):
        raise make_error(50, function)
    if info & _OWNER and owner != user_sid(os.geteuid()):
        raise make_error(1307, function)
    fresh = parts((shared.descriptor, True), _OWNER | _GROUP | _DACL, function)
    if info & _GROUP:
        fresh.SetSecurityDescriptorGroup(group, 0)
    if info & _DACL:
        fresh.SetSecurityDescriptorDacl(1, _mapped(dacl), 0)
        attributes = SECURITY_ATTRIBUTES()
        attributes.SECURITY_DESCRIPTOR = fresh
        rule = access_rule(attributes, shared.direction)
        _targets.set_pipe_rule(handle, rule.everyone, rule.uids, rule.gids, rule.access, function)
    shared.descriptor = fresh
