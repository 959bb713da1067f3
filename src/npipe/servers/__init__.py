"""Servers in the architectures of Microsoft's articles, each with the same handler."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias, Unpack

from npipe.errors import PipeArgumentError, WinError
from npipe.options import STRANGER_MESSAGE, ServeOptions, check_handler, network_options, refuse_unknown

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from npipe._buffers import ReadableBuffer
    from npipe.clients import Connection, ServerStats
    from npipe.options import Model
    from npipe.servers.base import PipeServer

__all__ = ["Handler", "Server", "serve"]

# A string, when it is run: what it names is for type checkers.
Handler: TypeAlias = "Callable[[bytes], ReadableBuffer | None] | Callable[[bytes, Connection], ReadableBuffer | None]"

_MODELS: Final = {"threaded": "ThreadedServer", "overlapped": "OverlappedServer", "completion": "CompletionServer"}

_OWN_OPTIONS: Final = {"overlapped": "instances", "threaded": "flush_timeout"}

_NETWORK: Final = ("remote", "allow", "require_encryption", "samba_dir")


class Server(Protocol):
    """A server that runs in the background."""

    @property
    def name(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""

    @property
    def clients(self) -> int:
        """How many clients are connected."""

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The clients that are connected now, in the order in which they came."""

    @property
    def stats(self) -> ServerStats:
        """What the server has done so far: requests answered and failed, clients that have come."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most `timeout` seconds (None: for ever); return whether it has.

        When the time is over it returns False, and raises nothing.
        """

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def serve(
    name: str | os.PathLike[str], handler: Handler, *, model: Model = "threaded", **options: Unpack[ServeOptions]
) -> Server:
    """Serve `name` in the background: each message that a client sends is answered with what `handler` returns.

    The server listens when this returns, and ends with its close() or the with statement. An exception in the handler
    is logged (logger "npipe") and ends that client's connection only. More: docs/servers.md.

    Args:
        name: the pipe's name, as for listen.
        handler: takes the request as bytes and returns the reply, a buffer of bytes or numbers, or None for no reply.
            One that takes two arguments, `handler(request, connection)`, gets the client's Connection too: its
            `number`, `pid`, `user`, `uid`, and `data`, a dictionary of the program's own; a second parameter with a
            default counts only if it is called `connection`. On a byte pipe a request is what one read returns.
        model: the server's architecture, one of Microsoft's articles':

            - "threaded": a thread for each client, in which its requests are handled.
            - "overlapped": one thread for a fixed number of instances: that many clients are served at one time, and
              others wait for one to leave.
            - "completion": one thread and any number of clients.

            In the last two the handler runs in the server's one thread, and everybody waits for it.
        options: those of ServeOptions: what `listen` has (a request longer than `max_message_size` is logged and ends
            its client's connection), and

            - `on_connect`, `on_disconnect`: called with the client's Connection when it has come and when it has left.
            - `instances` (overlapped): how many clients at one time, 1 to 65535, and no more than `max_instances`; 4
              unless given.
            - `flush_timeout` (threaded): seconds (5; None: for ever) that a client gets to read what is left, if the
              server ends the conversation and needs the instance for another client.

    Returns:
        A Server.

    Raises:
        TypeError: an option does not exist; the handler is not callable, takes another number of arguments or is `async
            def` (there is npipe.aio.serve for it). Nothing is created.
        PipeArgumentError: the model does not exist, or an option is not what it may be (87).
        PipeStateError: gevent or eventlet has put green threads in the place of threads, which a server would stop
            (50).
        PipeError: all that listen raises.
    """
    if not isinstance(model, str) or model not in _MODELS:
        words = ", ".join(f'"{known}"' for known in _MODELS)
        raise PipeArgumentError(WinError.INVALID_PARAMETER, None, None, f"a model is one of {words}, not {model!r}")
    others = {option for one, option in _OWN_OPTIONS.items() if one != model}
    refuse_unknown("serve()", options, ServeOptions.__annotations__)
    refuse_unknown(f'serve(model="{model}")', options, ServeOptions.__annotations__.keys() - others)
    check_handler(handler, "the handler", "the request's bytes", may_be_async=False, with_connection=True)
    for what in ("on_connect", "on_disconnect"):
        if options.get(what) is not None:
            check_handler(options.get(what), what, "the client's Connection", may_be_async=False)
    own: dict[str, Any] = {option: value for option, value in options.items() if option not in _NETWORK}
    network = network_options(
        options.get("remote"),
        allow=options.get("allow", ()),
        require_encryption=options.get("require_encryption", False),
        samba_dir=options.get("samba_dir"),
    )
    if network is not None and own.get("max_message_size") is None:
        own["max_message_size"] = STRANGER_MESSAGE
    made: PipeServer = getattr(importlib.import_module(f"{__name__}.{model}"), _MODELS[model])(name, handler, **own)
    if network is not None:
        try:
            made._let_in(network)
        except BaseException:
            made.close(timeout=0)
            raise
    return made
