"""The completion server: Microsoft's "Named Pipe Server Using Completion Routines".

One thread in an alertable wait. Reads and writes are started with ReadFileEx and WriteFileEx, and go on in their
completion routines, which the wait runs: a read that is over starts a write, a write that is over starts a read. A
routine finds its instance in the OVERLAPPED. The only event, beside the one that ends the server, is for the overlapped
ConnectNamedPipe of the one instance that listens; each client has an instance of its own, until it leaves.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from npipe.servers.base import BUFSIZE, GONE, PAUSE_MS, Connection, OneThreadServer
from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe, winerror

if TYPE_CHECKING:
    import os

    from npipe.servers import Handler

__all__ = ["CompletionServer"]

logger: Final = logging.getLogger("npipe")

TURNS: Final = 8
"""Requests that one wait begins to read. Routines that start more work keep an alertable wait from returning, and a
client that answers at once always has more: others, whose requests the wait looks for, would be served after it."""


class Instance:
    """A connected instance and what belongs to it: the article's PIPEINST."""

    def __init__(self, handle: pywintypes.HANDLEType, connection: Connection) -> None:
        self.handle = handle
        self.connection = connection
        self.overlapped: pywintypes.OVERLAPPEDType = pywintypes.OVERLAPPED()
        self.overlapped.object = self  # for the routines; in C the OVERLAPPED is the first thing in the struct
        self.buffer: bytearray = bytearray(BUFSIZE)
        self.pieces: list[bytes] = []  # of the request that is being read
        self.answer = b""  # what is being written, kept until it is
        self.writing = False


class CompletionServer(OneThreadServer):
    """A server with one thread that completion routines run in; see npipe.serve."""

    def __init__(self, name: str | os.PathLike[str], handler: Handler, **options: Any) -> None:
        super().__init__(name, handler, **options)
        self._instances: set[Instance] = set()  # with clients
        self._turns = TURNS
        self._resting: list[Instance] = []  # which read again after the wait
        self._connect_event = win32event.CreateEvent(None, True, False, None)
        self._connecting = pywintypes.OVERLAPPED()
        self._connecting.hEvent = self._connect_event
        self._pending_io = False  # ConnectNamedPipe is
        self._told = 0  # why there is no instance, as far as it has been logged
        self._listening: pywintypes.HANDLEType | None = self._create_first_instance()
        self._begin()

    # ---- The loop

    def _run(self) -> None:
        if self._listening is not None:
            self._connect(self._listening)
        events = [self._stop, self._connect_event]
        while True:
            wait = win32event.WaitForMultipleObjectsEx(events, False, self._patience(), True)
            if wait == win32event.WAIT_OBJECT_0:
                break
            if wait == win32event.WAIT_OBJECT_0 + 1:
                self._welcome()
                # An event that is set goes before the routines; those that clients keep setting must not starve them.
                completion.SleepEx(0, True)
            elif wait == win32event.WAIT_TIMEOUT:
                self._create_and_connect_instance()
            # else WAIT_IO_COMPLETION: routines have run
            if self._abandoned:
                break
            self._turns = TURNS
            resting, self._resting = self._resting, []
            for instance in resting:
                self._start_read(instance)
        self._end()

    def _patience(self) -> int:
        """How long to wait: with no instance that listens, and none here that one will come from, not for ever."""
        if self._listening is None and (self._told or not self._instances):
            return PAUSE_MS
        return win32event.INFINITE

    def _create_and_connect_instance(self) -> None:
        """Let a new instance wait for a client; where there may be none the next client that leaves makes room."""
        try:
            handle = self._create_instance()
        except pywintypes.error as error:
            code = 0 if error.winerror == winerror.ERROR_PIPE_BUSY else error.winerror
            if code and code != self._told:
                logger.warning("creating an instance: %s Clients wait meanwhile.", error.strerror)
            self._told = code
        else:
            self._connect(handle)

    def _connect(self, handle: pywintypes.HANDLEType) -> None:
        """Start ConnectNamedPipe; the event is set once there is a client."""
        self._listening, self._told, self._pending_io = handle, 0, False
        try:
            code = win32pipe.ConnectNamedPipe(handle, self._connecting)
        except pywintypes.error as error:
            code = error.winerror
        if code == winerror.ERROR_IO_PENDING:
            self._pending_io = True
        else:
            # ERROR_PIPE_CONNECTED: it came before the call. ERROR_NO_DATA: it has left too, and what it wrote can be
            # read. Anything else comes out when it is read from.
            win32event.SetEvent(self._connect_event)

    def _welcome(self) -> None:
        """Give the client its instance, and let the next instance listen before anything else."""
        handle, self._listening = self._listening, None
        win32event.ResetEvent(self._connect_event)
        if handle is None:
            return
        if self._pending_io:
            try:
                win32file.GetOverlappedResult(handle, self._connecting, False)
            except pywintypes.error as error:
                logger.warning("waiting for a client: %s", error.strerror)
        instance = Instance(handle, Connection(self._number(), handle))
        self._instances.add(instance)
        self._create_and_connect_instance()
        self._tell_arrival(instance.connection)
        self._completed_write(0, 0, instance.overlapped)

    # ---- The completion routines

    def _completed_write(self, code: int, _count: int, overlapped: pywintypes.OVERLAPPEDType) -> None:
        """Read the next request: an answer has been written, or there is a new client."""
        instance: Instance = overlapped.object
        if instance.writing:
            instance.writing, instance.answer = False, b""
            if code == 0:
                instance.connection.requests += 1
        if code or self._ending:
            self._disconnect_and_close(instance, code)
        elif self._turns:
            self._turns -= 1
            self._start_read(instance)
        else:
            self._resting.append(instance)

    def _completed_read(self, code: int, count: int, overlapped: pywintypes.OVERLAPPEDType) -> None:
        """Write the answer: a request has been read, or a piece of it."""
        instance: Instance = overlapped.object
        if code not in (0, winerror.ERROR_MORE_DATA):
            self._disconnect_and_close(instance, code)
            return
        if not self._admits(instance.connection, count, whole=code == 0):
            self._disconnect_and_close(instance)
            return
        instance.pieces.append(bytes(memoryview(instance.buffer)[:count]))
        if code == winerror.ERROR_MORE_DATA:
            self._start_read(instance)
            return
        request = b"".join(instance.pieces)
        instance.pieces.clear()
        goes_on, answer = self._answer(instance.connection, request)
        if not goes_on or self._abandoned:
            self._disconnect_and_close(instance)
        elif answer is None:
            instance.writing = True  # as it were
            self._completed_write(0, 0, overlapped)
        else:
            instance.writing, instance.answer = True, answer
            self._start(completion.WriteFileEx, instance, answer, self._completed_write)

    def _start_read(self, instance: Instance) -> None:
        self._start(completion.ReadFileEx, instance, instance.buffer, self._completed_read)

    def _start(self, function: Any, instance: Instance, buffer: bytes | bytearray, routine: Any) -> None:
        """ReadFileEx or WriteFileEx; when it fails the routine is not called, and the client has left."""
        try:
            function(instance.handle, buffer, instance.overlapped, routine)
        except pywintypes.error as error:
            self._disconnect_and_close(instance, error.winerror)

    def _disconnect_and_close(self, instance: Instance, code: int = 0) -> None:
        """Be done with a client: `code` says why, 0 that it is our wish.

        A disconnect takes from a client that is still there what it has not read yet, and a close does not. So the
        former is only for one that has left, and where no instance listens because there may be no more: this one
        listens again.
        """
        if code and code not in GONE and code != winerror.ERROR_OPERATION_ABORTED:
            logger.warning("client %d: Win32 error %d", instance.connection.number, code)
        reuse = self._listening is None and not self._ending
        with contextlib.suppress(pywintypes.error):
            if reuse or code in GONE:
                win32pipe.DisconnectNamedPipe(instance.handle)
        if reuse:
            self._count(instance.connection)
            self._connect(instance.handle)
        else:
            with contextlib.suppress(pywintypes.error):
                win32file.CloseHandle(instance.handle)
        instance.overlapped.object = None
        self._instances.discard(instance)
        self._tell_departure(instance.connection)

    # ---- The end

    def _end(self) -> None:
        """Close what is not being answered, and the others when they are through or their time is over."""
        handle, self._listening = self._listening, None
        if handle is not None:
            with contextlib.suppress(pywintypes.error):
                if self._pending_io:
                    win32file.CancelIo(handle)
                    win32file.GetOverlappedResult(handle, self._connecting, True)  # it is over, with 995
            with contextlib.suppress(pywintypes.error):
                win32file.CloseHandle(handle)
        for instance in self._resting:
            self._disconnect_and_close(instance)
        for instance in list(self._instances):
            if not instance.writing:
                self._cancel(instance)
        while self._instances and not self._abandoned:
            if completion.SleepEx(self._time_left(), True) == 0:  # the time is over
                for instance in list(self._instances):
                    self._cancel(instance)
                completion.SleepEx(PAUSE_MS, True)
        while completion.SleepEx(0, True):
            pass  # what was queued for handles that are closed

    def _cancel(self, instance: Instance) -> None:
        """End the instance's operation; its routine is called with 995."""
        with contextlib.suppress(pywintypes.error):
            win32file.CancelIo(instance.handle)

    def _close_handles(self) -> None:
        for handle in (self._listening, *(instance.handle for instance in list(self._instances))):
            if handle is not None:
                with contextlib.suppress(pywintypes.error):
                    win32file.CloseHandle(handle)
