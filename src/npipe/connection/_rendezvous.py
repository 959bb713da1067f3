"""Client and Listener: two ends that find each other by a pipe's name."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
import uuid
from multiprocessing import AuthenticationError
from multiprocessing.connection import answer_challenge, deliver_challenge
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, Self

from npipe.connection._connections import Connection, RecvT, SendT, channel, new_channel
from npipe.errors import PipeClosedError, PipeError, WinError
from npipe.listener import Listener as _PipeListener
from npipe.names import parse_name
from npipe.opening import connect
from npipe.options import listen_options
from npipe.transports import select

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Client", "Listener"]

_HELLO: Final = struct.Struct("<4sI")  # with the descriptors of the segment and of the two events
_MAGIC: Final = b"NPCH"
_VERSION: Final = 1
_PATIENCE: Final = 5.0  # seconds for a client to say that it is one of ours


def _check(address: object, family: str | None, authkey: object) -> str:
    if family not in (None, "AF_PIPE"):
        raise ValueError(f"Family {family} is not recognized: npipe.connection has AF_PIPE, whose addresses are names")
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    if not isinstance(address, str | os.PathLike):
        raise ValueError(f"address type of {address!r} unrecognized: it is the name of a pipe")  # noqa: TRY004
    return os.fspath(address)


def Client(  # noqa: N802 - multiprocessing's name
    address: str | os.PathLike[str], family: str | None = None, authkey: bytes | None = None
) -> Connection[Any, Any]:
    r"""Connect to a Listener of npipe.connection, as multiprocessing.connection.Client.

    Args:
        address: the pipe's name, `\\.\pipe\NAME` or the bare NAME.
        family: None or "AF_PIPE".
        authkey: the secret that both sides must have, as bytes; None: none is asked for.

    Returns:
        The Connection. The listener need not have accepted it yet.

    Raises:
        FileNotFoundError: there is no such pipe (PipeNotFoundError, 2).
        PipeError: it cannot be opened, as `npipe.connect` says.
        AuthenticationError: the other side has another secret.
        ValueError: the family is another one, or the address no name.
        TypeError: the authkey is not bytes.
    """
    made = _open(_check(address, family, authkey))
    if authkey is not None:
        try:
            answer_challenge(made, authkey)
            deliver_challenge(made, authkey)
        except BaseException:
            made.close()
            raise
    return made


def _open(name: str) -> Connection[Any, Any]:
    pipe = connect(name)
    fds: list[int] = []
    try:
        try:
            fds.append(pipe._handle.part_with_socket())  # type: ignore[attr-defined]  # noqa: SLF001
        finally:
            pipe.close()
        segment, event0, event1 = new_channel(fds)
        with socket.socket(fileno=os.dup(fds[0])) as speaker:
            socket.send_fds(speaker, [_HELLO.pack(_MAGIC, _VERSION)], [segment, event0, event1])
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return channel(fds[0], segment, (event0, event1), 1, ways=(True, True))  # type: ignore[no-any-return]


class _Instances(_PipeListener[Any]):
    """A listener whose clients go on by a channel."""

    def _connected(self, instance: Any, deadline: float | None) -> Any:
        """Wait for a client on `instance`; None when there is nothing to hand out, and one has to look again."""
        try:
            instance.connect(None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except PipeClosedError as error:
            # One that has left already may have left messages in its channel.
            if error.winerror != WinError.NO_DATA:
                with self._lock:
                    self._check_open()
                    if self._listening is instance:
                        raise
                return None
        with self._lock:
            self._check_open()
            if self._listening is not instance:
                return None
            self._listening = self._next(instance)
        handle = instance._handle  # noqa: SLF001
        try:
            fd = handle.part_with_socket()
        except PipeError:
            return None
        finally:
            handle.close_handle(True)
        return _hear(fd)


def _hear(fd: int) -> Connection[Any, Any] | None:
    """Return the connection of a client, None if it is none of ours. Takes the descriptor."""
    with socket.socket(fileno=fd) as listener:
        listener.settimeout(_PATIENCE)
        fds: list[int] = []
        try:
            said, fds, _, _ = socket.recv_fds(listener, _HELLO.size + 1, 3, socket.MSG_CMSG_CLOEXEC)
            if said != _HELLO.pack(_MAGIC, _VERSION) or len(fds) != 3 or not all(map(_is_event, fds[1:])):
                raise ValueError(said)
        except (OSError, ValueError):
            for one in fds:
                os.close(one)
            return None
        listener.setblocking(False)
        own = os.dup(fd)
    try:
        return channel(own, fds[0], (fds[1], fds[2]), 0, ways=(True, True))  # type: ignore[no-any-return]
    except OSError:
        return None  # the segment is none


def _is_event(fd: int) -> bool:
    """Whether it is an event that does not wait: of anything else a stranger could make us wait for it."""
    try:
        if os.readlink(f"/proc/self/fd/{fd}") != "anon_inode:[eventfd]":
            return False
        os.set_blocking(fd, False)
    except OSError:
        return False
    return True


class Listener(Generic[SendT, RecvT]):
    r"""A pipe's name on which connections are accepted, as multiprocessing.connection.Listener.

    It belongs to the process that has made it: a forked child has none.

    Args:
        address: the pipe's name, `\\.\pipe\NAME` or the bare NAME; None: a new one.
        family: None or "AF_PIPE".
        backlog: as multiprocessing's; as many clients may connect as come.
        authkey: the secret that clients must have, as bytes; None: none is asked for.

    Raises:
        PipeAccessError: the name is taken (5).
        PipeError: as `npipe.listen` says.
        ValueError: the family is another one, or the address no name.
        TypeError: the authkey is not bytes.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | None = None,
        family: str | None = None,
        backlog: int = 1,  # noqa: ARG002
        authkey: bytes | None = None,
    ) -> None:
        if address is None:
            address = rf"\\.\pipe\pyc-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        name = parse_name(_check(address, family, authkey))
        self._address = name.path
        self._authkey = authkey
        self._instances: _Instances | None = _Instances._made(  # noqa: SLF001
            select(name), name, listen_options(mode="message"), exclusive=True
        )

    def accept(self) -> Connection[SendT, RecvT]:
        """Wait for a client, and return the Connection.

        Raises:
            AuthenticationError: the client has another secret.
            OSError: the listener is closed.
        """
        if self._instances is None:
            raise OSError("listener is closed")
        try:
            made: Connection[SendT, RecvT] = self._instances.accept()
        except PipeClosedError as error:
            raise OSError("listener is closed") from error
        if self._authkey is not None:
            try:
                deliver_challenge(made, self._authkey)  # type: ignore[arg-type]
                answer_challenge(made, self._authkey)  # type: ignore[arg-type]
            except BaseException:
                made.close()
                raise
        return made

    def close(self) -> None:
        """Stop listening; connections live on."""
        instances, self._instances = self._instances, None
        if instances is not None:
            instances.close()

    @property
    def address(self) -> str:
        r"""The pipe's full name, `\\.\pipe\NAME`."""
        return self._address

    @property
    def last_accepted(self) -> str | None:
        """None: clients of a pipe have no addresses."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
