"""pywin32's security objects: identifiers, lists, descriptors, and descriptors from text."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from npipe.win32 import _security, win32con, win32security
from npipe.win32_error import error

ME = os.geteuid()

# --- Identifiers


@pytest.mark.parametrize(
    "text", ["S-1-1-0", "S-1-5-18", "S-1-5-32-544", "S-1-22-1-1000", "S-1-0xFFFFFFFFFFFF-1", "S-1-5"]
)
def test_an_identifier_keeps_its_text_form(text: str) -> None:
    sid = win32security.ConvertStringSidToSid(text)
    assert win32security.ConvertSidToStringSid(sid) == text
    assert win32security.SID(bytes(sid)) == sid
    assert str(sid) == f"PySID:{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "S",
        "S-1",
        "S-2-1-0",
        "S-1-x",
        "X-1-1-0",
        "S-1-1-4294967296",
        "S-1--0",
        "S-1-1_0",
        "ZZ",
        "S-1-1-0" + "-1" * 15,
    ],
)
def test_what_is_no_identifier_is_1337(text: str) -> None:
    with pytest.raises(error) as caught:
        win32security.ConvertStringSidToSid(text)
    assert (caught.value.winerror, caught.value.funcname) == (1337, "ConvertStringSidToSid")


def test_an_identifier_is_built_in_steps_as_pywin32s_service_demo_does() -> None:
    everyone = win32security.SID()
    assert not everyone.IsValid()
    with pytest.raises(error):
        win32security.ConvertSidToStringSid(everyone)
    everyone.Initialize(win32security.SECURITY_WORLD_SID_AUTHORITY, 1)
    everyone.SetSubAuthority(0, win32con.SECURITY_WORLD_RID)
    assert everyone.IsValid()
    assert everyone == win32security.CreateWellKnownSid(win32security.WinWorldSid)
    assert everyone.GetSubAuthorityCount() == 1
    assert everyone.GetSidIdentifierAuthority() == (0, 0, 0, 0, 0, 1)
    with pytest.raises(ValueError, match="out of range"):
        everyone.GetSubAuthority(1)
    administrators = win32security.SID(win32security.SECURITY_NT_AUTHORITY, (32, 544))
    assert administrators == win32security.CreateWellKnownSid(win32security.WinBuiltinAdministratorsSid)
    assert administrators != everyone
    assert administrators is not None
    assert {"admins": administrators}["admins"] == administrators


def test_the_current_user_is_found_by_name_and_told_by_number() -> None:
    name = pwd.getpwuid(ME).pw_name
    sid, domain, kind = win32security.LookupAccountName(None, name)
    assert win32security.ConvertSidToStringSid(sid) == f"S-1-22-1-{ME}"
    assert (domain, kind) == ("Unix User", win32security.SidTypeUser)
    assert win32security.LookupAccountSid(None, sid) == (name, domain, kind)
    assert win32security.LookupAccountName("", f"{os.uname().nodename}\\{name}")[0] == sid


def test_a_group_is_found_where_no_user_has_its_name() -> None:
    users = {user.pw_name for user in pwd.getpwall()}
    group = next(group for group in grp.getgrall() if group.gr_name not in users)
    sid, domain, kind = win32security.LookupAccountName(None, group.gr_name)
    assert win32security.ConvertSidToStringSid(sid) == f"S-1-22-2-{group.gr_gid}"
    assert (domain, kind) == ("Unix Group", win32security.SidTypeGroup)
    assert win32security.LookupAccountSid(None, sid)[0] == grp.getgrgid(group.gr_gid).gr_name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Everyone", "S-1-1-0"),
        ("Administrators", "S-1-5-32-544"),
        ("BUILTIN\\Power Users", "S-1-5-32-547"),
        ("NT AUTHORITY\\SYSTEM", "S-1-5-18"),
        ("authenticated users", "S-1-5-11"),
    ],
)
def test_windows_own_names_are_known(name: str, text: str) -> None:
    sid, domain, kind = win32security.LookupAccountName(None, name)
    assert win32security.ConvertSidToStringSid(sid) == text
    assert win32security.LookupAccountSid(None, sid)[1:] == (domain, kind)


@pytest.mark.parametrize("name", ["no-such-user-at-all", "NOSUCHDOMAIN\\root", "BUILTIN\\root", "", "a\0b"])
def test_a_name_that_nobody_has_is_1332(name: str) -> None:
    with pytest.raises(error) as caught:
        win32security.LookupAccountName(None, name)
    assert (caught.value.winerror, caught.value.funcname) == (1332, "LookupAccountName")
    assert caught.value.strerror == "No mapping between account names and security IDs was done."


@pytest.mark.parametrize(
    "text", ["S-1-22-1-4000000000", "S-1-22-2-4000000000", "S-1-22-1-4294967295", "S-1-5-21-1-2-3-500"]
)
def test_an_identifier_that_nobody_has_is_1332(text: str) -> None:
    with pytest.raises(error) as caught:
        win32security.LookupAccountSid(None, win32security.ConvertStringSidToSid(text))
    assert (caught.value.winerror, caught.value.funcname) == (1332, "LookupAccountSid")


# --- Lists and descriptors


def sid(text: str) -> _security.SID:
    return win32security.ConvertStringSidToSid(text)


def test_a_list_takes_entries_with_and_without_a_revision() -> None:
    acl = win32security.ACL()
    acl.AddAccessAllowedAce(win32con.GENERIC_READ, sid("WD"))
    acl.AddAccessAllowedAce(win32security.ACL_REVISION, win32con.GENERIC_ALL, sid("SY"))
    acl.AddAccessDeniedAce(win32security.ACL_REVISION, 1, sid("AN"))
    acl.AddAccessAllowedAceEx(win32security.ACL_REVISION, win32security.INHERIT_ONLY_ACE, 2, sid("BA"))
    assert acl.GetAceCount() == 4
    assert acl.GetAce(0) == ((0, 0), win32con.GENERIC_READ, sid("S-1-1-0"))
    assert acl.GetAce(2) == ((1, 0), 1, sid("S-1-5-7"))
    assert acl.GetAce(3)[0] == (0, 8)
    acl.DeleteAce(0)
    assert acl.GetAce(0)[2] == sid("SY")
    assert acl.GetAclSize() == 8 + 20 + 20 + 24
    for index in (-1, 3):
        with pytest.raises(error) as caught:
            acl.GetAce(index)
        assert (caught.value.winerror, caught.value.funcname) == (87, "GetAce")
    acl.Initialize()
    assert acl.GetAceCount() == 0
    with pytest.raises(TypeError, match="PySID"):
        acl.AddAccessAllowedAce(1, "Everyone")


def test_a_descriptor_copies_its_parts_as_windows_does() -> None:
    descriptor, acl = win32security.SECURITY_DESCRIPTOR(), win32security.ACL()
    owner = sid("SY")
    descriptor.SetSecurityDescriptorDacl(1, acl, 0)
    descriptor.SetSecurityDescriptorOwner(owner, 0)
    acl.AddAccessAllowedAce(win32con.GENERIC_ALL, owner)
    owner.SetSubAuthority(0, 99)
    kept = descriptor.GetSecurityDescriptorDacl()
    assert kept is not None
    assert kept.GetAceCount() == 0
    assert acl.GetAce(0)[2] == sid("SY")
    assert descriptor.GetSecurityDescriptorOwner() == sid("SY")
    assert descriptor.GetSecurityDescriptorGroup() is None
    assert descriptor.IsValid()


def test_a_descriptors_control_tells_which_lists_are_present() -> None:
    descriptor = win32security.SECURITY_DESCRIPTOR()
    assert descriptor.GetSecurityDescriptorControl() == (win32security.SE_SELF_RELATIVE, 1)
    descriptor.SetSecurityDescriptorDacl(1, None, 1)
    assert (
        descriptor.GetSecurityDescriptorControl()[0]
        == win32security.SE_SELF_RELATIVE | win32security.SE_DACL_PRESENT | win32security.SE_DACL_DEFAULTED
    )
    descriptor.SetSecurityDescriptorDacl(0, win32security.ACL(), 0)
    assert descriptor.GetSecurityDescriptorControl()[0] == win32security.SE_SELF_RELATIVE
    assert descriptor.GetSecurityDescriptorDacl() is None
    with pytest.raises(error) as caught:
        descriptor.SetSecurityDescriptorControl(win32security.SE_DACL_PRESENT, win32security.SE_DACL_PRESENT)
    assert caught.value.winerror == 87


def test_security_attributes_have_a_descriptor_and_its_methods() -> None:
    attributes = win32security.SECURITY_ATTRIBUTES()
    assert attributes.bInheritHandle == 1
    attributes.bInheritHandle = 0
    attributes.SetSecurityDescriptorOwner(sid("SY"), 0)
    assert attributes.SECURITY_DESCRIPTOR is not None
    assert attributes.SECURITY_DESCRIPTOR.GetSecurityDescriptorOwner() == sid("SY")
    descriptor = win32security.SECURITY_DESCRIPTOR()
    attributes.SECURITY_DESCRIPTOR = descriptor
    assert attributes.SECURITY_DESCRIPTOR is descriptor
    attributes.Initialize()
    assert attributes.bInheritHandle == 1
    with pytest.raises(TypeError, match="PySECURITY_DESCRIPTOR"):
        attributes.SECURITY_DESCRIPTOR = "D:"  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="lpSecurityDescriptor"):
        attributes.lpSecurityDescriptor = descriptor  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="NoSuchMethod"):
        attributes.NoSuchMethod()
    attributes.SECURITY_DESCRIPTOR = None
    with pytest.raises(AttributeError):
        attributes.SetSecurityDescriptorDacl(1, None, 0)


# --- Descriptors from text


def parse(text: str) -> _security.SECURITY_DESCRIPTOR:
    return win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(text, win32security.SDDL_REVISION_1)


def test_a_descriptor_is_read_from_its_text() -> None:
    descriptor = parse(
        "O:SYG:BAD:PAI(A;;GA;;;SY)(D;OICI;GRGW;;;S-1-5-2)( A ;;FA;;;BA)(A;;0x12019f;;;WD)S:(AU;SA;GA;;;WD)"
    )
    assert descriptor.GetSecurityDescriptorOwner() == sid("S-1-5-18")
    assert descriptor.GetSecurityDescriptorGroup() == sid("S-1-5-32-544")
    flags = win32security.SE_DACL_PRESENT | win32security.SE_DACL_PROTECTED | win32security.SE_DACL_AUTO_INHERITED
    assert descriptor.GetSecurityDescriptorControl()[0] == flags | win32security.SE_SELF_RELATIVE
    acl = descriptor.GetSecurityDescriptorDacl()
    assert acl is not None
    assert [acl.GetAce(index) for index in range(acl.GetAceCount())] == [
        ((0, 0), win32con.GENERIC_ALL, sid("SY")),
        ((1, 3), win32con.GENERIC_READ | win32con.GENERIC_WRITE, sid("NU")),
        ((0, 0), 0x1F01FF, sid("BA")),
        ((0, 0), 0x12019F, sid("WD")),
    ]


@pytest.mark.parametrize(
    "text", ["", "  D:(D;;GA;;;WD)", "D: (D;;GA;;;WD)", "D:(D; ;GA;;;WD)", "D:(A;;RPWPCCDC;;;WD)", "D:"]
)
def test_odd_descriptor_texts_that_windows_takes(text: str) -> None:
    assert parse(text).IsValid()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ERROR:(D;;GA;;;WD)", 87),
        ("D:X(A;;GA;;;WD)", 87),
        ("D:(A;;GA;;;WD)D:(A;;GA;;;WD)", 87),
        ("D:(A;;GA;;;WD", 87),
        ("D:(D;GA;;;;WD)", 1336),
        ("D:(A;;ROB;;;WD)", 1336),
        ("D:(A;;GA;;;NOBODY)", 1336),
        ("D:(A;;GA;;;)", 1336),
        ("D:(A;;0x100000000;;;WD)", 1336),
        ("D:(A;;GA;;WD)", 1336),
        ("O:XX", 1337),
    ],
)
def test_bad_descriptor_texts_have_windows_codes(text: str, code: int) -> None:
    with pytest.raises(error) as caught:
        parse(text)
    assert caught.value.winerror == code
    assert caught.value.funcname == "ConvertStringSecurityDescriptorToSecurityDescriptor"


def test_an_unknown_revision_of_the_text_is_1305() -> None:
    with pytest.raises(error) as caught:
        win32security.ConvertStringSecurityDescriptorToSecurityDescriptor("D:", 2)
    assert caught.value.winerror == 1305
