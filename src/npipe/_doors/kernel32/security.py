"""advapi32's functions that pipes are used with: descriptors in the program's memory, and acting as the client."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from npipe._doors.kernel32 import heap, memory
from npipe._doors.kernel32.functions import exported, exported_text
from npipe.win32 import win32api, win32security
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from npipe._doors.kernel32.call import Call
    from npipe.win32._security import ACL, SECURITY_ATTRIBUTES, SECURITY_DESCRIPTOR
    from npipe.win32._sid import SID

__all__ = ["attributes_at"]

_REVISION: Final = 1
_DACL_PRESENT: Final = 0x4
_DACL_DEFAULTED: Final = 0x8
_SELF_RELATIVE: Final = 0x8000
_SIZE: Final = 40  # of a descriptor with addresses
_RELATIVE_HEADER: Final = struct.Struct("<BBH4I")
_ACL_HEADER: Final = struct.Struct("<BBHHH")
_ACE_HEADER: Final = struct.Struct("<BBHI")
_INVALID_DESCRIPTOR: Final = 1338
_INVALID_ACL: Final = 1336
_UNKNOWN_REVISION: Final = 1305
_ALLOWED: Final = 0
_DENIED: Final = 1
_ADDRESSES: Final = {"owner": 8, "group": 16, "dacl": 32}
_OFFSETS: Final = {"owner": 4, "group": 8, "dacl": 16}


def attributes_at(address: int) -> SECURITY_ATTRIBUTES | None:
    """Return the SECURITY_ATTRIBUTES in the program's memory; None at NULL. Error 1338 or 1336 for what is none."""
    if not address:
        return None
    made = win32security.SECURITY_ATTRIBUTES()
    made.bInheritHandle = memory.get(address + 16)
    descriptor = memory.get(address + 8, 8)
    made.SECURITY_DESCRIPTOR = _descriptor_at(descriptor) if descriptor else None
    return made


def _descriptor_at(address: int) -> SECURITY_DESCRIPTOR:
    revision, control = memory.get(address, 1), memory.get(address + 2, 2)
    if revision != _REVISION:
        raise make_error(_INVALID_DESCRIPTOR, "")
    made = win32security.SECURITY_DESCRIPTOR()
    owner, group = (_part(address, control, part) for part in ("owner", "group"))
    if owner:
        made.SetSecurityDescriptorOwner(_sid_at(owner), 0)
    if group:
        made.SetSecurityDescriptorGroup(_sid_at(group), 0)
    if control & _DACL_PRESENT:
        dacl = _part(address, control, "dacl")
        made.SetSecurityDescriptorDacl(1, _acl_at(dacl) if dacl else None, control & _DACL_DEFAULTED)
    return made


def _part(address: int, control: int, part: str) -> int:
    """Return the address of a descriptor's part, or 0."""
    if not control & _SELF_RELATIVE:
        return memory.get(address + _ADDRESSES[part], 8)
    offset = memory.get(address + _OFFSETS[part])
    return address + offset if offset else 0


def _sid_at(address: int) -> SID:
    return win32security.SID(memory.bytes_at(address, 8 + 4 * min(memory.get(address + 1, 1), 15)))


def _acl_at(address: int) -> ACL:
    _revision, _, size, count, _ = _ACL_HEADER.unpack(memory.bytes_at(address, _ACL_HEADER.size))
    made = win32security.ACL()
    place, end = address + _ACL_HEADER.size, address + size
    for _index in range(count):
        if place + _ACE_HEADER.size + 8 > end:
            raise make_error(_INVALID_ACL, "")
        kind, flags, length, mask = _ACE_HEADER.unpack(memory.bytes_at(place, _ACE_HEADER.size))
        if length < _ACE_HEADER.size + 8 or place + length > end:
            raise make_error(_INVALID_ACL, "")
        if kind == _ALLOWED:
            made.AddAccessAllowedAceEx(2, flags, mask, _sid_at(place + _ACE_HEADER.size))
        elif kind == _DENIED:
            made.AddAccessDeniedAceEx(2, flags, mask, _sid_at(place + _ACE_HEADER.size))
        place += length
    return made


def _acl_bytes(acl: ACL) -> bytes:
    entries = b""
    for ace in acl.aces:
        sid = bytes(ace.sid)
        entries += _ACE_HEADER.pack(ace.type, ace.flags, _ACE_HEADER.size + len(sid), ace.mask) + sid
    return _ACL_HEADER.pack(2, 0, _ACL_HEADER.size + len(entries), len(acl.aces), 0) + entries


def _descriptor_bytes(descriptor: SECURITY_DESCRIPTOR) -> bytes:
    """Return a descriptor as Windows hands it out: with offsets in place of addresses."""
    owner, group = descriptor.GetSecurityDescriptorOwner(), descriptor.GetSecurityDescriptorGroup()
    dacl = descriptor.GetSecurityDescriptorDacl()
    control = descriptor.GetSecurityDescriptorControl()[0] | _SELF_RELATIVE
    parts = [
        b"" if owner is None else bytes(owner),
        b"" if group is None else bytes(group),
        b"",  # no list of audits
        b"" if dacl is None else _acl_bytes(dacl),
    ]
    offsets, place = [], _RELATIVE_HEADER.size
    for part in parts:
        offsets.append(place if part else 0)
        place += len(part)
    return _RELATIVE_HEADER.pack(_REVISION, 0, control, *offsets) + b"".join(parts)


@exported_text("ConvertStringSecurityDescriptorToSecurityDescriptor", "tdpp", library="advapi32")
def _convert(call: Call, text: str | None, revision: int, descriptor: int, size: int) -> None:
    made = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(text or "", revision)
    data = _descriptor_bytes(made)
    call.put(2, descriptor, heap.allocate(data), 8)
    call.put(3, size, len(data))


@exported_text("ConvertSecurityDescriptorToStringSecurityDescriptor", "pddpp", library="advapi32")
def _convert_back(call: Call, descriptor: int, revision: int, wanted: int, text: int, length: int) -> None:
    made = win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(
        _descriptor_at(descriptor), revision, wanted
    )
    call.put(3, text, heap.allocate(_as_text(call, made)), 8)
    call.put(4, length, len(made) + 1)


@exported_text("ConvertSidToStringSid", "pp", library="advapi32")
def _convert_sid(call: Call, sid: int, text: int) -> None:
    call.put(1, text, heap.allocate(_as_text(call, win32security.ConvertSidToStringSid(_sid_at(sid)))), 8)


@exported_text("ConvertStringSidToSid", "tp", library="advapi32")
def _convert_string_sid(call: Call, text: str | None, sid: int) -> None:
    call.put(1, sid, heap.allocate(bytes(win32security.ConvertStringSidToSid(text or ""))), 8)


def _as_text(call: Call, text: str) -> bytes:
    return memory.wide_text(None, text)[0] if call.wide else text.encode() + b"\0"


@exported("InitializeSecurityDescriptor", "pd", library="advapi32")
def _initialize(_call: Call, descriptor: int, revision: int) -> None:
    if revision != _REVISION:
        raise make_error(_UNKNOWN_REVISION, "InitializeSecurityDescriptor")
    memory.view(descriptor, _SIZE, writable=True)[:] = bytes([_REVISION]).ljust(_SIZE, b"\0")


@exported("SetSecurityDescriptorDacl", "plpl", library="advapi32")
def _set_dacl(_call: Call, descriptor: int, present: int, dacl: int, defaulted: int) -> None:
    control = memory.get(descriptor + 2, 2)
    if memory.get(descriptor, 1) != _REVISION or control & _SELF_RELATIVE:
        raise make_error(_INVALID_DESCRIPTOR, "SetSecurityDescriptorDacl")
    control &= ~(_DACL_PRESENT | _DACL_DEFAULTED)
    control |= (_DACL_PRESENT if present else 0) | (_DACL_DEFAULTED if present and defaulted else 0)
    memory.store(descriptor + 2, control, 2)
    memory.store(descriptor + _ADDRESSES["dacl"], dacl if present else 0, 8)


@exported("IsValidSecurityDescriptor", "p", library="advapi32")
def _is_valid(_call: Call, descriptor: int) -> int:
    return int(bool(descriptor) and memory.get(descriptor, 1) == _REVISION)


# ---- Acting as the client


@exported("ImpersonateNamedPipeClient", "h", library="advapi32")
def _impersonate(_call: Call, handle: int) -> None:
    win32security.ImpersonateNamedPipeClient(handle)


@exported("RevertToSelf", "", library="advapi32")
def _revert(_call: Call) -> None:
    win32security.RevertToSelf()


@exported_text("GetUserName", "pp", library="advapi32")
def _get_user_name(call: Call, buffer: int, size: int) -> None:
    name = win32api.GetUserName()
    room = memory.get(size)
    if room <= len(name):
        call.put(1, size, len(name) + 1)
    call.put(1, size, call.put_text(0, buffer, room, name) + 1)
