"""Signals' handlers that come between any two steps of a call: where the interpreter lets them come."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class StoppedError(BaseException):
    """What a handler raises."""


class Steps:
    """Calls something in this thread at the beginning of a step: a Python function's, or what is behind a C one.

    The steps of what the collector finds are none of the call's, and what is raised in them nobody gets: it has found
    what there is before the call, and finds nothing during it.
    """

    def __init__(self, step: int, handler: Callable[[], object]) -> None:
        self._left = step
        self._handler = handler
        self.reached = False

    def _look(self, _frame: object, event: str, _argument: object) -> None:
        if event not in {"call", "c_return"}:
            return
        self._left -= 1
        if self._left == 0:
            sys.setprofile(None)
            self.reached = True
            self._handler()

    def __enter__(self) -> Self:
        self._collects = gc.isenabled()
        gc.collect()
        gc.disable()
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        if self._collects:
            gc.enable()


def stop() -> None:
    raise StoppedError


def stopped_at(step: int, call: Callable[[], object]) -> tuple[bool, Any]:
    """Make a call whose so manieth step a handler comes to, and raises: whether there was one, and what it returned."""
    returned = None
    with contextlib.suppress(StoppedError), Steps(step, stop) as steps:
        returned = call()
    return steps.reached, returned


def each_step(try_it: Callable[[int], bool]) -> None:
    """Try something with one step after the other, until there is none."""
    step = 1
    with _only_new_garbage():
        while try_it(step):
            step += 1
    assert step > 5


@contextlib.contextmanager
def _only_new_garbage() -> Iterator[None]:
    """What is there before is nothing that the collector looks at.

    Each step has it collect, and in a process that runs thousands of tests that would take a third of a second each:
    minutes for a call of hundreds of steps.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
