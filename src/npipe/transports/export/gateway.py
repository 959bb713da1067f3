"""The gateway: a thread that takes smbd's connections, and opens a pipe on behalf of each client that may come in.

It is there while something is exported, or a client is connected. The pipes may be this process's or another's.
"""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import asyncio
import atexit
import contextlib
import errno
import functools
import logging
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from npipe import binding
from npipe.errors import PipeAccessError, PipeBusyError, PipeError, PipeNotFoundError, PipeResourceError
from npipe.loops.current import current
from npipe.options import ACCESS_READ, ACCESS_WRITE, PIPE_READMODE_MESSAGE, PIPE_TYPE_MESSAGE, Peer
from npipe.peers import MOST_SIZE, pack_remote
from npipe.transports.export import handshake
from npipe.transports.export.crowd import Crowd, Place, display, who_waits
from npipe.transports.export.relay import MOST_MESSAGE, Incoming, Relay
from npipe.transports.export.rule import kind_of, refusal
from npipe.transports.export.sockets import Doorway, check_doorway, is_smbd
from npipe.transports.local.aio_pipes import pipe_of
from npipe.transports.local.aio_transport import LocalArrival, dialled, pipe_waker
from npipe.transports.local.blocking import READ_ATTRIBUTES, WRITE_ATTRIBUTES
from npipe.transports.local.place import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from npipe.names import PipeName
    from npipe.remote_access import RemoteAccess

__all__ = ["Export"]

logger: Final = logging.getLogger("npipe")

PATIENCE: Final = 20.0
"""Seconds that a client of another machine waits for an instance, as connect's own time-out is."""

_REQUEST_PATIENCE: Final = 10.0  # seconds, for smbd to say who its client is
_PAUSE: Final = 0.05  # seconds, between attempts to accept while no descriptor is left
_RETRY: Final = 1.0  # seconds, between attempts to have the place where smbd looks
_ROOM: Final = 256 * 1024  # bytes of a connection's buffer, as the system allows: for a message in one write
_AT_EXIT: Final = 2.0  # seconds, for what a server wrote right before its process ends
_BOTH: Final = ACCESS_READ | ACCESS_WRITE
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


class Export:
    """A pipe that clients of other machines may open, from now on until it is closed."""

    def __init__(
        self, name: PipeName, access: RemoteAccess, *, verify_owner: bool = True, awaits_pipe: bool = False
    ) -> None:
        """`awaits_pipe`: it is another process's, which comes and goes: smbd finds it as long as it is there."""
        self.name: PipeName = name
        self.access: RemoteAccess = access
        self.verify_owner: bool = verify_owner
        self._awaits_pipe = awaits_pipe
        self._lock = threading.RLock()  # for the next two; the collector may close an export anywhere
        self._closed = False
        self._doorway: Doorway | None = None
        # The gateway's: those who may be turned away, for they ask for no instance yet, or wait for one.
        self._waiting: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        if awaits_pipe:
            check_doorway(access.directory, name)
        else:
            self._doorway = Doorway(access.directory, name)
        _exports.add(self)
        self._gateway = _gateway_for(self)
        self._gateway.call(self._begin)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._closed

    def close(self) -> None:
        """Let nobody in any more. Clients that have an instance keep it; who waits for one is turned away."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            doorway, self._doorway = self._doorway, None
        if doorway is not None:
            doorway.hide()
        self._gateway.call(self._end, doorway)

    def forget(self) -> None:
        """Be closed in a forked child: all is the parent's."""
        self._lock = threading.RLock()
        self._closed = True
        doorway, self._doorway = self._doorway, None
        if doorway is not None:
            doorway.forget()

    # ---- In the gateway's thread

    def _begin(self) -> None:
        if self._closed:
            return
        if self._doorway is not None:
            self._listen(self._doorway)
        else:
            self._await_pipe()

    def _listen(self, doorway: Doorway) -> None:
        asyncio.get_running_loop().add_reader(doorway.socket.fileno(), self._accept, doorway)

    def _end(self, doorway: Doorway | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if doorway is not None:
            self._shut(doorway)
        for task in self._waiting:
            self._gateway.enter(task)  # it looks a last time if it has an instance
            task.cancel()
        self._gateway.leave(self)

    def _shut(self, doorway: Doorway) -> None:
        asyncio.get_running_loop().remove_reader(doorway.socket.fileno())
        doorway.close()

    def _await_pipe(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.ensure_future(self._watch())
            self._gateway.hold(self._watching)

    async def _watch(self) -> None:
        """Wait until the pipe is there, and then let smbd find it, as soon as its place is free."""
        told = ""
        while True:
            await self._arrival()
            try:
                doorway: Doorway | None = Doorway(self.access.directory, self.name, patience=0)
                break
            except PipeResourceError:  # another process has the lock, for a moment
                await asyncio.sleep(_PAUSE)
            except PipeError as error:  # nothing tells when that changes
                if str(error) != told:
                    told = str(error)
                    logger.warning("%s is not exported for the moment: %s", self.name.path, error)
                await asyncio.sleep(_RETRY)
        with self._lock:
            if not self._closed:
                self._doorway, doorway = doorway, None
        if doorway is not None:
            doorway.close()
        elif self._doorway is not None:
            self._listen(self._doorway)

    async def _arrival(self) -> None:
        arrival = LocalArrival(self.name)
        try:
            while True:
                arrival.arm()
                if await _is_there(self.name):
                    return
                await arrival.wait(None)
        finally:
            arrival.close()

    def _pipe_has_gone(self) -> None:
        """Let smbd find nothing until the pipe is there again."""
        if not self._awaits_pipe:
            return
        with self._lock:
            doorway, self._doorway = self._doorway, None
        if doorway is not None:
            self._shut(doorway)
            self._await_pipe()

    def _accept(self, doorway: Doorway) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self._gateway.crowd.hears_enough():  # they are bounded in time: their places come back
                loop.remove_reader(doorway.socket.fileno())
                self._gateway.crowd.when_heard(lambda: self._listen_again(doorway))
                return
            try:
                with _accepting:  # a child that is forked knows of it
                    connection, _ = doorway.socket.accept()
                    self._gateway.connections.add(connection)
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:  # who comes waits; to look again at once would only spin
                    loop.remove_reader(doorway.socket.fileno())
                    loop.call_later(_PAUSE, self._listen_again, doorway)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
            place = self._gateway.crowd.enter()
            task = loop.create_task(self._serve(connection, place))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
            # Also of one that is cancelled before it begins.
            task.add_done_callback(place.leave)
            task.add_done_callback(functools.partial(_close, connection))
            self._gateway.hold(task)

    def _listen_again(self, doorway: Doorway) -> None:
        if self._doorway is doorway:
            self._listen(doorway)

    async def _serve(self, connection: socket.socket, place: Place) -> None:
        """Attend to one connection of smbd's, from its first byte to its end."""
        try:
            with connection:
                await self._attend(connection, place)
        except PipeError as error:  # as text: a handler that keeps it would keep the frames, and their handles
            logger.warning("%s: a client of another machine is turned away: %s", self.name.path, str(error))
        except OSError as error:
            logger.warning("%s: a connection of smbd's failed: %s", self.name.path, str(error))

    async def _attend(self, connection: socket.socket, place: Place) -> None:
        if not is_smbd(connection):
            logger.warning("%s: somebody who is not smbd is turned away", self.name.path)
            return
        try:
            async with asyncio.timeout(_REQUEST_PATIENCE):
                who = await _request(connection)
        except _NothingSaidError:  # another process has looked if somebody listens here, or smbd's client has gone
            return
        except (handshake.HandshakeError, TimeoutError, EOFError) as error:
            why = str(error) or "nothing"
            logger.warning("%s: what smbd says of its client is not understood: %s", self.name.path, why)
            return
        refused = refusal(self.access, who)
        if refused is not None:
            logger.warning("%s: %s of %s is turned away: %s", self.name.path, display(who), who.address, refused)
            return
        peer = peer_of(who)
        packed = pack_remote(peer, uid=who.uid, gid=who.gid, groups=who.groups, most_message=MOST_MESSAGE)
        if len(packed) > MOST_SIZE:
            logger.warning("%s: %s is in too many groups", self.name.path, display(who))
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - so it is
        if not place.known(who_waits(who), functools.partial(self._turn_away, task, who)):
            self._gateway.crowd.tell(self.name.path, who, "too many wait for an instance")
            return
        if who.probe:  # it asks if the pipe is there, and takes no instance
            await self._answer_probe(connection, who)
            return
        with contextlib.ExitStack() as stack:
            with self._gateway.entering(task):
                self._waiting.discard(task)  # a server that gets this client finds it there, whatever ends meanwhile
                try:
                    handle, message_type = await _open(self.name, packed, None, verify_owner=self.verify_owner)
                except PipeNotFoundError:
                    self._pipe_has_gone()
                    raise
                await _reply(connection, who.level, message_type=message_type)
                incoming = Incoming(connection)
                # Whatever ends it from here on: the loop would take the descriptor's next connection for this one.
                stack.callback(incoming.pause)
                relay = None if handle is None else self._relay(connection, incoming, handle, message_type=message_type)
                if relay is not None:
                    place.leave()
            if relay is None:
                self._waiting.add(task)
                if self._closed:
                    return
                try:
                    handle = await self._await_instance(incoming, packed, task, place)
                    relay = self._relay(connection, incoming, handle, message_type=message_type)
                except PipeResourceError as error:  # of a crowd, as the pipe's owner sees it
                    self._gateway.crowd.tell(self.name.path, who, str(error))
                    return
                finally:
                    self._gateway.entered(task)
            try:
                await relay.run()
            finally:
                self._gateway.relays.discard(relay)

    def _turn_away(self, task: asyncio.Task[None], who: handshake.Identity) -> bool:
        """Have a client give way to another one, for it has no instance. False: it is getting one."""
        if task not in self._waiting:
            return False
        self._gateway.crowd.tell(self.name.path, who, "too many wait for an instance")
        task.cancel()
        return True

    async def _answer_probe(self, connection: socket.socket, who: handshake.Identity) -> None:
        if await _is_there(self.name):
            await _reply(connection, who.level, message_type=True)
        else:
            self._pipe_has_gone()

    async def _await_instance(
        self, incoming: Incoming, packed: bytes, task: asyncio.Task[None], place: Place
    ) -> binding.PolledHandle:
        """Wait for an instance, as long as the client does. One that writes and goes waits on.

        If the task is cancelled, however often, and a server has this client already, which its turn has not come to
        see, that goes before: the server was told, and may have written to it.
        """

        async def open_it() -> tuple[binding.PolledHandle | None, bool]:
            opened = await _open(self.name, packed, PATIENCE, verify_owner=self.verify_owner)
            # At once: a server has this client, which nobody turns away any more, and which takes nobody's place.
            self._waiting.discard(task)
            place.leave()
            self._gateway.enter(task)
            return opened

        opening = asyncio.ensure_future(open_it())
        ending = asyncio.ensure_future(incoming.end())
        try:
            await asyncio.wait((opening, ending), return_when=asyncio.FIRST_COMPLETED)
            if not opening.done() and incoming.empty:
                raise ConnectionResetError(errno.ECONNRESET, "the client has gone before there was an instance")
            handle, _ = await opening
        except asyncio.CancelledError:
            opening.cancel()
            while not opening.done():  # it looks, and ends
                with contextlib.suppress(asyncio.CancelledError):  # again: for another one, and at the export's end
                    await asyncio.wait((opening,))
            if opening.cancelled() or opening.exception() is not None:
                raise
            handle, _ = opening.result()
        finally:
            for one in (opening, ending):
                one.cancel()
            results = await asyncio.gather(opening, ending, return_exceptions=True)
        del results
        while task.cancelling():
            task.uncancel()
        assert handle is not None  # noqa: S101 - it has waited
        return handle

    def _relay(
        self, connection: socket.socket, incoming: Incoming, handle: binding.PolledHandle, *, message_type: bool
    ) -> Relay:
        if message_type:
            handle.set_state(PIPE_READMODE_MESSAGE)
        loop = current()
        pipe = pipe_of(handle, loop, pipe_waker(loop, handle), message_mode=message_type)
        access = handle.data_access()
        relay = Relay(
            connection, incoming, handle, pipe, reads=bool(access & ACCESS_READ), writes=bool(access & ACCESS_WRITE)
        )
        self._gateway.relays.add(relay)
        return relay


def _close(connection: socket.socket, _task: object) -> None:
    connection.close()


class _NothingSaidError(Exception):
    """It has hung up before its first byte."""


async def _request(connection: socket.socket) -> handshake.Identity:
    """Receive and parse a request; its bytes, of which some are a key, are overwritten then."""
    loop = asyncio.get_running_loop()
    beginning = bytearray(handshake.LENGTH_SIZE)
    view = memoryview(beginning)
    count = await loop.sock_recv_into(connection, view)
    if count == 0:
        raise _NothingSaidError
    await _fill(loop, connection, view[count:])
    packet = bytearray(handshake.LENGTH_SIZE + handshake.length_of(beginning))
    packet[: handshake.LENGTH_SIZE] = beginning
    try:
        await _fill(loop, connection, memoryview(packet)[handshake.LENGTH_SIZE :])
        return handshake.parse(packet)
    finally:
        packet[:] = bytes(len(packet))


async def _fill(loop: asyncio.AbstractEventLoop, connection: socket.socket, view: memoryview) -> None:
    while view:
        count = await loop.sock_recv_into(connection, view)
        if count == 0:
            raise EOFError("it has hung up")
        view = view[count:]


async def _reply(connection: socket.socket, level: int, *, message_type: bool) -> None:
    await asyncio.get_running_loop().sock_sendall(connection, handshake.compose_reply(level, message_type=message_type))


async def _open(
    name: PipeName, packed: bytes, timeout: float | None, *, verify_owner: bool
) -> tuple[binding.PolledHandle | None, bool]:
    """Open the pipe for somebody, for all that the pipe lets clients do: (the end, whether it has messages).

    Without a time-out it does not wait for an instance: None, if none listens. If it is cancelled, and has been given
    an instance by then, that is what it returns.
    """
    shape: tuple[int, int] | None = None
    for access in (_BOTH, ACCESS_WRITE, ACCESS_READ):
        dial = binding.Dial(
            *place(name),
            name.path,
            access=access | READ_ATTRIBUTES | WRITE_ATTRIBUTES,
            hold=timeout is not None,
            verify_owner=verify_owner,
            timeout=timeout,
            remote=packed,
        )
        try:
            try:
                await dialled(dial, current())
            except asyncio.CancelledError:
                if not _is_through(dial):
                    raise
            handle, _ = dial.handle()
            return handle, handle.describe()[1] == PIPE_TYPE_MESSAGE
        except PipeAccessError:
            if access == ACCESS_READ:
                raise
        except PipeBusyError:
            shape = dial.shape
            if shape is None or timeout is not None:
                raise
            return None, shape[0] == PIPE_TYPE_MESSAGE
        finally:
            dial.close()
    raise AssertionError


def _is_through(dial: binding.Dial) -> bool:
    try:
        return dial.step()
    except PipeError:
        return False


async def _is_there(name: PipeName) -> bool:
    """Whether the pipe is there, be all its instances busy."""
    dial = binding.Dial(*place(name), name.path, only_wait=True, verify_owner=False, timeout=0)
    try:
        await dialled(dial, current())
    except PipeNotFoundError:
        return False
    except PipeError:
        return True
    finally:
        dial.close()
    return True


def peer_of(who: handshake.Identity) -> Peer:
    """Return what a server is told of a client of another machine."""
    kind: Any = kind_of(who)
    return Peer(
        pid=0,
        uid=None,
        user=who.account,
        host=who.address,
        domain=who.domain,
        local_user=who.unix_user,
        sids=who.sids,
        address=who.address,
        encrypted=who.encrypted,
        kind=kind,
        origin="samba",
    )


class _Gateway:
    """The thread, and its event loop."""

    def __init__(self) -> None:
        self.exports: set[Export] = set()  # guarded by _starting; those that hold it
        self.relays: set[Relay] = set()
        self.connections: weakref.WeakSet[socket.socket] = weakref.WeakSet()  # for a child, which has none of them
        self.crowd: Crowd = Crowd()
        self._tasks: set[asyncio.Task[None]] = set()
        self._entering: set[asyncio.Task[None]] = set()
        self._settling = False  # guarded by _starting: the process ends, and so will its thread
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name="npipe-export", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    @contextlib.contextmanager
    def entering(self, task: asyncio.Task[None]) -> Iterator[None]:
        """Have the process's end wait for a task that may have an instance, and has nothing yet that carries it."""
        self.enter(task)
        try:
            yield
        finally:
            self.entered(task)

    def enter(self, task: asyncio.Task[None]) -> None:
        """See `entering`. The task's end is the end of that too."""
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    def entered(self, task: asyncio.Task[None]) -> None:
        """See `entering`."""
        self._entering.discard(task)

    def call(self, function: Any, *arguments: Any) -> None:
        """Have its thread call something."""
        with contextlib.suppress(RuntimeError):  # it has ended with the process
            self._loop.call_soon_threadsafe(function, *arguments)

    def hold(self, task: asyncio.Task[None]) -> None:
        """Keep a task, and the thread for it."""
        self._tasks.add(task)
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a client of another machine is cut off by an error of npipe's", exc_info=task.exception())
        self._end_if_idle()

    def leave(self, export: Export) -> None:
        """Forget an export, which has let go of all."""
        with _starting:
            self.exports.discard(export)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        global _gateway
        with _starting:
            if self.exports or self._tasks or self._settling:
                return
            if _gateway is self:
                _gateway = None
        self._loop.stop()

    def settle(self) -> None:
        """Let what servers have written get out, for a moment: the process ends."""
        with _starting:
            self._settling = True
            exports = tuple(self.exports)
        for export in exports:
            export.close()
        if self._thread.is_alive():
            future = asyncio.run_coroutine_threadsafe(self._settle(), self._loop)
            with contextlib.suppress(TimeoutError):
                future.result(2 * _AT_EXIT + 1.0)
            self.call(self._loop.stop)
            self._thread.join(1.0)

    async def _settle(self) -> None:
        with contextlib.suppress(TimeoutError):  # those that have an instance are settled all the same
            async with asyncio.timeout(_AT_EXIT):
                while self._entering:
                    await asyncio.sleep(0)  # the other tasks' turn
        await asyncio.gather(*(relay.settle(_AT_EXIT) for relay in tuple(self.relays)))


_starting = threading.Lock()  # for the next one, and who is in it
_accepting = threading.Lock()  # between a connection's coming and its being known; a fork waits for that
_gateway: _Gateway | None = None
_of_parents: list[_Gateway] = []
_exports: weakref.WeakSet[Export] = weakref.WeakSet()


def _gateway_for(export: Export) -> _Gateway:
    global _gateway
    with _starting:
        if _gateway is None:
            _gateway = _Gateway()
        _gateway.exports.add(export)
        return _gateway


def _before_fork() -> None:
    _accepting.acquire()  # for a moment: nobody waits with it


def _after_fork_in_parent() -> None:
    _accepting.release()


def _after_fork_in_child() -> None:
    global _gateway, _starting, _accepting
    _starting = threading.Lock()
    _accepting = threading.Lock()
    if _gateway is not None:
        for connection in tuple(_gateway.connections):
            connection.close()
        _of_parents.append(_gateway)  # its loop is not to be closed: the parent's selector is the same one
    _gateway = None
    for export in _exports:
        export.forget()


def _at_exit() -> None:
    gateway = _gateway
    if gateway is not None:
        gateway.settle()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
