"""Console events: Ctrl-C and its like, which Linux tells by signals.

SIGINT is CTRL_C_EVENT, SIGQUIT CTRL_BREAK_EVENT, SIGHUP CTRL_CLOSE_EVENT and SIGTERM CTRL_SHUTDOWN_EVENT. Python runs a
signal's handler in its main thread, within waits and blocking calls on pipes as well; they go on afterwards.
"""
# ruff: noqa: N802, N803 - pywin32's names

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["GenerateConsoleCtrlEvent", "SetConsoleCtrlHandler"]

_CTRL_C: Final = 0
_CTRL_BREAK: Final = 1

_lock = threading.Lock()
_handlers: list[Callable[[int], object]] = []  # the last one is asked first
_before: dict[int, Any] = {}  # what a signal did before there was a handler
_ignores_ctrl_c = False


def _events() -> dict[int, int]:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    return {signal.SIGINT: 0, signal.SIGQUIT: 1, signal.SIGHUP: 2, signal.SIGTERM: 6}


def SetConsoleCtrlHandler(ctrlHandler: Callable[[int], object] | None, bAdd: object, /) -> None:
    """SetConsoleCtrlHandler: `ctrlHandler(event)` is called until it is taken away; true: nobody else is asked.

    If none returns true, the signal does what it did before: KeyboardInterrupt for Ctrl-C. None: Ctrl-C is ignored, or
    not any more. Raises 87 (it is no handler of this process's), 50 (the first one comes from another thread than
    Python's main thread, which alone may handle signals).
    """
    global _ignores_ctrl_c
    if ctrlHandler is not None and not callable(ctrlHandler):
        raise TypeError("First argument must be callable")
    with _lock:
        if not bAdd and ctrlHandler is not None and ctrlHandler not in _handlers:
            raise make_error(87, "SetConsoleCtrlHandler")
        if bAdd:
            _take_signals()
        if ctrlHandler is None:
            _ignores_ctrl_c = bool(bAdd)
        elif bAdd:
            _handlers.append(ctrlHandler)
        else:
            _handlers.reverse()
            _handlers.remove(ctrlHandler)
            _handlers.reverse()
        if not _handlers and not _ignores_ctrl_c:
            _give_signals_back()


def _take_signals() -> None:
    if _before:
        return
    if threading.current_thread() is not threading.main_thread():
        text = "Only Python's main thread may handle signals: set the first handler there. See docs/porting.md."
        raise error(50, "SetConsoleCtrlHandler", text)
    for number in _events():
        _before[number] = signal.signal(number, _on_signal)


def _give_signals_back() -> None:
    """Let the signals do what they did; one for which somebody has set a handler since keeps that.

    In another thread than the main one they stay as they are: without handlers they do what they did before anyway.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number, before in _before.items():
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_DFL if before is None else before)
    _before.clear()


def _on_signal(number: int, frame: FrameType | None) -> None:
    event = _events()[number]
    if event == _CTRL_C and _ignores_ctrl_c:
        return
    for handler in reversed(list(_handlers)):
        if handler(event):
            return
    before = _before.get(number, signal.SIG_DFL)
    if callable(before):
        before(number, frame)
    elif before != signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def GenerateConsoleCtrlEvent(controlEvent: int, processGroupId: int, /) -> None:
    """GenerateConsoleCtrlEvent: CTRL_C_EVENT or CTRL_BREAK_EVENT to a process group, 0: this one's.

    Raises 87 (another event, or no such group), 5.
    """
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    if controlEvent not in (_CTRL_C, _CTRL_BREAK):
        raise make_error(87, "GenerateConsoleCtrlEvent")
    try:
        os.killpg(processGroupId, signal.SIGINT if controlEvent == _CTRL_C else signal.SIGQUIT)
    except ProcessLookupError:
        raise make_error(87, "GenerateConsoleCtrlEvent") from None
    except PermissionError:
        raise make_error(5, "GenerateConsoleCtrlEvent") from None
