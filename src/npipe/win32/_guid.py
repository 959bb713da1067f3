"""pywin32's GUIDs."""
# ruff: noqa: N802 - pywin32's names

from __future__ import annotations

import uuid
from typing import Any

from npipe.binding.buffers import Readable

__all__ = ["IID", "CreateGuid", "IIDType", "com_error"]

_INVALID_CLASS_STRING = -2147221005


class com_error(Exception):  # noqa: N801, N818 - pywin32's name
    """A COM call failed; only a GUID's text that is none raises it here, programs name it beside `error`."""

    __module__ = "pywintypes"

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.hresult: object
        self.strerror: object
        self.excepinfo: object
        self.argerror: object
        self.hresult, self.strerror, self.excepinfo, self.argerror = (*args, None, None, None, None)[:4]


class IIDType(Readable):
    """A GUID: equal, hashed and ordered by its 16 bytes; its text has braces and capitals."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        self._bytes = data  # as in memory: the first three parts with their lowest byte first

    def __bytes__(self) -> bytes:
        return self._bytes

    def __eq__(self, other: object) -> bool:
        return self._bytes == other._bytes if isinstance(other, IIDType) else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self._bytes < other._bytes if isinstance(other, IIDType) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._bytes <= other._bytes if isinstance(other, IIDType) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._bytes > other._bytes if isinstance(other, IIDType) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._bytes >= other._bytes if isinstance(other, IIDType) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __str__(self) -> str:
        return f"{{{str(uuid.UUID(bytes_le=self._bytes)).upper()}}}"

    def __repr__(self) -> str:
        return f"IID('{self}')"


IIDType.__name__ = IIDType.__qualname__ = "PyIID"


def IID(iidString: Any, is_bytes: object = False, /) -> IIDType:  # noqa: N803
    """Return the GUID of a text "{00020400-0000-0000-C000-000000000046}", or, with `is_bytes`, of 16 bytes.

    `com_error` -2147221005 for another text: there are no classes here that have names.
    """
    if is_bytes:
        data = bytes(memoryview(iidString))
        if len(data) < 16:
            raise ValueError(f"string too small - must be at least 16 bytes (got {len(data)})")
        return IIDType(data[:16])
    if isinstance(iidString, IIDType):
        return iidString
    if not isinstance(iidString, str):
        raise TypeError(f"Objects of type '{type(iidString).__name__}' can not be converted to Unicode.")
    if len(iidString) == 38 and iidString[0] == "{" and iidString[-1] == "}":
        try:
            return IIDType(uuid.UUID(iidString).bytes_le)
        except ValueError:
            pass
    raise com_error(_INVALID_CLASS_STRING, "Invalid class string", None, None)


def CreateGuid() -> IIDType:
    """Return a GUID that nobody has had before."""
    return IIDType(uuid.uuid4().bytes_le)
