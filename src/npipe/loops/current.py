"""Which event loop the calling task runs on."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from npipe.loops._asyncio import AsyncioLoop
from npipe.reasons import not_on_a_loop

if TYPE_CHECKING:
    from npipe.loops.base import Loop

__all__ = ["current"]


def current() -> Loop:
    """Return the loop that the calling task runs on. RuntimeError outside of one."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            from npipe.loops._trio import TrioLoop

            return TrioLoop()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise not_on_a_loop() from None
    return AsyncioLoop(loop)
