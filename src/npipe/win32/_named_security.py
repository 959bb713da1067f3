"""Who may do what with a file or a pipe, by its name."""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from npipe.names import is_pipe_root
from npipe.win32._object_security import default_descriptor, descriptor_of_file, known, parts
from npipe.win32._opening import create_file
from npipe.win32._paths import is_device, local_path
from npipe.win32_error import make_error, text_of

if TYPE_CHECKING:
    from npipe.win32._security import ACL, SECURITY_DESCRIPTOR
    from npipe.win32._sid import SID

__all__ = ["GetFileSecurity", "GetNamedSecurityInfo", "SetFileSecurity", "SetNamedSecurityInfo"]

_READ_CONTROL: Final = 0x20000
_OPEN_EXISTING: Final = 3


def GetNamedSecurityInfo(ObjectName: str, ObjectType: int, SecurityInfo: int, /) -> SECURITY_DESCRIPTOR:
    """GetNamedSecurityInfo: of a file, or of a pipe, which is opened for it.

    Raises 2, 5, 231, and as GetSecurityInfo.
    """
    del ObjectType
    return _named(ObjectName, SecurityInfo, "GetNamedSecurityInfo")


def GetFileSecurity(filename: str, info: int = 7, /) -> SECURITY_DESCRIPTOR:
    """GetFileSecurity: as GetNamedSecurityInfo."""
    return _named(filename, info, "GetFileSecurity")


def _named(name: object, info: int, function: str) -> SECURITY_DESCRIPTOR:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    text = text_of(name)
    if is_pipe_root(text):
        return parts((default_descriptor(os.geteuid(), os.getegid()), True), info, function)
    if not is_device(text):
        try:
            status = Path(local_path(text, function)).stat()
        except FileNotFoundError:
            raise make_error(2, function) from None
        except OSError:
            raise make_error(5, function) from None
        return parts((descriptor_of_file(status), True), info, function)
    handle = create_file(function, text, (_READ_CONTROL, 0, _OPEN_EXISTING, 0))
    try:
        return parts(known(handle, function), info, function)
    finally:
        handle.Close()


def SetNamedSecurityInfo(
    ObjectName: str,
    ObjectType: int,
    SecurityInfo: int,
    Owner: SID | None,
    Group: SID | None,
    Dacl: ACL | None,
    Sacl: ACL | None,
    /,
) -> None:
    """SetNamedSecurityInfo: raises 50; by its name a pipe is opened as a client, and a file's mode is `os.chmod`'s."""
    del ObjectName, ObjectType, SecurityInfo, Owner, Group, Dacl, Sacl
    raise make_error(50, "SetNamedSecurityInfo")


def SetFileSecurity(filename: str, info: int, security: SECURITY_DESCRIPTOR, /) -> None:
    """SetFileSecurity: raises 50, as SetNamedSecurityInfo."""
    del filename, info, security
    raise make_error(50, "SetFileSecurity")
