"""The multithreaded server: Microsoft's "Multithreaded Pipe Server" in Python.

The main loop has one instance at a time created and waiting for a client, and gives each client a thread, which
reads requests and writes answers until the client leaves, and then flushes, disconnects and closes.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from npipe.errors import PipeClosedError, PipeError
from npipe.listener import listen
from npipe.pipe import MessagePipe, StreamPipe

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from types import TracebackType

    from npipe.servers import Handler

__all__ = ["Connection", "ThreadedServer"]

logger = logging.getLogger("npipe")

_READ_SIZE = 65536
_PAUSE = 0.05  # seconds between attempts to accept when descriptors or memory have run out


class Connection:
    """One client of a threaded server, and its thread."""

    def __init__(self, server: ThreadedServer, number: int, pipe: MessagePipe | StreamPipe) -> None:
        self.number = number
        self.pipe = pipe
        self.requests = 0
        self._server = server
        self._lock = threading.Lock()  # for the fields below
        self._busy = False  # a request has been read and is being answered
        self._ending = False
        self.thread = threading.Thread(target=self._run, name=f"npipe-client-{number}", daemon=True)

    def end(self) -> None:
        """End the connection after the request that is being answered, if one is."""
        with self._lock:
            self._ending = True
            if self._busy:
                return
        self.pipe.close()

    def _run(self) -> None:
        try:
            self._answer_requests()
        except PipeClosedError:
            pass  # the client has left, which is how every connection ends
        except PipeError as error:
            logger.warning("client %d: %s", self.number, error)
        except Exception:
            logger.exception("client %d: the handler failed, its connection is closed", self.number)
        finally:
            self._finish()

    def _answer_requests(self) -> None:
        while True:
            request = self._read()
            with self._lock:
                if self._ending:
                    return
                self._busy = True
            answer = self._server.handler(request)
            if answer is not None:
                self._write(answer)
            self.requests += 1
            with self._lock:
                self._busy = False
                if self._ending:
                    return

    def _read(self) -> bytes:
        if isinstance(self.pipe, MessagePipe):
            return self.pipe.recv()
        return self.pipe.read(_READ_SIZE)

    def _write(self, answer: bytes | bytearray | memoryview) -> None:
        if isinstance(self.pipe, MessagePipe):
            self.pipe.send(answer)
        else:
            self.pipe.write(answer)

    def _finish(self) -> None:
        try:
            # So that the client gets to read the last answer before the instance is disconnected.
            if self.pipe.info.direction != "inbound":
                self.pipe.flush(timeout=self._server.flush_timeout)
        except PipeError:
            pass  # it does not want it
        self.pipe.close()
        self._server.forget(self)


class ThreadedServer:
    """A server with a thread for each client; see npipe.serve."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: Handler,
        *,
        flush_timeout: float | None = 5.0,
        on_connect: Callable[[Connection], None] | None = None,
        on_disconnect: Callable[[Connection], None] | None = None,
        **options: Any,
    ) -> None:
        self.handler = handler
        self.flush_timeout = flush_timeout
        self._on_connect = on_connect
        self._on_disconnect = on_disconnect
        self._lock = threading.Lock()  # for _connections and _ending
        self._connections: set[Connection] = set()
        self._ending = False
        self._listener = listen(name, **options)
        self._thread = threading.Thread(target=self._accept_clients, name="npipe-server", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The pipe's full name."""
        return self._listener.name

    def _accept_clients(self) -> None:
        number = 0
        while True:
            try:
                pipe = self._listener.accept()
            except PipeClosedError:
                return  # close() has closed the listener
            except PipeError as error:
                # Out of descriptors or memory: clients wait meanwhile. Nothing tells when there is some again.
                logger.warning("accepting a client: %s", error)
                threading.Event().wait(_PAUSE)
                continue
            number += 1
            connection = Connection(self, number, pipe)
            with self._lock:
                if not self._ending:
                    self._connections.add(connection)
            if self._on_connect is not None:
                self._on_connect(connection)
            try:
                connection.thread.start()
            except RuntimeError as error:  # no more threads
                logger.warning("client %d: %s", number, error)
                connection.pipe.abort()
                self.forget(connection)

    def forget(self, connection: Connection) -> None:
        """Take a connection that has ended off the list."""
        with self._lock:
            self._connections.discard(connection)
        if self._on_disconnect is not None:
            self._on_disconnect(connection)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has ended, at most `timeout` seconds (None: for ever). Whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def close(self, *, timeout: float | None = 5.0) -> None:
        """Stop accepting; requests that are being answered get `timeout` seconds, then all connections are ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._listener.close()
        self._thread.join()
        with self._lock:
            self._ending = True
            connections = list(self._connections)
        for connection in connections:
            connection.end()
        for connection in connections:
            if connection.thread is threading.current_thread():
                continue
            connection.thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if connection.thread.is_alive():
                connection.pipe.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
