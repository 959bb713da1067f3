"""Client and Listener: two ends that find each other by a pipe's name."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import contextlib
import errno
import os
import socket
import struct
import threading
import uuid
from collections import deque
from itertools import starmap
from multiprocessing.connection import answer_challenge, deliver_challenge
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from npipe.connection._connections import Connection, _close, attached, begin_trace, new_channel
from npipe.connection._remote import RemoteConnection
from npipe.errors import PipeClosedError, PipeError, WinError
from npipe.names import parse_name
from npipe.opening import connect
from npipe.options import listen_options
from npipe.transports import select

if TYPE_CHECKING:
    from types import TracebackType

    from npipe.names import PipeName

__all__ = ["Client", "Listener"]

_HELLO: Final = struct.Struct("<4sI")  # with the descriptors of the segment and of the two events
_INT: Final = struct.Struct("i")  # a descriptor in a message
_MAGIC: Final = b"NPCH"
_VERSION: Final = 1
MOST_BACKLOG: Final = 128
_PATIENCE: Final = 5.0  # seconds for a client to say that it is one of ours


def _check(address: object, family: str | None, authkey: object) -> str:
    if family not in (None, "AF_PIPE"):
        raise ValueError(f"Family {family} is not recognized: npipe.connection has AF_PIPE, whose addresses are names")
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError("authkey should be a byte string")
    if not isinstance(address, str | os.PathLike):
        raise ValueError(f"address type of {address!r} unrecognized: it is the name of a pipe")  # noqa: TRY004
    return os.fspath(address)


def _theirs(made: Connection[Any, Any]) -> Any:
    """Return it as multiprocessing's functions take one: they ask for send_bytes and recv_bytes alone."""
    return made


def Client(  # noqa: N802 - multiprocessing's name
    address: str | os.PathLike[str], family: str | None = None, authkey: bytes | None = None
) -> Connection[Any, Any]:
    r"""Connect to a Listener of npipe.connection, as multiprocessing.connection.Client.

    Args:
        address: the pipe's name, `\\.\pipe\NAME` or the bare NAME. `\\HOST\pipe\NAME` is one of another machine, whose
            server speaks as multiprocessing's own Listener does on Windows (docs/remote-client.md).
        family: None or "AF_PIPE".
        authkey: the secret that both sides must have, as bytes; None: none is asked for.

    Returns:
        The Connection. The listener need not have accepted it yet. That to another machine has the same methods, and
        no descriptor.

    Raises:
        FileNotFoundError: there is no such pipe (PipeNotFoundError, 2).
        PipeError: it cannot be opened, as `npipe.connect` says.
        AuthenticationError: the other side has another secret.
        ValueError: the family is another one, or the address no name.
        TypeError: the authkey is not bytes.
    """
    made: Connection[Any, Any] = _open(_check(address, family, authkey))
    if authkey is not None:
        try:
            answer_challenge(_theirs(made), authkey)
            deliver_challenge(_theirs(made), authkey)
        except BaseException:
            made.close()
            raise
    return made


def _open(name: str) -> Any:
    pipe = connect(name)
    parsed = parse_name(name)
    if parsed.host is not None:
        return RemoteConnection(pipe)
    fds: list[int] = []
    speakers: list[Any] = []
    try:
        try:
            fds += starmap(pipe._handle.part_with_socket, [()])  # type: ignore[attr-defined]  # noqa: SLF001
        finally:
            pipe.close()
        new_channel(fds)
        speakers += map(socket.SocketType, [socket.AF_UNIX], [socket.SOCK_SEQPACKET], [0], map(os.dup, fds[:1]))
        socket.send_fds(speakers[0], [_HELLO.pack(_MAGIC, _VERSION)], fds[1:])
        made = attached(fds, 1)
        begin_trace(made, parsed.path, is_server=False)
        return made
    finally:
        _close(fds)  # what is left of them
        for speaker in speakers:
            speaker.close()


class _Instances:
    """Instances of a pipe that listen: so many clients may connect before one is accepted.

    The engine gives clients those that have listened longest, so the first one is the next to be connected.
    """

    def __init__(self, name: PipeName, count: int) -> None:
        self._name = name
        self._count = count
        self._lock = threading.RLock()  # a signal's handler that closes may come in the midst of what it is held for
        self._closed = False
        self._process = os.getpid()
        self._transport = select(name)
        self._left: deque[_Client] = deque()  # whose accepts were interrupted: before any other
        options = listen_options(mode="message")
        self._listening: deque[Any] = deque([self._transport.create(name, options, first_instance=True)])
        self._fill()

    def _fill(self) -> None:
        """Have all of them listen. With the lock, or alone."""
        with contextlib.suppress(PipeError):  # no descriptors, say
            while self._listening and len(self._listening) < self._count and not self._closed:
                self._add(self._listening[-1])
        if self._closed:  # by a signal's handler meanwhile
            self._end()

    def _add(self, of: Any) -> None:
        """Have one more listen, made by `of`. Also when what raises comes behind the making: it may have a client."""
        of.left_behind()  # what it made before is not this one
        made = None
        try:
            made = of.another()
            self._listening.append(made)
        except BaseException:  # no descriptors, or a signal's handler
            if made is None:
                made = of.left_behind()
            if made is not None and self._listening[-1] is not made:
                self._listening.append(made)
            raise

    def accept(self) -> Connection[Any, Any]:
        """Wait for a client, and return its connection. What raises leaves the client to the next one."""
        self._check_process()
        while True:
            taken: list[_Client] = []
            try:
                if self._take(taken):
                    made = taken[0].connection()
                    if made is not None:
                        begin_trace(made, self._name.path, is_server=True)
                        return made
            except BaseException:  # no descriptors, or a signal's handler
                self._leave(taken)
                raise

    def _take(self, taken: list[_Client]) -> bool:
        """Wait for a client, and enter it in `taken`; False: another thread has got it, or there is one that was left.

        When it raises, it has been taken if it does not listen any more and is in `taken`.
        """
        with self._lock:
            self._check_open()
            if self._left:
                taken.append(self._left[0])
                self._left.popleft()
                return True
            instance = self._listening[0]
            recalls = instance.recalls()
        try:
            if instance.connect(None, recalls) == WinError.OPERATION_ABORTED:
                return False
        except PipeClosedError as error:
            # One that has left already (232) may have left messages in its channel.
            if error.winerror != WinError.NO_DATA:
                with self._lock:
                    self._check_open()
                    if self._listening[0] is instance:
                        raise
                return False
        with self._lock:
            self._check_open()
            if self._listening[0] is not instance:
                return False
            if len(self._listening) == 1:
                self._add(instance)
            taken.append(_Client(instance))
            self._listening.popleft()
            self._fill()
        return True

    def _leave(self, taken: list[_Client]) -> None:
        """Leave what was taken to the next accept, and tell those that sleep."""
        if self._process != os.getpid():  # a handler's child: all of it is the parent's
            return
        with self._lock:
            for client in taken:
                if client.instance in self._listening or client in self._left:
                    continue  # it was not out of there yet
                if self._closed:
                    client.drop()
                else:
                    self._left.appendleft(client)
                    self._listening[0].recall()
            if self._closed:
                self._end()

    def _check_open(self) -> None:
        self._check_process()
        if self._closed:
            raise OSError("listener is closed")

    def _check_process(self) -> None:
        """In a forked child it is closed: before its lock, which a thread of the parent's may have had."""
        if self._process != os.getpid():
            raise OSError("listener is closed")

    def close(self) -> None:
        """Stop listening."""
        if self._process != os.getpid():
            return  # they are the parent's
        try:
            self._end()
        except BaseException:  # a signal's handler
            self._end()
            raise

    def _end(self) -> None:
        with self._lock:
            self._closed = True
            listening, left = list(self._listening), list(self._left)
        for instance in listening:
            instance.close_handle()
        for client in left:
            client.drop()


class _Client:
    """A client that has come, on its way to be a connection.

    The handler of a signal may raise between any two steps: what is done is then done for the next accept, which goes
    on from there. So what cannot be done twice (a descriptor that is made, or changes hands) is one step of C together
    with the note of it, in a list.
    """

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self._sockets: list[Any] = []  # its side of the connection, once it is no pipe any more
        self._heard: list[Any] = []  # what recvmsg has returned: its word, with descriptors, which are this one's
        self._swallowed: list[bytes] = []
        self._made: Connection[Any, Any] | None = None
        self._attached: list[None] = []  # once it is made, and has the descriptors

    def connection(self) -> Connection[Any, Any] | None:
        """Return its connection, None if it is none of ours.

        Raises:
            OSError: no descriptors; it can be asked for again.
        """
        if self._attached:
            return self._made
        if not self._sockets and not self._part():
            return None
        self.instance._handle.close_handle(True)  # noqa: SLF001
        fds = self._hear()
        if fds is None:
            self.drop()
            return None
        if not self._swallowed:
            self._swallowed += map(self._sockets[0].recv, [1])
        if self._made is None:
            self._made = Connection._made()  # noqa: SLF001
        attach, detach = self._made._attach, starmap(self._sockets[0].detach, [()])  # noqa: SLF001
        segment, event0, event1 = ([fd] for fd in fds)
        try:
            self._attached += map(attach, segment, detach, event0, event1, [0], [True], [True], [True])
        except OSError:
            return None  # the segment is none
        return self._made

    def _part(self) -> bool:
        """Take the socket of the pipe. False: its client has gone, and has left nothing."""
        handle = self.instance._handle  # noqa: SLF001
        parted = starmap(handle.part_with_socket, [()])
        try:
            self._sockets += map(socket.SocketType, [socket.AF_UNIX], [socket.SOCK_SEQPACKET], [0], parted)
        except PipeError:
            handle.close_handle(True)
            return False
        return True

    def _hear(self) -> list[int] | None:
        """Wait for its word. None: it says nothing, or something else."""
        if not self._heard:
            one = self._sockets[0]
            one.settimeout(_PATIENCE)
            # Only a look: what comes when there are no descriptors left is lost for who takes it.
            flags = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC
            try:
                self._heard += map(one.recvmsg, [_HELLO.size + 1], [socket.CMSG_LEN(3 * _INT.size)], [flags])
            except OSError:
                return None
        said, _, flags, _ = self._heard[0]
        fds = self._descriptors()
        if said == _HELLO.pack(_MAGIC, _VERSION) and len(fds) < 3 and flags & socket.MSG_CTRUNC:
            self._forget_heard()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if said != _HELLO.pack(_MAGIC, _VERSION) or len(fds) != 3 or not all(map(_is_event, fds[1:])):
            return None
        return fds

    def _descriptors(self) -> list[int]:
        return [
            fd
            for level, kind, data in self._heard[0][1]
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for (fd,) in _INT.iter_unpack(data[: len(data) - len(data) % _INT.size])
        ]

    def _forget_heard(self) -> None:
        fds = self._descriptors() if self._heard else []
        self._heard.clear()
        _close(fds)

    def drop(self) -> None:
        """Be rid of it: it is none of ours, or nobody will ask for it any more."""
        if self._made is not None and self._sockets[0].fileno() < 0:
            self._made.close()  # which has the descriptors
            return
        self._forget_heard()
        for one in self._sockets:
            one.close()
        self.instance.close_handle()


def _is_event(fd: int) -> bool:
    """Whether it is an event that does not wait: of anything else a stranger could make us wait for it."""
    try:
        if str(Path(f"/proc/self/fd/{fd}").readlink()) != "anon_inode:[eventfd]":
            return False
        os.set_blocking(fd, False)
    except OSError:
        return False
    return True


class Listener:
    r"""A pipe's name on which connections are accepted, as multiprocessing.connection.Listener.

    It belongs to the process that has made it: a forked child has none.

    Args:
        address: the pipe's name, `\\.\pipe\NAME` or the bare NAME; None: a new one.
        family: None or "AF_PIPE".
        backlog: how many clients may connect before they are accepted; others wait.
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
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        if address is None:
            address = rf"\\.\pipe\pyc-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        name = parse_name(_check(address, family, authkey))
        self._address = name.path
        self._authkey = authkey
        self._instances: _Instances | None = _Instances(name, min(max(backlog, 1), MOST_BACKLOG) + 1)

    def accept(self) -> Connection[Any, Any]:
        """Wait for a client, and return the Connection.

        A client is the next accept's if this one is interrupted or fails, unless it was being asked for its secret:
        then its connection is closed.

        Raises:
            AuthenticationError: the client has another secret.
            OSError: the listener is closed, or there are no descriptors.
        """
        if self._instances is None:
            raise OSError("listener is closed")
        made: Connection[Any, Any] = self._instances.accept()
        if self._authkey is not None:
            try:
                deliver_challenge(_theirs(made), self._authkey)
                answer_challenge(_theirs(made), self._authkey)
            except BaseException:
                made.close()
                raise
        return made

    def close(self) -> None:
        """Stop listening; connections live on."""
        instances = self._instances
        if instances is not None:
            instances.close()
            self._instances = None  # when that is done, whatever interrupts it

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
