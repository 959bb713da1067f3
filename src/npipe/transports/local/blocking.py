"""Pipes of this machine on Linux: the engine's handles as the public classes."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import inspect
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from npipe import binding
from npipe._display import Traits
from npipe._process import refuse_child
from npipe.binding.win32 import targets
from npipe.errors import PipeError, PipeModeError, PipeResourceError, PipeTimeoutError, WinError
from npipe.observing import closing, note_wait, tell_closed
from npipe.options import (
    ACCESS_READ,
    ACCESS_WRITE,
    PIPE_READMODE_MESSAGE,
    PIPE_TYPE_MESSAGE,
    PIPE_UNLIMITED_INSTANCES,
    Peek,
    Peer,
    PipeInfo,
    PipeListing,
    check_timeout,
    deadline_of,
    direction_name,
    mode_name,
    peek_size,
    time_left,
)
from npipe.peers import NOBODY_HERE
from npipe.pipe import CLOSE_TIMEOUT, MessagePipe, StreamPipe, peer_of
from npipe.reasons import closed_by_fork, closed_here, no_messages
from npipe.transports.local.place import place, root_folder
from npipe.transports.local.reports import inspect_pipe, listener_stats, pipe_stats, process_stats, user_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe._buffers import ReadableBuffer
    from npipe.figures import ListenerStats, PipeReport, PipeStats, ProcessStats
    from npipe.names import PipeName
    from npipe.options import CreateOptions, Security
    from npipe.transports.base import ServerEnd

__all__ = ["READ_ATTRIBUTES", "TRANSPORT", "WRITE_ATTRIBUTES", "LocalMessagePipe", "LocalStreamPipe", "LocalTransport"]

READ_ATTRIBUTES = 4  # the engine's bits beside ACCESS_READ and ACCESS_WRITE
WRITE_ATTRIBUTES = 8
_FILE_GENERIC_READ = 0x120089
_FILE_CREATE_PIPE_INSTANCE = 0x4
_FILE_GENERIC_WRITE = 0x120116 & ~_FILE_CREATE_PIPE_INSTANCE
_FOLDER_PATIENCE = 0.1  # seconds for another process that has the folder's lock, by those who can do without


_pollers: weakref.WeakSet[binding.Poller] = weakref.WeakSet()
# Of which descriptor a pipe has, and whom its end is told; it can be taken again by a signal's handler.
_changing = threading.RLock()


def _after_fork_in_child() -> None:
    global _changing
    _changing = threading.RLock()  # who had it is not here
    for poller in _pollers:
        poller.close()  # the pipes are the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)


T = TypeVar("T")


class _Ending(binding.PipeEnd):
    """What the two pipe classes share: everything that is not hot."""

    def __init__(
        self,
        handle: binding.Handle,  # noqa: ARG002 - PipeEnd has it already
        on_close: Callable[[binding.Handle, bool], None] | None = None,
    ) -> None:
        """`on_close` is called, once, when the pipe is closed: with the handle, and whether to discard."""
        self._on_close = on_close
        self._poller: binding.Poller | None = None

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        data, available, left = self._handle.peek_pipe(peek_size(size))
        return Peek(data, available, left if self._handle.describe()[1] == PIPE_TYPE_MESSAGE else 0)

    def _look(self) -> None:
        """See Pipe._look."""
        self._handle.look()

    def _has_unread(self) -> bool:
        """See Pipe._has_unread."""
        return self._handle.has_unread()

    def flush(self, *, timeout: float | None = None) -> None:
        """See Pipe.flush."""
        self._handle.flush_buffers(check_timeout(timeout))

    def close(self, *, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """See Pipe.close."""
        timeout = check_timeout(timeout)
        if not self.closed:
            self._handle.drain(timeout)
            self._end(discard=False)

    def abort(self) -> None:
        """See Pipe.abort."""
        if not self.closed:
            self._end(discard=True)

    def _end(self, *, discard: bool) -> None:
        handle = self._handle
        known = None if handle.closed else closing(self)
        handle.set_rearm(None)
        poller, on_close = None, None
        try:
            with _changing:
                poller, self._poller = self._poller, None
                on_close, self._on_close = self._on_close, None  # one of the threads that close calls it
            if poller is not None:
                poller.close()
            if on_close is not None:
                on_close(handle, discard)
        except BaseException:  # a signal's handler: the next close calls it, unless another instance is in its place
            if on_close is not None and not handle.closed:
                self._on_close = on_close
            raise
        handle.close_handle(discard, 0.0)
        if known is not None:
            tell_closed(self, known)

    def _traits(self) -> Traits | None:
        """See Pipe._traits."""
        try:
            server, kind, direction, *_ = self._handle.describe()
        except PipeError:
            return None  # closed by another thread meanwhile
        try:
            pid: int | None = self._handle.peer_credentials()[0]
        except PipeError:
            pid = None
        return Traits(bool(server), direction_name(direction), kind == PIPE_TYPE_MESSAGE, pid)

    @property
    def peer(self) -> Peer:
        """See Pipe.peer."""
        pid, uid = self._handle.peer_credentials()
        return peer_of(pid, uid, self._handle.remote() if uid == NOBODY_HERE else None)

    @property
    def stats(self) -> PipeStats:
        """See Pipe.stats."""
        return pipe_stats(self._handle)

    @property
    def info(self) -> PipeInfo:
        """See Pipe.info."""
        handle = self._handle
        if handle.closed:
            why = closed_by_fork if handle.forked else closed_here
            raise why(handle.name, "asking for the pipe's attributes", code=WinError.INVALID_HANDLE)
        server, kind, direction, modes, in_size, out_size, maximum = handle.describe()
        return PipeInfo(
            name=handle.name,
            type=mode_name(kind),
            read_mode=mode_name(modes & PIPE_READMODE_MESSAGE),
            direction=direction_name(direction),
            is_server=bool(server),
            in_buffer_size=in_size,
            out_buffer_size=out_size,
            max_instances=None if maximum == PIPE_UNLIMITED_INSTANCES else maximum,
            instances=handle.count_instances(),
        )

    def fileno(self) -> int:
        """See Pipe.fileno."""
        handle = self._handle
        refuse_child(handle.name)
        with _changing:  # a pipe has one, which its reads tell
            poller = self._poller
            if poller is None or handle.closed:
                try:
                    self._poller = poller = binding.Poller(handle)
                    _pollers.add(poller)
                except PipeError:
                    raise
                except OSError as error:  # no descriptor left
                    code = WinError.TOO_MANY_OPEN_FILES
                    raise PipeResourceError(code, handle.name, "making a descriptor") from error
                # In this order: a reader that takes the byte meanwhile has to know whom to tell.
                handle.set_rearm(poller.rearm)
                poller.rearm()
        descriptor = poller.fileno()
        if descriptor < 0:
            raise closed_here(handle.name, "asking for the descriptor", code=WinError.INVALID_HANDLE)
        return descriptor


class LocalMessagePipe(_Ending, binding.MessageEnd, MessagePipe):
    """A message pipe of this machine."""

    def __init__(self, handle: binding.Handle, on_close: Callable[[binding.Handle, bool], None] | None = None) -> None:
        super().__init__(handle, on_close)
        self._discarding = threading.Lock()  # one thread at a time drops an answer
        self._process = os.getpid()

    def peek(self, size: int = 0) -> Peek:
        """See Pipe.peek."""
        size = peek_size(size)
        if self._handle.drops and not self._handle.drop_what_is_there():
            return Peek(b"", 0, 0)
        return super().peek(size)

    @property
    def more_data(self) -> bool:
        """See MessagePipe.more_data."""
        return self._handle.rest_of_message() > 0 and not self._handle.drops

    def transact(self, data: ReadableBuffer, *, timeout: float | None = None) -> bytes:
        """See MessagePipe.transact."""
        return self._handle.transact_pipe(data, check_timeout(timeout))

    def discard_reply(self, *, timeout: float | None = None) -> None:
        """See MessagePipe.discard_reply."""
        deadline = deadline_of(timeout)
        if not self._owed:
            return
        if self._process != os.getpid():  # the thread that may have it is the parent's
            self._process, self._discarding = os.getpid(), threading.Lock()
        left = time_left(deadline)
        if not self._discarding.acquire(timeout=-1 if left is None else min(left, threading.TIMEOUT_MAX)):
            if not self._owed:
                return
            raise PipeTimeoutError(WinError.SEM_TIMEOUT, self.name, "discarding the answer")
        try:
            self._handle.discard_reply(time_left(deadline))
        finally:
            self._discarding.release()

    def _forget_reply(self) -> None:
        """See MessagePipe._forget_reply."""
        self._handle.forget_reply()

    @property
    def _too_long(self) -> bool:
        """See MessagePipe._too_long."""
        return self._handle.too_long


# It takes what is given by position to say what to write instead: that is not for those who look.
binding.MessageEnd.recv.__signature__ = inspect.signature(MessagePipe.recv)  # type: ignore[attr-defined]


class LocalStreamPipe(_Ending, binding.StreamEnd, StreamPipe):
    """A byte pipe of this machine, or a message pipe read as bytes."""


class LocalServerEnd:
    """An instance of a pipe of this machine, until it has a client."""

    def __init__(self, handle: binding.Handle, *, message_mode: bool) -> None:
        self._handle = handle
        self._message_mode = message_mode
        self._made: list[binding.Handle] = []

    def connect(self, timeout: float | None = None, recalls: Any = None) -> int:
        """See ServerEnd.connect."""
        return self._handle.connect(timeout, recalls)

    def recalls(self) -> int:
        """See ServerEnd.recalls."""
        return self._handle.recalls()

    def recall(self) -> None:
        """See ServerEnd.recall."""
        self._handle.recall()

    def has_data(self) -> bool:
        """Whether a client that has left already has left something to read."""
        try:
            self._handle.peek_pipe()
        except PipeError:
            return False  # nothing is left, or this end may not read
        return True

    def pipe(self, on_close: Callable[[ServerEnd, bool], None]) -> LocalMessagePipe | LocalStreamPipe:
        """See ServerEnd.pipe."""
        message_mode = self._message_mode

        def closed(handle: binding.Handle, discard: bool) -> None:
            on_close(LocalServerEnd(handle, message_mode=message_mode), discard)

        return (LocalMessagePipe if message_mode else LocalStreamPipe)(self._handle, closed)

    def another(self) -> LocalServerEnd:
        """See ServerEnd.another."""
        return self._new(self._handle.another, _FOLDER_PATIENCE)

    def replace(self, discard: bool = False) -> LocalServerEnd:
        """See ServerEnd.replace."""
        return self._new(self._handle.replace, discard)

    def _new(self, make: Callable[[T], binding.Handle], argument: T) -> LocalServerEnd:
        self._made.clear()
        # No signal's handler comes between the making and the note of it: both are one step of C.
        self._made += map(make, (argument,))
        return LocalServerEnd(self._made[0], message_mode=self._message_mode)

    def left_behind(self) -> LocalServerEnd | None:
        """See ServerEnd.left_behind."""
        return LocalServerEnd(self._made.pop(), message_mode=self._message_mode) if self._made else None

    @property
    def closed(self) -> bool:
        """See ServerEnd.closed."""
        return self._handle.closed

    def close_handle(self, discard: bool = False) -> None:
        """See ServerEnd.close_handle."""
        self._handle.close_handle(discard)


class LocalTransport:
    """The engine as a transport."""

    def connect(
        self, name: PipeName, *, message_mode: bool, access: int, timeout: float | None, verify_owner: bool
    ) -> LocalMessagePipe | LocalStreamPipe:
        """See Transport.connect."""
        wanted = access | READ_ATTRIBUTES | WRITE_ATTRIBUTES
        hold = timeout is None or timeout > 0
        try:
            handle = binding.Handle.open(
                *place(name),
                name.path,
                access=wanted,
                hold=hold,
                verify_owner=verify_owner,
                # Without a wait for an instance the time-out is not for the few messages that an open takes.
                timeout=timeout if hold else None,
            )
        finally:
            note_wait(binding.held_since)
        if not message_mode:
            return LocalStreamPipe(handle)
        try:
            handle.set_state(PIPE_READMODE_MESSAGE)
        except PipeModeError:
            handle.close_handle(True)
            raise no_messages(name.path, "opening the pipe") from None
        except BaseException:
            handle.close_handle(True)
            raise
        return LocalMessagePipe(handle)

    def open(self, name: PipeName, *, access: int, verify_owner: bool = True) -> binding.Handle:
        """CreateFile, step by step as Win32 does it: a handle in byte-read mode, or PipeBusyError (231) at once."""
        rights = READ_ATTRIBUTES | WRITE_ATTRIBUTES if access & ACCESS_WRITE else READ_ATTRIBUTES
        wanted = access & (ACCESS_READ | ACCESS_WRITE) | rights
        return binding.Handle.open(
            *place(name), name.path, access=wanted, hold=False, verify_owner=verify_owner, timeout=None
        )

    def create(
        self, name: PipeName, options: CreateOptions, *, first_instance: bool, timeout: float | None = None
    ) -> LocalServerEnd:
        """See Transport.create."""
        rule = options.rule or options.security.resolve()
        handle = binding.Handle.create(
            *place(name),
            name.path,
            access=options.direction,
            first_instance=first_instance,
            type=options.pipe_type,
            mode=options.read_mode,
            max_instances=options.max_instances,
            out_quota=options.out_buffer_size,
            in_quota=options.in_buffer_size,
            default_timeout_ms=options.default_timeout_ms,
            everyone=rule.everyone,
            uids=rule.uids,
            gids=rule.gids,
            allowed=rule.access,
            timeout=timeout,
            traceable=options.traceable,
        )
        return LocalServerEnd(handle, message_mode=options.message_mode)

    def wait(self, name: PipeName, timeout: float | None, *, use_default: bool = False) -> None:
        """See Transport.wait."""
        try:
            binding.wait_named_pipe(*place(name), name.path, timeout, use_default)
        finally:
            note_wait(binding.held_since)

    def arrival(self, name: PipeName) -> binding.Arrival:
        """See Transport.arrival."""
        root, folder, _ = place(name)
        return binding.Arrival(root, folder, name.path)

    def place(self, name: PipeName) -> tuple[str, str, str]:
        """See Transport.place."""
        return place(name)

    def security_text(self, security: Security) -> str:
        """See Transport.security_text."""
        rights = (_FILE_GENERIC_READ if security.read else 0) | (_FILE_GENERIC_WRITE if security.write else 0)
        if security.everyone:
            who = ["WD"]
        else:
            rule = security.resolve()
            who = [f"S-1-22-1-{uid}" for uid in rule.uids] + [f"S-1-22-2-{gid}" for gid in rule.gids]
        entries = [(rights | _FILE_CREATE_PIPE_INSTANCE, "OW"), *((rights, sid) for sid in who)]
        return "D:P" + "".join(f"(A;;{mask:#x};;;{sid})" for mask, sid in entries)

    def why_not_created(
        self,
        name: PipeName,  # noqa: ARG002 - the engine has told it for the call
        code: int,
        *,
        first_instance: bool,  # noqa: ARG002
    ) -> tuple[str | None, str | None]:
        """See Transport.why_not_created."""
        last, detail, hint = targets.last_refusal()
        return (detail, hint or None) if last == code else (None, None)

    def client_of(self, handle: Any) -> Peer:
        """See Transport.client_of."""
        pid = targets.GetNamedPipeClientProcessId(handle)
        uid = binding.pipe_peer(handle, "GetNamedPipeClientProcessId")[4]
        return peer_of(
            pid, uid, targets.pipe_remote(handle, "GetNamedPipeClientProcessId") if uid == NOBODY_HERE else None
        )

    def list_pipes(self) -> list[PipeListing]:
        """See Transport.list_pipes."""
        return [
            PipeListing(
                name=rf"\\.\pipe\{name}",
                type=mode_name(kind),
                direction=direction_name(direction),
                instances=instances,
                max_instances=None if maximum == PIPE_UNLIMITED_INSTANCES else maximum,
                pid=pid,
                user=user_name(uid),
            )
            for name, kind, direction, instances, maximum, pid, uid in sorted(binding.list_named_pipes(root_folder()))
        ]

    def inspect(self, name: PipeName) -> PipeReport:
        """See Transport.inspect."""
        return inspect_pipe(name)

    def listener_stats(self, name: PipeName) -> ListenerStats | None:
        """See Transport.listener_stats."""
        return listener_stats(name)

    def stats(self) -> ProcessStats:
        """See Transport.stats."""
        return process_stats()

    def root(self) -> str:
        """See Transport.root."""
        return root_folder()

    def instances_closed(self) -> int:
        """See Transport.instances_closed."""
        return binding.closed_instances()

    def wait_instance_closed(self, name: PipeName, seen: int, timeout: float | None) -> None:
        """See Transport.wait_instance_closed."""
        binding.wait_closed(*place(name), seen, timeout)

    def wake_waiting_listeners(self) -> None:
        """See Transport.wake_waiting_listeners."""
        binding.wake_closed()


TRANSPORT = LocalTransport()
