"""Running a test's coroutine on each loop, with nothing that blocks it and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import npipe.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

T = TypeVar("T")

DEADLINE = 30.0
WITH_UVLOOP = sys.platform != "win32" and not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Not for Windows, and there are no wheels of it for a CPython without the lock."""

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]]
if sys.platform == "win32":
    LOOPS = {"asyncio": asyncio.ProactorEventLoop}
    nothing_blocks = contextlib.nullcontext  # CreateFile and the like are calls that Windows may take its time for
else:
    from blockbuster import blockbuster_ctx as nothing_blocks

    LOOPS = {"asyncio": asyncio.SelectorEventLoop}
    if WITH_UVLOOP:
        import uvloop

        LOOPS["uvloop"] = uvloop.new_event_loop

WITH_EAGER = dict(LOOPS)
"""From Python 3.12 on also asyncio's with tasks that begin before create_task returns; not where turns are counted."""


def _with_eager_tasks() -> asyncio.AbstractEventLoop:
    loop = asyncio.SelectorEventLoop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


if sys.version_info >= (3, 12) and sys.platform != "win32":
    WITH_EAGER["eager"] = _with_eager_tasks


def threads() -> int:
    """How many threads this process has, of Python and of the engine."""
    return len(list(Path("/proc/self/task").iterdir()))


def run(main: Coroutine[Any, Any, T], kind: str = "asyncio", *, blocks: bool = False) -> T:
    """Run it under a deadline; a call that blocks the loop raises BlockingError, a task that is left fails.

    `blocks`: the test itself looks at files.
    """

    async def bounded() -> T:
        async with asyncio.timeout(DEADLINE):
            result = await main
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"tasks are left: {left}"
        return result

    watch = contextlib.nullcontext() if blocks else nothing_blocks()
    with watch, asyncio.Runner(loop_factory=WITH_EAGER[kind]) as runner:
        result = runner.run(bounded())
    gc.collect()
    return result


@contextlib.asynccontextmanager
async def pair(name: str, *, connect: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """A server's and a client's end of a connection: both of this process."""
    async with npipe.aio.listen(name, **options) as listener:
        client = await npipe.aio.connect(name, mode=options.get("mode", "message"), **(connect or {}))
        async with client, await listener.accept() as server:
            yield server, client


async def turns(count: int = 3) -> None:
    """Let the other tasks run until they wait."""
    for _ in range(count):
        await asyncio.sleep(0)
