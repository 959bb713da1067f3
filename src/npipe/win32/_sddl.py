"""Security descriptors in text form, from it and to it: "D:(A;;GA;;;SY)(A;;GRGW;;;WD)"."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import re
from typing import Final

from npipe.win32._security import ACL, SE_DACL_PRESENT, SE_SACL_PRESENT, SECURITY_DESCRIPTOR
from npipe.win32._sid import SID, WELL_KNOWN, parse_sid
from npipe.win32_error import error, make_error

__all__ = [
    "SDDL_REVISION_1",
    "ConvertSecurityDescriptorToStringSecurityDescriptor",
    "ConvertStringSecurityDescriptorToSecurityDescriptor",
]

SDDL_REVISION_1: Final = 1

_FUNCTION: Final = "ConvertStringSecurityDescriptorToSecurityDescriptor"
_INVALID_PARAMETER: Final = 87
_UNKNOWN_REVISION: Final = 1305
_INVALID_ACL: Final = 1336

_PARTS: Final = re.compile(r"\s*([OGDS]):((?:(?![OGDS]:)[^()]|\([^()]*\))*)", re.IGNORECASE)
_ACES: Final = re.compile(r"\s*\(([^()]*)\)")
_FLAGS_OF_LIST: Final = {"P": 0x1000, "AR": 0x100, "AI": 0x400}
_FLAGS_OF_ACE: Final = {"OI": 0x1, "CI": 0x2, "NP": 0x4, "IO": 0x8, "ID": 0x10, "SA": 0x40, "FA": 0x80}
_RIGHTS: Final = {
    "GA": 0x10000000,
    "GX": 0x20000000,
    "GW": 0x40000000,
    "GR": 0x80000000,
    "SD": 0x10000,
    "RC": 0x20000,
    "WD": 0x40000,
    "WO": 0x80000,
    "FA": 0x1F01FF,
    "FR": 0x120089,
    "FW": 0x120116,
    "FX": 0x1200A0,
    # The bits by the names that they have in a directory.
    "CC": 0x1,
    "DC": 0x2,
    "LC": 0x4,
    "SW": 0x8,
    "RP": 0x10,
    "WP": 0x20,
    "DT": 0x40,
    "LO": 0x80,
    "CR": 0x100,
}


def ConvertStringSecurityDescriptorToSecurityDescriptor(
    StringSecurityDescriptor: str, StringSDRevision: int
) -> SECURITY_DESCRIPTOR:
    """Return the descriptor for a text: O: and G: with an identifier, D: with entries that allow (A) and deny (D).

    Rights are a number or letters (GA GR GW GX, FA FR FW FX, RC SD WD WO, and a directory's), trustees are two
    letters (WD, SY, BA, OW, …) or "S-1-…". D:NO_ACCESS_CONTROL is a list that lets everyone in. What S: says about
    auditing is not read. Errors: 1305 for a revision other than SDDL_REVISION_1, 1336 for a bad entry, 1337 for a bad
    owner or group, 87 for other bad text.
    """
    if StringSDRevision != SDDL_REVISION_1:
        raise make_error(_UNKNOWN_REVISION, _FUNCTION)
    descriptor = SECURITY_DESCRIPTOR()
    seen = set()
    at = 0
    text = StringSecurityDescriptor.rstrip()
    while at < len(text):
        found = _PARTS.match(text, at)
        if found is None or found[1].upper() in seen:
            raise make_error(_INVALID_PARAMETER, _FUNCTION)
        at = found.end()
        what, body = found[1].upper(), found[2].strip()
        seen.add(what)
        if what == "O":
            descriptor.SetSecurityDescriptorOwner(parse_sid(body, _FUNCTION), 0)
        elif what == "G":
            descriptor.SetSecurityDescriptorGroup(parse_sid(body, _FUNCTION), 0)
        elif what == "D":
            _set_dacl(descriptor, body)
    return descriptor


def _set_dacl(descriptor: SECURITY_DESCRIPTOR, body: str) -> None:
    opening = body.find("(") if "(" in body else len(body)
    flags, entries = body[:opening].strip().upper(), body[opening:]
    if flags == "NO_ACCESS_CONTROL" and not entries:
        descriptor.SetSecurityDescriptorDacl(1, None, 0)
        return
    control = _letters(flags, _FLAGS_OF_LIST, _INVALID_PARAMETER)
    acl = ACL()
    at = 0
    while at < len(entries):
        found = _ACES.match(entries, at)
        if found is None:
            raise make_error(_INVALID_ACL, _FUNCTION)
        at = found.end()
        _add_ace(acl, found[1])
    descriptor.SetSecurityDescriptorDacl(1, acl, 0)
    descriptor.SetSecurityDescriptorControl(control, control)


def _add_ace(acl: ACL, text: str) -> None:
    """Add `type;flags;rights;object;inherited object;trustee`. Objects are for directories, and not taken."""
    fields = [field.strip().upper() for field in text.split(";")]
    if len(fields) != 6 or fields[0] not in ("A", "D") or fields[3] or fields[4]:
        raise make_error(_INVALID_ACL, _FUNCTION)
    kind, flags, rights, _, _, trustee = fields
    add = acl.AddAccessAllowedAceEx if kind == "A" else acl.AddAccessDeniedAceEx
    add(2, _letters(flags, _FLAGS_OF_ACE, _INVALID_ACL), _mask(rights), _trustee(trustee))


def _mask(text: str) -> int:
    """Return the rights for letters or a number: decimal, hexadecimal after 0x, octal after 0."""
    if not text[:1].isdigit():
        return _letters(text, _RIGHTS, _INVALID_ACL)
    base = 16 if text.startswith("0X") else 8 if text.startswith("0") and text != "0" else 10
    try:
        mask = int(text, base)
    except ValueError:
        raise make_error(_INVALID_ACL, _FUNCTION) from None
    if mask > 0xFFFFFFFF:
        raise make_error(_INVALID_ACL, _FUNCTION)
    return mask


def _trustee(text: str) -> SID:
    try:
        return parse_sid(text, _FUNCTION)
    except error:
        raise make_error(_INVALID_ACL, _FUNCTION) from None


def _letters(text: str, table: dict[str, int], code: int) -> int:
    """Return the flags for words of one or two letters that are written without anything between them."""
    flags = 0
    while text:
        word = text[:2] if text[:2] in table else text[:1]
        if word not in table:
            raise make_error(code, _FUNCTION)
        flags |= table[word]
        text = text[len(word) :]
    return flags


# ---- To text

_WHOLE: Final = ("FA", "FR", "FW", "FX")
_KINDS: Final = {0: "A", 1: "D", 2: "AU"}
_SHORT: Final = {known.text: known.short for known in WELL_KNOWN if known.short}


def ConvertSecurityDescriptorToStringSecurityDescriptor(
    SecurityDescriptor: SECURITY_DESCRIPTOR, RequestedStringSDRevision: int, SecurityInformation: int, /
) -> str:
    """Return the text of those parts of a descriptor that *_SECURITY_INFORMATION names. Raises 1305 (the revision)."""
    if not isinstance(SecurityDescriptor, SECURITY_DESCRIPTOR):
        raise TypeError("The object is not a PySECURITY_DESCRIPTOR object")
    if RequestedStringSDRevision != SDDL_REVISION_1:
        raise make_error(_UNKNOWN_REVISION, "ConvertSecurityDescriptorToStringSecurityDescriptor")
    control = SecurityDescriptor.GetSecurityDescriptorControl()[0]
    owner, group = SecurityDescriptor.GetSecurityDescriptorOwner(), SecurityDescriptor.GetSecurityDescriptorGroup()
    text = ""
    if SecurityInformation & 1 and owner is not None:
        text += "O:" + _sid_text(owner)
    if SecurityInformation & 2 and group is not None:
        text += "G:" + _sid_text(group)
    if SecurityInformation & 4 and control & SE_DACL_PRESENT:
        text += "D:" + _list_text(SecurityDescriptor.GetSecurityDescriptorDacl(), control)
    if SecurityInformation & 8 and control & SE_SACL_PRESENT:
        text += "S:" + _list_text(SecurityDescriptor.GetSecurityDescriptorSacl(), control >> 1)
    return text


def _sid_text(sid: SID) -> str:
    return _SHORT.get(sid.text, sid.text)


def _list_text(acl: ACL | None, control: int) -> str:
    flags = "".join(word for word, flag in _FLAGS_OF_LIST.items() if control & flag)
    if acl is None:
        return flags + "NO_ACCESS_CONTROL"
    return flags + "".join(
        f"({_KINDS[ace.type]};{_words(ace.flags, _FLAGS_OF_ACE)};{_rights_text(ace.mask)};;;{_sid_text(ace.sid)})"
        for ace in acl.aces
    )


def _words(flags: int, table: dict[str, int]) -> str:
    return "".join(word for word, flag in table.items() if flags & flag)


def _rights_text(mask: int) -> str:
    """Return two letters for all of a mask, or for each bit in turn, or the number where a bit has none."""
    for word in _WHOLE:
        if mask == _RIGHTS[word]:
            return word
    bits = sorted((bit, word) for word, bit in _RIGHTS.items() if word not in _WHOLE)
    if not mask or mask & ~sum(bit for bit, _ in bits):
        return f"{mask:#x}"
    return "".join(word for bit, word in bits if mask & bit)
