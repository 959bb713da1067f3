"""What the modules with pywin32's names share: the constants and the error."""

from __future__ import annotations

import copy
import importlib
import pickle
from typing import Any

import pytest

from npipe.win32 import win32con, winerror
from npipe.win32._offered import _no_such
from npipe.win32_error import error, make_error, message_of

# --- Constants


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ERROR_SUCCESS", 0),
        ("ERROR_INVALID_FUNCTION", 1),
        ("ERROR_FILE_NOT_FOUND", 2),
        ("ERROR_ACCESS_DENIED", 5),
        ("ERROR_INVALID_HANDLE", 6),
        ("ERROR_HANDLE_EOF", 38),
        ("ERROR_INVALID_PARAMETER", 87),
        ("ERROR_BROKEN_PIPE", 109),
        ("ERROR_SEM_TIMEOUT", 121),
        ("ERROR_INVALID_NAME", 123),
        ("ERROR_BAD_PATHNAME", 161),
        ("ERROR_FILENAME_EXCED_RANGE", 206),
        ("ERROR_PIPE_LOCAL", 229),
        ("ERROR_BAD_PIPE", 230),
        ("ERROR_PIPE_BUSY", 231),
        ("ERROR_NO_DATA", 232),
        ("ERROR_PIPE_NOT_CONNECTED", 233),
        ("ERROR_MORE_DATA", 234),
        ("WAIT_TIMEOUT", 258),
        ("ERROR_PIPE_CONNECTED", 535),
        ("ERROR_PIPE_LISTENING", 536),
        ("ERROR_ABANDONED_WAIT_0", 735),
        ("ERROR_OPERATION_ABORTED", 995),
        ("ERROR_IO_INCOMPLETE", 996),
        ("ERROR_IO_PENDING", 997),
        ("ERROR_NOT_FOUND", 1168),
        ("ERROR_NONE_MAPPED", 1332),
        ("ERROR_CANNOT_IMPERSONATE", 1368),
        ("S_OK", 0),
        ("E_FAIL", -2147467259),
        ("E_ACCESSDENIED", -2147024891),
    ],
)
def test_winerror_has_windows_codes(name: str, value: int) -> None:
    assert getattr(winerror, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GENERIC_READ", -0x80000000),
        ("GENERIC_WRITE", 0x40000000),
        ("GENERIC_ALL", 0x10000000),
        ("SYNCHRONIZE", 0x100000),
        ("OPEN_EXISTING", 3),
        ("FILE_FLAG_OVERLAPPED", 0x40000000),
        ("FILE_FLAG_WRITE_THROUGH", -0x80000000),
        ("SECURITY_SQOS_PRESENT", 0x100000),
        ("PIPE_ACCESS_DUPLEX", 3),
        ("PIPE_TYPE_MESSAGE", 4),
        ("PIPE_READMODE_MESSAGE", 2),
        ("PIPE_NOWAIT", 1),
        ("PIPE_UNLIMITED_INSTANCES", 255),
        ("NMPWAIT_WAIT_FOREVER", -1),
        ("WAIT_OBJECT_0", 0),
        ("WAIT_IO_COMPLETION", 192),
        ("WAIT_FAILED", -1),
        ("DUPLICATE_SAME_ACCESS", 2),
        ("FILE_TYPE_PIPE", 3),
        ("SE_DEBUG_NAME", "SeDebugPrivilege"),
    ],
)
def test_win32con_has_pywin32s_values_and_signs(name: str, value: object) -> None:
    assert getattr(win32con, name) == value


def test_the_two_modules_agree_where_both_have_a_name() -> None:
    common = {name for name in vars(win32con) if name.isupper()} & set(vars(winerror))
    assert "WAIT_TIMEOUT" in common
    assert {name: getattr(win32con, name) for name in common} == {name: getattr(winerror, name) for name in common}


@pytest.mark.parametrize("module", ["winerror", "win32con", "win32security"])
def test_a_star_import_brings_pywin32s_names_and_no_others(module: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from npipe.win32.{module} import *", names)
    assert not {"annotations", "TYPE_CHECKING"} & set(names)
    assert len(names) > 50


@pytest.mark.parametrize("module", ["winerror", "win32con", "win32security"])
def test_a_missing_name_is_an_attribute_error_that_names_it(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'NO_SUCH_THING' .npipe offers pipes"):
        _ = importlib.import_module(f"npipe.win32.{module}").NO_SUCH_THING


def test_a_missing_name_in_a_from_import_is_named() -> None:
    with pytest.raises(ImportError, match="NO_SUCH_THING"):
        exec("from npipe.win32.win32con import NO_SUCH_THING")


def test_the_error_for_a_missing_name_carries_it() -> None:
    missing = _no_such("win32pipe", "CreatePipeEx")
    assert missing.name == "CreatePipeEx"
    assert "win32pipe" in str(missing)


def test_hresults_are_taken_apart_and_made_as_by_pywin32() -> None:
    denied = winerror.HRESULT_FROM_WIN32(winerror.ERROR_ACCESS_DENIED)
    assert denied == winerror.E_ACCESSDENIED
    assert winerror.FAILED(denied)
    assert not winerror.SUCCEEDED(denied)
    assert winerror.SUCCEEDED(winerror.S_FALSE)
    assert winerror.HRESULT_CODE(denied) == 5
    assert winerror.HRESULT_FACILITY(denied) == winerror.FACILITY_WIN32
    assert winerror.HRESULT_SEVERITY(denied) == winerror.SEVERITY_ERROR
    assert winerror.HRESULT_FROM_WIN32(0) == 0


# --- The error


def test_the_error_is_pywin32s_class_in_name_and_shape() -> None:
    made = make_error(5, "CreateFile")
    assert (made.winerror, made.funcname, made.strerror) == (5, "CreateFile", "Access is denied.")
    assert made.args == (5, "CreateFile", "Access is denied.")
    assert str(made) == "(5, 'CreateFile', 'Access is denied.')"
    assert repr(made) == "error(5, 'CreateFile', 'Access is denied.')"
    assert error.__name__ == error.__qualname__ == "error"
    assert error.__module__ == "pywintypes"
    assert error.__bases__ == (Exception,)
    assert not issubclass(error, OSError)


@pytest.mark.parametrize(
    ("arguments", "attributes"),
    [
        ((), (None, None, None)),
        (("foo",), ("foo", None, None)),
        (("foo", "bar", "you", "never", "kn", 0), ("foo", "bar", "you")),
    ],
)
def test_the_error_takes_any_number_of_arguments(arguments: tuple[Any, ...], attributes: tuple[Any, ...]) -> None:
    made = error(*arguments)
    assert made.args == arguments
    assert (made.winerror, made.funcname, made.strerror) == attributes


class Refined(error):
    """A subclass, as programs make them."""


@pytest.mark.parametrize("kind", [error, Refined])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling(kind: type[error], protocol: int) -> None:
    made = kind(231, "CreateFile", "All pipe instances are busy.")
    made.conformance_extra = ["abc"]  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(made, protocol))
    assert type(again) is kind
    assert again.args == made.args
    assert vars(again) == vars(made)


def test_an_error_survives_a_copy() -> None:
    assert copy.copy(make_error(2, "CreateFile")).args == (
        2,
        "CreateFile",
        "The system cannot find the file specified.",
    )


def test_a_code_without_a_text_says_so_as_pywin32_does() -> None:
    assert make_error(54321, "F").strerror == "No error message is available"
    assert message_of(54321) is None


def test_every_code_of_the_semantics_has_windows_text() -> None:
    codes = (1, 2, 3, 5, 6, 87, 109, 121, 123, 161, 206, 229, 230, 231, 232, 233, 234, 258, 535, 536, 995, 996, 997)
    for code in (*codes, 1168, 1368):
        text = message_of(code)
        assert text is not None
        assert text.endswith(".")
