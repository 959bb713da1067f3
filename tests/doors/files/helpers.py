"""What the tests of the files' door share."""

from __future__ import annotations

import builtins
import codecs
import glob
import io
import os
import pathlib
import posixpath
import shutil
import subprocess
import tempfile
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable


PROGRAMS = Path(__file__).parents[1] / "programs"
MODULES: tuple[Any, ...] = (builtins, io, os, posixpath, glob, pathlib, shutil, codecs, tempfile, tokenize, subprocess)
DEADLINE = h.DEADLINE


def everything() -> dict[tuple[str, str], object]:
    """Every name of the modules that the door, or what stands on them, has to do with."""
    return {(module.__name__, name): value for module in MODULES for name, value in vars(module).items()}


def changed(before: dict[tuple[str, str], object]) -> list[tuple[str, str]]:
    now = everything()
    return sorted(key for key in before.keys() | now.keys() if before.get(key) is not now.get(key))


class Peer:
    """The server's end of a pipe, which reads and writes bytes."""

    def __init__(self, name: str, access: str = "duplex", mode: str = "byte", **options: Any) -> None:
        self.listener: Any = npipe.listen(name, mode=mode, access=access, **options)  # type: ignore[call-overload]
        self.pipe: Any = None

    def accept(self) -> Any:
        self.pipe = self.listener.accept(DEADLINE)
        return self.pipe

    def close(self) -> None:
        if self.pipe is not None:
            self.pipe.close()
        self.listener.close()


def fails(number: int, call: Callable[[], object], winerror: int | None = None) -> OSError:
    """The call raises the OSError that it raises on Windows."""
    with pytest.raises(OSError) as caught:
        call()
    error: Any = caught.value
    assert (error.errno, error.winerror) == (number, winerror), repr(error)
    assert isinstance(error, OSError)
    return error
