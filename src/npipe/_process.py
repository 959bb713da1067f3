"""What belongs to one process, and is no file: what those hear who would give it to another, or to green threads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from npipe.errors import PipeStateError, WinError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["NO_FILE", "check_threads", "refuse_child", "refuse_copy"]

NO_FILE: Final = (
    "a pipe of npipe is no file that a child process can have as its own; give the child subprocess.PIPE and copy, "
    "or let it open the pipe by its name (npipe.connect)"
)

_SUBPROCESS: Final = frozenset({"subprocess", "gevent.subprocess", "eventlet.green.subprocess"})


def refuse_copy(thing: object, instead: str) -> NoReturn:
    """Raise TypeError: `thing` cannot be pickled or copied, and what to do instead. For __reduce__."""
    raise TypeError(f"cannot pickle or copy {type(thing).__name__} objects, which belong to this process: {instead}")


def refuse_child(name: str) -> None:
    """Raise PipeStateError (50) if subprocess asks for a pipe's descriptor: a child could do nothing with it."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - fileno() has no other way to know who asks
    while frame is not None and _module(frame).partition(".")[0] == "npipe":
        frame = frame.f_back
    if frame is not None and _module(frame) in _SUBPROCESS:
        raise PipeStateError(WinError.NOT_SUPPORTED, name, "giving to a child process", NO_FILE)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def check_threads(name: str, doing: str) -> None:
    """Raise PipeStateError (50) where gevent or eventlet has put green threads in the place of those that one needs."""
    who = _green()
    if who is not None:
        detail = (
            f"{who} has put green threads in the place of threads, and one that waits for a pipe would stop them all; "
            "run the server in a process of its own, or do not patch threads (thread=False)"
        )
        raise PipeStateError(WinError.NOT_SUPPORTED, name, doing, detail)


def _green() -> str | None:
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None
