"""Pipes' handles that child processes inherit, and DuplicateHandle from one process to another.

On Windows both processes have the handle then. Here a connected end is one process's at a time: it goes to the other
one when that uses it, and this one has it no more (error 6). A handle that is closed here before goes there at once, so
what programs do (start a child, close the own handle) does what it does on Windows. An instance that listens, or an end
with an operation under way, cannot go: 233, 231; it can be asked for again. So can one after a signal's handler has
raised; in the handler itself, the number for which its thread asks is 231.

Each connected end has one more descriptor for this, that of its segment (docs/protocol.md, section 7).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import travel as _travel
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "VARIABLE",
    "duplicate_handle",
    "inherited_by",
    "mark",
    "open_standard_streams",
    "opens_standard_streams",
    "standard_streams",
]

VARIABLE = _travel.VARIABLE

_CURRENT_PROCESS = -1
_CLOSE_SOURCE = 1


def mark(handle: PyHANDLE, attributes: object) -> PyHANDLE:
    """Return a new handle that is inheritable if the SECURITY_ATTRIBUTES say so."""
    if getattr(attributes, "bInheritHandle", False):
        _handles.set_handle_inheritable(handle, True, "CreateFile")
    return handle


@contextlib.contextmanager
def inherited_by(handles: Iterable[int] | None = None) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Lend handles of pipes to a child that is started within: (variables for its environment, descriptors for it).

    `handles` None: all that are inheritable (bInheritHandles of CreateProcess); else these alone, as in a
    PROC_THREAD_ATTRIBUTE_HANDLE_LIST, each of which has to be inheritable (error 87) and still this process's (6).
    Those that are no pipes' are left out. If no child comes of it, nothing has happened.
    """
    available = _travel.inheritable_pipes()
    if handles is None:
        chosen = available
    else:
        chosen = [int(handle) for handle in handles]
        if any(not _handles.handle_is_inheritable(handle, "CreateProcess") for handle in chosen):
            raise make_error(87, "CreateProcess")
        chosen = [handle for handle in chosen if handle in available]
    descriptors: list[int] = []
    try:
        told = []
        for number in chosen:
            try:
                descriptor = _travel.lend_handle(number)
            except error:
                # It has just been closed, has no connection, or is another process's by now: its parent's, who forked.
                if handles is None:
                    continue
                raise
            descriptors.append(descriptor)
            told.append(f"{number}:{descriptor}:{os.fstat(descriptor).st_ino}")
        yield ({VARIABLE: ",".join(told)} if told else {}), descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def duplicate_handle(
    source_process: int, source: PyHANDLE | int, target_process: int, inherits: object, options: int
) -> PyHANDLE | int:
    """Duplicate a handle from one process (a pid) for another: a PyHANDLE if that is this one, else its number there.

    Between processes only pipes' handles can be duplicated, and only of this user's processes: 6, 5.
    """
    here = os.getpid()
    if source_process == target_process == here:
        copy = _handles.duplicate_handle(source)
        if inherits:
            _handles.set_handle_inheritable(copy, True, "DuplicateHandle")
        if _handles.handle_kind(copy, "DuplicateHandle") == "pipe":
            with contextlib.suppress(error):  # so that another process may take it from here; it is good here anyway
                _travel.offer_while_open(copy)
        if options & _CLOSE_SOURCE:
            _handles.close_handle(source)
        return copy
    if source_process == here:
        number = _travel.offer_handle(source, target_process)
        if options & _CLOSE_SOURCE:
            _handles.close_handle(source)
        return number
    if target_process != here:
        raise make_error(50, "DuplicateHandle")
    taken = _travel.take_handle(source_process, int(source))
    if inherits:
        _handles.set_handle_inheritable(taken, True, "DuplicateHandle")
    return taken


# ---- A pipe's handle as the standard stream of a Python program

STREAMS = "NPIPE_STANDARD_HANDLES"
"""The environment's variable that tells a Python program which of its standard streams are pipes: 0:NUMBER,1:NUMBER."""

children_open_streams = False
"""Whether Python programs that this one starts call `open_standard_streams` first: the door of children says so."""


def opens_standard_streams(program: str) -> bool:
    """Return whether a program can have a pipe's handle as a standard stream: Python, where that door is open."""
    return children_open_streams and Path(program).name.startswith("python")


def standard_streams(numbers: Mapping[int, int]) -> dict[str, str]:
    """Return the variables that tell a child which of its standard streams (0, 1, 2) are handles that it inherits."""
    return {STREAMS: ",".join(f"{place}:{number}" for place, number in numbers.items())} if numbers else {}


def open_standard_streams() -> None:
    """Let `sys.stdin`, `sys.stdout` and `sys.stderr` be the handles that this process was started with, if any."""
    told = os.environ.pop(STREAMS, "")
    if told:
        from npipe.win32._streams import open_stream

        for item in told.split(","):
            place, number = item.split(":")
            open_stream(int(place), int(number))
