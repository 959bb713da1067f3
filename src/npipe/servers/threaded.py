"""The multithreaded server: Microsoft's "Multithreaded Pipe Server".

The main loop has one instance at a time created and waiting for a client (ConnectNamedPipe), and gives each client a
thread, which reads requests and writes answers until the client leaves, and then flushes, disconnects and closes.
Everything blocks; what has to end from outside is ended with CancelSynchronousIo.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from npipe.errors import PipeError
from npipe.options import check_timeout
from npipe.servers.base import BUFSIZE, GONE, PAUSE_MS, Connection, PipeServer, wait_for
from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe, winerror

if TYPE_CHECKING:
    import os

    from npipe.servers import Handler

__all__ = ["ThreadConnection", "ThreadedServer"]

logger: Final = logging.getLogger("npipe")

_RETRY = 0.01  # seconds until a call that was perhaps not begun yet is cancelled again

READING = "reading"
HANDLING = "handling"
WRITING = "writing"
FINISHING = "finishing"


class ThreadConnection(Connection):
    """One client, and its thread."""

    def __init__(self, server: ThreadedServer, number: int, handle: pywintypes.HANDLEType) -> None:
        super().__init__(number, handle)
        self._server = server
        self._lock = threading.RLock()  # for the fields below
        self._state = READING  # what the thread does
        self._ending = False  # it is to end after the request that is being answered
        self._abandoned = False  # the handle was closed while the handler would not return
        self._os_thread: pywintypes.HANDLEType | None = None
        self._over = win32event.CreateEvent(None, True, False, None)
        self._thread = threading.Thread(target=self._run, name=f"npipe-client-{number}", daemon=True)

    # ---- The thread: the article's InstanceThread

    def _run(self) -> None:
        has_left = False
        try:
            with self._lock:
                self._os_thread = _own_thread()
            self._answer_requests()
        except pywintypes.error as error:
            has_left = error.winerror in GONE
            if not has_left and error.winerror != winerror.ERROR_OPERATION_ABORTED:
                logger.warning("client %d: %s", self.number, error.strerror)
        except PipeError as error:
            logger.warning("client %d: the handler failed, its connection is closed: %s", self.number, error)
        except BaseException:
            logger.exception("client %d: the handler failed, its connection is closed", self.number)
        finally:
            self._finish(has_left)

    def _answer_requests(self) -> None:
        """Read requests and write answers until the client leaves, which is an error of GONE.

        This is what each request of each client goes through, with the interpreter that all of them share: what it
        does before and after the handler is written out here.
        """
        handle, lock = self._handle, self._lock
        read, write, answer_to = win32file.ReadFile, win32file.WriteFile, self._server._call_handler
        largest = min(self._server._largest, BUFSIZE)
        while True:
            with lock:
                if self._abandoned or self._ending:
                    return
                self._state = READING
            code, request = read(handle, BUFSIZE)
            if code or len(request) > largest:
                whole = self._read_on(code, request)
                if whole is None:
                    return
                request = whole
            with lock:
                if self._abandoned or self._ending:
                    return
                self._state = HANDLING
            answer = answer_to(self, request)
            with lock:  # a server that ends lets an answer be written before
                if self._abandoned:
                    return
                self._state = WRITING
            if answer is not None:
                write(handle, answer)
            self.requests += 1

    def _read_on(self, code: int, data: bytes) -> bytes | None:
        """Read the rest of a message of any length that is allowed; None: it is longer."""
        pieces = []
        while True:
            if not self._server._admits(self, len(data), whole=code != winerror.ERROR_MORE_DATA):
                return None
            pieces.append(data)
            if code != winerror.ERROR_MORE_DATA:
                return data if len(pieces) == 1 else b"".join(pieces)
            code, data = win32file.ReadFile(self._handle, BUFSIZE)

    def _finish(self, has_left: bool) -> None:
        """Give the instance up.

        DisconnectNamedPipe takes from a client that is still there what it has not read yet, and CloseHandle does
        not. So the former is only for one that has left, and for one whose instance is needed, after a flush.
        """
        with self._lock:
            self._state = FINISHING
            handle = None if self._abandoned else self._handle
        server = self._server
        if handle is not None and (has_left or not server._close_unless_needed(handle)):
            self._flush(handle, has_left)
            with contextlib.suppress(pywintypes.error):
                win32pipe.DisconnectNamedPipe(handle)
            server._count(self)
            server._take_back(handle)
        server._forget(self)
        win32event.SetEvent(self._over)

    def _flush(self, handle: pywintypes.HANDLEType, has_left: bool) -> None:
        """FlushFileBuffers, which has no time-out: for a client that does not read, a timer is one."""
        timer = None
        if not has_left and self._server._flush_timeout is not None:
            timer = threading.Timer(self._server._flush_timeout, self._cancel)
            timer.daemon = True
            timer.start()
        with contextlib.suppress(pywintypes.error):  # it does not want it, or may not read at all
            win32file.FlushFileBuffers(handle)
        if timer is not None:
            timer.cancel()

    # ---- Its end, from other threads

    def _end(self) -> None:
        """End the conversation after the request that is being answered, if one is."""
        with self._lock:
            self._ending = True

    def _give_up(self) -> None:
        """There is no thread after all."""
        win32event.SetEvent(self._over)

    def _join(self, deadline: float | None) -> None:
        """Wait for the thread's end until the deadline; then cancel what it does, and leave a handler to itself."""
        over = wait_for(self._over, 0)
        while not over:
            left = None if deadline is None else deadline - time.monotonic()
            with self._lock:
                late = left is not None and left <= 0
                gives_up = late and self._state == HANDLING
                if gives_up and not self._abandoned:
                    self._abandoned = True
                    win32file.CloseHandle(self._handle)
                blocked = self._state == READING or late
            if gives_up:
                self._server._tell_closed(self)
                return
            if blocked:
                self._cancel()
            # It may have been on its way into the call, so again until it is out. With an answer it takes its time.
            over = wait_for(self._over, _RETRY if blocked else left)

    def _cancel(self) -> None:
        _cancel(self._os_thread)


class ThreadedServer(PipeServer):
    """A server with a thread for each client; see npipe.serve."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: Handler,
        *,
        flush_timeout: float | None = 5.0,
        **options: Any,
    ) -> None:
        flush_timeout = check_timeout(flush_timeout)
        super().__init__(name, handler, **options)
        self._flush_timeout = flush_timeout
        self._connections: set[ThreadConnection] = set()  # under _lock, as are the next two
        self._wanted = False  # the main loop has no instance, and takes one from a client that leaves
        self._returned: pywintypes.HANDLEType | None = None
        self._has_returned = win32event.CreateEvent(None, False, False, None)
        self._os_thread: pywintypes.HANDLEType | None = None
        self._ends_itself = False  # the main loop has called close, in a hook, and the next is until when
        self._deadline: float | None = None
        self._instance: pywintypes.HANDLEType | None = self._create_first_instance()
        self._begin()

    # ---- The main loop

    def _run(self) -> None:
        self._os_thread = _own_thread()
        instance, self._instance = self._instance, None
        while instance is not None and not self._ending:
            if self._connect(instance):
                instance = self._hand_over(instance)
        if instance is not None:
            win32file.CloseHandle(instance)
        if self._ends_itself:
            self._end_connections(self._deadline)

    def _connect(self, instance: pywintypes.HANDLEType) -> bool:
        """Wait for a client. Whether there is one."""
        try:
            win32pipe.ConnectNamedPipe(instance, None)  # 0, or ERROR_PIPE_CONNECTED: it came before the call
        except pywintypes.error as error:
            if error.winerror == winerror.ERROR_NO_DATA:
                return True  # it has left already, and what it wrote can be read
            if error.winerror != winerror.ERROR_OPERATION_ABORTED:
                logger.warning("waiting for a client: %s", error.strerror)
                with contextlib.suppress(pywintypes.error):
                    win32pipe.DisconnectNamedPipe(instance)
                win32event.WaitForSingleObject(self._stop, PAUSE_MS)
            return False
        return True

    def _hand_over(self, instance: pywintypes.HANDLEType) -> pywintypes.HANDLEType | None:
        """Start the client's thread, and return the next instance, which is there before: clients always find one."""
        connection = ThreadConnection(self, self._number(), instance)
        with self._lock:
            if self._ending:
                return instance
            self._connections.add(connection)
            self._wanted = True  # before the attempt, and before the client can leave
        following = self._try_to_create()
        self._tell_arrival(connection)
        try:
            connection._thread.start()
        except RuntimeError as error:  # no more threads
            logger.warning("client %d: %s", connection.number, error)
            win32file.CloseHandle(instance)
            self._forget(connection)
            connection._give_up()
        return self._wait_for_instance() if following is None else following

    def _try_to_create(self) -> pywintypes.HANDLEType | None:
        try:
            made = self._create_instance()
        except pywintypes.error:
            return None  # the next attempt says why
        return self._take(made)

    def _wait_for_instance(self) -> pywintypes.HANDLEType | None:
        """Return an instance as soon as there may be one: a new one, or a leaving client's. None: the server ends."""
        told = 0
        while True:
            with self._lock:
                if self._returned is not None or self._ending:
                    break
                somebody_here = bool(self._connections)
            patience = PAUSE_MS
            try:
                return self._take(self._create_instance())
            except pywintypes.error as error:
                if error.winerror == winerror.ERROR_PIPE_BUSY:
                    # One of our clients has to leave first. If they are all other processes', nothing tells when.
                    patience = win32event.INFINITE if somebody_here else PAUSE_MS
                elif error.winerror != told:
                    told = error.winerror
                    logger.warning("creating an instance: %s Clients wait meanwhile.", error.strerror)
            win32event.WaitForMultipleObjects([self._stop, self._has_returned], False, patience)
        return self._take(None)

    def _take(self, made: pywintypes.HANDLEType | None) -> pywintypes.HANDLEType | None:
        """Want no instance any more, for `made` is one; where it is None, a client's that has left is."""
        with self._lock:
            self._wanted = False
            returned, self._returned = self._returned, None
            if made is not None and returned is not None:
                win32file.CloseHandle(returned)
        return returned if made is None else made

    # ---- From the clients' threads

    def _close_unless_needed(self, handle: pywintypes.HANDLEType) -> bool:
        """Close an instance, unless the main loop has none and waits for it. Whether it is closed."""
        with self._lock:  # over the close too: an attempt to create one is before it, and wants, or after it, and gets
            if self._wanted and not self._ending:
                return False
            win32file.CloseHandle(handle)
            return True

    def _take_back(self, handle: pywintypes.HANDLEType) -> None:
        """Take a disconnected instance: the main loop listens on it again if it has none, so that the name stays."""
        with self._lock:
            if self._wanted and not self._ending:
                self._wanted = False
                self._returned = handle
                win32event.SetEvent(self._has_returned)
            else:
                win32file.CloseHandle(handle)

    def _forget(self, connection: ThreadConnection) -> None:
        """Take a conversation that has ended off the list."""
        with self._lock:
            self._connections.discard(connection)
        self._tell_departure(connection)

    # ---- The end

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended.

        From `on_connect` it returns at once, and the server ends after that.
        """
        timeout = check_timeout(timeout)
        if self._is_forked:
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._ending = True
        win32event.SetEvent(self._stop)
        if threading.current_thread() is self._thread:  # a hook or an observer, which the main loop calls
            self._ends_itself, self._deadline = True, deadline
            return
        over = wait_for(self._over, 0)
        while not over:
            _cancel(self._os_thread)
            over = wait_for(self._over, _RETRY)  # it may have been on its way into the call
        self._end_connections(deadline)

    def _end_connections(self, deadline: float | None) -> None:
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection._end()
        for connection in connections:
            if connection._thread is not threading.current_thread():
                connection._join(deadline)


def _own_thread() -> pywintypes.HANDLEType:
    return completion.OpenThread(win32api.GetCurrentThreadId())


def _cancel(thread: pywintypes.HANDLEType | None) -> None:
    if thread is not None:
        with contextlib.suppress(pywintypes.error):  # ERROR_NOT_FOUND: it is in no call just now
            completion.CancelSynchronousIo(thread)
