"""`asyncio.windows_utils`, as far as pipes go."""

from __future__ import annotations

import itertools
import os
import subprocess
import tempfile
import warnings
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.winapi import _winapi as _winapi_module
from npipe.binding.win32.targets import handle_beside
from npipe.win32._offered import missing_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from npipe.async_pipe import StreamPipe

__all__ = ["PIPE", "PipeHandle", "pipe"]

BUFSIZE: Final = 8192
PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT

_winapi: Any = _winapi_module  # whose constants no type checker sees
_numbers: Final = itertools.count()


class PipeHandle:
    """A pipe's handle, which it closes, with a few of a file's methods."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def __repr__(self) -> str:
        state = "closed" if self._handle is None else f"handle={self._handle!r}"
        return f"<{type(self).__name__} {state}>"

    @property
    def handle(self) -> int | None:
        """Its number, for `_winapi`, `_overlapped` and pywin32; None once it is closed."""
        return self._handle

    def fileno(self) -> int:
        """Return its number, which is a handle and no descriptor; ValueError once it is closed."""
        if self._handle is None:
            raise ValueError("I/O operation on closed pipe")
        return self._handle

    def close(self, *, CloseHandle: Callable[[int], None] = _winapi.CloseHandle) -> None:  # noqa: N803
        """Close the handle; once."""
        handle, self._handle = self._handle, None
        if handle is not None:
            CloseHandle(handle)

    def __del__(self, _warn: Callable[..., Any] = warnings.warn) -> None:
        if getattr(self, "_handle", None) is not None:
            _warn(f"unclosed {self!r}", ResourceWarning, source=self)
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


PipeHandle.__module__ = "asyncio.windows_utils"


class TransportsPipe(PipeHandle):
    """The extra "pipe" of a transport: the handle, and beside that all that npipe's own pipe has.

    There is a handle once somebody asks for it. It is good until the transport closes the pipe.
    """

    def __init__(self, pipe: StreamPipe) -> None:
        self._pipe = pipe
        self._made: Any = None

    @property
    def _handle(self) -> int | None:  # type: ignore[override]
        if self._pipe.closed:
            return None
        if self._made is None:
            self._made = handle_beside(self._pipe._handle)  # type: ignore[attr-defined]  # noqa: SLF001
        return int(self._made)

    def close(self, *, CloseHandle: object = None) -> None:  # noqa: ARG002, N803
        """Close the pipe's end."""
        self._pipe._end(discard=False)  # noqa: SLF001

    def __del__(self, _warn: object = None) -> None:
        """Do nothing: the pipe is the transport's, and the number goes with this."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


TransportsPipe.__name__ = TransportsPipe.__qualname__ = "PipeHandle"
TransportsPipe.__module__ = "asyncio.windows_utils"


def pipe(
    *, duplex: bool = False, overlapped: tuple[bool, bool] = (True, True), bufsize: int = BUFSIZE
) -> tuple[int, int]:
    """Return two connected handles, of which the first reads and the second writes; with `duplex` both do both.

    `overlapped` is for the first and the second, `bufsize` in bytes.
    """
    prefix = rf"\\.\pipe\python-pipe-{os.getpid():d}-{next(_numbers):d}-"
    address = prefix + next(tempfile._get_candidate_names())  # type: ignore[attr-defined]  # noqa: SLF001
    mode, access = _winapi.PIPE_ACCESS_INBOUND, _winapi.GENERIC_WRITE
    if duplex:
        mode, access = _winapi.PIPE_ACCESS_DUPLEX, _winapi.GENERIC_READ | _winapi.GENERIC_WRITE
    mode |= _winapi.FILE_FLAG_FIRST_PIPE_INSTANCE | (_winapi.FILE_FLAG_OVERLAPPED if overlapped[0] else 0)
    flags = _winapi.FILE_FLAG_OVERLAPPED if overlapped[1] else 0
    forever = _winapi.NMPWAIT_WAIT_FOREVER
    server = _winapi.CreateNamedPipe(
        address, mode, _winapi.PIPE_WAIT, 1, bufsize if duplex else 0, bufsize, forever, _winapi.NULL
    )
    try:
        return server, _winapi.CreateFile(address, access, 0, _winapi.NULL, _winapi.OPEN_EXISTING, flags, _winapi.NULL)
    except BaseException:
        _winapi.CloseHandle(server)
        raise


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what Python itself asks for
        raise AttributeError(name)
    raise missing_name("asyncio.windows_utils", name, "npipe has what pipes need: docs/porting.md")
