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

import sys as _sys

if _sys.argv[:1] == ["-m"] and _sys.orig_argv[-len(_sys.argv)].removeprefix("-m") == "npipe":  # python -m npipe
    import _npipe_command

    _npipe_command.take_interrupts()

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
from npipe.tracing import recording as _recording

__version__ = "0.1.0"

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

_recording.start()  # NPIPE_TRACE
