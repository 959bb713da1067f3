"""Whoever read the output of a command may have seen enough: `npipe ls | head`. That is no failure, and no word."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import threading
from typing import TYPE_CHECKING

from npipe.errors import PipeError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["end_command", "nobody_reads"]

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2

if sys.platform == "win32":

    def _is_broken(error: BaseException) -> bool:
        # The C library says EINVAL too.
        return isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EINVAL) and error.filename is None

    def _has_gone(file: int) -> bool:
        try:
            return stat.S_ISFIFO(os.fstat(file).st_mode)  # nothing tells whether anybody reads it
        except OSError:
            return False

else:
    import select

    def _is_broken(error: BaseException) -> bool:
        return isinstance(error, BrokenPipeError) and error.errno == errno.EPIPE

    def _has_gone(file: int) -> bool:
        poll = select.poll()
        poll.register(file, 0)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(0))


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it was made of."""
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def nobody_reads(error: BaseException) -> bool:
    """Whether an error is that nobody reads this process's output any more; what is still written goes nowhere then."""
    if not any(_is_broken(one) and not isinstance(one, PipeError) for one in _behind(error)):
        return False
    gone = [file for file in (_STANDARD_OUTPUT, _STANDARD_ERROR) if _has_gone(file)]
    for file in gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file)
        os.close(nowhere)
    # SystemExit: rich has done the same, and click makes one of every such error.
    return bool(gone) or isinstance(error, SystemExit)


def end_command() -> None:
    """End this command as by Ctrl-C, from a thread that is not the main one."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
