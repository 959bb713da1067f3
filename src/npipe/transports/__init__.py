"""Three ways to carry a pipe behind one interface; the name and the platform choose."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from npipe.errors import PipeStateError, WinError

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.names import PipeName
    from npipe.options import AccessRule, PipeListing, Security
    from npipe.pipe import MessagePipe, StreamPipe

__all__ = ["CreateOptions", "ServerEnd", "Transport", "select"]


@dataclass(frozen=True)
class CreateOptions:
    """What `listen` was asked for, checked and in Win32's numbers."""

    message_mode: bool
    direction: int
    """1 inbound, 2 outbound, 3 duplex."""
    max_instances: int
    """1 to 255; 255 is no limit."""
    in_buffer_size: int
    out_buffer_size: int
    default_timeout_ms: int
    security: Security
    rule: AccessRule | None
    """`security` in users' and groups' numbers, where there are such."""


class ServerEnd(Protocol):
    """An instance, from its creation on."""

    def connect(self, timeout: float | None = None) -> int:
        """Wait for a client: 0, or 535 when one was there already; raises PipeClosedError (232) when it has left."""

    def has_data(self) -> bool:
        """Whether a client that has left already has left something to read."""

    def pipe(self, on_close: Callable[[ServerEnd, bool], None]) -> MessagePipe | StreamPipe:
        """Return the public pipe of a connected instance.

        When it is closed, `on_close` gets the instance, and whether to discard what is unread; the pipe closes the
        instance afterwards if it is still open.
        """

    def another(self) -> ServerEnd:
        """Return a new, listening instance with the attributes of this one."""

    def replace(self, discard: bool = False) -> ServerEnd:
        """Close this instance and put a new, listening one in its place, as one step."""

    def close_handle(self, discard: bool = False) -> None:
        """Close the instance."""


class Transport(Protocol):
    """One way to carry pipes."""

    def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> MessagePipe | StreamPipe:
        """Wait for an instance and open it, as one step."""

    def create(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, timeout: float | None = None
    ) -> ServerEnd:
        """Create an instance, which listens from now on.

        `timeout` is for the creations and removals of other processes; PipeTimeoutError (121). They have a bound of
        their own beside it: PipeResourceError (1450).
        """

    def wait(self, name: PipeName, timeout: float | None, *, use_default: bool) -> None:
        """Wait until an instance listens."""

    def list_pipes(self) -> list[PipeListing]:
        """All pipes that this user may see."""

    def instances_closed(self) -> int:
        """Return a number that changes whenever an instance of this process is closed."""

    def wait_instance_closed(self, name: PipeName, seen: int, timeout: float | None) -> None:
        """Wait until instances_closed() is not `seen` any more, or another process with instances of `name` died."""

    def wake_waiting_listeners(self) -> None:
        """End all wait_instance_closed."""


def select(name: PipeName) -> Transport:
    """Return the transport for a name. Raises PipeStateError (50) for a host: pipes of other machines come later."""
    if name.host is not None:
        raise PipeStateError(WinError.NOT_SUPPORTED, name.path, detail="pipes on other machines are not supported yet")
    return default()


def default() -> Transport:
    """Return the transport of this machine's pipes: Windows' own where there are such, else the engine."""
    return _own.TRANSPORT


# Not on first use: a child that is forked while another thread imports a module waits for that for ever.
if sys.platform == "win32":
    from npipe.transports import native as _own
else:
    from npipe.transports import local as _own
