"""Ctrl-C that a command hears whenever it comes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["hears_interrupts"]

_PATIENCE: Final = 0.05  # seconds that a signal's handler may take to begin
_TIMES: Final = 100  # that the main thread is woken for one signal

P = ParamSpec("P")
R = TypeVar("R")


def hears_interrupts(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command whose main thread waits in blocking calls hear each Ctrl-C, whenever it comes."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with _hearing():
            return command(*args, **kwargs)

    return run


if sys.platform == "win32":  # there an event tells of it, which every wait waits for too

    def _hearing() -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

else:

    def _pipe() -> list[int]:
        """Make a pipe that does not wait for room, with no end in the place of a standard stream that is closed."""
        ends = os.pipe()
        try:
            moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends]
        finally:
            for end in ends:
                os.close(end)
        os.set_blocking(moved[1], False)
        return moved

    @contextlib.contextmanager
    def _hearing() -> Iterator[None]:
        """Wake the main thread as long as it has not heard of an interrupt.

        A signal that comes in the few instructions between a call's last look for one and its sleep ends no sleep: the
        handler in Python would run with the next wake, which may be never. A thread is told of each signal at once, by
        the descriptor that the system's handler writes to, and interrupts the sleep by another signal.
        """
        if (
            threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        ):
            yield
            return
        main = threading.get_ident()
        heard: list[int] = []  # no Event, whose lock a handler in the middle of another one would wait for
        over = threading.Event()
        takes, gives = _pipe()

        def interrupt(number: int, frame: FrameType | None) -> None:
            heard.append(number)
            signal.default_int_handler(number, frame)

        def watch() -> None:
            with os.fdopen(takes, "rb", buffering=0) as told:
                while (numbers := told.read(64)) and not over.is_set():
                    if signal.SIGINT not in numbers:
                        continue
                    for _ in range(_TIMES):
                        if over.wait(_PATIENCE) or heard:
                            break
                        signal.pthread_kill(main, signal.SIGURG)
                    heard.clear()

        watching = threading.Thread(target=watch, name="npipe-interrupts", daemon=True)
        watching.start()
        urgent = signal.signal(signal.SIGURG, lambda *_: None)  # by itself it would end no sleep
        wakeup = signal.set_wakeup_fd(gives, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.set_wakeup_fd(wakeup)
            over.set()
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # then it is awake, or has ended
                os.write(gives, b"\0")  # the end of what comes is no end where a child has a duplicate
            os.close(gives)
            watching.join()
            signal.signal(signal.SIGURG, urgent)
