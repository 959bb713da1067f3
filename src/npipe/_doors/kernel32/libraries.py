"""What loads a library of Windows' name: `WinDLL`, `windll`, `CDLL`, `cdll`, `find_library`."""

from __future__ import annotations

import ctypes
import functools
import ntpath
import os
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.kernel32 import files, finding, heap, objects, pipes, ports, security, system, threads
from npipe._doors.kernel32.functions import EXPORTS, Absent, Export, Function, missing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Library", "WinDLL", "finder", "initializer"]

_FUNCTIONS: Final = (files, finding, heap, objects, pipes, ports, security, system, threads)  # that they are registered

_SAME_AS: Final = {"kernelbase": "kernel32"}
_BESIDE: Final = frozenset(
    {
        "dbghelp",
        "gdi32",
        "iphlpapi",
        "netapi32",
        "ntdll",
        "ole32",
        "oleaut32",
        "psapi",
        "secur32",
        "shell32",
        "shlwapi",
        "user32",
        "userenv",
        "version",
        "wininet",
        "winmm",
        "ws2_32",
        "wtsapi32",
    }
)
"""Libraries that programs load beside. They have no function, but their functions can be named, since programs do that
where they begin and call few of them: the call fails.
"""

_FUNCFLAG_USE_ERRNO: Final = 8


def library_of(name: object) -> str | None:
    """Return which of Windows' libraries is meant by a name or a path; None for any other."""
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    base = ntpath.basename(os.fsdecode(name)).lower().removesuffix(".dll")
    base = _SAME_AS.get(base, base)
    return base if base in EXPORTS or base in _BESIDE else None


class Library(ctypes.CDLL):
    """A library whose functions are npipe's."""

    _exports: dict[str, Export]
    _library: str

    def load(self, name: object, *, use_errno: bool, use_last_error: bool) -> None:
        """Begin to be the library of that name, which there is."""
        self._library = library = library_of(name) or ""
        self._name = os.fsdecode(name)  # type: ignore[arg-type]
        self._handle = ctypes.pythonapi._handle  # noqa: SLF001 - a handle of the system's, for whoever asks it
        self._exports = EXPORTS.setdefault(library, {})
        self._FuncPtr = type(
            "_FuncPtr",
            (Function,),
            {
                "_flags_": Function._flags_ | (_FUNCFLAG_USE_ERRNO if use_errno else 0),
                "_restype_": self._func_restype_,
                "_last_error_": use_last_error,
                "__module__": "ctypes",
            },
        )

    def export(self, name: object) -> Export:
        """Return what is behind a function's name; AttributeError for one that there is not."""
        text = name.decode() if isinstance(name, bytes) else str(name)
        found = self._exports.get(text)
        if found is None and self._library in _BESIDE and text.isidentifier():
            found = self._exports[text] = Absent(self._name, text)
        if found is None:
            raise missing(self._name, name)
        return found

    def __getitem__(self, name_or_ordinal: Any) -> Any:
        made: Any = self._FuncPtr((name_or_ordinal, self))
        made.__name__ = name_or_ordinal
        return made


class WinDLL(Library):
    """ctypes.WinDLL: one of Windows' libraries. FileNotFoundError for one that npipe has not."""

    def __init__(
        self,
        name: Any,
        mode: int = 0,
        handle: int | None = None,
        use_errno: bool = False,
        use_last_error: bool = False,
        winmode: int | None = None,
    ) -> None:
        del mode, handle, winmode
        if library_of(name) is None:
            raise FileNotFoundError(
                f"Could not find module {name!r}: npipe has kernel32 and advapi32 (docs/porting.md)"
            )
        self.load(name, use_errno=use_errno, use_last_error=use_last_error)


class _CdeclLibrary(Library):
    """What `ctypes.CDLL` becomes of a library of Windows' name."""


def initializer(original: Callable[..., None], is_open: Callable[[], bool]) -> Callable[..., None]:
    """Return CDLL's `__init__`, which makes a `Library` of Windows' names."""

    @functools.wraps(original)
    def __init__(self: Any, name: Any = None, *arguments: Any, **keywords: Any) -> None:  # noqa: N807
        if not is_open() or type(self) is not ctypes.CDLL or library_of(name) is None:
            original(self, name, *arguments, **keywords)
            return
        self.__class__ = _CdeclLibrary
        given = dict(zip(("mode", "handle", "use_errno", "use_last_error", "winmode"), arguments, strict=False))
        given.update(keywords)
        self.load(name, use_errno=given.get("use_errno", False), use_last_error=given.get("use_last_error", False))

    return __init__


def finder(original: Callable[[str], str | None], is_open: Callable[[], bool]) -> Callable[[str], str | None]:
    """Return `ctypes.util.find_library`, which finds Windows' libraries too."""

    @functools.wraps(original)
    def find_library(name: str) -> str | None:
        library = library_of(name) if is_open() else None
        return original(name) if library is None else f"{library}.dll"

    return find_library
