"""The instance of a name that listens: which one it is, and who makes the next one. For the sync and threads' faces."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from npipe.errors import PipeBusyError, PipeError, PipeTimeoutError
from npipe.reasons import listener_closed
from npipe.transports.patience import FolderPatience

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports.base import ServerEnd, Transport

__all__ = ["Listening"]


class Listening:
    """The listening instance of a name in this process, for several threads.

    One thread at a time makes an instance: one too many would have to be closed, and a client may have come to it.
    """

    def __init__(self, transport: Transport, name: PipeName, options: CreateOptions, *, first_instance: bool) -> None:
        self._transport = transport
        self._name: Final = name
        self._options = options
        self._make_locks()
        self.closed: bool = False
        self.forked: bool = False  # this is a child of the process that has made it
        self.end: ServerEnd | None = transport.create(name, options, first_instance=first_instance)

    def _make_locks(self) -> None:
        # For the fields. Nothing waits under it; a signal's handler that closes a pipe may come in between.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for who waits until it can create
        # Held by a thread that makes an instance, and taken before the other one; by `with` alone, which no exception
        # of a signal's handler splits.
        self._maker = threading.Lock()
        self._maker_thread = 0  # who has it, or had it last

    def check_open(self) -> None:
        """Raise PipeClosedError (109) when it is closed."""
        if self.closed:
            raise listener_closed(self._name.path, forked=self.forked)

    def get(self, left: Callable[[], float | None]) -> ServerEnd | None:
        """Return the instance that listens, made if need be; None at the limit.

        `left` says how many seconds are left of the call's time-out.

        Raises:
            PipeClosedError: it is closed, or is closed meanwhile (109).
            PipeTimeoutError: another process has the folder's lock, and nothing is left (121).
            PipeResourceError: another process has it for more than 3 seconds, or what `create` raises.
        """
        patience = FolderPatience()
        while True:
            with self._lock:
                self.check_open()
                if self.end is not None:
                    return self.end
            try:
                with self._maker:
                    self._make(self._create)
            except PipeBusyError:
                return None
            except PipeTimeoutError as error:  # another process has the folder's lock
                pause = patience.pause(error, self._name.path, left())
                with self._lock:
                    if self.end is None and not self.closed:
                        self._changed.wait(pause)

    def _create(self) -> ServerEnd:
        return self._transport.create(self._name, self._options, first_instance=False, timeout=0.0)

    def is_listening(self, end: ServerEnd) -> bool:
        """Whether no other thread has got its client, or passed over it. PipeClosedError (109) when this is closed."""
        with self._lock:
            self.check_open()
            return self.end is end

    def take(self, end: ServerEnd, *, left_already: bool = False) -> bool:
        """Take `end`, to which a client has come; False when another thread has got that client.

        Another instance is made for the next one, if that can be done now. With `left_already` it takes the place of
        `end`, for nobody is there: False as well. What raises leaves `end` to the next call.
        """
        taken = False
        try:
            with self._lock:
                # `close` has closed the instance, unless another thread has got this client: then it is that one's.
                self.check_open()
                if self.end is not end:
                    return False
                taken = True
                self.end = None
            with self._maker:
                if left_already:
                    self._make(end.replace)
                    return False
                with contextlib.suppress(PipeError):  # the next call says why, if it is still so
                    self._make(end.another)
        except BaseException:  # no descriptors, or a signal's handler
            if taken:
                with self._lock:
                    if self.end is None and not self.closed:
                        self.end = end
                        self._changed.notify_all()
            raise
        return True

    def release(self, end: ServerEnd, discard: bool) -> None:
        """Put a new instance in the place of a connected one that is about to be closed, if none listens."""
        # In the midst of a making: for its end a signal's handler or the collector in that thread cannot wait, and an
        # abort does not. If nothing fails one listens then.
        if self._maker.locked() and (discard or self._maker_thread == threading.get_ident()):
            return
        try:
            with self._maker:
                self._make(lambda: end.replace(discard))
        except PipeError:
            return  # no descriptors, say: it is closed all the same, and the next call of `get` says why
        self._transport.wake_waiting_listeners()

    def _make(self, make: Callable[[], ServerEnd]) -> None:
        """Make the instance that listens, unless there is one by now; the caller has the maker's lock.

        Raises what `make` does, and PipeClosedError: this is closed.
        """
        self._maker_thread = threading.get_ident()
        self.check_open()
        if self.end is not None:
            return
        made = make()
        with self._lock:
            if not self.closed:
                self.end = made
                self._changed.notify_all()
                return
        made.close_handle()
        self.check_open()

    def close(self) -> bool:
        """Let nobody come any more. False: it was closed already."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            end, self.end = self.end, None
            self._changed.notify_all()
        if end is not None:
            end.close_handle()
        self._transport.wake_waiting_listeners()
        return True

    def forget(self) -> None:
        """Be closed, without a word to the transport: this is a forked child, and the instances are the parent's."""
        self._make_locks()
        self.closed = self.forked = True
        self.end = None
