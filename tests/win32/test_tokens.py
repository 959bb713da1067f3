"""win32security: tokens, privileges, and the security of objects that exist."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32 import ntsecuritycon, pywintypes, win32api, win32con, win32event, win32file, win32pipe, win32security
from tests.win32.helpers import code_of

if TYPE_CHECKING:
    from pathlib import Path

ALL = (
    win32security.OWNER_SECURITY_INFORMATION
    | win32security.GROUP_SECURITY_INFORMATION
    | win32security.DACL_SECURITY_INFORMATION
)
WRITE_DAC, WRITE_OWNER = win32con.WRITE_DAC, win32con.WRITE_OWNER


def me() -> Any:
    return win32security.ConvertStringSidToSid(f"S-1-22-1-{os.geteuid()}")


def own_token() -> Any:
    return win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32security.TOKEN_QUERY)


def text_of(descriptor: Any, info: int = ALL) -> str:
    return win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(descriptor, 1, info)


def attributes_of(text: str) -> Any:
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(text, 1)
    return attributes


def instance(name: str, attributes: Any = None, rights: int = 0) -> Any:
    return win32pipe.CreateNamedPipe(name, 3 | rights, 0, 255, 4096, 4096, 0, attributes)


# --- Tokens


def test_a_processs_token_tells_its_user_and_groups() -> None:
    ask = win32security.GetTokenInformation
    token = own_token()
    assert ask(token, win32security.TokenUser) == (me(), 0)
    assert ask(token, win32security.TokenOwner) == me()
    assert ask(token, win32security.TokenPrimaryGroup).GetSubAuthority(1) == os.getegid()  # type: ignore[attr-defined]
    groups = {sid.GetSubAuthority(1) for sid, _ in ask(token, win32security.TokenGroups)}  # type: ignore[attr-defined]
    assert groups == {os.getegid(), *os.getgroups()}
    assert ask(token, win32security.TokenType) == win32security.TokenPrimary
    assert ask(token, win32security.TokenElevation) == int(os.geteuid() == 0)
    level = "S-1-16-12288" if os.geteuid() == 0 else "S-1-16-8192"
    assert ask(token, win32security.TokenIntegrityLevel) == (win32security.ConvertStringSidToSid(level), 0x60)
    assert ask(token, win32security.TokenSessionId) == os.getsid(0)
    assert ask(token, win32security.TokenElevationType) == win32security.TokenElevationTypeDefault
    statistics: Any = ask(token, win32security.TokenStatistics)
    assert statistics["TokenType"] == win32security.TokenPrimary
    for unknown in (win32security.TokenSource, win32security.TokenLinkedToken, 9, 99):
        assert code_of(ask, token, unknown) == 87
    assert code_of(ask, win32event.CreateEvent(None, 0, 0, None), 1) == 6


def test_another_processs_token_is_of_its_user() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION, False, child.pid)
    token = win32security.OpenProcessToken(process, win32security.TOKEN_QUERY)
    assert win32security.GetTokenInformation(token, win32security.TokenUser) == (me(), 0)
    child.communicate(b"\n")
    assert code_of(win32security.OpenProcessToken, process, 8) == 5


def test_a_thread_has_a_token_only_while_it_acts_as_somebody() -> None:
    def open_token() -> Any:
        return win32security.OpenThreadToken(win32api.GetCurrentThread(), win32security.TOKEN_QUERY, True)

    assert code_of(open_token) == 1008
    win32security.ImpersonateSelf(win32security.SecurityImpersonation)
    try:
        token = open_token()
        assert win32security.GetTokenInformation(token, win32security.TokenType) == win32security.TokenImpersonation
        assert win32security.GetTokenInformation(token, win32security.TokenUser) == (me(), 0)
        codes: list[int] = []
        other = threading.Thread(target=lambda: codes.append(code_of(open_token)))
        other.start()
        other.join()
        assert codes == [1008]
    finally:
        win32security.RevertToSelf()
    assert code_of(open_token) == 1008
    win32security.ImpersonateLoggedOnUser(own_token())
    assert win32security.GetTokenInformation(open_token(), win32security.TokenUser) == (me(), 0)
    win32security.SetThreadToken(None, None)
    assert code_of(open_token) == 1008


def test_a_server_asks_for_its_clients_user(name: str) -> None:
    server = instance(name)
    client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None)
    win32file.WriteFile(client, b"who am I?")
    win32file.ReadFile(server, 100)
    win32security.ImpersonateNamedPipeClient(server)
    try:
        token = win32security.OpenThreadToken(win32api.GetCurrentThread(), win32security.TOKEN_QUERY, True)
        user: Any = win32security.GetTokenInformation(token, win32security.TokenUser)
    finally:
        win32security.RevertToSelf()
    assert win32security.LookupAccountSid(None, user[0])[0] == pwd.getpwuid(os.geteuid()).pw_name


def test_duplicates_of_tokens() -> None:
    token = win32security.DuplicateTokenEx(
        own_token(), win32security.SecurityIdentification, 0, win32security.TokenImpersonation
    )
    ask = win32security.GetTokenInformation
    assert ask(token, win32security.TokenImpersonationLevel) == win32security.SecurityIdentification
    assert ask(win32security.DuplicateToken(token, 2), win32security.TokenImpersonationLevel) == 2
    assert code_of(win32security.DuplicateTokenEx, token, 7, 0, 1) == 87
    assert not win32security.IsTokenRestricted(token)


def test_privileges_have_windows_names_and_numbers() -> None:
    assert win32security.LookupPrivilegeValue(None, win32security.SE_DEBUG_NAME) == 20
    assert win32security.LookupPrivilegeValue("", "sechangenotifyprivilege") == 23
    assert win32security.LookupPrivilegeName(None, 29) == win32security.SE_IMPERSONATE_NAME
    assert code_of(win32security.LookupPrivilegeValue, None, "SeNoSuch") == 1313
    assert code_of(win32security.LookupPrivilegeName, None, 99) == 1313


def test_privileges_are_adjusted_and_what_was_before_comes_back() -> None:
    token = own_token()
    change = win32security.LookupPrivilegeValue(None, win32security.SE_CHANGE_NOTIFY_NAME)
    nobody = win32security.LookupPrivilegeValue(None, win32security.SE_CREATE_TOKEN_NAME)
    assert (change, 3) in win32security.GetTokenInformation(token, win32security.TokenPrivileges)  # type: ignore[operator]
    assert win32security.AdjustTokenPrivileges(token, False, [(change, 0)]) == ((change, 3),)
    assert win32api.GetLastError() == 0
    assert (change, 1) in win32security.GetTokenInformation(token, win32security.TokenPrivileges)  # type: ignore[operator]
    assert win32security.AdjustTokenPrivileges(token, False, [(change, 2), (nobody, 2)]) == ((change, 1),)
    assert win32api.GetLastError() == 1300


def test_membership_is_that_of_users_and_groups_here() -> None:
    member = win32security.CheckTokenMembership
    sid = win32security.ConvertStringSidToSid
    for token in (None, own_token()):
        assert member(token, me())
        assert member(token, sid("S-1-1-0"))
        assert member(token, sid(f"S-1-22-2-{os.getegid()}"))
        assert member(token, sid("BA")) == (os.geteuid() == 0)
        assert not member(token, sid("S-1-22-1-123456"))
        assert not member(token, sid("S-1-5-21-1-2-3-500"))


# --- Descriptors as text


@pytest.mark.parametrize(
    "text",
    [
        "O:SYG:BAD:(A;;FA;;;SY)(A;;FR;;;WD)",
        "D:PAI(A;OICIIO;SDGXGWGR;;;AU)(D;;0x12019f;;;S-1-22-1-5)",
        "D:NO_ACCESS_CONTROL",
        "D:",
        "D:(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;WD)",
        "O:S-1-22-1-0",
        "",
    ],
)
def test_a_descriptors_text_is_what_it_was_made_of(text: str) -> None:
    descriptor = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(text, 1)
    assert text_of(descriptor) == text


def test_only_what_was_asked_for_is_in_the_text() -> None:
    descriptor = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor("O:SYG:BAD:(A;;GA;;;WD)", 1)
    assert text_of(descriptor, win32security.OWNER_SECURITY_INFORMATION) == "O:SY"
    assert text_of(descriptor, win32security.DACL_SECURITY_INFORMATION) == "D:(A;;GA;;;WD)"
    assert code_of(lambda: win32security.ConvertSecurityDescriptorToStringSecurityDescriptor(descriptor, 2, 1)) == 1305


def test_generic_rights_are_mapped() -> None:
    mapping = (1, 2, 4, 8)
    assert win32security.MapGenericMask(win32con.GENERIC_READ | 0x100, mapping) == 0x101
    assert win32security.MapGenericMask(win32con.GENERIC_ALL, mapping) == 8


# --- Security of pipes


def test_a_pipes_security_is_that_of_its_first_instance(name: str) -> None:
    first = instance(name, attributes_of("D:(A;;GA;;;OW)(A;;GRGW;;;WD)"))
    second = instance(name, attributes_of("D:(A;;GA;;;SY)"))
    client = win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, 3, 0, None)
    for handle in (first, second, client):
        descriptor = win32security.GetSecurityInfo(handle, win32security.SE_KERNEL_OBJECT, ALL)
        assert descriptor.GetSecurityDescriptorOwner() == me()
        assert text_of(descriptor, 4) == "D:(A;;FA;;;OW)(A;;0x12019f;;;WD)"
    assert text_of(win32security.GetKernelObjectSecurity(first, 4)) == "D:(A;;FA;;;OW)(A;;0x12019f;;;WD)"


def test_a_pipe_without_attributes_is_its_users(name: str) -> None:
    server = instance(name)
    user = f"S-1-22-1-{os.geteuid()}"
    descriptor = win32security.GetSecurityInfo(server, win32security.SE_KERNEL_OBJECT, ALL)
    assert text_of(descriptor) == f"O:{user}G:S-1-22-2-{os.getegid()}D:(A;;FA;;;{user})"
    assert text_of(win32security.GetSecurityInfo(server, 6, 1)) == f"O:{user}"
    assert code_of(win32security.GetSecurityInfo, server, 6, 8) == 1314
    assert code_of(win32security.GetSecurityInfo, 0x7FFF, 6, 1) == 6


def test_a_client_asks_who_its_server_is(name: str, child: Any) -> None:
    server = child(
        """
        import npipe, sys
        with npipe.listen(sys.argv[1], mode="byte") as listener:
            print("listening", flush=True)
            with listener.accept() as pipe:
                pipe.read(3)
        """,
        name,
    )
    assert server.line() == "listening"
    client = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None)
    owner = win32security.GetSecurityInfo(client, 6, win32security.OWNER_SECURITY_INFORMATION)
    assert owner.GetSecurityDescriptorOwner() == me()
    assert code_of(win32security.GetSecurityInfo, client, 6, win32security.DACL_SECURITY_INFORMATION) == 50
    win32file.WriteFile(client, b"bye")
    assert server.wait() == 0


def test_who_may_connect_is_changed_by_a_handle_that_may(name: str) -> None:
    server = instance(name, None, WRITE_DAC)
    acl = win32security.ACL()
    acl.AddAccessAllowedAce(2, ntsecuritycon.FILE_GENERIC_READ, win32security.ConvertStringSidToSid("S-1-1-0"))
    win32security.SetSecurityInfo(server, 6, win32security.DACL_SECURITY_INFORMATION, None, None, acl, None)
    assert text_of(win32security.GetSecurityInfo(server, 6, 4)) == "D:(A;;FR;;;WD)"
    # The owner is granted what everyone is: to read.
    assert code_of(win32file.CreateFile, name, win32file.GENERIC_WRITE, 0, None, 3, 0, None) == 5
    win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, 3, 0, None)
    descriptor = win32security.SECURITY_DESCRIPTOR()
    descriptor.SetSecurityDescriptorDacl(1, None, 0)
    win32security.SetKernelObjectSecurity(server, win32security.DACL_SECURITY_INFORMATION, descriptor)
    assert text_of(win32security.GetSecurityInfo(server, 6, 4)) == "D:NO_ACCESS_CONTROL"


def test_who_is_let_in_by_a_change_can_find_the_pipe(name: str, root: Path) -> None:
    server = instance(name, None, WRITE_DAC)
    (folder,) = (place for place in root.iterdir() if place.is_dir())
    (socket,) = folder.glob("s*")
    assert (folder.stat().st_mode & 0o777, socket.stat().st_mode & 0o777) == (0o700, 0o600)
    win32security.SetSecurityInfo(server, 6, 4, None, None, None, None)
    assert (folder.stat().st_mode & 0o777, socket.stat().st_mode & 0o777) == (0o755, 0o666)


def test_a_change_needs_the_right_to_it(name: str) -> None:
    server = instance(name)
    change = win32security.SetSecurityInfo
    assert code_of(change, server, 6, 4, None, None, None, None) == 5
    assert code_of(change, server, 6, 1, me(), None, None, None) == 5
    other = instance(name, None, WRITE_DAC)
    change(other, 6, 4, None, None, None, None)
    assert code_of(change, other, 6, 4 | 2, None, None, None, None) == 5
    client = win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, 3, 0, None)
    assert code_of(change, client, 6, 4, None, None, None, None) == 5
    assert code_of(change, win32event.CreateEvent(None, 0, 0, None), 6, 4, None, None, None, None) == 50
    with pytest.raises(TypeError, match="PyACL"):
        change(other, 6, 4, None, None, "list", None)  # type: ignore[arg-type]


def test_the_owner_stays_this_user(name: str) -> None:
    server = instance(name, None, WRITE_OWNER)  # the bit that also asks for the first instance
    change = win32security.SetSecurityInfo
    change(server, 6, 1, me(), None, None, None)
    stranger = win32security.ConvertStringSidToSid("S-1-5-18")
    assert code_of(change, server, 6, 1, stranger, None, None, None) == 1307


# --- Security of what else there is


def test_a_files_security_is_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o640)
    user, group = f"S-1-22-1-{os.geteuid()}", f"S-1-22-2-{path.stat().st_gid}"
    text = text_of(win32security.GetFileSecurity(str(path), ALL))
    assert text == f"O:{user}G:{group}D:(A;;0x1e019f;;;{user})(A;;FR;;;{group})"
    assert code_of(win32security.GetFileSecurity, str(tmp_path / "missing"), 1) == 2
    handle = win32file.CreateFile(str(path), win32file.GENERIC_READ, 0, None, 3, 0, None)
    assert text_of(win32security.GetSecurityInfo(handle, 1, ALL)) == text
    assert text_of(win32security.GetNamedSecurityInfo(str(path), 1, ALL)) == text
    assert code_of(win32security.SetFileSecurity, str(path), 4, win32security.SECURITY_DESCRIPTOR()) == 50


def test_a_pipes_security_by_its_name(name: str) -> None:
    server = instance(name, attributes_of("D:(A;;GA;;;WD)"))
    assert text_of(win32security.GetNamedSecurityInfo(name, win32security.SE_KERNEL_OBJECT, 4)) == "D:(A;;FA;;;WD)"
    assert code_of(win32pipe.ConnectNamedPipe, server, None) == 232  # somebody was there, to ask
    assert code_of(win32security.GetNamedSecurityInfo, name + "-missing", 6, 4) == 2


def test_processes_and_events_are_their_users() -> None:
    for handle in (win32api.GetCurrentProcess(), win32event.CreateEvent(None, 0, 0, None)):
        descriptor = win32security.GetKernelObjectSecurity(handle, win32security.OWNER_SECURITY_INFORMATION)
        assert descriptor.GetSecurityDescriptorOwner() == me()
