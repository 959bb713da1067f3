"""Whose loops are asyncio's default: the policy, and the loops that were there before the door opened."""
# ruff: noqa: SLF001 - what a module of asyncio's knows of the others

from __future__ import annotations

import asyncio
import weakref
from asyncio import events
from typing import Any

from npipe._doors.event_loop import windows_events
from npipe._doors.event_loop.windows_events import IocpProactor, ProactorEventLoop

__all__ = ["Defaults"]

_OURS: Any = (windows_events.WindowsProactorEventLoopPolicy, windows_events.WindowsSelectorEventLoopPolicy)
_System: Any = windows_events.DefaultEventLoopPolicy.__bases__[0]  # the class of this system's default policy
_SystemLoop: Any = asyncio.SelectorEventLoop
_events: Any = events


class Defaults:
    """Windows' defaults for a while.

    A policy is replaced if it is this system's default one, so not uvloop's; it and its replacement have one state,
    the current loop of each thread. The loop that runs in this thread, or is its current one, becomes a Proactor loop
    for the time if it was a default one: on Windows it would always have been that.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    def put(self) -> None:
        """Put them in place."""
        before = self._before = _events._event_loop_policy
        if before is not None and type(before) is not _System:
            return
        _events._event_loop_policy = _with_state_of(before, windows_events.DefaultEventLoopPolicy)
        current = getattr(getattr(before, "_local", None), "_loop", None)
        loops: dict[int, Any] = {id(one): one for one in (events._get_running_loop(), current)}
        for loop in loops.values():
            if type(loop) is _SystemLoop and not loop.is_closed():
                self._convert(loop)

    def _convert(self, loop: Any) -> None:
        loop._proactor = IocpProactor()
        loop._proactor.set_loop(loop)
        loop.__class__ = ProactorEventLoop
        self._loops.append(weakref.ref(loop))

    def put_back(self) -> None:
        """Put back what was there, if a policy of ours is still there."""
        for known in self._loops:
            loop: Any = known()
            if loop is not None and type(loop) is ProactorEventLoop:
                loop.__class__ = _SystemLoop
                loop.__dict__.pop("_proactor").close()
        now = _events._event_loop_policy
        if type(now) not in _OURS:
            return
        before = self._before
        if type(before) is _System:
            vars(before).update(vars(now))
        elif before is None and getattr(now._local, "_loop", None) is not None:
            before = _with_state_of(now, _System)  # the program goes on with its current loop
        _events._event_loop_policy = before


def _with_state_of(policy: Any, kind: Any) -> Any:
    """Return a new policy of a kind that has the state of another one."""
    made = kind()
    if policy is not None:
        vars(made).update(vars(policy))
    return made
