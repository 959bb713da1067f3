"""Hooks: who wants to know of connections that are opened, closed or refused, or wait; and logging's share of it."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeVar

from npipe.errors import PipeError, PipeProtocolError, PipeResourceError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from npipe._display import Traits
    from npipe.figures import PipeStats

__all__ = [
    "INFO",
    "Event",
    "Observation",
    "active",
    "carried",
    "closing",
    "is_wait_told",
    "note_wait",
    "observe",
    "observed",
    "tell",
    "tell_closed",
    "tell_failed",
    "waiting",
]

T = TypeVar("T")

_DEBUG: Final = 10  # logging.DEBUG, which is not imported for it
INFO: Final = 2 * _DEBUG
"""The level of what a listener does."""


@dataclass(frozen=True)
class Event:
    """Something that has happened to a pipe of this process: what an observer is called with."""

    kind: Literal["listening", "stopped", "opened", "closed", "failed", "waited"]
    """A listener listens, or no more; a connection was opened, or closed at this end; it could not be; a client had to
    wait for an instance, or for a server, in `connect` or `wait`: told when that is over, before "opened" or "failed".
    """
    name: str
    r"""The pipe's full name, `\\.\pipe\NAME`."""
    is_server: bool | None
    """Whether it is the server's side; None where that is not known any more."""
    seconds: float | None = None
    """For "opened" and "failed" of a client: how long its connect took, with all waits. For "waited": how long since it
    was known that there is a wait.
    """
    stats: PipeStats | None = None
    """For "closed": what the connection had moved, where it is counted."""
    error: PipeError | None = None
    """For "failed": why. For "waited": with what the wait ended, if it has failed: a PipeTimeoutError (121) when the
    time was over, a PipeNotFoundError (2) when the server went.
    """
    outcome: Literal["ready", "failed", "cancelled"] | None = None
    """For "waited": how it ended: an instance was there; with `error`; its caller ended it (a task that was cancelled,
    Ctrl-C).
    """


class _Ended(Protocol):
    """A pipe of any face."""

    @property
    def name(self) -> str: ...
    @property
    def stats(self) -> PipeStats: ...
    def _traits(self) -> Traits | None: ...


_observers: tuple[Callable[[Event], object], ...] = ()  # replaced as a whole, so that nobody needs a lock to look
_changing = threading.RLock()  # to replace it; a signal's handler, and the collector, may do so in between
_logger: Any = None


def _after_fork_in_child() -> None:
    global _changing
    _changing = threading.RLock()  # who had it is not here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Observation:
    """What `observe` returns; `with` or `close` ends it."""

    def __init__(self, observer: Callable[[Event], object]) -> None:
        self._observer: Callable[[Event], object] | None = observer

    def close(self) -> None:
        """Call the observer no more; closing twice is no error."""
        global _observers
        with _changing:
            while self._observer is not None:
                before = _observers
                at = next((at for at, one in enumerate(before) if one is self._observer), len(before))
                left = before[:at] + before[at + 1 :]
                if _observers is before:  # so nobody has changed it in this thread meanwhile
                    _observers, self._observer = left, None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def observe(observer: Callable[[Event], object]) -> Observation:
    """Call `observer` with an Event whenever a connection of this process is opened, closed or refused, or has waited.

    Of `npipe` and `npipe.aio`, their servers, and what stands on them; not of other handles of npipe.win32's. A server
    tells that it has stopped after the last of its connections has been told as closed.

    It is called by the thread or the event loop that opened or closed, so it has to be quick, and it must not wait for
    pipes. What it raises is logged ("npipe", error), and changes nothing. Without observers it costs nothing; messages
    are never observed.

    Returns:
        An Observation, which ends it when it is closed.
    """
    global _observers
    with _changing:
        _observers = (*_observers, observer)
    return Observation(observer)


def active(level: int = _DEBUG) -> bool:
    """Whether anybody wants to know: an observer, or logging with that level for "npipe"."""
    return bool(_observers) or _logs(level)


def _logs(level: int) -> bool:
    global _logger
    if _logger is None:
        logging = sys.modules.get("logging")  # who has not imported it has no handler for it
        if logging is None or not hasattr(logging, "getLogger"):
            return False
        _logger = logging.getLogger("npipe")
    return bool(_logger.isEnabledFor(level))


def tell(event: Event) -> None:
    """Tell all who want to know."""
    for observer in _observers:
        try:
            observer(event)
        except BaseException as error:  # it is somebody else's, and the pipe goes on
            if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
                raise  # Ctrl-C, or what another signal's handler raises
            _log().exception("an observer of pipes failed")
    if not _logs(3 * _DEBUG):  # nobody would see even a warning
        return
    side = "" if event.is_server is None else "server's " if event.is_server else "client's "
    match event.kind:
        case "listening":
            _logger.info("listening on %r", event.name)
        case "stopped":
            _logger.info("no longer listening on %r", event.name)
        case "opened":
            took = "" if event.seconds is None else f" after {event.seconds:.3f} s"
            _logger.debug("%sconnection of %r opened%s", side, event.name, took)
        case "closed":
            told = event.stats
            moved = "" if told is None else f": {told.bytes_received} bytes in, {told.bytes_sent} out"
            _logger.debug("%sconnection of %r closed%s", side, event.name, moved)
        case "waited":
            how = event.error if event.outcome == "failed" else event.outcome
            _logger.debug("%swait for %r took %.3f s: %s", side, event.name, event.seconds, how)
        case "failed":
            grave = isinstance(event.error, (PipeResourceError, PipeProtocolError))
            _logger.log(3 * _DEBUG if grave else _DEBUG, "%s", event.error)


def _log() -> Any:
    import logging

    return logging.getLogger("npipe")


def observed(name: str, make: Callable[[], T]) -> T:
    """Return what `make` does, a client's pipe, and tell of it, or of its error."""
    began = time.monotonic()
    try:
        with waiting(name):
            made = make()
    except PipeError as error:
        tell_failed(name, error, time.monotonic() - began)
        raise
    tell(Event("opened", name, is_server=False, seconds=time.monotonic() - began))
    return made


class waiting:  # noqa: N801 - used as a function
    """While in this context, a client's call for an instance: it is told if it had to wait, and how that ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.began: float = 0.0  # time.monotonic
        self.since: float | None = None  # likewise
        self._outer: waiting | None = None  # of a call in which a signal's handler makes this one

    def __enter__(self) -> None:
        self.began = time.monotonic()
        self._outer = _calls.get()
        _calls.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _calls.set(self._outer)
        if self.since is None:
            return
        outcome: Literal["ready", "failed", "cancelled"]
        outcome = "ready" if error is None else "failed" if isinstance(error, PipeError) else "cancelled"
        why = error if isinstance(error, PipeError) else None
        seconds = time.monotonic() - self.since
        tell(Event("waited", self._name, is_server=False, seconds=seconds, error=why, outcome=outcome))


_calls: Final[ContextVar[waiting | None]] = ContextVar("npipe-calls", default=None)


def is_wait_told() -> bool:
    """Whether somebody wants to know whether the call that is under way had to wait."""
    return _calls.get() is not None


def note_wait(since: Callable[[], float | None] = time.monotonic) -> None:
    """Note that the call that is under way has to wait, or had to since what `since` returns; None: it had not."""
    call = _calls.get()
    if call is not None and call.since is None:
        moment = since()
        if moment is not None and moment >= call.began:  # else it is an earlier call's
            call.since = moment


def carried(function: Callable[[], T]) -> Callable[[], T]:
    """Return `function` for another thread, which does it for the call that is under way here: so its waits count."""
    call = _calls.get()
    if call is None:
        return function

    def within() -> T:
        _calls.set(call)
        try:
            return function()
        finally:
            _calls.set(None)

    return within


def tell_failed(name: str, error: PipeError, seconds: float | None, *, is_server: bool = False) -> None:
    """Tell of a connection that could not be."""
    tell(Event("failed", name, is_server=is_server, seconds=seconds, error=error))


def closing(pipe: _Ended) -> tuple[bool | None] | None:
    """Return what tell_closed wants of a pipe that is about to be closed; None when nobody wants to know."""
    if not active():
        return None
    traits = pipe._traits()  # noqa: SLF001 - of any face
    return (None if traits is None else traits.is_server,)


def tell_closed(pipe: _Ended, known: tuple[bool | None]) -> None:
    """Tell of a connection that was closed at this end."""
    stats: PipeStats | None
    try:
        stats = pipe.stats
    except PipeError:
        stats = None
    tell(Event("closed", pipe.name, is_server=known[0], stats=stats))
