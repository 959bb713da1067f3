"""What carries a pipe: the interfaces of a blocking transport and of one for event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe import async_pipe
    from npipe.figures import ListenerStats, PipeReport, ProcessStats
    from npipe.names import PipeName
    from npipe.options import CreateOptions, Peer, PipeListing, Security
    from npipe.pipe import MessagePipe, StreamPipe

__all__ = ["Arrival", "AsyncArrival", "AsyncInstances", "AsyncTransport", "ClientHandle", "ServerEnd", "Transport"]


class ServerEnd(Protocol):
    """An instance, from its creation on."""

    def connect(self, timeout: float | None = None, recalls: Any = None) -> int:
        """Wait for a client: 0, or 535 when one was there already; raises PipeClosedError (232) when it has left.

        With `recalls`, which `recalls` has returned: 995 when `recall` was called since then. It goes on listening.
        """

    def recalls(self) -> Any:
        """Return what tells a `recall` that has been from one that comes."""

    def recall(self) -> None:
        """End those `connect` that wait by what `recalls` has returned until now. Of one that is closed: nothing."""

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

    def left_behind(self) -> ServerEnd | None:
        """Return what `another` or `replace` has made last, once: for who has not got it, as a signal's handler raised.

        Before such a call it is called in vain, so that it returns nothing older behind it.
        """

    def close_handle(self, discard: bool = False) -> None:
        """Close the instance."""

    @property
    def closed(self) -> bool:
        """Whether the instance is closed, by `close_handle` or by a `replace`, be it one that has failed then."""


class Arrival(Protocol):
    """What tells that a pipe which was not there may have come.

    `arm`, then a look for the pipe, then `wait`: what happens after `arm` is told, so nothing is lost in between.
    """

    def arm(self) -> None:
        """Watch from now on. Raises PipeAccessError (5) and PipeResourceError (4, 8, 1450)."""

    def wait(self, timeout: float | None) -> bool:
        """Wait until something has changed since `arm`; False when `timeout` was over first."""

    def close(self) -> None:
        """Watch no more."""


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

    def open(self, name: PipeName, *, access: int) -> ClientHandle:
        """CreateFile, step by step as Win32 does it: a handle in byte-read mode, or PipeBusyError (231) at once."""

    def wait(self, name: PipeName, timeout: float | None, *, use_default: bool = False) -> None:
        """Wait until an instance listens."""

    def arrival(self, name: PipeName) -> Arrival:
        """Return what tells when a pipe that is not there may have come."""

    def place(self, name: PipeName) -> tuple[str, str, str]:
        """Return where the engine finds a pipe, for npipe.win32's handles: root folder, folder, name to display.

        Raises PipeStateError (50): another transport has no such place.
        """

    def security_text(self, security: Security) -> str:
        """Return a `Security` as SDDL for CreateNamedPipe of `npipe.win32`: who may connect, and for what.

        The owner's entry allows further instances too. Raises PipeArgumentError (87) for an unknown user or group.
        """

    def why_not_created(self, name: PipeName, code: int, *, first_instance: bool) -> tuple[str | None, str | None]:
        """Return the reason of a CreateNamedPipe of this thread's that has just failed with `code`, and the cure.

        For `npipe.win32`'s, whose errors are but the code. None for what is not known.
        """

    def client_of(self, handle: Any) -> Peer:
        """Return who the client of an instance of `npipe.win32`'s is. Raises its error (233)."""

    def list_pipes(self) -> list[PipeListing]:
        """All pipes that this user may see."""

    def inspect(self, name: PipeName) -> PipeReport:
        """Return what the owners of a pipe tell of it. Raises PipeNotFoundError (2), PipeStateError (50)."""

    def listener_stats(self, name: PipeName) -> ListenerStats | None:
        """Return what this process's connections of a pipe have moved; None when it has none. PipeStateError (50)."""

    def stats(self) -> ProcessStats:
        """Return what all pipes of this process have moved. PipeStateError (50): nobody counts."""

    def root(self) -> str | None:
        """Return the folder below which this process's pipes are; None where there is no such folder."""

    def instances_closed(self) -> int:
        """Return a number that changes whenever an instance of this process is closed."""

    def wait_instance_closed(self, name: PipeName, seen: int, timeout: float | None) -> None:
        """Wait until instances_closed() is not `seen` any more, or another process with instances of `name` died."""

    def wake_waiting_listeners(self) -> None:
        """End all wait_instance_closed."""


class ClientHandle(Protocol):
    """A client's end with Win32's own calls, for programs that go step by step."""

    def set_state(self, mode: int) -> None:
        """SetNamedPipeHandleState."""

    def write_file(self, data: bytes, timeout: float | None = None) -> int:
        """WriteFile."""

    def read_file(self, size: int, timeout: float | None = None) -> tuple[int, bytes]:
        """ReadFile: 0 or 234, and the bytes."""

    def close_handle(self) -> None:
        """CloseHandle."""


# ---- For event loops


class AsyncInstances(Protocol):
    """The instances of a name for one listener: one listens, or waits for its place at the limit."""

    @property
    def closed(self) -> bool:
        """Whether it is closed; so it is in a forked child, whose parent has the instances."""

    def take(self) -> async_pipe.MessagePipe | async_pipe.StreamPipe | None:
        """Return the pipe of a client that has come, if one has. Never waits.

        The next instance listens then. When a pipe that it gave is closed at the limit, a new instance takes the place
        in the same step. A client that has left already is passed over if it left nothing to read. Raises
        PipeResourceError and whatever else keeps an instance from listening; the next call tries again.
        """

    async def wait(self, deadline: float | None) -> bool:
        """Wait until `take` may have something to give; False when `deadline` (time.monotonic) came first."""

    def close(self) -> None:
        """Listen no more, and wake all who wait. Pipes that were taken live on."""


class AsyncArrival(Protocol):
    """See Arrival."""

    def arm(self) -> None:
        """See Arrival.arm."""

    async def wait(self, deadline: float | None) -> bool:
        """See Arrival.wait; False when `deadline` (time.monotonic) came first."""

    def close(self) -> None:
        """See Arrival.close."""


class AsyncTransport(Protocol):
    """One way to carry pipes on an event loop: that of the calling task, on which its pipes then are."""

    async def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> async_pipe.MessagePipe | async_pipe.StreamPipe:
        """Wait for an instance and open it, as one step."""

    def listen(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, on_client: Callable[[], object]
    ) -> AsyncInstances:
        """Create the first instance, which listens from now on.

        `on_client` is called by the loop when a client may have come, before those who wait are woken.
        """

    async def wait(self, name: PipeName, timeout: float | None, *, use_default: bool) -> None:
        """Wait until an instance listens."""

    def arrival(self, name: PipeName) -> AsyncArrival:
        """Return what tells when a pipe that is not there may have come."""
