"""A context of multiprocessing's whose queues, pools and managers stand on npipe's connections."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import importlib
import multiprocessing
import pickle
import queue
import threading
import time
from multiprocessing import managers, queues
from typing import TYPE_CHECKING, Any, Final

from npipe.binding.channel import dumps
from npipe.connection._connections import Connection, Pipe
from npipe.connection._rendezvous import Client, Listener
from npipe.options import look_timeout

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

__all__ = ["context"]


class _Serializer(str):
    """The name of the serializer. A process that gets it has npipe.connection, which registers it, with it."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Serializer, (str(self),)


SERIALIZER: Final = _Serializer("npipe")

_passing = threading.local()


class _Item:
    """What is put into a queue. The queue's own thread pickles it, and finds a token for what has been made of it."""

    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __reduce__(self) -> tuple[Any, ...]:
        _passing.parts = dumps(self.obj)
        return tuple, ()


class _QueueWriter:
    """What a queue's thread sends through."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._connection = connection

    def __call__(self, _token: Any) -> None:
        parts, _passing.parts = _passing.parts, None
        self._connection._send_parts(*parts)  # noqa: SLF001


class OnChannels:
    """A queue of multiprocessing's on a connection of npipe's."""

    _reader: Any
    _writer: Any
    _closed: bool
    _rlock: Any
    _sem: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader.close()
        self._writer.close()
        self._reader, self._writer = Pipe(duplex=False)
        self._reset()

    def _reset(self, after_fork: bool = False) -> None:
        super()._reset(after_fork)  # type: ignore[misc]
        self._send_bytes = _QueueWriter(self._writer)

    def empty(self) -> bool:
        """Whether there is nothing in the queue: see multiprocessing.Queue."""
        return not self._reader.poll()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take an object out of the queue: see multiprocessing.Queue."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        # Before the lock: who has it may wait for ever.
        received = self._reader._kept_parts()  # noqa: SLF001
        if received is None:
            received = self._receive(block, timeout)
        else:
            self._sem.release()
        # What this call has received is its own alone: a handler's get may have come in between.
        pickled, buffers = received
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - as every connection does

    def _receive(self, block: bool, timeout: float | None) -> tuple[bytes, list[Any] | None]:
        """Wait for a message, as the get of multiprocessing.Queue does, and return its parts."""
        timeout = look_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._rlock.acquire(block, timeout):
            raise queue.Empty
        try:
            if not block or deadline is not None:
                left = max(deadline - time.monotonic(), 0.0) if block and deadline is not None else 0.0
                # What is kept for this thread nobody takes away before it is read.
                if not self._reader._keep() and not self._reader.poll(left):  # noqa: SLF001
                    raise queue.Empty
            received: tuple[bytes, list[Any] | None] = self._reader._recv_parts()  # noqa: SLF001
            self._sem.release()
        finally:
            self._rlock.release()
        return received

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an object into the queue: see multiprocessing.Queue."""
        super().put(_Item(obj), block, timeout)  # type: ignore[misc]

    def _on_queue_feeder_error(self, error: Exception, obj: Any) -> None:
        super()._on_queue_feeder_error(error, obj.obj if isinstance(obj, _Item) else obj)  # type: ignore[misc]


class Queue(OnChannels, queues.Queue):  # type: ignore[type-arg]
    """multiprocessing.Queue."""


class JoinableQueue(OnChannels, queues.JoinableQueue):  # type: ignore[type-arg]
    """multiprocessing.JoinableQueue."""


class SimpleQueue(queues.SimpleQueue):  # type: ignore[type-arg]
    """multiprocessing.SimpleQueue."""

    _reader: Any
    _writer: Any
    _rlock: Any
    _wlock: Any

    def __init__(self, *, ctx: Any) -> None:
        super().__init__(ctx=ctx)
        self._reader.close()
        self._writer.close()
        self._reader, self._writer = Pipe(duplex=False)
        self._poll = self._reader.poll

    def get(self) -> Any:
        """Take an object out."""
        kept = self._reader._kept_parts()  # noqa: SLF001 - see OnChannels.get
        if kept is None:
            with self._rlock:
                kept = self._reader._recv_parts()  # noqa: SLF001
        pickled, buffers = kept
        return pickle.loads(pickled, buffers=buffers)  # noqa: S301

    def put(self, obj: Any) -> None:
        """Put an object in."""
        parts = dumps(obj)
        if self._wlock is None:
            self._writer._send_parts(*parts)  # noqa: SLF001
        else:
            with self._wlock:
                self._writer._send_parts(*parts)  # noqa: SLF001


class Channels:
    """What a context makes, on npipe's connections."""

    def Pipe(self, duplex: bool = True) -> tuple[Connection[Any, Any], Connection[Any, Any]]:  # noqa: N802
        """See npipe.connection.Pipe."""
        return Pipe(duplex)

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """See multiprocessing.Queue."""
        return Queue(maxsize, ctx=self.get_context())  # type: ignore[attr-defined]

    def JoinableQueue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """See multiprocessing.JoinableQueue."""
        return JoinableQueue(maxsize, ctx=self.get_context())  # type: ignore[attr-defined]

    def SimpleQueue(self) -> Any:  # noqa: N802
        """See multiprocessing.SimpleQueue."""
        return SimpleQueue(ctx=self.get_context())  # type: ignore[attr-defined]

    def Manager(self) -> managers.SyncManager:  # noqa: N802
        """See multiprocessing.Manager."""
        manager = managers.SyncManager(serializer=SERIALIZER, ctx=self.get_context())  # type: ignore[attr-defined]
        manager.start()
        return manager


_contexts: dict[str, Any] = {}


def _executors() -> Any:
    """Return the module for executors: `import npipe.connection` does without concurrent.futures."""
    return importlib.import_module("npipe.connection._executors")


def context(method: str | None = None) -> BaseContext:
    """Return a context of multiprocessing whose queues, pools, pipes and managers stand on npipe's connections.

    Args:
        method: how processes are started: "fork", "spawn" or "forkserver"; None: as multiprocessing does by itself.

    Returns:
        A context as multiprocessing.get_context returns, with the same methods: for `ctx.Pool()`, `ctx.Queue()`,
        `ctx.Process`, and `ProcessPoolExecutor(mp_context=ctx)`.

    Raises:
        ValueError: there is no such method here.
    """
    base = multiprocessing.get_context(method or multiprocessing.get_start_method())
    name = base.get_start_method()
    if name not in _contexts:
        _contexts[name] = type(f"Npipe{type(base).__name__}", (Channels, type(base)), {"__module__": __name__})()
        _executors().use()
    made: BaseContext = _contexts[name]
    return made


managers.listener_client[str(SERIALIZER)] = (Listener, Client)  # type: ignore[attr-defined]
