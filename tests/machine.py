"""The machine, which the workers of a test session share, and a test may have alone."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = Path(__file__)
_DOOR = Path(__file__).parent / "conftest.py"

if sys.platform != "win32":
    import fcntl

    @contextlib.contextmanager
    def share(*, alone: bool) -> Iterator[None]:
        """Hold a share of the machine, or all of it, among the workers of this checkout.

        Who wants it alone keeps the door shut while it waits until the others' tests have ended, so it has its turn.
        """
        with _LOCK.open() as lock, _DOOR.open() as door:
            try:
                fcntl.flock(door, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
                fcntl.flock(door, fcntl.LOCK_UN)
                yield
            finally:  # by name: a child that the test has forked may have the descriptors too
                fcntl.flock(door, fcntl.LOCK_UN)
                fcntl.flock(lock, fcntl.LOCK_UN)

else:

    @contextlib.contextmanager
    def share(*, alone: bool) -> Iterator[None]:
        """There are no workers."""
        yield
