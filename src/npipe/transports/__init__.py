"""Ways to carry a pipe behind one interface, and one for event loops; the name and the platform choose, here alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from npipe.names import parse_name
from npipe.reasons import no_remote_here, no_smb
from npipe.remote import configured, settings_for
from npipe.transports.base import AsyncInstances, AsyncTransport, ClientHandle, ServerEnd, Transport

# Not on first use: a child that is forked while another thread imports a module waits for that for ever.
if sys.platform == "win32":
    from npipe.transports.native.transport import TRANSPORT as _OWN
else:
    from npipe.transports.local.blocking import TRANSPORT as _OWN

if TYPE_CHECKING:
    from npipe.names import PipeName
    from npipe.remote import Remote

__all__ = [
    "AsyncInstances",
    "AsyncTransport",
    "ClientHandle",
    "ServerEnd",
    "Transport",
    "default",
    "default_async",
    "lister",
    "select",
    "select_async",
]


def select(name: PipeName, remote: Remote | None = None) -> Transport:
    """Return the transport for a name.

    Raises PipeArgumentError (87) for a `remote` with a pipe of this machine, PipeStateError (50) where smbprotocol is
    not installed, and what Remote.from_environment raises.
    """
    if name.host is None:
        if remote is not None:
            raise no_remote_here(name.path)
        return _OWN
    return _OWN if _is_redirected(name.host, remote) else _smb(name, name.host, remote)


def select_async(name: PipeName, remote: Remote | None = None) -> AsyncTransport:
    """Return the transport for a name on event loops. Raises as `select`."""
    transport = select(name, remote)
    if transport is _OWN:
        return default_async()
    from npipe.transports.threads import ThreadsTransport

    return ThreadsTransport(transport)


def _is_redirected(host: str, remote: Remote | None) -> bool:
    """Whether the system itself opens pipes of that host: Windows' redirector, as the user that is logged on."""
    return sys.platform == "win32" and remote is None and configured(host) is None


def _smb(name: PipeName, host: str, remote: Remote | None) -> Transport:
    # On first use: it is an extra, and takes a fifth of a second.
    try:
        from npipe.transports.smb.transport import SmbTransport
    except ImportError as error:
        if error.name is None or error.name.startswith("npipe"):
            raise
        raise no_smb(name.path, host) from None
    return SmbTransport(host, settings_for(host) if remote is None else remote)


def lister(host: str | None, remote: Remote | None) -> Transport:
    """Return the transport that lists the pipes of another machine. Raises as `select`, and PipeNameError (123)."""
    if host is None:
        raise no_remote_here(None)
    name = parse_name(rf"\\{host}\pipe\x")
    return _smb(name, host, remote)


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
