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
    from collections.abc import Iterator, Mapping

__all__ = [
    "BAD_DATA",
    "CANNOT",
    "DENIED",
    "DIFFERS",
    "FAILED",
    "INTERRUPTED",
    "LOST",
    "MEANINGS",
    "NOT_THERE",
    "STATUSES",
    "TIME_OVER",
    "WRONG_USE",
    "Failure",
    "by_kind",
    "status_of",
    "statuses",
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

MEANINGS: Final[Mapping[int, str]] = {
    0: "all is well",
    FAILED: "another failure",
    WRONG_USE: "wrong use",
    NOT_THERE: "nobody is there: no such pipe, nobody listens",
    TIME_OVER: "the time is over, or all instances are busy",
    DENIED: "access denied",
    LOST: "the other side has gone too early, or something was lost",
    BAD_DATA: "the data is not in the form that was asked for",
    DIFFERS: "an answer is another one than was recorded",
    CANNOT: "it cannot be done here, or with the npipe of the other side",
    INTERRUPTED: "Ctrl-C",
}
"""What each of them says."""

_ALL: Final = frozenset({0, FAILED, WRONG_USE, INTERRUPTED})  # commands may end with these


def statuses(*kinds: int, saying: Mapping[int, str] | None = None) -> str:
    """Return the lines of a command's help that tell its exit statuses: 0, 1, 2, 130, and these kinds.

    `saying` has another text for some, where the command can tell more of them.
    """
    saying = saying or {}
    told = {status: saying.get(status, MEANINGS[status]) for status in sorted(_ALL.union(kinds, saying))}
    return "\b\nExit status:\n" + "\n".join(f"  {status:<4} {text}" for status, text in told.items())


STATUSES: Final = statuses(NOT_THERE, TIME_OVER, DENIED, LOST, BAD_DATA, CANNOT)
"""For the help of each command that has all of them but one."""

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
