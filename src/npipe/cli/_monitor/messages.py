"""The messages of the pipe that is selected, by its servers' tracing: in a thread, and only while somebody looks."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.tracing.events import Event

__all__ = ["KEPT", "Messages", "Watcher", "watch_messages"]

KEPT: Final = 2000
"""Events that are kept to be looked at."""
SNAPLEN: Final = 1024
"""Bytes of a message that are recorded: more than a line shows."""
_RING: Final = 1 << 18
_IDLE: Final = 0.5  # seconds after which it looks whether it is still wanted
_TURN: Final = 0.1  # seconds of a pause
_MOST: Final = 4000  # events between two pauses: who says more than that is lost in part, and nobody waits


class Messages(Protocol):
    """Messages as they come."""

    lost: int
    """Records that found no room."""
    problem: str | None
    """Why there are none, or no more; None: they come."""
    pids: tuple[int, ...]
    """The processes that are looked at."""

    def take(self) -> list[Event]:
        """Return what has come since the last call."""

    def stop(self) -> None:
        """End, without waiting."""


class Watcher:
    """Looks on at a pipe's messages; `tell` is called, by its thread, for each of them, and when it ends."""

    def __init__(self, name: str, tell: Callable[[], object]) -> None:
        self.lost = 0
        self.problem: str | None = None
        self.pids: tuple[int, ...] = ()
        self._name = name
        self._tell = tell
        self._events: deque[Event] = deque(maxlen=KEPT)
        self._stopped = threading.Event()
        # A daemon: asking a server that does not answer takes a second.
        threading.Thread(target=self._run, name="npipe-top-messages", daemon=True).start()

    def take(self) -> list[Event]:
        """See Messages.take."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def stop(self) -> None:
        """See Messages.stop."""
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._watch()
        except OSError as error:  # PipeErrors are OSErrors
            self.problem = str(error)
        if not self._stopped.is_set():
            self._tell()

    if sys.platform == "win32":

        def _watch(self) -> None:
            self.problem = "on Windows a running process cannot be traced from outside"

    else:

        def _watch(self) -> None:
            from npipe.tracing.attach import Tracer

            with Tracer([self._name], snaplen=SNAPLEN, ring_size=_RING) as tracer:
                self.pids = tuple(tracer.pids)
                self._tell()
                while not self._stopped.is_set() and (tracer.pids or tracer.pending):
                    count = 0
                    for event in tracer.events(_IDLE):
                        self._events.append(event)
                        count += 1
                        self._tell()
                        if count >= _MOST or self._stopped.is_set():
                            break
                    self.lost = tracer.lost
                    self.pids = tuple(tracer.pids)
                    if count >= _MOST:
                        self._stopped.wait(_TURN)
                problems = tracer.problems
            self.problem = "; ".join(problems) or "its servers have gone"


def watch_messages(name: str, tell: Callable[[], object]) -> Messages:
    """Look on at a pipe's messages from now on."""
    return Watcher(name, tell)
