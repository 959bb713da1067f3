"""Who may connect, by a Windows security descriptor."""

from __future__ import annotations

import os

import pytest

from npipe.options import AccessRule
from npipe.win32 import _security, win32security
from npipe.win32._access import access_rule

ME = os.geteuid()
READ, WRITE, BOTH = 1, 2, 3
INBOUND, OUTBOUND = 1, 2
STRANGER, OTHER_STRANGER = 54321, 54322  # users and groups that need not exist
NOT_ROOT = pytest.mark.skipif(ME == 0, reason="LocalSystem and Administrators are the owner when root runs the test")


def attributes_of(text: str) -> _security.SECURITY_ATTRIBUTES:
    sddl = text.format(a=f"S-1-22-1-{STRANGER}", b=f"S-1-22-1-{OTHER_STRANGER}", g=f"S-1-22-2-{STRANGER}")
    attributes = win32security.SECURITY_ATTRIBUTES()
    attributes.SECURITY_DESCRIPTOR = win32security.ConvertStringSecurityDescriptorToSecurityDescriptor(sddl, 1)
    return attributes


def rule(text: str, direction: int = 3) -> AccessRule:
    return access_rule(attributes_of(text), direction)


def ids(*others: int) -> tuple[int, ...]:
    return tuple(sorted({ME, *others}))


def test_without_a_list_only_the_current_user_may_connect() -> None:
    attributes = win32security.SECURITY_ATTRIBUTES()
    for given in (None, attributes, attributes_of("O:SY")):
        assert access_rule(given) == AccessRule((ME,), (), False, BOTH)
    attributes.SetSecurityDescriptorDacl(0, None, 0)
    assert access_rule(attributes) == AccessRule((ME,), (), False, BOTH)
    attributes.SECURITY_DESCRIPTOR = None
    assert access_rule(attributes) == AccessRule((ME,), (), False, BOTH)


def test_a_list_that_is_present_and_none_lets_everyone_in() -> None:
    attributes = win32security.SECURITY_ATTRIBUTES()
    attributes.SetSecurityDescriptorDacl(1, None, 0)
    assert access_rule(attributes) == rule("D:NO_ACCESS_CONTROL") == AccessRule((ME,), (), True, BOTH)


def test_an_empty_list_lets_nobody_read_or_write() -> None:
    assert rule("D:") == AccessRule((ME,), (), False, 0)


@pytest.mark.parametrize("trustee", ["WD", "AU", "BU", "S-1-2-0"])
def test_everyone_is_whoever_has_a_process_here(trustee: str) -> None:
    assert rule(f"D:(A;;GA;;;{trustee})") == AccessRule((ME,), (), True, BOTH)


@pytest.mark.parametrize(
    ("rights", "access"),
    [
        ("GA", BOTH),
        ("FA", BOTH),
        ("GRGW", BOTH),
        ("FRFW", BOTH),
        ("0x12019f", BOTH),
        ("GR", READ),
        ("FR", READ),
        ("0x1", READ),
        ("GW", WRITE),
        ("FW", WRITE),
        ("0x2", WRITE),
    ],
)
def test_reading_and_writing_are_told_apart(rights: str, access: int) -> None:
    assert rule(f"D:(A;;{rights};;;WD)") == AccessRule((ME,), (), True, access)


def test_other_rights_let_nobody_in() -> None:
    assert rule("D:(A;;RCSDWDWO;;;WD)") == AccessRule((ME,), (), False, 0)


def test_users_and_groups_are_those_that_are_named() -> None:
    assert rule("D:(A;;GA;;;{a})(A;;GA;;;{g})") == AccessRule(ids(STRANGER), (STRANGER,), False, BOTH)


def test_system_and_administrators_are_root() -> None:
    assert rule("D:(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;{a})") == AccessRule(ids(0, STRANGER), (), False, BOTH)


def test_the_owner_comes_by_any_of_his_names() -> None:
    for trustee in ("OW", "CO", f"S-1-22-1-{ME}"):
        assert rule(f"D:(A;;GR;;;{trustee})") == AccessRule((ME,), (), False, READ)


def test_the_demo_of_pywin32s_service_lets_everyone_read_and_write() -> None:
    assert rule("D:(A;;0x12019f;;;WD)(A;;FA;;;CO)") == AccessRule((ME,), (), True, BOTH)


def test_who_is_granted_less_than_the_owner_is_left_out() -> None:
    """As with Windows' own default, which lets everyone read; npipe's default is stricter too."""
    assert rule("D:(A;;GA;;;OW)(A;;GR;;;WD)(A;;GA;;;{a})") == AccessRule(ids(STRANGER), (), False, BOTH)


def test_rights_that_the_direction_makes_no_use_of_are_not_compared() -> None:
    text = "D:(A;;GA;;;OW)(A;;GR;;;WD)"
    assert rule(text, OUTBOUND) == AccessRule((ME,), (), True, READ)
    assert rule(text, INBOUND) == AccessRule((ME,), (), False, WRITE)


def test_who_is_granted_more_than_the_owner_gets_as_much() -> None:
    assert rule("D:(A;;GR;;;OW)(A;;GA;;;{a})") == AccessRule(ids(STRANGER), (), False, READ)


def test_without_the_owner_it_is_what_all_have_in_common() -> None:
    assert rule("D:(A;;GR;;;{a})(A;;GA;;;{b})") == AccessRule(ids(STRANGER, OTHER_STRANGER), (), False, READ)
    assert rule("D:(A;;GR;;;{a})(A;;GW;;;{b})") == AccessRule((ME,), (), False, 0)


def test_what_everyone_is_granted_adds_to_what_a_user_is() -> None:
    assert rule("D:(A;;GR;;;OW)(A;;GW;;;WD)") == AccessRule((ME,), (), False, BOTH)


def test_a_right_is_settled_by_the_first_entry_about_it() -> None:
    assert rule("D:(D;;GW;;;WD)(A;;GA;;;WD)") == AccessRule((ME,), (), True, READ)
    assert rule("D:(A;;GA;;;WD)(D;;GW;;;WD)") == AccessRule((ME,), (), True, BOTH)


def test_what_one_user_is_denied_nobody_gets_by_a_group_or_as_everyone() -> None:
    assert rule("D:(D;;GA;;;{a})(A;;GA;;;WD)(A;;GA;;;{g})(A;;GA;;;{b})") == AccessRule(
        ids(OTHER_STRANGER), (), False, BOTH
    )
    assert rule("D:(D;;GW;;;{a})(A;;GA;;;{g})") == AccessRule((ME,), (STRANGER,), False, READ)


def test_what_a_group_is_denied_no_user_gets_who_may_be_in_it() -> None:
    assert rule("D:(D;;GA;;;{g})(A;;GA;;;{a})") == AccessRule((ME,), (), False, 0)


@pytest.mark.parametrize("trustee", ["NU", "AN", "BG", "S-1-5-21-1-2-3-500"])
def test_who_is_not_on_this_machine_changes_nothing(trustee: str) -> None:
    assert rule(f"D:(D;;GA;;;{trustee})(A;;GA;;;WD)") == AccessRule((ME,), (), True, BOTH)
    assert rule(f"D:(A;;GA;;;{trustee})") == AccessRule((ME,), (), False, 0)


@pytest.mark.parametrize("trustee", ["IU", "SU", "RC", "CG", "S-1-5-3"])
def test_who_cannot_be_told_gets_nothing_and_denies_everyone(trustee: str) -> None:
    assert rule(f"D:(A;;GA;;;{trustee})") == AccessRule((ME,), (), False, 0)
    assert rule(f"D:(D;;GA;;;{trustee})(A;;GA;;;WD)(A;;GA;;;{{a}})").uids == (ME,)
    assert not rule(f"D:(D;;GA;;;{trustee})(A;;GA;;;WD)").everyone


def test_entries_for_children_only_are_not_about_the_pipe() -> None:
    assert rule("D:(A;OICIIO;GA;;;WD)") == AccessRule((ME,), (), False, 0)


def test_the_owners_groups_count_for_the_owner() -> None:
    assert rule(f"D:(A;;GA;;;S-1-22-2-{os.getegid()})(A;;GR;;;{{a}})") == AccessRule(
        (ME,), (os.getegid(),), False, BOTH
    )


@NOT_ROOT
def test_root_is_somebody_else_than_the_owner() -> None:
    assert rule("D:(A;;GA;;;SY)(A;;GR;;;WD)") == AccessRule(ids(0), (), True, READ)


@pytest.mark.parametrize("given", ["everyone", 0, win32security.SECURITY_DESCRIPTOR()])
def test_what_are_no_security_attributes_is_a_type_error(given: object) -> None:
    with pytest.raises(TypeError, match="PySECURITY_ATTRIBUTES"):
        access_rule(given)
