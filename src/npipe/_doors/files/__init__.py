r"""The door of files: `open`, `io`, `os`, `pathlib` and `glob` on the names and the descriptors of pipes.

- `paths`: which paths name pipes; `listing`: what there is to know of one without opening it.
- `descriptors`: the numbers that `os.open` gives; `functions`: what stands in the place of `os`' functions.
- `raw`: `io.FileIO`; `duplex`: the buffer of both directions; `text`; `opening`: `open`.
- `errors`: OSError as on Windows; `scope`: whether the door is open.
"""

from __future__ import annotations

import builtins
import glob
import io
import os
import pathlib
import posixpath
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.base import Door, Patches
from npipe._doors.files import functions, listing, opening
from npipe._doors.files.descriptors import get_osfhandle, open_osfhandle
from npipe._doors.files.raw import FileIO
from npipe._doors.files.scope import SCOPE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FilesDoor", "get_osfhandle", "open_osfhandle"]

_SUPPORTS: Final = ("supports_dir_fd", "supports_effective_ids", "supports_fd", "supports_follow_symlinks")

_WINDOWS_FLAGS: Final = (
    "O_BINARY",
    "O_TEXT",
    "O_NOINHERIT",
    "O_RANDOM",
    "O_SEQUENTIAL",
    "O_SHORT_LIVED",
    "O_TEMPORARY",
)
"""Flags of `os.open` that Windows alone has; none of them is one for a pipe, and 0 is none on Linux."""


def _named_after(function: Any, original: Any) -> FunctionType:
    """Return a copy of a function that goes by the name of another, in its module."""
    copy = FunctionType(
        function.__code__, function.__globals__, original.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    for attribute in ("__module__", "__qualname__", "__doc__"):
        setattr(copy, attribute, getattr(original, attribute, None))
    return copy


class FilesDoor(Door):
    """Functions that know pipes, in the place of `open`, `io.open` and `io.FileIO`, and of functions of `os`."""

    name = "files"

    def __init__(self) -> None:
        super().__init__()
        self._patches = Patches()
        self._supported: list[tuple[set[Any], object]] = []

    def open(self) -> None:
        """Put the functions in place."""
        SCOPE.is_open = True
        for name, function in (functions.BY_PATH | functions.BY_DESCRIPTOR).items():
            self._replace(os, name, function)
        for name, (code, count) in functions.REFUSED.items():
            self._replace(os, name, functions.refusing(code, count))
        for name in functions.ABSOLUTE:
            self._replace(posixpath, name, functions.absolute)
        for name, function in functions.OF_NAMES.items():
            self._replace(posixpath, name, function)
        self._replace(glob, "iglob", listing.find_names)
        self._replace_in_globber()
        self._patches.replace(pathlib.Path, "iterdir", listing.iterdir_of)
        same = io.open is builtins.open
        self._replace(builtins, "open", opening.open_file)
        if same:
            self._patches.replace(io, "open", lambda _: builtins.open)
        else:
            self._replace(io, "open", opening.open_file)
        self._patches.replace(io, "FileIO", lambda _: FileIO)
        for name in _WINDOWS_FLAGS:
            if not hasattr(os, name):
                self._patches.replace(os, name, lambda _: 0)

    def close(self) -> None:
        """Put back what was there. Files that are open stay open."""
        SCOPE.is_open = False
        self._patches.undo()
        while self._supported:
            functions_of_os, ours = self._supported.pop()
            functions_of_os.discard(ours)

    def _replace(self, module: Any, name: str, function: Callable[..., Any]) -> None:
        """Put a function in the place of a module's, to be given the module's own first.

        It is a method, so that it is none of a class that has it as an attribute: the module's own is none either.
        """
        if not hasattr(module, name):
            return  # this system has none

        def make(original: Any) -> object:
            ours = MethodType(_named_after(function, original), original)
            for supports in _SUPPORTS if module is os else ():
                if original in getattr(os, supports):
                    getattr(os, supports).add(ours)
                    self._supported.append((getattr(os, supports), ours))
            return ours

        self._patches.replace(module, name, make)

    def _replace_in_globber(self) -> None:
        """Do so in the class that pathlib's glob has from Python 3.13 on, which keeps the functions."""
        globber = getattr(glob, "_StringGlobber", None)
        for name, function in (("lstat", functions.BY_PATH["lstat"]), ("scandir", functions.scandir_of_paths)):
            if globber is not None and name in vars(globber):
                self._replace(globber, name, function)
