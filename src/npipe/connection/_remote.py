"""Connections to listeners of other machines: multiprocessing's own form, an object or some bytes in each message."""

from __future__ import annotations

import io
import threading
from multiprocessing.connection import _ConnectionBase
from typing import TYPE_CHECKING, Any

from npipe._process import refuse_copy
from npipe.errors import PipeClosedError, PipeTimeoutError

if TYPE_CHECKING:
    from typing import NoReturn

    from npipe.pipe import MessagePipe

__all__ = ["RemoteConnection"]


class RemoteConnection(_ConnectionBase):
    """A connection over a message pipe, with the methods of multiprocessing.connection.Connection.

    Its other end is what multiprocessing's AF_PIPE Listener is on Windows, or a server that speaks as that does. It is
    this process's alone, and cannot be waited for beside others.
    """

    def __init__(self, pipe: MessagePipe) -> None:
        self._pipe = pipe
        self._handle: int | None = -1  # for multiprocessing, which asks whether there is one
        self._readable = self._writable = True
        self._reading = threading.RLock()  # for what `poll` has got
        self._kept: bytes | None = None

    def __reduce__(self) -> NoReturn:
        """Raise TypeError: the connection to its host is this process's."""
        refuse_copy(self, "connect there")

    def __repr__(self) -> str:
        return f"<npipe.connection, {'closed' if self.closed else 'duplex'}, of {self._pipe.name}>"

    @property
    def closed(self) -> bool:
        """Whether it is closed; so it is in a forked child."""
        return self._handle is None or self._pipe.closed

    def fileno(self) -> int:
        """Raise PipeStateError (50): the pipes of a host share one."""
        return self._pipe.fileno()

    def _close(self, _close: Any = None) -> None:
        self._pipe.close()

    def _send_bytes(self, buf: Any) -> None:
        self._pipe.send(buf)

    def _next(self, timeout: float | None) -> bytes:
        try:
            return self._pipe.recv(timeout=timeout)
        except PipeClosedError as error:
            raise EOFError from error

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        with self._reading:
            message, self._kept = self._next(None) if self._kept is None else self._kept, None
        if maxsize is not None and len(message) > maxsize:
            return None
        return io.BytesIO(message)

    def _poll(self, timeout: float | None) -> bool:
        with self._reading:
            if self._kept is None:
                try:
                    self._kept = self._next(None if timeout is None else max(timeout, 0.0))
                except PipeTimeoutError:
                    return False
                except EOFError:
                    pass  # the next read says so
        return True
