"""`winreg`: a registry that has its root keys and nothing below them.

A program's branch for Windows imports it, and asks for what may not be there: FileNotFoundError (2). What would change
the registry is PermissionError (5).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Self

from npipe._doors.as_windows.environment import Environment
from npipe._doors.os_errors import os_error
from npipe.win32._offered import missing_name

if TYPE_CHECKING:
    from collections.abc import Callable

HKEY_CLASSES_ROOT: Final = 0x80000000
HKEY_CURRENT_USER: Final = 0x80000001
HKEY_LOCAL_MACHINE: Final = 0x80000002
HKEY_USERS: Final = 0x80000003
HKEY_PERFORMANCE_DATA: Final = 0x80000004
HKEY_CURRENT_CONFIG: Final = 0x80000005
HKEY_DYN_DATA: Final = 0x80000006

KEY_QUERY_VALUE: Final = 0x1
KEY_SET_VALUE: Final = 0x2
KEY_CREATE_SUB_KEY: Final = 0x4
KEY_ENUMERATE_SUB_KEYS: Final = 0x8
KEY_NOTIFY: Final = 0x10
KEY_CREATE_LINK: Final = 0x20
KEY_WOW64_64KEY: Final = 0x100
KEY_WOW64_32KEY: Final = 0x200
KEY_WRITE: Final = 0x20006
KEY_READ: Final = 0x20019
KEY_EXECUTE: Final = 0x20019
KEY_ALL_ACCESS: Final = 0xF003F

REG_NONE: Final = 0
REG_SZ: Final = 1
REG_EXPAND_SZ: Final = 2
REG_BINARY: Final = 3
REG_DWORD: Final = 4
REG_DWORD_LITTLE_ENDIAN: Final = 4
REG_DWORD_BIG_ENDIAN: Final = 5
REG_LINK: Final = 6
REG_MULTI_SZ: Final = 7
REG_RESOURCE_LIST: Final = 8
REG_FULL_RESOURCE_DESCRIPTOR: Final = 9
REG_RESOURCE_REQUIREMENTS_LIST: Final = 10
REG_QWORD: Final = 11
REG_QWORD_LITTLE_ENDIAN: Final = 11

error: type[OSError] = OSError

_NOT_FOUND: Final = 2
_ACCESS_DENIED: Final = 5
_INVALID_HANDLE: Final = 6
_NO_MORE_ITEMS: Final = 259
_ENVIRONMENT: Final = Environment()
_ROOTS: Final = range(HKEY_CLASSES_ROOT, HKEY_DYN_DATA + 1)


class HKEYType:
    """A root key that is open."""

    def __init__(self, handle: int) -> None:
        self.handle: int = handle

    def Close(self) -> None:  # noqa: N802 - Windows' names, here and below
        """Close it; also twice."""
        self.handle = 0

    def Detach(self) -> int:  # noqa: N802
        """Return the handle, and have it no more."""
        handle = self.handle
        self.handle = 0
        return handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.Close()

    def __int__(self) -> int:
        return self.handle

    def __bool__(self) -> bool:
        return self.handle != 0

    def __repr__(self) -> str:
        return f"<PyHKEY:{self.handle:#018x}>"


def _root(key: HKEYType | int) -> int:
    handle = int(key)
    if handle not in _ROOTS:
        raise os_error(_INVALID_HANDLE)
    return handle


def OpenKey(  # noqa: N802
    key: HKEYType | int,
    sub_key: str | None,
    reserved: int = 0,  # noqa: ARG001 - as on Windows
    access: int = KEY_READ,  # noqa: ARG001
) -> HKEYType:
    """Return a root key again, for a `sub_key` that is empty; there is no other."""
    handle = _root(key)
    if sub_key:
        raise os_error(_NOT_FOUND)
    return HKEYType(handle)


OpenKeyEx: Callable[..., HKEYType] = OpenKey


def ConnectRegistry(computer_name: str | None, key: HKEYType | int) -> HKEYType:  # noqa: N802
    """Return a root key of this machine; of another one it is error 53, the network path was not found."""
    if computer_name:
        raise os_error(53)
    return HKEYType(_root(key))


def CloseKey(hkey: HKEYType | int) -> None:  # noqa: N802
    """Close a key."""
    if isinstance(hkey, HKEYType):
        hkey.Close()


def QueryInfoKey(key: HKEYType | int) -> tuple[int, int, int]:  # noqa: N802
    """Return how many keys and values are below a key, none, and when it was changed, never."""
    _root(key)
    return 0, 0, 0


def _none(key: HKEYType | int, name: str | None) -> Any:  # noqa: ARG001
    _root(key)
    raise os_error(_NOT_FOUND)


def _no_more(key: HKEYType | int, index: int) -> Any:  # noqa: ARG001
    _root(key)
    raise os_error(_NO_MORE_ITEMS)


def _denied(*_: Any, **_keywords: Any) -> Any:
    raise os_error(_ACCESS_DENIED)


QueryValue: Callable[..., Any] = _none
QueryValueEx: Callable[..., Any] = _none
EnumKey: Callable[..., Any] = _no_more
EnumValue: Callable[..., Any] = _no_more
CreateKey: Callable[..., Any] = _denied
CreateKeyEx: Callable[..., Any] = _denied
SetValue: Callable[..., Any] = _denied
SetValueEx: Callable[..., Any] = _denied
DeleteKey: Callable[..., Any] = _denied
DeleteKeyEx: Callable[..., Any] = _denied
DeleteValue: Callable[..., Any] = _denied
FlushKey: Callable[..., Any] = _denied
LoadKey: Callable[..., Any] = _denied
SaveKey: Callable[..., Any] = _denied


def ExpandEnvironmentStrings(string: str) -> str:  # noqa: N802
    """Return a text in which %NAME% is the variable's value, where there is one."""
    return re.sub(r"%([^%]+)%", lambda found: _ENVIRONMENT.get(found[1], found[0]), string)


def __getattr__(name: str) -> Any:
    raise missing_name("winreg", name, "see npipe's docs/porting.md")
