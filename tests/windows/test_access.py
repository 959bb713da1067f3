"""Who may connect on Windows: the security descriptors that pipes are created with."""

# ruff: noqa: E402 - what follows the assertion is for Windows only

from __future__ import annotations

import sys

assert sys.platform == "win32"

from typing import Any

import pytest
import win32api
import win32pipe
import win32security

import npipe
from npipe.options import Security, parse_security
from npipe.transports.native import transport
from npipe.transports.native.access import security_attributes, security_text

CONNECT_BOTH = 0x12019B  # read and write, without the right to create instances
CREATE = 0x4
WORLD, SYSTEM = "S-1-1-0", "S-1-5-18"


def me() -> str:
    token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), win32security.TOKEN_QUERY)
    sid: str = win32security.ConvertSidToStringSid(win32security.GetTokenInformation(token, win32security.TokenUser)[0])
    return sid


def rights(descriptor: Any) -> dict[str, int]:
    """What a descriptor allows, by user or group; everything else is denied."""
    dacl = descriptor.GetSecurityDescriptorDacl()
    entries = [dacl.GetAce(number) for number in range(dacl.GetAceCount())]
    assert all(kind == (win32security.ACCESS_ALLOWED_ACE_TYPE, 0) for kind, _, _ in entries)
    return {win32security.ConvertSidToStringSid(sid): mask for _, mask, sid in entries}


def given(security: Any) -> dict[str, int]:
    return rights(security_attributes(parse_security(security)).SECURITY_DESCRIPTOR)


def test_the_current_user_and_the_system_may_connect_by_default() -> None:
    assert given("owner") == {me(): CONNECT_BOTH | CREATE, SYSTEM: CONNECT_BOTH}


def test_everyone_may_connect_and_only_the_owner_may_create_instances() -> None:
    assert given("everyone") == {me(): CONNECT_BOTH | CREATE, SYSTEM: CONNECT_BOTH, WORLD: CONNECT_BOTH}


def test_a_group_is_found_by_its_name_or_its_identifier() -> None:
    administrators = win32security.LookupAccountSid(None, win32security.ConvertStringSidToSid("S-1-5-32-544"))[0]
    for name in (administrators, "S-1-5-32-544"):
        assert given(f"group:{name}")["S-1-5-32-544"] == CONNECT_BOTH


def test_clients_may_be_let_only_read_or_only_write() -> None:
    only_read = given(Security(everyone=True, write=False))[WORLD]
    only_write = given(Security(everyone=True, read=False))[WORLD]
    assert (only_read & 0x3, only_write & 0x3) == (0x1, 0x2)
    assert not (only_read | only_write) & CREATE


def test_a_descriptor_in_text_form_takes_the_place_of_all_else() -> None:
    text = f"D:P(A;;GA;;;{SYSTEM})"
    assert security_text(Security(everyone=True, sddl=text)) == text
    assert set(given(Security(everyone=True, sddl=text))) == {SYSTEM}


@pytest.mark.parametrize("serve", [False, True])
def test_what_is_no_descriptor_or_no_group_is_an_argument_error(name: str, serve: bool) -> None:
    for security in (Security(sddl="nonsense"), Security(users=("there is nobody so named",))):
        with pytest.raises(npipe.PipeArgumentError):
            if serve:
                npipe.serve(name, bytes, security=security)
            else:
                npipe.listen(name, security=security)
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(name, timeout=0)


@pytest.mark.parametrize("model", ["listen", "threaded", "overlapped", "completion"])
def test_pipes_are_created_with_these_rules_and_refuse_other_machines(
    name: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, Any]] = []
    create = win32pipe.CreateNamedPipe

    def note(*arguments: Any) -> Any:
        made.append((arguments[2], arguments[7]))
        return create(*arguments)

    monkeypatch.setattr(win32pipe, "CreateNamedPipe", note)
    with npipe.listen(name) if model == "listen" else npipe.serve(name, bytes, model=model):
        pass
    assert made
    for mode, attributes in made:
        assert mode & win32pipe.PIPE_REJECT_REMOTE_CLIENTS
        assert rights(attributes.SECURITY_DESCRIPTOR) == given("owner")


def test_the_rules_are_the_pipes_own(name: str) -> None:
    with npipe.listen(name, security="everyone"), npipe.connect(name) as pipe:
        handle = pipe._file.handle  # type: ignore[attr-defined]
        information = win32security.DACL_SECURITY_INFORMATION
        descriptor = win32security.GetSecurityInfo(handle, win32security.SE_KERNEL_OBJECT, information)
        assert rights(descriptor) == given("everyone")


def test_a_pipe_of_another_user_is_refused_unless_told_otherwise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise npipe.PipeAccessError(5, name, "opening the pipe", "its owner is somebody else")

    monkeypatch.setattr(transport, "check_owner", refuse)
    with npipe.listen(name), pytest.raises(npipe.PipeAccessError):
        npipe.connect(name)
    with npipe.listen(name) as listener:
        with npipe.connect(name, verify_owner=False) as pipe, listener.accept(timeout=5):
            assert not pipe.closed
