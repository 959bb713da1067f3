"""Exit statuses by kind: what a script can act upon without reading a text."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import click

from npipe.errors import (
    PipeAccessError,
    PipeArgumentError,
    PipeBusyError,
    PipeClosedError,
    PipeError,
    PipeNameError,
    PipeNotFoundError,
    PipeTimeoutError,
    WinError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BAD_DATA",
    "CANNOT",
    "DENIED",
    "DIFFERS",
    "FAILED",
    "INTERRUPTED",
    "LOST",
    "NOT_THERE",
    "STATUSES",
    "TIME_OVER",
    "WRONG_USE",
    "Failure",
    "by_kind",
    "status_of",
]

FAILED: Final = 1
WRONG_USE: Final = 2
NOT_THERE: Final = 3
TIME_OVER: Final = 4
DENIED: Final = 5
LOST: Final = 6
BAD_DATA: Final = 7
DIFFERS: Final = 8
CANNOT: Final = 9
INTERRUPTED: Final = 130

STATUSES: Final = """\b
Exit status:
  0    all is well
  1    another failure
  2    wrong use
  3    nobody is there: no such pipe, nobody listens
  4    the time is over, or all instances are busy
  5    access denied
  6    the other side has gone too early, or something was lost
  7    the data is not in the form that was asked for
  9    it cannot be done here, or with the npipe of the other side
  130  Ctrl-C"""
"""For the help of each command that has them."""

_KINDS: Final[tuple[tuple[type[BaseException], int], ...]] = (
    (PipeNameError, WRONG_USE),
    (PipeArgumentError, WRONG_USE),
    (PipeNotFoundError, NOT_THERE),
    (PipeBusyError, TIME_OVER),
    (PipeTimeoutError, TIME_OVER),
    (PipeAccessError, DENIED),
    (PipeClosedError, LOST),
    (PipeError, FAILED),
    (ConnectionRefusedError, NOT_THERE),
    (FileNotFoundError, NOT_THERE),
    (PermissionError, DENIED),
    (TimeoutError, TIME_OVER),
    (ConnectionError, LOST),
)


class Failure(click.ClickException):
    """A failure with its exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click looks at the instance


_CANNOT: Final = frozenset({WinError.NOT_SUPPORTED, WinError.INVALID_FUNCTION, WinError.REVISION_MISMATCH})


def status_of(error: BaseException) -> int:
    """Return the exit status for an error."""
    if isinstance(error, PipeError) and error.winerror in _CANNOT:
        return CANNOT
    return next((status for kind, status in _KINDS if isinstance(error, kind)), FAILED)


@contextlib.contextmanager
def by_kind() -> Iterator[None]:
    """Turn errors into Failures, with the statuses of their kinds."""
    try:
        yield
    except OSError as error:  # PipeErrors are OSErrors
        text = str(error)
        if not isinstance(error, PipeError):
            text = error.strerror or text or "the time is over"
            if error.filename is not None:
                text += f": {error.filename}"
        raise Failure(text, status_of(error)) from error
