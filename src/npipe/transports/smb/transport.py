"""Pipes of other machines as a transport, for one host and one `Remote`."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from npipe.errors import PipeBusyError, PipeClosedError, PipeStateError, PipeTimeoutError, WinError
from npipe.observing import note_wait
from npipe.options import (
    ACCESS_READ,
    ACCESS_WRITE,
    PIPE_READMODE_MESSAGE,
    PipeListing,
    check_timeout,
    time_left,
)
from npipe.reasons import another_machine, no_messages, server_elsewhere
from npipe.transports.smb.connections import lease
from npipe.transports.smb.files import GOODWILL, End, RemoteFile, deadline_of, list_names, open_file, wait_named_pipe
from npipe.transports.smb.pipes import SmbMessagePipe, SmbStreamPipe
from npipe.transports.stopping import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.names import PipeName
    from npipe.options import CreateOptions, Peer, Security
    from npipe.remote import Remote
    from npipe.transports.base import ServerEnd
    from npipe.transports.smb.connections import Link
    from npipe.transports.stopping import Stop

__all__ = ["PAUSE", "SmbArrival", "SmbClientHandle", "SmbTransport"]

T = TypeVar("T")

PAUSE: Final = 0.05
"""Seconds between looks at what no host tells: whether an instance is free, or a pipe has come."""

_PATIENCE: Final = 20.0  # seconds for a host, where no time is given


class SmbClientHandle:
    """A client's end with Win32's own calls, for the program of Microsoft's article."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._by_messages = False
        self._head: memoryview | None = None
        self._unfinished = False

    def set_state(self, mode: int) -> None:
        """SetNamedPipeHandleState. Samba has no read modes, and reads by messages where they are written so."""
        by_messages = bool(mode & PIPE_READMODE_MESSAGE)
        if self._file.set_message_mode(by_messages, time.monotonic() + GOODWILL) is False:
            raise no_messages(self._file.name, "setting the pipe's modes")
        self._by_messages = by_messages

    def write_file(self, data: bytes, timeout: float | None = None) -> int:
        """WriteFile."""
        self._file.check_open("writing")
        self._file.write(data, deadline_of(timeout), stream=True)
        return len(data)

    def read_file(self, size: int, timeout: float | None = None) -> tuple[int, bytes]:
        """ReadFile: 0 or 234, and the bytes."""
        self._file.check_open("reading")
        if self._head is None:
            piece = self._file.fetch(End.of(deadline_of(timeout)), "reading")
            assert piece is not None  # noqa: S101 - without `until` it is something
            self._head, self._unfinished, self._file.pending = piece[0], piece[1], None
        data, rest = bytes(self._head[:size]), self._head[size:]
        goes_on = self._by_messages and (len(rest) > 0 or self._unfinished)
        self._head = rest if len(rest) else None
        return WinError.MORE_DATA if goes_on else WinError.SUCCESS, data

    def close_handle(self) -> None:
        """CloseHandle."""
        self._file.close()


class SmbArrival:
    """See Arrival. Nothing tells that a pipe has come, so whoever waits looks again after a pause."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def arm(self) -> None:
        """See Arrival.arm."""

    def wait(self, timeout: float | None) -> bool:
        """See Arrival.wait. `close` ends it."""
        self._closed.wait(PAUSE if timeout is None else min(PAUSE, timeout))
        return timeout is None or timeout > PAUSE

    def close(self) -> None:
        """See Arrival.close."""
        self._closed.set()


class SmbTransport:
    """The pipes of one host, for one user."""

    def __init__(self, host: str, remote: Remote, stop: Stop = NEVER) -> None:
        self._host = host
        self._remote = remote
        self._stop = stop

    def until(self, stop: Stop) -> SmbTransport:
        """See StoppableTransport.until."""
        return SmbTransport(self._host, self._remote, stop)

    def _over_a_link(self, name: str | None, deadline: float | None, call: Callable[[Link], T]) -> T:
        """Make a call over a connection, which it releases."""
        while True:
            link = lease(self._host, self._remote, deadline, name, self._stop)
            was_used = link.was_used
            try:
                return call(link)
            except PipeClosedError:
                if not (was_used and link.lost):
                    raise
                # It was kept from before, and lost since: a new one says whether the host is there.

    def _open(self, name: PipeName, access: int, deadline: float | None) -> RemoteFile:
        def opened(link: Link) -> RemoteFile:
            return open_file(link, name.display, name.path, access=access, deadline=deadline, stop=self._stop)

        return self._over_a_link(name.path, deadline, opened)

    def _open_when_free(self, name: PipeName, access: int, timeout: float | None) -> RemoteFile:
        """Open it as soon as an instance is free. Without a wait for one a time-out is not for the network."""
        if timeout == 0:
            return self._open(name, access, time.monotonic() + GOODWILL)
        deadline = deadline_of(timeout)
        pauses = True  # but not before the first try after the host has said that an instance is free
        while True:
            try:
                return self._open(name, access, deadline)
            except PipeBusyError as error:
                note_wait()
                left = time_left(deadline)
                if left == 0:
                    raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path, "opening the pipe") from error
            try:
                self.wait(name, left)
                pauses = not pauses
            except (PipeStateError, PipeBusyError):  # the host has no way to wait, or (Samba) looks only
                pauses = True
            except PipeTimeoutError as error:
                raise PipeTimeoutError(WinError.SEM_TIMEOUT, name.path, "opening the pipe") from error
            if pauses:
                left = time_left(deadline)
                self._stop.pause(PAUSE if left is None else min(PAUSE, left))

    def connect(
        self,
        name: PipeName,
        *,
        message_mode: bool,
        access: int,
        timeout: float | None,
        verify_owner: bool,  # noqa: ARG002 - the host has no processes of ours
    ) -> SmbMessagePipe | SmbStreamPipe:
        """See Transport.connect. A host keeps no order among those who wait."""
        started = time.monotonic()
        file = self._open_when_free(name, access, timeout)
        if not message_mode:
            return SmbStreamPipe(file)
        deadline = None if timeout is None else max(started + timeout, time.monotonic() + GOODWILL * (timeout == 0))
        try:
            if file.set_message_mode(True, deadline, self._stop) is False:
                raise no_messages(name.path, "opening the pipe")  # noqa: TRY301 - the file is closed
            return SmbMessagePipe(file)
        except BaseException:
            file.close()
            raise

    def open(self, name: PipeName, *, access: int) -> SmbClientHandle:
        """CreateFile, step by step as Win32 does it: a handle in byte-read mode, or PipeBusyError (231) at once."""
        deadline = time.monotonic() + _PATIENCE
        return SmbClientHandle(self._open(name, access & (ACCESS_READ | ACCESS_WRITE), deadline))

    def wait(self, name: PipeName, timeout: float | None, *, use_default: bool = False) -> None:
        """See Transport.wait. By FSCTL_PIPE_WAIT, which Samba has from 4.25 on: PipeStateError (50)."""
        timeout = check_timeout(timeout)
        deadline = time.monotonic() + GOODWILL if timeout == 0 else deadline_of(timeout)

        def waited(link: Link) -> None:
            try:
                left = 0.0 if timeout == 0 else time_left(deadline)
                wait_named_pipe(link, name.display, name.path, left, use_default=use_default, stop=self._stop)
            finally:
                link.release()

        self._over_a_link(name.path, deadline, waited)

    def arrival(self, name: PipeName) -> SmbArrival:  # noqa: ARG002  # they are all alike
        """See Transport.arrival."""
        return SmbArrival()

    # ---- What is a server's, or this machine's

    def create(
        self,
        name: PipeName,
        options: CreateOptions,  # noqa: ARG002
        *,
        first_instance: bool,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002
    ) -> ServerEnd:
        """See Transport.create: a server's pipe is on its own machine."""
        raise server_elsewhere(name.path, self._host, name.here)

    def _not_here(self) -> PipeStateError:
        return PipeStateError(WinError.NOT_SUPPORTED, detail=f"it is a pipe of {self._host}")

    def place(self, name: PipeName) -> tuple[str, str, str]:  # noqa: ARG002
        """See Transport.place."""
        raise self._not_here()

    def security_text(self, security: Security) -> str:  # noqa: ARG002
        """See Transport.security_text."""
        raise self._not_here()

    def why_not_created(
        self,
        name: PipeName,  # noqa: ARG002
        code: int,  # noqa: ARG002
        *,
        first_instance: bool,  # noqa: ARG002
    ) -> tuple[str | None, str | None]:
        """See Transport.why_not_created."""
        return None, None

    def client_of(self, handle: Any) -> Peer:  # noqa: ARG002
        """See Transport.client_of."""
        raise self._not_here()

    def list_pipes(self) -> list[PipeListing]:
        """See Transport.list_pipes. By listing the folder of pipes, which Samba does not let anybody."""
        deadline = time.monotonic() + _PATIENCE
        names = self._over_a_link(None, deadline, lambda link: list_names(link, deadline))
        return [
            PipeListing(
                name=rf"\\{self._host}\pipe\{name}",
                type=None,
                direction=None,
                instances=instances,
                max_instances=None,
                pid=None,
                user=None,
            )
            for name, instances in sorted(names)
        ]

    def inspect(self, name: PipeName) -> NoReturn:
        """See Transport.inspect."""
        raise another_machine(name.path, self._host, name.here)

    def listener_stats(self, name: PipeName) -> NoReturn:  # noqa: ARG002
        """See Transport.listener_stats."""
        raise self._not_here()

    def stats(self) -> NoReturn:
        """See Transport.stats."""
        raise self._not_here()

    def root(self) -> None:
        """See Transport.root."""

    def instances_closed(self) -> int:
        """See Transport.instances_closed."""
        return 0

    def wait_instance_closed(self, name: PipeName, seen: int, timeout: float | None) -> NoReturn:  # noqa: ARG002
        """See Transport.wait_instance_closed."""
        raise self._not_here()

    def wake_waiting_listeners(self) -> None:
        """See Transport.wake_waiting_listeners."""
