"""Servers in the architectures of Microsoft's articles, each with the same handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from npipe.errors import PipeArgumentError, WinError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Handler", "Server", "serve"]

if TYPE_CHECKING:
    Handler = Callable[[bytes], "bytes | bytearray | memoryview | None"]


class Server(Protocol):
    """A server that runs in the background."""

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most `timeout` seconds (None: for ever). Whether it has."""

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def serve(name: str | os.PathLike[str], handler: Handler, *, model: str = "threaded", **options: Any) -> Server:
    """Serve `name` in the background: each message that a client sends is answered with what `handler` returns.

    `handler` takes the request as bytes and returns the reply as bytes, or None for no reply; it runs in a thread of
    its client's. An exception in it is logged (logger "npipe") and ends that client's connection only. On a byte pipe
    a request is what one read returns. `model` is "threaded": a thread for each client. `options` are those of
    `listen`.

    The server listens when this returns; what prevents that is raised here, as `listen` raises it. It ends with its
    close() or the with statement. PipeArgumentError (87) for a model that does not exist.
    """
    from npipe.servers import threaded

    if model != "threaded":
        raise PipeArgumentError(WinError.INVALID_PARAMETER, None, None, f'a model is "threaded", not {model!r}')
    return threaded.ThreadedServer(name, handler, **options)
