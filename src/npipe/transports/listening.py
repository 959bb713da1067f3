"""The instance of a name that listens: which one it is, and who makes the next one. For the sync and threads' faces."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, TypeVar

from npipe.errors import PipeBusyError, PipeError, PipeTimeoutError, WinError
from npipe.reasons import listener_closed
from npipe.transports.patience import FolderPatience

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.names import PipeName
    from npipe.options import CreateOptions
    from npipe.transports.base import ServerEnd, Transport

__all__ = ["Listening"]

T = TypeVar("T")


class Listening:
    """The listening instance of a name in this process, for several threads.

    One thread at a time makes an instance: one too many would have to be closed, and a client may have come to it. The
    handler of a signal may come between any two steps of the main thread, raise there, and close pipes or this: what
    has a client, or may have one, is then where the next call finds it, and nobody waits for what has ended.
    """

    def __init__(self, transport: Transport, name: PipeName, options: CreateOptions, *, first_instance: bool) -> None:
        self._transport = transport
        self._name: Final = name
        self._options = options
        self._make_locks()
        self.closed: bool = False
        self.forked: bool = False  # this is a child of the process that has made it
        # Instances with clients, whose accepts were interrupted: for the next ones, before any other.
        self._left: list[ServerEnd] = []
        self.end: ServerEnd | None = transport.create(name, options, first_instance=first_instance)

    def _make_locks(self) -> None:
        # For the fields. Nothing waits under it; a signal's handler that closes a pipe may come in between.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for who waits until it can create
        # Held by a thread that makes an instance, and taken before the other one; by `with` alone, which no exception
        # of a signal's handler splits.
        self._maker = threading.Lock()
        self._mine = _Mine()

    def check_open(self) -> None:
        """Raise PipeClosedError (109) when it is closed."""
        if self.closed:
            raise listener_closed(self._name.path, forked=self.forked)

    def get(self, left: Callable[[], float | None]) -> ServerEnd | None:
        """Return the instance that listens, made if need be; None at the limit.

        None as well in the midst of a making, for whose end a signal's handler in that thread cannot wait. `left` says
        how many seconds are left of the call's time-out.

        Raises:
            PipeClosedError: it is closed, or is closed meanwhile (109).
            PipeTimeoutError: another process has the folder's lock, and nothing is left (121).
            PipeResourceError: another process has it for more than 3 seconds, or what `create` raises.
        """
        patience = FolderPatience()
        while True:
            with self._lock:
                self.check_open()
                if self._left:
                    return self._left[0]
                if self.end is not None:
                    return self.end
            if self._mine.makes:
                return None
            try:
                self._make(self._create)
            except PipeBusyError:
                return None
            except PipeTimeoutError as error:  # another process has the folder's lock
                pause = patience.pause(error, self._name.path, left())
                with self._lock:
                    if self.end is None and not self._left and not self.closed:
                        self._changed.wait(pause)

    def _create(self) -> ServerEnd:
        return self._transport.create(self._name, self._options, first_instance=False, timeout=0.0)

    def is_listening(self, end: ServerEnd) -> bool:
        """Whether no other thread has got its client, or passed over it. PipeClosedError (109) when this is closed."""
        with self._lock:
            self.check_open()
            return self._is_here(end)

    def connect(self, end: ServerEnd, timeout: float | None) -> bool:
        """Wait for a client of `end`, as its own `connect`. False: another one has been left, so look again.

        Raises what that raises, and PipeClosedError (109): this is closed.
        """
        with self._lock:
            self.check_open()
            if self._left and self._left[0] is not end:
                return False
            recalls = end.recalls()
        return end.connect(timeout, recalls) != WinError.OPERATION_ABORTED

    def _is_here(self, end: ServerEnd) -> bool:
        return self.end is end or any(one is end for one in self._left)

    def _remove(self, end: ServerEnd) -> None:
        if self.end is end:
            self.end = None
        else:
            self._left = [one for one in self._left if one is not end]

    def take(self, end: ServerEnd, hand_out: Callable[[ServerEnd], T]) -> T | None:
        """Take `end`, to which a client has come, and return what `hand_out` makes of it.

        None when another thread has got that client. Another instance is made for the next one, if that can be done
        now. What raises leaves `end` to the next call.
        """
        taken = False
        try:
            with self._lock:
                # `close` has closed the instance, unless another thread has got this client: then it is that one's.
                self.check_open()
                if not self._is_here(end):
                    return None
                taken = True
                self._remove(end)
            if not self._mine.makes:
                with contextlib.suppress(PipeError):  # the next call says why, if it is still so
                    self._make(end.another, end)
            return hand_out(end)
        except BaseException:  # no descriptors, or a signal's handler
            if taken:
                self._leave(end)
            raise

    def pass_over(self, end: ServerEnd) -> None:
        """Put another instance in the place of `end`, whose client has left nothing.

        What raises leaves `end` to the next call, if it is not closed.
        """
        taken = False
        try:
            with self._lock:
                self.check_open()
                if not self._is_here(end):
                    return
                taken = True
                self._remove(end)
            if not self._mine.makes:
                self._make(end.replace, end)
        except BaseException:
            if taken:
                self._leave(end)
            raise
        if not end.closed:
            end.close_handle()  # another one listens by now

    def _leave(self, end: ServerEnd) -> None:
        """Leave `end` to the next call."""
        with self._lock:
            if not self.closed and not end.closed and not self._is_here(end):
                self._left.append(end)
                if self.end is not None:
                    self.end.recall()  # who sleeps on it
            self._changed.notify_all()
        self._transport.wake_waiting_listeners()  # those that have found nothing here, and the limit reached
        if self.closed:
            end.close_handle()

    def release(self, end: ServerEnd, discard: bool) -> None:
        """Put a new instance in the place of a connected one that is about to be closed, if none listens."""
        # In the midst of a making: for its end a signal's handler or the collector in that thread cannot wait, and an
        # abort does not. If nothing fails one listens then.
        if self.closed or self._mine.makes or (discard and self._maker.locked()):
            return
        try:
            self._make(lambda: end.replace(discard), end)
            self._transport.wake_waiting_listeners()
        except PipeError:
            return  # no descriptors, say: it is closed all the same, and the next call of `get` says why
        except BaseException:
            self._transport.wake_waiting_listeners()
            raise

    def _make(self, make: Callable[[], ServerEnd], of: ServerEnd | None = None) -> None:
        """Make the instance that listens, by `of` if that is given, unless there is one by now.

        Raises what `make` does, and PipeClosedError: this is closed.
        """
        mine = self._mine
        try:
            mine.makes = True  # before the lock is taken: a handler that waited for it would wait for this thread
            with self._maker:
                self.check_open()
                if self.end is None:
                    self._make_alone(make, of)
        finally:
            mine.makes = False

    def _make_alone(self, make: Callable[[], ServerEnd], of: ServerEnd | None) -> None:
        if of is not None:
            of.left_behind()  # what it made before has clients, and pipes, of its own by now
        made: ServerEnd | None = None
        kept = False
        try:
            made = make()
            with self._lock:
                if not self.closed:
                    self.end, kept = made, True
                    self._changed.notify_all()
        except BaseException:
            if made is None and of is not None:
                made = of.left_behind()
            with self._lock:
                if made is not None and not kept and not self.closed:  # a client may have come to it
                    self.end, kept = made, True
                if kept:
                    self._changed.notify_all()
            raise
        finally:
            if made is not None and not kept:
                made.close_handle()
        self.check_open()

    def close(self) -> bool:
        """Let nobody come any more, also when a signal's handler raises in it. False: it was closed already."""
        closes = True
        try:
            with self._lock:
                closes = not self.closed
                self.closed = True
            if closes:
                self._end()
        except BaseException:
            self.closed = True
            self._end()
            raise
        return closes

    def _end(self) -> None:
        with self._lock:
            ends = [*self._left, *([] if self.end is None else [self.end])]
            self._changed.notify_all()
        self._transport.wake_waiting_listeners()
        for end in ends:
            end.close_handle()
        self._left, self.end = [], None

    def forget(self) -> None:
        """Be closed, without a word to the transport: this is a forked child, and the instances are the parent's."""
        self._make_locks()
        self.closed = self.forked = True
        self._left, self.end = [], None


class _Mine(threading.local):
    """What a thread does: whether it makes an instance, or waits until it can."""

    makes: bool = False
