"""Ways to carry a pipe behind one interface, and one for event loops; the name and the platform choose, here alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from npipe.reasons import another_machine
from npipe.transports.base import AsyncInstances, AsyncTransport, ClientHandle, ServerEnd, Transport

# Not on first use: a child that is forked while another thread imports a module waits for that for ever.
if sys.platform == "win32":
    from npipe.transports.native.transport import TRANSPORT as _OWN
else:
    from npipe.transports.local.blocking import TRANSPORT as _OWN

if TYPE_CHECKING:
    from npipe.names import PipeName

__all__ = [
    "AsyncInstances",
    "AsyncTransport",
    "ClientHandle",
    "ServerEnd",
    "Transport",
    "default",
    "default_async",
    "select",
    "select_async",
]


def select(name: PipeName) -> Transport:
    """Return the transport for a name. Raises PipeStateError (50) for a host: pipes of other machines come later."""
    _check_host(name)
    return _OWN


def select_async(name: PipeName) -> AsyncTransport:
    """Return the transport for a name on event loops. Raises as `select`."""
    _check_host(name)
    return default_async()


def _check_host(name: PipeName) -> None:
    if name.host is not None:
        raise another_machine(name.path, name.host, name.here)


def default() -> Transport:
    """Return the transport of this machine's pipes: Windows' own where there are such, else the engine."""
    return _OWN


def default_async() -> AsyncTransport:
    """Return the same for event loops.

    Imported here, for `import npipe` needs no asyncio; `npipe.aio` calls it when it is imported itself.
    """
    if sys.platform == "win32":
        from npipe.transports.native.aio_transport import TRANSPORT
    else:
        from npipe.transports.local.aio_transport import TRANSPORT
    return TRANSPORT
