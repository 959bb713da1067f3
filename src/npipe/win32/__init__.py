"""pywin32's modules on Linux: `win32pipe`, `win32file`, `win32event` and what belongs to them.

    from npipe.win32 import pywintypes, win32file, win32pipe

They have the names, signatures, results and exceptions of pywin32 312, as far as pipes, events, overlapped I/O and
completion ports go, and what programs with pipes name besides: tokens, processes, files, services that run in the
foreground. A name that is missing raises `AttributeError` where it is used, or `ImportError` in a `from` import, which
says why. On Windows they are pywin32's modules themselves.

`install()` lets programs that say `import win32pipe` run unchanged; the command `npipe run SCRIPT` does it for a
script. Neither happens by itself.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from npipe.win32._modules import NAMES as _MODULES

if TYPE_CHECKING:
    from npipe._doors import Installation, install

__all__ = ["Installation", "install"]

if sys.platform == "win32":
    from npipe.win32._windows import alias

    alias(__name__, _MODULES, completion=f"{__name__}._completion_windows")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        import importlib

        if name in __all__:  # they stand above everything else: a door may lead to any face
            return getattr(importlib.import_module("npipe._doors"), name)
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
        return importlib.import_module(f"{__name__}.{name}")
