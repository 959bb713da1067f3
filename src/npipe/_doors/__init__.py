"""The doors by which programs for Windows reach pipes, opened for a scope: `npipe.win32.install()`.

A *door* is one way to a pipe that a program takes on Windows and that Linux has not: pywin32's modules, `open` on a
pipe's name, asyncio's Proactor loop, ctypes' kernel32, the modules `_winapi`, `_overlapped` and `msvcrt`, the name of
the platform itself. Each one is a `Door`, opened by name, for as long as an `Installation` that asks for it lasts.
docs/porting.md says what each of them does, and what it cannot.
"""

from __future__ import annotations

from npipe._doors.installation import DOORS, Installation, install

__all__ = ["DOORS", "Installation", "install"]
