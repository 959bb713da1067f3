"""What the tests of threads share: calls that begin together, and messages that say whose they are."""

from __future__ import annotations

import os
import sysconfig
import threading
from typing import TYPE_CHECKING, Any

import npipe
from tests.helpers import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from npipe.win32 import pywintypes

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
ROUNDS = int(os.environ.get("NPIPE_NOGIL_ROUNDS", "20"))
MANY = ROUNDS * 25
PATIENCE = DEADLINE * float(os.environ.get("NPIPE_NOGIL_PATIENCE", "8"))
GONE = (6, 109, 232, 233)


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What calls in threads of their own return, which begin at the same time."""
    start = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            start.wait(PATIENCE)
            results[index] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread} hangs, after {errors}"
    if errors:
        raise errors[0]
    return results


def times(count: int, call: Callable[[int], Any]) -> list[Callable[[], Any]]:
    """The same call with 0, 1, ... for `together`."""
    return [lambda index=index: call(index) for index in range(count)]  # type: ignore[misc]


def ended_by(error: npipe.PipeError | pywintypes.error, *codes: int) -> None:
    """Fails unless the error has one of these codes."""
    if error.winerror not in codes:
        raise AssertionError(f"expected one of {codes}") from error


def says(error: Exception, text: str) -> None:
    """Fails unless the error's text has this in it."""
    if text not in str(error):
        raise AssertionError(f"expected {text!r}") from error


def body(sender: int, number: int) -> bytes:
    """A message that says whose it is, of another length each time."""
    return b"%d/%d/" % (sender, number) + bytes([sender, number % 251]) * (number % 97)


def until_it_ends(call: Callable[[], Any]) -> None:
    """The call again and again, until the pipe has ended."""
    while True:
        try:
            call()
        except npipe.PipeTimeoutError:
            continue
        except (npipe.PipeClosedError, npipe.PipeStateError) as error:
            ended_by(error, *GONE)
            return
