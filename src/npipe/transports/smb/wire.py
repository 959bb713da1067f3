"""One TCP connection to a host: smbprotocol's `Connection`, made fit for threads, time-outs and hostile peers.

What is different from smbprotocol's own:

- the socket is ours, so that connecting is exact and can be given up, and no limit of select() holds;
- signing is demanded of every answer, and encryption of every one once the session is encrypted;
- an answer that nobody waits for any more ends nothing;
- when the connection is lost, whoever waits is told.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import threading
import uuid
import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from npipe.options import time_left
from npipe.transports.smb.library import Commands, Connection, NtStatus, Smb2Flags, SMBException

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SLICE", "GiveUp", "NotSignedError", "Stream", "Wire", "connect_socket", "wait_event"]

SLICE: Final = 0.5 if sys.platform == "win32" else None
"""Seconds of a wait at a time: on Windows Ctrl-C does not end the wait for a lock."""

_CHUNK: Final = 70_000
_LENGTH: Final = 4  # bytes of a message's length before it
_LARGEST_FRAME: Final = 0xFFFFFF
_SEND_BUFFER: Final = 425_984  # what Linux grants without privileges: room for any request of ours, and one more
_LONGEST_POLL: Final = 86_400.0  # seconds
_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 10035)})
_LITERAL: Final = ".ipv6-literal.net"
_NOBODY: Final = 0xFFFFFFFFFFFFFFFF  # message id of what the server says unasked

# A peer that is gone without a word (a cable that was cut) is found within half a minute.
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4), ("TCP_USER_TIMEOUT", 30_000))


class NotSignedError(SMBException):
    """An answer was not signed, or not encrypted, though the session is."""


def wait_event(event: threading.Event, deadline: float | None) -> bool:
    """Wait for an event until a deadline (time.monotonic); whether it is set."""
    if SLICE is None:
        return event.wait(time_left(deadline))
    while True:
        left = time_left(deadline)
        if event.wait(SLICE if left is None else min(SLICE, left)):
            return True
        if left is not None and left <= SLICE:
            return False


_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
"""All of this process, those that are being connected too."""


def _after_fork_in_child() -> None:
    """Give the descriptors back: the connections are the parent's."""
    for sock in list(_sockets):
        sock.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _spelled(host: str) -> str:
    """Return an IPv6 address as resolvers take it, of Windows' spelling for where no colon may be; else the host."""
    literal = host.lower().removesuffix(_LITERAL)
    return host if len(literal) == len(host) else literal.replace("-", ":").replace("s", "%", 1)


class GiveUp:
    """Ends the making of a connection from another thread, whatever stage it is at; its maker closes the socket."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for the next three
        self._is_set = False
        self._waker: socket.socket | None = None  # wakes who waits until it is connected
        self._sock: socket.socket | None = None  # once it is

    @property
    def is_set(self) -> bool:
        """Whether it was given up."""
        return self._is_set

    def set(self) -> None:
        """Give it up. Waits for nothing."""
        with self._lock:
            self._is_set = True
            if self._waker is not None:
                self._waker.send(b"\0")
            if self._sock is not None:
                with contextlib.suppress(OSError):  # it has ended already
                    self._sock.shutdown(socket.SHUT_RDWR)

    def await_connected(self, sock: socket.socket, address: Any) -> None:
        """Connect. Raises OSError, also when it was given up; else the socket is one that `set` ends from now on."""
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code in _UNDER_WAY:
            self._await_outcome(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        sock.setblocking(True)
        with self._lock:
            if self._is_set:
                raise ConnectionAbortedError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
            if not code:
                self._sock = sock
        if code:
            raise OSError(code, getattr(socket, "errorTab", {}).get(code) or os.strerror(code))

    def _await_outcome(self, sock: socket.socket) -> None:
        """Wait until it is known whether a socket is connected, or `set` is called."""
        woken, waker = socket.socketpair()
        with woken, waker:
            _sockets.update((woken, waker))
            with self._lock:
                if self._is_set:
                    return
                self._waker = waker
            try:
                if sys.platform == "win32":
                    select.select([woken], [sock], [sock])
                else:
                    poll = select.poll()
                    poll.register(sock, select.POLLOUT)
                    poll.register(woken, select.POLLIN)
                    poll.poll()
            finally:
                with self._lock:
                    self._waker = None

    def over(self) -> None:
        """Have `set` end nothing any more: the connection is made, or has failed."""
        with self._lock:
            self._sock = None


def connect_socket(host: str, port: int, giving_up: GiveUp) -> socket.socket:
    """Return a connected socket, trying each address of the host.

    Raises OSError: of the last address, or when it was given up.
    """
    last: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(_spelled(host), port, type=socket.SOCK_STREAM):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            last = error
            continue
        try:
            _sockets.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            for option, value in _KEEP_ALIVE:
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
            giving_up.await_connected(sock, address)
        except OSError as error:
            sock.close()
            last = error
            if giving_up.is_set:
                break
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last or OSError("the host has no address")


class Stream:
    """The transport that smbprotocol expects: messages with their lengths, over a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._sending = threading.Lock()
        self._waking: tuple[socket.socket, socket.socket] | None = None  # ends a wait for room; made for the first one
        self.connected: bool = True
        self._gone = False  # nobody receives any more
        peer: tuple[str, int] = sock.getpeername()[:2]
        self.server: str = peer[0]
        self.port: int = peer[1]

    def connect(self) -> None:
        """Do nothing: it is connected."""

    @property
    def address(self) -> str:
        """The host's network address."""
        return str(self.server)

    def close(self) -> None:
        """End it; whoever receives finds the end. Closing twice is no error."""
        self.connected = False
        with contextlib.suppress(OSError):  # it has ended already
            self._sock.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the descriptors back: nobody receives any more."""
        self.connected = False
        with self._sending:
            self._sock.close()
            self._gone = True
        self._close_waking()

    def forget(self) -> None:
        """Be closed: this is a forked child, and the connection is the parent's."""
        self.connected = False

    def _close_waking(self) -> None:
        waking, self._waking = self._waking, None
        for sock in waking or ():
            sock.close()

    def await_room(self, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until a request can be sent without a wait, or `given_up` says so; False when the deadline came first.

        One thread at a time.
        """
        try:
            if self._has_room(0.0, None):
                return True
            if self._waking is None:
                self._waking = socket.socketpair()
                for sock in self._waking:
                    sock.setblocking(False)
                    _sockets.add(sock)
            woken = self._waking[0]
            while not given_up():
                left = time_left(deadline)
                if self._has_room(left, woken):
                    return True
                if left == 0:
                    return False
                with contextlib.suppress(BlockingIOError):
                    woken.recv(_CHUNK)
        except (OSError, ValueError):  # closed meanwhile: the send finds out
            pass
        finally:
            if self._gone:
                self._close_waking()
        return True

    def _has_room(self, timeout: float | None, woken: socket.socket | None) -> bool:
        """Wait until a request can be sent, or `woken` is; whether it can, or the connection is lost."""
        if sys.platform != "win32":
            poll = select.poll()
            number = self._sock.fileno()
            poll.register(number, select.POLLOUT)
            if woken is not None:
                poll.register(woken, select.POLLIN)
            milliseconds = None if timeout is None else min(timeout, _LONGEST_POLL) * 1000
            return any(ready == number for ready, _ in poll.poll(milliseconds))
        return bool(select.select([] if woken is None else [woken], [self._sock], [], timeout)[1])

    def wake(self) -> None:
        """Let whoever waits for room look again whether it is given up."""
        waking = self._waking
        if waking is not None:
            with contextlib.suppress(OSError):  # it is full of such, or closed
                waking[1].send(b"\0")

    def send(self, message: Any) -> None:
        """Send one message: bytes, or one of smbprotocol's structures if it is encrypted."""
        if not isinstance(message, bytes):
            message = message.pack()
        if len(message) > _LARGEST_FRAME:
            raise ValueError("a message is too long for the connection")
        with self._sending:
            try:
                self._sock.sendall(len(message).to_bytes(_LENGTH, "big") + message)
            except OSError:
                self.close()  # a part may have gone: nothing can follow it. The receiving thread tells all who wait

    def recv(self, timeout: float) -> bytes:  # noqa: ARG002 - the socket's own keep-alive finds a peer that is gone
        """Return the next message; b"" at the end."""
        buffer = self._buffer
        while True:
            if len(buffer) >= _LENGTH:
                size = int.from_bytes(buffer[:_LENGTH], "big")
                if not size:  # NetBIOS' keep-alive
                    del buffer[:_LENGTH]
                    continue
                if size > _LARGEST_FRAME:
                    break
                if len(buffer) >= _LENGTH + size:
                    with memoryview(buffer) as view:
                        message = bytes(view[_LENGTH : _LENGTH + size])
                    del buffer[: _LENGTH + size]
                    return message
            try:
                data = self._sock.recv(_CHUNK)
            except OSError:
                break
            if not data:
                break
            buffer += data
        self.close()
        return b""


class _Number:
    def get_value(self) -> int:
        return 0


class _NoMessage:
    def __getitem__(self, _: str) -> _Number:
        return _Number()


class _Nobody:
    """Who an answer is for that nobody waits for."""

    def __init__(self, session_id: int) -> None:
        self.session_id: int = session_id
        self.response_event: threading.Event = threading.Event()
        self.response_event_lock: threading.Lock = threading.Lock()
        self.message: _NoMessage = _NoMessage()
        self.response: Any = None
        self.async_id: bytes | None = None


class _Outstanding(dict[int, Any]):
    """Requests by their numbers. A number that is not in it is of a request that was given up."""

    session_id: int = 0

    def __missing__(self, _: int) -> _Nobody:
        return _Nobody(self.session_id)

    def values(self) -> list[Any]:  # type: ignore[override]  # smbprotocol goes through it while others change it
        """Return those that there are now."""
        return list(super().values())


class _Window(dict[str, int]):
    """The numbers that requests may have; tells when there are more."""

    def __init__(self) -> None:
        super().__init__(low=0, high=1)
        self.granted: threading.Event = threading.Event()

    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value)
        if key == "high":
            self.granted.set()


class Wire(Connection):
    """A connection that is made over a connected socket; `connect` negotiates."""

    def __init__(self, host: str, port: int, sock: socket.socket, on_lost: Callable[[], None]) -> None:
        self.stream: Stream = Stream(sock)
        super().__init__(uuid.uuid4(), host, port, require_signing=True)
        self.outstanding_requests: _Outstanding = _Outstanding()
        self.sequence_window: _Window = _Window()
        self.lost: bool = False
        self.unsaid: SimpleQueue[Any] = SimpleQueue()
        """What is to be sent by a thread of its own; None at the end. It is the one thing here that a pipe's collection
        may touch: that comes in any thread, whichever locks that has."""
        self._on_lost = on_lost

    @property
    def transport(self) -> Stream:
        """What smbprotocol sends and receives by."""
        return self.stream

    @transport.setter
    def transport(self, _: object) -> None:
        """Ignore the one that smbprotocol would make."""

    @property
    def is_made(self) -> bool:
        """Whether the thread that receives was started; it gives the socket back."""
        return self._t_worker is not None and self._t_worker.ident is not None

    def verify_signature(self, header: Any, session_id: int, force: bool = False) -> None:
        """Check the signature of an answer that was not encrypted, and that there is one."""
        if self.session_table and not force:
            self._demand_signature(header)
        super().verify_signature(header, session_id, force)

    def _demand_signature(self, header: Any) -> None:
        """Raise NotSignedError unless a signature will be checked; what the answer says of itself does not decide.

        (smbprotocol checks none of what calls itself an answer of the logon, and looks for its session in the answer.)
        """
        command, number = header["command"].get_value(), header["message_id"].get_value()
        request = self.outstanding_requests[number]
        unasked = number == _NOBODY
        if command == Commands.SMB2_SESSION_SETUP:  # that was over before there was a session
            raise NotSignedError("an answer is one of a logon that nobody has asked for")
        if not (unasked or isinstance(request, _Nobody) or request.message["command"].get_value() == command):
            raise NotSignedError("an answer is one to something else than what was asked")
        session = self.session_table.get(request.session_id)
        if session is None:
            raise NotSignedError("an answer belongs to no session")
        if session.encrypt_data:
            raise NotSignedError("an answer was not encrypted, though the session is")
        interim = header["status"].get_value() == NtStatus.STATUS_PENDING
        signed = unasked or interim or header["flags"].has_flag(Smb2Flags.SMB2_FLAGS_SIGNED)
        if session.signing_required and not signed:
            raise NotSignedError("an answer was not signed")

    def _process_message_thread(self) -> None:
        threading.current_thread().name = f"npipe-smb-{self.stream.address}"
        try:
            super()._process_message_thread()
        finally:
            self.lost = True
            self.stream.release()
            # Who registers a request after this looks at `lost` before it waits.
            for request in self.outstanding_requests.values():
                with request.response_event_lock:  # between its look and its wait nobody is told
                    request.response_event.set()
            self.sequence_window.granted.set()
            self.unsaid.put(None)
            self._on_lost()

    def await_credits(self, count: int, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until `count` more requests may be sent, or `given_up` says so; False when the deadline came first."""
        window = self.sequence_window
        while window["high"] - window["low"] < count and not self.lost:
            window.granted.clear()
            if window["high"] - window["low"] >= count or self.lost or given_up():
                break
            if not wait_event(window.granted, deadline):
                return False
        return True

    def wake(self) -> None:
        """Let whoever waits for credits or for room look again whether it is given up."""
        self.sequence_window.granted.set()
        self.stream.wake()

    @property
    def credits(self) -> int:
        """How many more requests may be sent."""
        window: dict[str, int] = self.sequence_window
        return window["high"] - window["low"]
