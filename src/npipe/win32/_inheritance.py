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
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from npipe.binding.win32 import handles as _handles
from npipe.binding.win32 import targets as _targets
from npipe.binding.win32 import travel as _travel
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from npipe.binding.win32.handles import PyHANDLE

__all__ = [
    "FILES",
    "VARIABLE",
    "descriptor_behind",
    "duplicate_handle",
    "inherited_by",
    "is_inheritable",
    "mark",
    "open_standard_streams",
    "opens_standard_streams",
    "standard_streams",
]

VARIABLE = _travel.VARIABLE
FILES = "NPIPE_FILES"
"""The environment's variable that tells a child which of its descriptors were handles: NUMBER:DESCRIPTOR:INODE for
each, with commas."""

_STANDARD = 2  # the last of the standard streams' descriptors, which a child has by themselves
_CURRENT_PROCESS = -1
_CLOSE_SOURCE = 1


def mark(handle: PyHANDLE, attributes: object) -> PyHANDLE:
    """Return a new handle that is inheritable if the SECURITY_ATTRIBUTES say so."""
    if getattr(attributes, "bInheritHandle", False):
        _handles.set_handle_inheritable(handle, True, "CreateFile")
    return handle


@contextlib.contextmanager
def inherited_by(
    handles: Iterable[int] | None = None, streams: Iterable[int] = ()
) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Lend handles to a child that is started within: (variables for its environment, descriptors for it).

    `handles` None: all that are inheritable (bInheritHandles of CreateProcess); else these alone, as in a
    PROC_THREAD_ATTRIBUTE_HANDLE_LIST, each of which has to be inheritable (error 87) and still this process's (6).
    `streams` are lent besides, inheritable or not. Those that are neither pipes' nor files' are left out. If no child
    comes of it, nothing has happened.
    """
    lending = _Lending()
    try:
        lending.lend(None if handles is None else [int(handle) for handle in handles], [int(one) for one in streams])
        yield lending.variables(), [*lending.pipes.values(), *lending.files.values()]
    finally:
        lending.close()


class _Lending:
    """What one child gets: numbers of handles, and the descriptor that each of them is to be had by."""

    def __init__(self) -> None:
        self.pipes: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self._own: list[int] = []

    def lend(self, handles: list[int] | None, streams: list[int]) -> None:
        """Note what is inheritable, or these handles; `streams` in any case. Raises 87, 6, OSError."""
        unused = _travel.unused()
        wanted = _inheritable(unused) if handles is None else handles
        if handles is not None and any(one not in unused and not is_inheritable(one) for one in handles):
            raise make_error(87, "CreateProcess")
        for number in dict.fromkeys((*wanted, *streams)):
            try:
                self._lend(number, unused)
            except error:
                # It has just been closed, has no connection, or is another process's by now: its parent's, who forked.
                if handles is None and number not in streams:
                    continue
                raise

    def _lend(self, number: int, unused: Mapping[int, int]) -> None:
        if number in unused:  # what the parent has lent goes on to the child: to the one of the two that uses it
            second = _travel.second_of_unused(number)
            if second >= 0:
                self.pipes[number] = self._kept(second)
                return  # else another thread has just used it: it is this process's
        kind = _handles.handle_kind(number, "CreateProcess")
        if kind == "pipe":
            self.pipes[number] = self._kept(_travel.lend_handle(number))
        descriptor = descriptor_behind(number)
        if descriptor is not None:
            # One that is inheritable itself comes with its own number, for the first of its handles: the child closes
            # what stands behind each of them.
            try:
                comes = os.get_inheritable(descriptor) and descriptor not in self.files.values()
                self.files[number] = descriptor if comes else self._kept(os.dup(descriptor))
            except OSError as failure:
                if failure.errno != errno.EBADF:  # that one: the program has closed it
                    raise

    def _kept(self, descriptor: int) -> int:
        self._own.append(descriptor)
        return descriptor

    def variables(self) -> dict[str, str]:
        """Return what tells the child."""
        return {
            name: ",".join(f"{number}:{fd}:{os.fstat(fd).st_ino}" for number, fd in lent.items())
            for name, lent in ((VARIABLE, self.pipes), (FILES, self.files))
            if lent
        }

    def close(self) -> None:
        """Close what the child has by now."""
        while self._own:
            os.close(self._own.pop())


def _inheritable(unused: Iterable[int]) -> list[int]:
    files = [number for number in _handles.numbers_of_kind("file") if _goes_along(number)]
    return [*_travel.inheritable_pipes(), *unused, *files]


def _goes_along(number: int) -> bool:
    """Return whether a file's handle is inherited without being named.

    Not the end of a pipe whose descriptor is not inheritable: CreatePipe's, which is marked so that one end is a
    standard stream. Two processes would have the other one, and whoever reads would wait for the end for ever.
    """
    try:
        descriptor = descriptor_behind(number)
        if descriptor is None or descriptor <= _STANDARD:
            return False
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.get_inheritable(descriptor) or (is_file and is_inheritable(number))
    except (OSError, error):  # it has just been closed
        return False


def descriptor_behind(number: int) -> int | None:
    """Return the descriptor of the system that a handle stands for; None for what has none any more. Raises 6."""
    if _handles.handle_kind(number, "CreateProcess") != "file":
        return None
    try:
        found = getattr(_targets.file_of(number, "file", "CreateProcess"), "descriptor", None)
    except OSError:  # the program has closed it
        return None
    return found if isinstance(found, int) else None


def is_inheritable(number: int) -> bool:
    """Return whether a child gets a handle: one of a descriptor also if the program has marked that. Raises 6."""
    if _handles.handle_is_inheritable(number, "CreateProcess"):
        return True
    descriptor = descriptor_behind(number)
    try:
        return descriptor is not None and os.get_inheritable(descriptor)
    except OSError:
        return False


def _inherit_files() -> None:
    """Let the numbers of files' handles that this process was told of stand for the descriptors that came with them."""
    for item in os.environ.pop(FILES, "").split(","):
        try:
            number, descriptor, inode = map(int, item.split(":"))
            # The variable may have come through a process that had the descriptors closed, and others in their place.
            if descriptor > _STANDARD and os.fstat(descriptor).st_ino == inode:
                from npipe.win32._descriptors import file_for

                if _targets.file_handle_at(number, "file", file_for(descriptor)):
                    _handles.set_handle_inheritable(number, True, "CreateProcess")
                    os.set_inheritable(descriptor, False)
        except (ValueError, OverflowError, OSError):
            continue


if FILES in os.environ:
    _inherit_files()


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


def opens_standard_streams(program: str, arguments: Iterable[str]) -> bool:
    """Return whether a program can have a pipe's handle as a standard stream: Python, where that door is open.

    Not one that is told not to read the environment, or to run no `sitecustomize`.
    """
    if not children_open_streams or not Path(program).name.startswith("python"):
        return False
    return not _options_of_python(arguments) & {"I", "E", "S"}


def _options_of_python(arguments: Iterable[str]) -> set[str]:
    """Return the letters of the options before the program's name."""
    letters: set[str] = set()
    items = iter(arguments)
    for item in items:
        if not item.startswith("-") or item in ("-", "--"):
            break
        if item.startswith("--"):
            continue
        for at, letter in enumerate(item[1:], 1):
            letters.add(letter)
            if letter in "cm":
                return letters
            if letter in "WX":
                if at == len(item) - 1:
                    next(items, None)  # its value
                break
    return letters


def standard_streams(numbers: Mapping[int, int]) -> dict[str, str]:
    """Return the variables that tell a child which of its standard streams (0, 1, 2) are handles that it inherits."""
    return {STREAMS: ",".join(f"{place}:{number}" for place, number in numbers.items())} if numbers else {}


def open_standard_streams() -> None:
    """Let `sys.stdin`, `sys.stdout` and `sys.stderr` be the handles that this process was started with, if any."""
    for item in os.environ.pop(STREAMS, "").split(","):
        try:
            place, number = map(int, item.split(":"))
        except ValueError:
            continue
        # The variable may have come through a process that did not open them, and gave this one others.
        if place in range(_STANDARD + 1) and number in _travel.unused():
            from npipe.win32._streams import open_stream

            open_stream(place, number)
