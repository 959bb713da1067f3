"""A minimal owner, the server's side, of npipe's local pipes in the standard library alone: docs/protocol.md.

    python examples/protocol/owner.py NAME      gives back each message in upper case, until it is interrupted

It has a fixed number of instances, which clients of its own user may open: each listens, is connected, and listens
again when its link is closed. The rendezvous is a thread's; each link is for one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import mmap
import os
import queue
import resource
import secrets
import select
import socket
import stat
import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import atomics
from atomics import Words
from link import (
    ACCESS_DENIED,
    DUPLEX,
    INBOUND,
    INVALID_DATA,
    MESSAGE,
    OUTBOUND,
    READ,
    SERVER,
    TIMED_OUT,
    WRITE,
    Link,
    PipeError,
    create_segment,
)
from rendezvous import (
    BUSY,
    FILE_NOT_FOUND,
    FOR,
    HOLD,
    INVALID_FUNCTION,
    IO_PENDING,
    LOOK_AGAIN,
    MAGIC,
    NO_RESOURCES,
    NUDGE,
    OK,
    OPEN,
    QUERY,
    REQUEST_SIZE,
    REVISION_MISMATCH,
    STAY,
    VERSION,
    WAIT,
    Answer,
    Peer,
    Request,
    address_in,
    connect_to,
    folder_of,
    hang_up,
    open_root,
    pack_answer,
    pack_request,
    peer_of,
    root_folder,
    unpack_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Owner"]

# ---- The page (section 2)

PAGE_MAGIC: Final = 0x4650504E  # "NPPF"
PAGE_VERSION: Final = 1
NAME_SIZE: Final = 1024
SLOTS: Final = 128
_PAGE: Final = struct.Struct(f"<7I{NAME_SIZE}sI")
_FIRST_SLOT, _SLOT_SIZE = 1056, 32
_PAGE_SIZE: Final = _FIRST_SLOT + SLOTS * _SLOT_SIZE
_PID, _INSTANCES, _LISTENING, _HELD = 8, 12, 16, 20  # in a slot, behind the socket's id

LOCK_PATIENCE: Final = 3.0  # seconds; its holder may be stopped
REQUEST_PATIENCE: Final = 10.0
MOST_SILENT: Final = 256


@dataclass
class _Visitor:
    """A connection to the owner's socket that has no link yet."""

    socket: socket.socket
    peer: Peer
    until: float | None  # it has to say by then what it wants; None: it is held, or stays
    kind: int = 0
    access: int = 0

    @property
    def held(self) -> bool:
        return self.until is None and self.kind in {OPEN, WAIT}


class _Folder:
    """A pipe's folder, locked."""

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        self.fd = self.lock_fd = -1
        deadline = time.monotonic() + LOCK_PATIENCE
        with contextlib.suppress(FileExistsError):
            os.mkdir(root, 0o700)
        self.rootfd = open_root(root)
        try:
            while not self._enter(deadline):  # each time another process has removed it meanwhile
                self._leave()
            self._map_page()
        except BaseException:
            self._leave()
            os.close(self.rootfd)
            raise

    def _enter(self, deadline: float) -> bool:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.name, 0o700, dir_fd=self.rootfd)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(self.name, flags, dir_fd=self.rootfd)
        except FileNotFoundError:
            return False
        except OSError:
            raise PipeError(ACCESS_DENIED, "the name is taken: there is something else than a folder") from None
        status = os.fstat(self.fd)
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PipeError(ACCESS_DENIED, "the name is taken: its folder is somebody else's")
        try:
            self.lock_fd = self._open("lock", os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            return False
        if not self.lock(deadline):
            raise PipeError(NO_RESOURCES, "another process has the lock of the pipe's folder")
        return self.is_there()

    def _leave(self) -> None:
        """Unlock it, before the close: a forked child may have a duplicate."""
        if self.lock_fd >= 0:
            self.unlock()
            os.close(self.lock_fd)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = self.lock_fd = -1

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.fd)

    def _map_page(self) -> None:
        page = self._open("pipe", os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(page, _PAGE_SIZE)
            os.posix_fallocate(page, 0, _PAGE_SIZE)  # the first touch of a hole may be a SIGBUS
            self.page = mmap.mmap(page, _PAGE_SIZE)
        finally:
            os.close(page)
        self.words = Words(self.page)

    def lock(self, deadline: float) -> bool:
        """Try for the lock until then: nobody waits inside flock, for its holder may be stopped."""
        pause = 0.00005
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(pause)
                pause = min(pause * 1.5, 0.01)
            else:
                return True

    def unlock(self) -> None:
        """Let others in."""
        fcntl.flock(self.lock_fd, fcntl.LOCK_UN)

    def is_there(self) -> bool:
        """Whether both are still what their names say: another owner may have removed them before we had the lock."""
        try:
            lock = os.stat("lock", dir_fd=self.fd, follow_symlinks=False)
            folder = os.stat(self.name, dir_fd=self.rootfd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (lock.st_ino, folder.st_ino) == (os.fstat(self.lock_fd).st_ino, os.fstat(self.fd).st_ino)

    def slots(self) -> list[int]:
        """Where the slots of all owners stand."""
        every = range(_FIRST_SLOT, _PAGE_SIZE, _SLOT_SIZE)
        return [slot for slot in every if self.words.load64(slot)]

    def is_dead(self, identity: int) -> bool:
        """Whether nobody listens at that owner's socket."""
        try:
            hang_up(connect_to(self.fd, socket_name(identity), time.monotonic()))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
        return False

    def bury(self, own: int = 0) -> None:
        """Forget owners that are dead. With the lock."""
        for slot in self.slots():
            identity = self.words.load64(slot)
            if identity not in {0, own} and self.is_dead(identity):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(socket_name(identity), dir_fd=self.fd)
                self.words.swap64(slot, identity, 0)

    def instances(self, *, living: bool = False) -> int:
        """Of all owners."""
        count = 0
        for slot in self.slots():
            identity = self.words.load64(slot)
            if identity and not (living and self.is_dead(identity)):
                count += self.words.load32(slot + _INSTANCES)
        return count

    def remove(self) -> None:
        """Remove it if nobody is in it. With the lock."""
        if self.slots() or not self.is_there():
            return
        for name in os.listdir(self.fd):
            if name.startswith(("s", "draft-")):
                os.unlink(name, dir_fd=self.fd)
        os.unlink("pipe", dir_fd=self.fd)
        os.unlink("lock", dir_fd=self.fd)  # last: without it nobody else can be inside
        os.rmdir(self.name, dir_fd=self.rootfd)

    def close(self) -> None:
        """Unlock it, and let it go."""
        self._leave()
        os.close(self.rootfd)
        self.words.close()
        self.page.close()


def socket_name(identity: int) -> str:
    """The name of an owner's socket."""
    return f"s{identity:016x}"


class Owner:
    """A process' instances of a pipe."""

    def __init__(
        self,
        name: str,
        *,
        instances: int = 1,
        kind: int = MESSAGE,
        direction: int = DUPLEX,
        quotas: tuple[int, int] = (65536, 65536),
        max_instances: int = 255,
        default_timeout_ms: int = 50,
        by_socket: bool = False,
    ) -> None:
        r"""Make instances, which listen at once.

        Args:
            name: without `\\.\pipe\`.
            instances: how many.
            kind: MESSAGE or BYTE, unless the pipe is there already.
            direction: INBOUND (clients write), OUTBOUND or DUPLEX.
            quotas: bytes that clients, and this side, may leave unread and have written.
            max_instances: of all owners; 255: any number.
            default_timeout_ms: how long a client waits that does not say how long.
            by_socket: links sleep on the socket, and not on the futex.

        Raises:
            PipeError: 231 there are as many instances as there may be; 5 the pipe goes another way; 1306, 1450.
        """
        self.quotas, self.by_socket = quotas, by_socket
        self._made = instances
        self._lock = threading.Lock()
        self._visitors: dict[int, _Visitor] = {}
        self._connected: queue.SimpleQueue[Link] = queue.SimpleQueue()
        self._closing = False
        self._folder = _Folder(root_folder(), folder_of(name))
        with contextlib.ExitStack() as undo:
            undo.callback(self._folder.close)
            undo.callback(self._folder.remove)
            self._bell, self._other_end = socket.socketpair()
            undo.callback(self._other_end.close)
            undo.callback(self._bell.close)
            self._take_place(name, kind, direction, max_instances, default_timeout_ms)
            undo.pop_all()
        self._folder.unlock()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._nudge(listening=True)

    # -- The page and the socket (section 2)

    def _take_place(self, name: str, kind: int, direction: int, most: int, timeout_ms: int) -> None:
        folder = self._folder
        folder.bury()
        count = folder.instances()
        magic, version, *rest = _PAGE.unpack(folder.page[: _PAGE.size])
        if count and (magic, version) != (PAGE_MAGIC, PAGE_VERSION):
            raise PipeError(REVISION_MISMATCH, "owners of another version have the pipe")
        if count == 0:
            text = name.encode("utf-8", "surrogatepass")[:NAME_SIZE]
            rest = [kind, direction, most, timeout_ms, len(text), text, secrets.randbits(32) | 1]
            folder.page[: _PAGE.size] = _PAGE.pack(PAGE_MAGIC, PAGE_VERSION, *rest)
        self.kind, self.direction, self.max_instances, self.default_timeout_ms, size, said, self.id = rest
        self.name = said[:size]
        if self.max_instances != 255 and count + self._made > self.max_instances:
            raise PipeError(BUSY, "the pipe has as many instances as it may have")
        if self.direction != direction:
            raise PipeError(ACCESS_DENIED, "the pipe goes another way")
        every = range(_FIRST_SLOT, _PAGE_SIZE, _SLOT_SIZE)
        free = [slot for slot in every if folder.words.load64(slot) == 0]
        if not free:
            raise PipeError(NO_RESOURCES, "too many processes own instances of this pipe")
        self._slot = free[0]
        self._identity = secrets.randbits(64) | 1
        self._listen()
        for field, value in ((_PID, os.getpid()), (_INSTANCES, self._made), (_LISTENING, self._made), (_HELD, 0)):
            folder.words.store32(self._slot + field, value)
        folder.words.store64(self._slot, self._identity)

    def _listen(self) -> None:
        """Bound and listening before it has its name: what refuses in a folder belongs to the dead."""
        fd, name = self._folder.fd, socket_name(self._identity)
        draft = "draft-" + name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.ExitStack() as undo:
            undo.callback(self._socket.close)
            self._socket.setblocking(False)
            self._socket.bind(address_in(fd, draft))
            undo.callback(os.unlink, draft, dir_fd=fd)
            os.chmod(draft, 0o600, dir_fd=fd)
            self._socket.listen(4096)
            os.rename(draft, name, src_dir_fd=fd, dst_dir_fd=fd)
            undo.pop_all()

    def _listening(self) -> int:
        return self._folder.words.load32(self._slot + _LISTENING)

    def _count(self, field: int, change: int) -> None:
        self._folder.words.change32(self._slot + field, 0xFFFFFFFF, 0, change)

    def _others_listen(self) -> bool:
        folder = self._folder
        atomics.fence()  # between our count of held requests and this look
        for slot in folder.slots():
            identity = folder.words.load64(slot)
            if identity in {0, self._identity} or not folder.words.load32(slot + _LISTENING):
                continue
            if not folder.is_dead(identity):
                return True
        return False

    def _nudge(self, *, listening: bool) -> None:
        """Tell other owners that hold requests to look again; all of them, if an instance has gone."""
        folder = self._folder
        atomics.fence()  # between our count of listening instances and this look
        for slot in folder.slots():
            identity = folder.words.load64(slot)
            if identity in {0, self._identity} or (listening and not folder.words.load32(slot + _HELD)):
                continue
            with contextlib.suppress(OSError):  # who is dead has hung up on those who waited
                connected = connect_to(folder.fd, socket_name(identity), time.monotonic())
                connected.send(pack_request(NUDGE))
                hang_up(connected)

    # -- The rendezvous (section 3)

    def _ring(self) -> None:
        """Have the thread look again at what it watches."""
        with contextlib.suppress(BlockingIOError):  # a full one rings already
            self._other_end.send(b"\1", socket.MSG_DONTWAIT)

    def _serve(self) -> None:
        poll = select.poll()
        while not self._closing:
            with self._lock:
                watched = {self._socket.fileno(), self._bell.fileno(), *self._visitors}
                times = [visitor.until for visitor in self._visitors.values() if visitor.until is not None]
            poll = select.poll()
            for descriptor in watched:
                poll.register(descriptor, select.POLLIN)
            ready = poll.poll(max(0, min(times) - time.monotonic()) * 1000 + 1 if times else None)
            with self._lock:
                for descriptor, _ in ready:
                    if descriptor == self._socket.fileno():
                        self._let_in()
                    elif descriptor == self._bell.fileno():
                        self._bell.recv(64)
                    elif descriptor in self._visitors:
                        self._hear(self._visitors[descriptor])
                now = time.monotonic()
                for visitor in list(self._visitors.values()):
                    if visitor.until is not None and visitor.until <= now:
                        self._drop(visitor)

    def _let_in(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connected = self._socket.accept()[0]
                connected.setblocking(False)
                until = time.monotonic() + REQUEST_PATIENCE
                self._visitors[connected.fileno()] = _Visitor(connected, peer_of(connected), until)
                silent = [one for one in self._visitors.values() if one.until is not None]
                if len(silent) > MOST_SILENT:
                    self._drop(silent[0])  # the one that has been silent longest

    def _drop(self, visitor: _Visitor) -> None:
        del self._visitors[visitor.socket.fileno()]
        if visitor.held:
            self._count(_HELD, -1)
        hang_up(visitor.socket)

    def _answer(self, visitor: _Visitor, code: int, segment: int = -1) -> bool:
        """Send an answer. Whether the client is there still."""
        listening = last = 0
        first = self.default_timeout_ms
        name = b""
        if visitor.kind == QUERY and code == OK:
            first, listening, last, name = self.id, self._listening(), len(self.name), self.name
        elif visitor.kind == OPEN:
            listening = self.id
        count = self._folder.instances(living=visitor.kind == QUERY)
        answer = pack_answer(
            Answer(
                MAGIC, VERSION, visitor.kind, code, first, self.kind, self.direction, self.max_instances, count,
                os.getpid(), listening, last,
            )
        )  # fmt: skip
        try:
            socket.send_fds(visitor.socket, [answer + name], [segment] if segment >= 0 else [], socket.MSG_NOSIGNAL)
        except OSError:
            return False
        return True

    def _refuse(self, visitor: _Visitor, code: int) -> None:
        self._answer(visitor, code)
        self._drop(visitor)

    def _hear(self, visitor: _Visitor) -> None:
        try:
            data = visitor.socket.recv(65536 + REQUEST_SIZE + 1)
        except BlockingIOError:  # the descriptor's number was another visitor's when it was polled
            return
        except OSError:
            data = b""
        request = unpack_request(data)
        if len(data) > 65536 + REQUEST_SIZE:
            self._refuse(visitor, REVISION_MISMATCH)
        elif len(data) < 8 or request.magic != MAGIC:
            self._drop(visitor)  # gone, or not one of us
        elif request.version != VERSION or not self._may_have(len(data), request):
            self._refuse(visitor, REVISION_MISMATCH)
        elif visitor.until is None:
            self._drop(visitor)  # a second request
        else:
            self._do(visitor, request)

    def _may_have(self, size: int, request: Request) -> bool:
        """Whether a request may be so long: one for a client of another machine has more behind it."""
        return size == REQUEST_SIZE or (size > REQUEST_SIZE and request.kind == OPEN and bool(request.flags & FOR))

    def _do(self, visitor: _Visitor, request: Request) -> None:
        is_owner = visitor.peer.uid in {os.geteuid(), 0}
        visitor.kind = request.kind
        if not is_owner:
            self._refuse(visitor, ACCESS_DENIED)  # whatever it asks
        elif request.kind == NUDGE:
            self._drop(visitor)
            if self._others_listen():
                self._send_on(OK)
        elif request.kind == STAY:
            visitor.until = None
        elif request.kind == QUERY:
            self._refuse(visitor, OK)
        elif request.kind == WAIT:
            if self._listening() or self._others_listen():
                self._refuse(visitor, OK)
            else:
                self._hold(visitor)
        elif request.kind == OPEN and request.flags & FOR:
            self._refuse(visitor, INVALID_DATA)  # clients of other machines are not let in here
        elif request.kind == OPEN:
            self._open(visitor, request)
        else:
            self._refuse(visitor, INVALID_FUNCTION)

    def _open(self, visitor: _Visitor, request: Request) -> None:
        visitor.access = request.access & (READ | WRITE)
        if (visitor.access & READ and not self.direction & OUTBOUND) or (
            visitor.access & WRITE and not self.direction & INBOUND
        ):
            self._refuse(visitor, ACCESS_DENIED)
        elif self._listening():
            self._grant(visitor)
        elif request.flags & HOLD:
            self._hold(visitor)
        else:
            self._refuse(visitor, BUSY)

    def _hold(self, visitor: _Visitor) -> None:
        held = sum(one.held for one in self._visitors.values())
        if held >= resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 7 // 16:
            self._refuse(visitor, NO_RESOURCES)
            return
        visitor.until = None
        self._count(_HELD, 1)  # before the look at the others
        if not self._answer(visitor, IO_PENDING):
            self._drop(visitor)
        elif self._others_listen():
            self._refuse(visitor, OK if visitor.kind == WAIT else LOOK_AGAIN)

    def _send_on(self, code: int) -> None:
        """Answer those that are held: look again; the last word of an owner that goes."""
        for visitor in list(self._visitors.values()):
            if visitor.held:
                self._refuse(visitor, code if code != OK else OK if visitor.kind == WAIT else LOOK_AGAIN)

    def _grant(self, visitor: _Visitor) -> None:
        """Give an instance to the client, whose socket becomes the link's."""
        try:
            segment = create_segment(self.kind, self.direction, self.quotas, visitor.peer.pid)
        except OSError:
            self._refuse(visitor, NO_RESOURCES)
            return
        sent = os.dup(segment)
        self._count(_LISTENING, -1)  # before the client can ask another owner
        told = self._answer(visitor, OK, sent)
        os.close(sent)
        if not told:  # it did not wait: the instance goes on listening
            os.close(segment)
            self._count(_LISTENING, 1)
            self._drop(visitor)
            return
        del self._visitors[visitor.socket.fileno()]
        if visitor.held:
            self._count(_HELD, -1)
        link = Link(segment, visitor.socket, SERVER, visitor.access, by_socket=self.by_socket)
        link.on_end = self._listen_again
        self._connected.put(link)

    def _listen_again(self) -> None:
        with self._lock:
            if self._closing:
                return
            self._count(_LISTENING, 1)
            for visitor in list(self._visitors.values()):
                if visitor.held and visitor.kind == WAIT:
                    self._refuse(visitor, OK)  # all of them: nothing is reserved
            for visitor in list(self._visitors.values()):
                if visitor.held and self._listening():
                    self._grant(visitor)
            if self._listening():
                self._nudge(listening=True)
            self._ring()  # the thread may watch a socket that is a link's now

    def accept(self, deadline: float | None = None) -> Link:
        """The next client. When its link is closed, the instance listens again. PipeError 121: none has come."""
        try:
            return self._connected.get(timeout=None if deadline is None else max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise PipeError(TIMED_OUT, "no client has come in that time") from None

    def close(self) -> None:
        """Close all instances. Links that `accept` has returned are their own, and go on."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._ring()
        self._thread.join()
        folder = self._folder
        os.unlink(socket_name(self._identity), dir_fd=folder.fd)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            while True:
                hang_up(self._socket.accept()[0])
        self._socket.close()
        folder.words.swap64(self._slot, self._identity, 0)
        self._send_on(LOOK_AGAIN if folder.instances() else FILE_NOT_FOUND)
        for visitor in list(self._visitors.values()):
            self._drop(visitor)
        while not self._connected.empty():
            self._connected.get().close()
        if self.max_instances != 255:
            self._nudge(listening=False)  # another one may wait for room
        if folder.lock(time.monotonic() + 0.1):  # else the next one to come by removes it
            folder.bury()
            folder.remove()
        folder.close()
        self._bell.close()
        self._other_end.close()


def _serve_one(link: Link) -> None:
    with contextlib.closing(link), contextlib.suppress(PipeError):
        while True:
            link.write(link.receive().upper())


def main(arguments: Sequence[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="A server of npipe's local pipes: it gives back upper case.")
    parser.add_argument("name", help=r"of the pipe, without \\.\pipe\ ")
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--by-socket", action="store_true", help="sleep on the socket, not on the futex")
    options = parser.parse_args(arguments)
    try:
        owner = Owner(options.name, instances=options.instances, by_socket=options.by_socket)
    except PipeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"listening: {options.name}", flush=True)
    with contextlib.closing(owner), contextlib.suppress(KeyboardInterrupt):
        while True:
            threading.Thread(target=_serve_one, args=(owner.accept(),), daemon=True).start()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
