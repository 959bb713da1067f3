"""NPIPE_TRACE: recording what this process does with pipes, from its start (docs/tracing.md)."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from npipe.tracing.files import TraceWriter
from npipe.tracing.own import Recorder

if TYPE_CHECKING:
    from npipe._tapping import Event

__all__ = ["VARIABLE", "start"]

VARIABLE: Final = "NPIPE_TRACE"
_SNAPLEN: Final = "NPIPE_TRACE_SNAPLEN"


def _target(given: str) -> str:
    """Return the file of this process: %p is its number, and who finds the file taken adds that."""
    if "%p" in given:
        return given.replace("%p", str(os.getpid()))
    return given


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no standard error, or a closed one
        sys.stderr.write(f"npipe: {VARIABLE}: {text}\n")


class _File:
    """The file, until it cannot be written any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._writer: TraceWriter | None = TraceWriter(path, fresh="%p" not in os.environ[VARIABLE])

    def write(self, event: Event) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(event)
        except OSError as error:
            _complain(
                f"{self._path}: {error.strerror}: recording has stopped; the {self._writer.count} records in it"
                " are whole"
            )
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _open(given: str) -> _File | None:
    path = _target(given)
    try:
        try:
            return _File(path)
        except FileExistsError:  # another process's, which has the same environment: or an older one
            root, extension = os.path.splitext(path)  # noqa: PTH122
            return _File(f"{root}-{os.getpid()}{extension}")
    except OSError as error:
        _complain(f"{path} cannot be written: {error.strerror}")
        return None


def _snaplen() -> int:
    given = os.environ.get(_SNAPLEN, "65536")
    if given.isdecimal() and int(given) < 1 << 32:
        return int(given)
    _complain(f"{_SNAPLEN} is no number of bytes: {given!r}")
    return 65536


def start() -> None:
    """Begin to record, if the environment says so."""
    given = os.environ.get(VARIABLE)
    file = _open(given) if given else None
    if file is None:
        return
    try:
        recorder = Recorder(file.write, snaplen=_snaplen())
    except (OSError, MemoryError, RuntimeError) as error:  # no descriptors, no memory, no thread: the program goes on
        _complain(f"recording cannot begin: {error}")
        file.close()
        return
    if recorder.code:
        _complain(f"recording cannot begin: WinError {recorder.code}")
        file.close()
        return

    def finish() -> None:
        recorder.close()
        file.close()

    atexit.register(finish)
