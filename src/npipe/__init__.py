r"""Windows named pipes for Python programs, with Windows' semantics, on Linux and on Windows.

A server and its client:

    with npipe.serve(r"\\.\pipe\shout", bytes.upper) as server:
        print(npipe.call(r"\\.\pipe\shout", b"hello"))

`connect` opens a pipe, `listen` accepts clients, `serve` answers them, `export` lets other machines in; `MessagePipe`
keeps message boundaries and `StreamPipe` is a stream of bytes. Errors are `PipeError` and its kinds, each with the
Win32 code in `winerror`.

For pytest, which may find it imported already (`npipe run -m pytest`): PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import _thread  # not threading, of which the import would be a good part of what this one takes
import os
import sys

if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].removeprefix("-m") == "npipe":  # python -m npipe
    import _npipe_command

    _npipe_command.take_interrupts()

TYPE_CHECKING = False  # as in typing, of which the import is a good part of what this one takes
if TYPE_CHECKING:
    from npipe import remote
    from npipe.clients import Connection, ServerStats
    from npipe.errors import (
        PipeAccessError,
        PipeArgumentError,
        PipeBusyError,
        PipeCancelledError,
        PipeClosedError,
        PipeError,
        PipeMessageTooLargeError,
        PipeModeError,
        PipeNameError,
        PipeNotFoundError,
        PipeProtocolError,
        PipeResourceError,
        PipeStateError,
        PipeTimeoutError,
        PipeVersionError,
        PipeViewError,
        WinError,
    )
    from npipe.exporting import Export, export
    from npipe.figures import ConnectionReport, ListenerStats, OwnerReport, PipeReport, PipeStats, ProcessStats, Totals
    from npipe.inspecting import inspect, stats
    from npipe.listener import Listener, listen
    from npipe.observing import Event, Observation, observe
    from npipe.opening import call, connect, list_pipes, root, wait
    from npipe.options import Peek, Peer, PipeInfo, PipeListing, Security
    from npipe.pipe import MessagePipe, Pipe, StreamPipe
    from npipe.pool import Pool
    from npipe.pooling import PoolStats
    from npipe.remote import Remote
    from npipe.servers import Server, serve

__version__ = "0.2.0"

__all__ = [
    "Connection",
    "ConnectionReport",
    "Event",
    "Export",
    "Listener",
    "ListenerStats",
    "MessagePipe",
    "Observation",
    "OwnerReport",
    "Peek",
    "Peer",
    "Pipe",
    "PipeAccessError",
    "PipeArgumentError",
    "PipeBusyError",
    "PipeCancelledError",
    "PipeClosedError",
    "PipeError",
    "PipeInfo",
    "PipeListing",
    "PipeMessageTooLargeError",
    "PipeModeError",
    "PipeNameError",
    "PipeNotFoundError",
    "PipeProtocolError",
    "PipeReport",
    "PipeResourceError",
    "PipeStateError",
    "PipeStats",
    "PipeTimeoutError",
    "PipeVersionError",
    "PipeViewError",
    "Pool",
    "PoolStats",
    "ProcessStats",
    "Remote",
    "Security",
    "Server",
    "ServerStats",
    "StreamPipe",
    "Totals",
    "WinError",
    "__version__",
    "call",
    "connect",
    "export",
    "inspect",
    "list_pipes",
    "listen",
    "observe",
    "remote",
    "root",
    "serve",
    "stats",
    "wait",
]

# Where each name is found. All these modules are imported when the first name is asked for: who has used npipe can go
# on, whatever it has done since, such as to leave itself no descriptor, no right to read, or another root directory.
_MODULES = {
    "npipe.clients": "Connection ServerStats",
    "npipe.errors": (
        "PipeAccessError PipeArgumentError PipeBusyError PipeCancelledError PipeClosedError PipeError "
        "PipeMessageTooLargeError PipeModeError PipeNameError PipeNotFoundError PipeProtocolError "
        "PipeResourceError PipeStateError PipeTimeoutError PipeVersionError PipeViewError WinError "
    ),
    "npipe.exporting": "Export export",
    "npipe.figures": "ConnectionReport ListenerStats OwnerReport PipeReport PipeStats ProcessStats Totals",
    "npipe.inspecting": "inspect stats",
    "npipe.listener": "Listener listen",
    "npipe.observing": "Event Observation observe",
    "npipe.opening": "call connect list_pipes root wait",
    "npipe.options": "Peek Peer PipeInfo PipeListing Security",
    "npipe.pipe": "MessagePipe Pipe StreamPipe",
    "npipe.pool": "Pool",
    "npipe.pooling": "PoolStats",
    "npipe.remote": "Remote",
    "npipe.servers": "Server serve",
}
_FOUND_IN = {name: module for module, names in _MODULES.items() for name in names.split()}

# Held by a thread that imports them, and over a fork: in a child without that thread the import would never end.
_importing = _thread.RLock()
_IMPORT_PATIENCE = 5.0  # seconds: of an import that hangs no fork is to hang too


def _before_fork() -> None:
    _importing.acquire(timeout=_IMPORT_PATIENCE)


def _after_fork() -> None:
    if _importing._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
        _importing.release()


def _after_fork_in_child() -> None:
    global _importing
    if _importing._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001
        _importing.release()
    else:
        _importing = _thread.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)

if not TYPE_CHECKING:  # for type checkers, any name would be there

    def __getattr__(name: str) -> object:
        if name in _FOUND_IN:
            with _importing:
                for one, module in _FOUND_IN.items():
                    globals()[one] = getattr(_imported(module), one)
            return globals()[name]
        if not name.startswith("__"):  # a module of the package's
            try:
                return _imported(f"npipe.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"npipe.{name}":
                    raise
        raise AttributeError(f"module 'npipe' has no attribute {name!r}", name=name, obj=sys.modules["npipe"])

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

    def _imported(module: str) -> object:
        __import__(module)
        return sys.modules[module]


if os.environ.get("NPIPE_TRACE"):
    from npipe.tracing import recording as _recording

    _recording.start()
