"""pywin32's `win32gui`, windows, menus and messages: without a name, for there are none here.

Programs import it beside what they need for pipes. Importing it is no error, so that they come to their pipes; each
name that they ask for is an AttributeError that says why it is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npipe.win32._offered import _no_such

if not TYPE_CHECKING:
    __all__ = []

    def __getattr__(name: str) -> object:
        raise _no_such("win32gui", name)


del annotations, TYPE_CHECKING
