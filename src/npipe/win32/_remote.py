"""Handles of pipes of other machines.

Such a handle is a client's end of a pipe of this process, with all that handles have: overlapped calls, completion
ports, waits. Two threads carry between its other end and the host. A write is complete when the host has taken it, for
that end reads a message when it has been written there; what the host's server writes is read ahead, as far as the
pipe's buffer goes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from npipe import transports
from npipe.binding.win32 import handles as _handles
from npipe.errors import PipeClosedError, PipeError, PipeModeError, PipeStateError, WinError
from npipe.names import PipeName, parse_name
from npipe.options import ACCESS_READ, ACCESS_WRITE, PIPE_READMODE_MESSAGE, listen_options
from npipe.win32_error import make_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.binding.win32.handles import PyHANDLE
    from npipe.transports import ClientHandle, Transport

__all__ = ["open_remote", "wait_remote"]

_READ: Final = 65536
_AHEAD: Final = 65536
_ANSWER: Final = 5.0
_NO_PATH: Final = 53  # ERROR_BAD_NETPATH: what Windows says of a host that it finds no way to


def open_remote(
    function: str, name: PipeName, *, reads: bool, writes: bool, open_local: Callable[[PipeName], PyHANDLE]
) -> PyHANDLE:
    """CreateFile on a pipe of another machine; `open_local` is CreateFile on one of this process."""
    access = (ACCESS_READ if reads else 0) | (ACCESS_WRITE if writes else 0)
    try:
        far = _way_to(function, name).open(name, access=access)
    except PipeStateError as failure:  # no credentials, or the host cannot do what is demanded
        code = _NO_PATH if failure.winerror == WinError.NOT_SUPPORTED else failure.winerror
        raise make_error(code, function) from None
    except PipeError as failure:
        raise make_error(failure.winerror, function) from None
    try:
        by_messages = True
        try:
            far.set_state(PIPE_READMODE_MESSAGE)
        except PipeModeError:
            by_messages = False  # the host says that it is a pipe of bytes
        near = parse_name(rf"\\.\pipe\npipe.remote.{os.getpid()}.{uuid4().hex}")
        options = listen_options(
            mode="message" if by_messages else "byte", max_instances=1, in_buffer_size=0, out_buffer_size=_AHEAD
        )
        end = transports.default().create(near, options, first_instance=True)
        try:
            handle = open_local(near)
            end.connect(_ANSWER)
            pipe: Any = end.pipe(_let_go)
        except BaseException:
            end.close_handle(True)
            raise
    except PipeError as failure:
        far.close_handle()
        raise make_error(failure.winerror, function) from None
    except BaseException:
        far.close_handle()
        raise
    _Carrier(far, pipe, by_messages=by_messages).start(reads=reads)
    return handle


def _way_to(function: str, name: PipeName) -> Transport:
    """Return what goes to that host; ERROR_BAD_NETPATH (53) where nothing does, as the extra is not installed."""
    try:
        return transports.select(name)
    except PipeStateError:
        raise make_error(_NO_PATH, function) from None


def _let_go(*_: object) -> None:
    """Nothing takes the place of the one instance."""


def wait_remote(function: str, name: PipeName, milliseconds: int) -> None:
    """WaitNamedPipe on a pipe of another machine."""
    seconds = None if milliseconds == _handles.dword(-1) else milliseconds / 1000
    try:
        _way_to(function, name).wait(name, seconds or None, use_default=milliseconds == 0)
    except PipeError as failure:
        raise make_error(failure.winerror, function) from None


class _Carrier:
    """Carries between the other end of a handle and the host, until one of the two ends."""

    def __init__(self, far: ClientHandle, pipe: Any, *, by_messages: bool) -> None:
        self._far = far
        self._pipe = pipe
        self._by_messages = by_messages

    def start(self, *, reads: bool) -> None:
        """Begin."""
        threading.Thread(target=self._outward, name="npipe-remote-out", daemon=True).start()
        if reads:
            threading.Thread(target=self._inward, name="npipe-remote-in", daemon=True).start()

    def _outward(self) -> None:
        """From the handle to the host. The handle's end is the end of all."""
        far, pipe = self._far, self._pipe
        failed = False
        try:
            while not failed:
                if not self._by_messages:
                    data = pipe.read(_READ)
                    failed = not self._give(data)
                    continue
                with pipe.recv_view() as view:  # which stays the writer's until the host has it
                    failed = not self._give(bytes(view))
                    if failed:
                        raise _NotTaken  # noqa: TRY301 - for the view's block
        except _NotTaken:
            # The host's end is closed, or does not take it: what it wrote before is still to be read.
            pipe.close(timeout=0)
        except PipeError:
            pass
        far.close_handle()
        with contextlib.suppress(PipeError):
            pipe.close(timeout=0)

    def _give(self, data: bytes) -> bool:
        """Write to the host; whether it has taken it. An empty message is nothing there."""
        if data:
            try:
                self._far.write_file(data)
            except PipeError:
                return False
        return True

    def _inward(self) -> None:
        """From the host to the handle; its end comes behind all that was written."""
        far, pipe = self._far, self._pipe
        message = bytearray()
        try:
            while True:
                code, data = far.read_file(_READ)
                if not self._by_messages:
                    pipe.write(data)
                    continue
                message += data
                if code != WinError.MORE_DATA:
                    pipe.send(message)
                    message = bytearray()
        except PipeClosedError as error:
            if error.winerror == WinError.PIPE_NOT_CONNECTED:
                pipe.abort()
        except PipeError:
            pass
        with contextlib.suppress(PipeError):
            pipe.close(timeout=0)


class _NotTaken(Exception):  # noqa: N818 - no error: it ends a block
    """The host has not taken a message."""
