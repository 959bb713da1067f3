"""The entry point of the command `npipe`, outside of the package: Ctrl-C is taken before the package's imports.

For pytest, which may find it imported already (`npipe run -m pytest`): PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import contextlib
import signal
import sys

__all__ = ["main", "take_interrupts"]

_INTERRUPTED = 130


def take_interrupts() -> bool:
    """Let Ctrl-C end this process at once and without a word. False: who has started it wants it ignored."""
    if signal.getsignal(signal.SIGINT) not in (signal.default_int_handler, signal.SIG_DFL):
        return False
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return True


def main() -> int:
    """Run the command; return its exit status.

    Whatever Ctrl-C ends, ends by that signal where there are signals (a shell's status is 130, and its loop ends too).
    """
    takes = take_interrupts()
    try:
        from npipe.cli import main as run

        with contextlib.suppress(ImportError):  # run says what is missing
            import npipe.cli.app  # noqa: F401 - it is what takes the time
        if takes:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        status = run()
        if takes:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    if status == _INTERRUPTED and takes and sys.platform != "win32":
        sys.excepthook = lambda *_: None
        raise KeyboardInterrupt  # what Python ends with by the signal, when it has cleaned up
    return status
