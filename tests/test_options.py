from __future__ import annotations

import math
import os
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npipe import options
from npipe.errors import PipeArgumentError
from npipe.options import (
    AccessRule,
    Peek,
    Peer,
    PipeInfo,
    PipeListing,
    Security,
    check_timeout,
    client_access,
    default_timeout_ms,
    direction_name,
    is_message_mode,
    look_timeout,
    parse_security,
    pipe_direction,
    validate_buffer_size,
    validate_instances,
)

if sys.platform == "win32":
    ME = GROUP = -1
    MY_NAME = MY_GROUP = ""
else:
    import grp
    import pwd

    ME, GROUP = os.geteuid(), os.getegid()
    MY_NAME, MY_GROUP = pwd.getpwuid(ME).pw_name, grp.getgrgid(GROUP).gr_name


# --- Words


def test_modes_are_message_and_byte() -> None:
    assert is_message_mode("message") is True
    assert is_message_mode("byte") is False


@pytest.mark.parametrize(
    ("access", "direction"), [("inbound", 1), ("outbound", 2), ("duplex", 3), ("read", 1), ("write", 2)]
)
def test_listen_access_is_the_servers_direction(access: str, direction: int) -> None:
    assert pipe_direction(access) == direction


@pytest.mark.parametrize(
    ("access", "mask"),
    [("duplex", 3), ("read", 1), ("write", 2), ("none", 0), ("inbound", 2), ("outbound", 1)],
)
def test_client_access_reads_1_and_writes_2(access: str, mask: int) -> None:
    assert client_access(access) == mask


@pytest.mark.parametrize("word", ["inbound", "outbound", "duplex"])
def test_a_client_opening_with_the_pipes_direction_never_asks_for_what_it_forbids(word: str) -> None:
    direction, mask = pipe_direction(word), client_access(word)
    # Reading needs an outbound pipe, writing an inbound one (SEMANTICS §2.5).
    assert bool(mask & 1) == bool(direction & 2)
    assert bool(mask & 2) == bool(direction & 1)
    assert direction_name(direction) == word


@pytest.mark.parametrize("wrong", ["", "Duplex", "both", "message ", 3, None, ["duplex"]])
def test_unknown_words_are_argument_errors(wrong: str) -> None:
    for check in (is_message_mode, pipe_direction, client_access):
        with pytest.raises(PipeArgumentError) as caught:
            check(wrong)
        assert caught.value.winerror == 87
        assert repr(wrong) in str(caught.value)


def test_none_is_no_direction_for_a_pipe() -> None:
    with pytest.raises(ValueError, match='"inbound"'):
        pipe_direction("none")


@pytest.mark.parametrize("wrong", [0, 4, -1])
def test_unknown_direction_numbers_are_argument_errors(wrong: int) -> None:
    with pytest.raises(PipeArgumentError):
        direction_name(wrong)


# --- Numbers


@pytest.mark.parametrize("size", [0, 1, 5000, 65536, 2**32 - 1])
def test_any_dword_is_a_buffer_size(size: int) -> None:
    assert validate_buffer_size(size) == size


@pytest.mark.parametrize("size", [-1, 2**32, 10**30, True, False])
def test_other_buffer_sizes_are_argument_errors(size: int) -> None:
    with pytest.raises(PipeArgumentError, match="in_buffer_size") as caught:
        validate_buffer_size(size, "in_buffer_size")
    assert caught.value.winerror == 87


@pytest.mark.parametrize(("limit", "instances"), [(None, 255), (1, 1), (254, 254)])
def test_instance_limit_is_1_to_254_or_none(limit: int | None, instances: int) -> None:
    assert validate_instances(limit) == instances


@pytest.mark.parametrize("limit", [0, -1, 255, 256, True])
def test_other_instance_limits_are_argument_errors(limit: int) -> None:
    with pytest.raises(PipeArgumentError, match="max_instances") as caught:
        validate_instances(limit)
    assert caught.value.winerror == 87


@pytest.mark.parametrize("wrong", ["1", 1.0, b"1"])
def test_numbers_are_whole_numbers(wrong: int) -> None:
    with pytest.raises(TypeError, match="whole number"):
        validate_buffer_size(wrong)
    with pytest.raises(TypeError, match="whole number"):
        validate_instances(wrong)
    with pytest.raises(TypeError, match="whole number"):
        validate_buffer_size(None)  # type: ignore[arg-type]


# --- Times


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        (0, 50),
        (0.0, 50),
        (0.05, 50),
        (0.07, 70),
        (1e-9, 1),
        (0.0011, 2),
        (1, 1000),
        (None, 0xFFFFFFFF),
        (math.inf, 0xFFFFFFFF),
        (4294967.294, 0xFFFFFFFE),
    ],
)
def test_default_timeout_in_milliseconds(seconds: float | None, milliseconds: int) -> None:
    assert default_timeout_ms(seconds) == milliseconds


@pytest.mark.parametrize("seconds", [-0.001, math.nan, True, 4294967.295, 1e12])
def test_other_default_timeouts_are_argument_errors(seconds: float) -> None:
    with pytest.raises(PipeArgumentError):
        default_timeout_ms(seconds)


@given(st.integers(1, 0xFFFFFFFE))
def test_whole_milliseconds_survive(milliseconds: int) -> None:
    assert default_timeout_ms(milliseconds / 1000) == milliseconds


@pytest.mark.parametrize("timeout", [0, 0.0, 1, 0.25, 10**300, Fraction(1, 4), Decimal("0.25")])
def test_timeouts_are_seconds(timeout: float) -> None:
    checked = check_timeout(timeout)
    assert checked == float(timeout)
    assert type(checked) is float


@pytest.mark.parametrize("timeout", [None, math.inf, 10**400])
def test_none_and_infinity_are_for_ever(timeout: float | None) -> None:
    assert check_timeout(timeout) is None


class Flag:
    """A bool as numpy has one: no bool of Python's, but a number."""

    dtype = "bool"

    def __float__(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    "timeout", [-1, -0.001, -math.inf, -(10**400), math.nan, True, False, Decimal("nan"), Decimal("sNaN"), Flag()]
)
def test_negative_nan_and_bool_are_argument_errors(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout") as caught:
        check_timeout(timeout)
    assert type(caught.value) is PipeArgumentError


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None),
        (math.inf, None),
        (10**400, None),
        (-1, 0.0),
        (-math.inf, 0.0),
        (-(10**400), 0.0),
        (0, 0.0),
        (True, 1.0),
        (Decimal("0.25"), 0.25),
    ],
)
def test_timeouts_of_connections_are_multiprocessings(timeout: float | None, seconds: float | None) -> None:
    assert look_timeout(timeout) == seconds


@pytest.mark.parametrize("timeout", [math.nan, Decimal("nan"), Decimal("sNaN")])
def test_nan_is_no_timeout_of_connections_either(timeout: float) -> None:
    with pytest.raises(PipeArgumentError, match="timeout"):
        look_timeout(timeout)


@pytest.mark.parametrize("timeout", ["1", b"1", 1j, [], object()])
def test_timeouts_that_are_no_numbers_are_type_errors(timeout: float) -> None:
    with pytest.raises(TypeError, match="timeout"):
        check_timeout(timeout)


# --- Security


def test_owner_is_the_current_user_alone() -> None:
    security = parse_security("owner")
    assert security == Security()
    assert security.resolve() == AccessRule((ME,), (), everyone=False, access=3)


def test_everyone_is_everyone() -> None:
    assert parse_security("everyone").resolve() == AccessRule((ME,), (), everyone=True, access=3)


def test_group_is_found_by_name_or_number() -> None:
    gid, group = GROUP, MY_GROUP
    assert parse_security(f"group:{group}") == Security(groups=(group,))
    assert parse_security(f"group:{group}").resolve().gids == (gid,)
    assert parse_security(f"group:{gid}").resolve().gids == (gid,)


def test_users_and_groups_are_sorted_and_counted_once() -> None:
    security = Security(users=(70001, MY_NAME, "70000", ME), groups=(70003, 70002, "70003"))
    assert security.resolve() == AccessRule(tuple(sorted({ME, 70000, 70001})), (70002, 70003), everyone=False, access=3)


@pytest.mark.parametrize(("read", "write", "access"), [(True, False, 1), (False, True, 2)])
def test_read_and_write_are_the_clients(read: bool, write: bool, access: int) -> None:
    assert Security(read=read, write=write).resolve().access == access


def test_security_object_is_returned_as_it_is() -> None:
    security = Security(users=(ME,), sddl="D:(A;;GA;;;OW)")
    assert parse_security(security) is security
    assert security.resolve() == AccessRule((ME,), (), everyone=False, access=3)


def test_lists_of_users_are_frozen() -> None:
    users: list[str | int] = [70000]
    security = Security(users=users)  # type: ignore[arg-type]
    users.append(70001)
    assert security.users == (70000,)
    hash(security)


@pytest.mark.parametrize("text", ["", "Owner", "group", "group:", "user:x", "group:no such group", "group:a\0b"])
def test_unknown_security_text_is_an_argument_error(text: str) -> None:
    with pytest.raises(PipeArgumentError, match=r"security is|there is no group") as caught:
        parse_security(text)
    assert caught.value.winerror == 87


@pytest.mark.parametrize(
    "security",
    [
        Security(users=("no-such-user",)),
        Security(groups=("no-such-group",)),
        Security(users=(-1,)),
        Security(groups=(2**32 - 1,)),
    ],
)
def test_unknown_users_and_groups_fail_before_anything_is_created(security: Security) -> None:
    with pytest.raises(PipeArgumentError):
        parse_security(security)


def test_security_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="neither read nor write"):
        Security(read=False, write=False)


@pytest.mark.parametrize("wrong", [None, 1, b"owner", ("owner",)])
def test_security_of_another_type_is_a_type_error(wrong: str) -> None:
    with pytest.raises(TypeError, match="security is"):
        parse_security(wrong)


@pytest.mark.parametrize("who", ["root", b"root", 0])
def test_a_lone_user_or_group_is_a_type_error(who: tuple[str]) -> None:
    with pytest.raises(TypeError, match="users is a tuple"):
        Security(users=who)
    with pytest.raises(TypeError, match="groups is a tuple"):
        Security(groups=who)


@pytest.mark.parametrize("who", [True, 1.0, b"root", None])
def test_users_are_names_or_numbers(who: int) -> None:
    with pytest.raises(TypeError, match="a user is a name or a number"):
        Security(users=(who,)).resolve()


def test_module_needs_neither_pwd_nor_grp_to_be_imported() -> None:
    program = "import sys; sys.modules['pwd'] = sys.modules['grp'] = None; import npipe.options"
    source = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": source})


# --- Results


def test_a_peek_unpacks_into_data_available_and_left() -> None:
    data, available, left = Peek(b"ab", 5, 3)
    assert (data, available, left) == (b"ab", 5, 3)


def test_results_are_values() -> None:
    assert Peer(1, 0, "root", "here") == Peer(pid=1, uid=0, user="root", host="here")
    info = PipeInfo(
        name=r"\\.\pipe\x",
        type="message",
        read_mode="byte",
        direction="duplex",
        is_server=True,
        in_buffer_size=1,
        out_buffer_size=2,
        max_instances=None,
        instances=1,
    )
    assert info.max_instances is None
    hash(info)
    listing = PipeListing(r"\\.\pipe\x", "byte", "inbound", 1, 3, os.getpid(), "me")
    assert (listing.max_instances, listing.pid, listing.user) == (3, os.getpid(), "me")
    with pytest.raises(AttributeError):
        listing.pid = 1  # type: ignore[misc]


def test_exported_names_exist() -> None:
    assert all(hasattr(options, name) for name in options.__all__)
