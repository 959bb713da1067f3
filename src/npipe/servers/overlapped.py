"""The overlapped server: Microsoft's "Named Pipe Server Using Overlapped I/O".

One thread and a fixed number of instances. Each instance has an OVERLAPPED with an event, and is in one of three
states: connecting, reading or writing. One WaitForMultipleObjects waits for all of them; the instance whose event is
set has a turn, in which it takes the result of its operation and starts the next one. When a client leaves its
instance is disconnected and waits for another one.

The wait takes 64 events, and one ends the server. Where there are more than 63 instances several of them share an
event, and who of them has a turn is seen in the OVERLAPPED, with HasOverlappedIoCompleted.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from npipe.options import PIPE_UNLIMITED_INSTANCES, check_count
from npipe.servers.base import BUFSIZE, GONE, Connection, OneThreadServer
from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe, winerror

if TYPE_CHECKING:
    import os

    from npipe.servers import Handler

__all__ = ["INSTANCES", "OverlappedServer"]

logger: Final = logging.getLogger("npipe")

INSTANCES: Final = 4
"""How many instances there are unless told otherwise, as in the article."""

MOST_INSTANCES: Final = 65535
"""More than any system has descriptors or memory for by itself."""

MOST_EVENTS: Final = win32event.MAXIMUM_WAIT_OBJECTS - 1
"""As many as one wait takes, less the one that ends the server."""

SHARERS: Final = 8
"""Instances that share an event, where not each can have its own. More for one event is a shorter wait when many are
busy and a longer look when one is (docs/performance.md); beyond 504 instances there is no choice."""

CONNECTING = "connecting"
READING = "reading"
WRITING = "writing"


class Group:
    """An event, and the instances whose operations set it: one, or several."""

    def __init__(self) -> None:
        self.event: pywintypes.HANDLEType = win32event.CreateEvent(None, True, False, None)
        self.instances: list[Instance] = []


class Instance:
    """An instance and what belongs to it: the article's PIPEINST."""

    def __init__(self, handle: pywintypes.HANDLEType, group: Group) -> None:
        self.handle = handle
        self.event: pywintypes.HANDLEType = group.event
        self.overlapped: pywintypes.OVERLAPPEDType = pywintypes.OVERLAPPED()
        self.overlapped.hEvent = self.event
        self.buffer: memoryview = memoryview(b"")  # until the first client comes
        self.pieces: list[bytes] = []  # of the request that is being read
        self.answer = b""  # what is being written, kept until it is
        self.state = CONNECTING
        self.pending_io = False  # an operation is pending, and its result has to be taken first
        self.connection: Connection | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to do for it: no operation is pending, or it is over."""
        return not self.pending_io or completion.HasOverlappedIoCompleted(self.overlapped)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is being written."""
        return self.state == WRITING and self.pending_io


class OverlappedServer(OneThreadServer):
    """A server with one thread that waits for events; see npipe.serve."""

    def __init__(
        self, name: str | os.PathLike[str], handler: Handler, *, instances: int | None = None, **options: Any
    ) -> None:
        super().__init__(name, handler, **options)
        if instances is None:
            instances = min(INSTANCES, self._max_instances)
        limit = MOST_INSTANCES if self._max_instances == PIPE_UNLIMITED_INSTANCES else self._max_instances
        instances = check_count(instances, 1, limit, "instances")
        self._instances: list[Instance] = []
        self._groups = [Group() for _ in range(_events_for(instances))]
        try:
            for number in range(instances):
                group = self._groups[number % len(self._groups)]
                instance = Instance(self._create_first_instance(first=number == 0), group)
                self._instances.append(instance)
                group.instances.append(instance)
        except BaseException:
            self._close_handles()
            raise
        self._begin()

    # ---- The loop

    def _run(self) -> None:
        groups = self._groups
        # The wait tells the first event that is set. Each turn it begins with the next group, or busy clients of the
        # first ones would keep the others waiting.
        orders = [groups[first:] + groups[:first] for first in range(len(groups))]
        waits = [[self._stop, *(group.event for group in order)] for order in orders]
        for instance in self._instances:
            self._connect_to_new_client(instance)
        for group in groups:
            _set_if_ready(group)
        first = 0
        while True:
            index = win32event.WaitForMultipleObjects(waits[first], False, win32event.INFINITE)
            if index == win32event.WAIT_OBJECT_0:
                break
            group = orders[first][index - win32event.WAIT_OBJECT_0 - 1]
            first = (first + index) % len(groups)
            self._take_turns(group)
            if self._abandoned:
                return
        self._end()

    def _take_turns(self, group: Group) -> None:
        """Give a turn to each instance whose operation has set the group's event."""
        if len(group.instances) == 1:
            self._take_turn(group.instances[0])
            return
        win32event.ResetEvent(group.event)  # what ends from now on sets it, what has ended is seen
        has_had_turn = False
        for instance in group.instances:
            if instance.is_ready:
                has_had_turn = True
                self._take_turn(instance)
                if self._abandoned:
                    return
        if has_had_turn:
            _set_if_ready(group)  # no turn: other groups have theirs first

    def _take_turn(self, instance: Instance) -> None:
        """Take the result of the instance's operation, and go on, for one request at most: others wait too."""
        if instance.pending_io and not self._take_result(instance):
            return
        if instance.state == WRITING and not self._write_answer(instance):
            return
        self._read_request(instance)

    def _take_result(self, instance: Instance) -> bool:
        """Look how the pending operation has ended, and set the next state; False when there is no going on."""
        instance.pending_io = False
        code, count = _result(instance)
        if instance.state == CONNECTING:
            if code:
                logger.warning("waiting for a client: Win32 error %d", code)
                self._disconnect_and_reconnect(instance)
                return False
            self._greet(instance)
            return True
        if instance.state == READING:
            return self._take_piece(instance, code, count)
        if code:
            self._disconnect_and_reconnect(instance, code)
            return False
        self._has_answered(instance)
        return True

    # ---- The states

    def _connect_to_new_client(self, instance: Instance) -> None:
        """Start to wait for a client: connecting, or reading when one is there already."""
        instance.state, instance.pending_io = CONNECTING, False
        try:
            code = win32pipe.ConnectNamedPipe(instance.handle, instance.overlapped)
        except pywintypes.error as error:
            code = error.winerror
        if code == winerror.ERROR_IO_PENDING:
            instance.pending_io = True
            return
        # ERROR_PIPE_CONNECTED: it came before the call. ERROR_NO_DATA: it has left too, and what it wrote can be read.
        # Anything else comes out when it is read from.
        self._greet(instance)
        win32event.SetEvent(instance.event)

    def _greet(self, instance: Instance) -> None:
        instance.state = READING
        if not instance.buffer:
            instance.buffer = win32file.AllocateReadBuffer(BUFSIZE)
        instance.connection = Connection(self._number(), instance.handle)
        self._tell_arrival(instance.connection)

    def _read_request(self, instance: Instance) -> None:
        """Start to read; when it is there at once the event is set, and the next turn goes on with it."""
        try:
            code, _ = win32file.ReadFile(instance.handle, instance.buffer, instance.overlapped)
        except pywintypes.error as error:
            self._disconnect_and_reconnect(instance, error.winerror)
            return
        if code == winerror.ERROR_IO_PENDING:
            instance.pending_io = True
        else:
            self._take_piece(instance, code, instance.overlapped.InternalHigh)

    def _take_piece(self, instance: Instance, code: int, count: int) -> bool:
        """Keep what was read; once it is the whole message the state is writing. False when the client has left."""
        if code not in (0, winerror.ERROR_MORE_DATA):
            self._disconnect_and_reconnect(instance, code)
            return False
        assert instance.connection is not None  # noqa: S101 - one that reads has a client
        if not self._admits(instance.connection, count, whole=code == 0):
            self._end_conversation(instance)
            return False
        instance.pieces.append(bytes(instance.buffer[:count]))
        if code == 0:
            instance.state = WRITING
        return True

    def _write_answer(self, instance: Instance) -> bool:
        """Get the answer to the request and write it; True when that is done and the next request can be read."""
        assert instance.connection is not None  # noqa: S101 - one that reads or writes has a client
        request = b"".join(instance.pieces)
        instance.pieces.clear()
        goes_on, answer = self._answer(instance.connection, request)
        if self._abandoned:
            return False
        if not goes_on:
            self._end_conversation(instance)
            return False
        if answer is not None:
            instance.answer = answer
            try:
                code, _ = win32file.WriteFile(instance.handle, answer, instance.overlapped)
            except pywintypes.error as error:
                self._disconnect_and_reconnect(instance, error.winerror)
                return False
            if code == winerror.ERROR_IO_PENDING:
                instance.pending_io = True
                return False
        self._has_answered(instance)
        return True

    def _has_answered(self, instance: Instance) -> None:
        assert instance.connection is not None  # noqa: S101
        instance.connection.requests += 1
        instance.answer = b""
        instance.state = READING

    def _disconnect_and_reconnect(self, instance: Instance, code: int = 0) -> None:
        """Be done with a client that has left, and wait for another one."""
        if code and code not in GONE and instance.connection is not None:
            logger.warning("client %d: Win32 error %d", instance.connection.number, code)
        with contextlib.suppress(pywintypes.error):
            win32pipe.DisconnectNamedPipe(instance.handle)
        self._forget(instance)
        self._connect_to_new_client(instance)

    def _end_conversation(self, instance: Instance) -> None:
        """Be done with a client that is still there.

        A disconnect would take from it what it has not read yet. So a new instance takes the place of this one, which
        is closed, unless the pipe has all the instances it may have.
        """
        if not self._ending:
            try:
                fresh = self._create_instance()
            except pywintypes.error:
                self._disconnect_and_reconnect(instance)
                return
            win32file.CloseHandle(instance.handle)
            instance.handle = fresh
            self._forget(instance)
            self._connect_to_new_client(instance)

    def _forget(self, instance: Instance) -> None:
        instance.pieces.clear()
        instance.answer = b""
        connection, instance.connection = instance.connection, None
        if connection is not None:
            self._tell_departure(connection)

    # ---- The end

    def _end(self) -> None:
        """Close what is not being answered, and the others when they are through or their time is over."""
        for instance in self._instances:
            if not instance.is_answering:
                self._close(instance)
        # Nothing is started any more. What has ended was perhaps told to an event that was reset since, so the first
        # look is before the wait.
        busy = [group for group in self._groups if self._close_those_through(group)]
        while busy:
            index = win32event.WaitForMultipleObjects([group.event for group in busy], False, self._time_left())
            if index == win32event.WAIT_TIMEOUT:
                break
            group = busy[index - win32event.WAIT_OBJECT_0]
            win32event.ResetEvent(group.event)
            if not self._close_those_through(group):
                busy.remove(group)
        for instance in self._instances:
            if instance.is_answering:
                self._close(instance)

    def _close_those_through(self, group: Group) -> bool:
        """Close the instances whose answers have been written. Whether others are still being written."""
        for instance in group.instances:
            if instance.is_answering and instance.is_ready:
                instance.pending_io = False
                if _result(instance)[0] == 0:
                    self._has_answered(instance)
                self._close(instance)
        return any(instance.is_answering for instance in group.instances)

    def _close(self, instance: Instance) -> None:
        """Close an instance; its client can still read what it has been sent."""
        with contextlib.suppress(pywintypes.error):
            if instance.pending_io:
                win32file.CancelIo(instance.handle)
                _wait_for_end(instance)  # with 995
        instance.pending_io = False
        with contextlib.suppress(pywintypes.error):
            win32file.CloseHandle(instance.handle)
        self._forget(instance)

    def _close_handles(self) -> None:
        for instance in self._instances:
            with contextlib.suppress(pywintypes.error):
                win32file.CloseHandle(instance.handle)


def _result(instance: Instance) -> tuple[int, int]:
    """GetOverlappedResult of an operation that is over: its code, and how many bytes it moved."""
    try:
        return 0, win32file.GetOverlappedResult(instance.handle, instance.overlapped, False)
    except pywintypes.error as error:
        # A part of a message is an error for pywin32, and the count is only here.
        return error.winerror, instance.overlapped.InternalHigh if error.winerror == winerror.ERROR_MORE_DATA else 0


def _set_if_ready(group: Group) -> None:
    """Set the event again for what an operation has told before another one's start has reset it."""
    if any(instance.is_ready for instance in group.instances):
        win32event.SetEvent(group.event)


def _wait_for_end(instance: Instance) -> None:
    """Wait until the operation is over, which the event does not tell by itself: it may be another operation's."""
    while True:
        win32event.ResetEvent(instance.event)
        if completion.HasOverlappedIoCompleted(instance.overlapped):
            return
        win32event.WaitForSingleObject(instance.event, win32event.INFINITE)


def _events_for(instances: int) -> int:
    """How many events so many instances have."""
    return instances if instances <= MOST_EVENTS else min(MOST_EVENTS, -(-instances // SHARERS))
