"""A TCP proxy between a client and smbd, which cuts, holds back and changes what goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Proxy:
    """Listens at a port of this machine's; `port` is the one for clients."""

    def __init__(self, target: int | None) -> None:
        """Without a target it takes connections, and says nothing."""
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._all: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._open = {"up": threading.Event(), "down": threading.Event()}
        self.accepted = threading.Semaphore(0)
        self.connections = 0
        self.change: Callable[[bytes], bytes] | None = None
        """What the server's bytes become."""
        self.ended = threading.Semaphore(0)
        """Released when a client has closed its connection."""
        for event in self._open.values():
            event.set()
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(client)
                self._all.append(client)
                self.connections += 1
            if self._target is None:
                self._start(self._swallow, client)
            else:
                server = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._sockets.append(server)
                    self._all.append(server)
                self._start(self._carry, client, server, "up")
                self._start(self._carry, server, client, "down")
            self.accepted.release()

    def _swallow(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(65536):
                pass
        self.ended.release()

    def _carry(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        try:
            while data := source.recv(65536):
                self._open[way].wait()
                if way == "down" and self.change is not None:
                    data = self.change(data)
                sink.sendall(data)
        except OSError:
            pass
        if way == "up":
            self.ended.release()
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def hold(self, way: str) -> None:
        """Keep back what comes from now on: "up" to the server, "down" to the client."""
        self._open[way].clear()

    def let_go(self, way: str) -> None:
        """Carry on, with what was kept back first."""
        self._open[way].set()

    def cut(self) -> None:
        """End all connections."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for event in self._open.values():
            event.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in list(self._threads):
            thread.join(10)
        for sock in self._all:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
