"""Going through a call step by step in callbacks of asyncio's loop, without a task that the program could cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator
    from contextvars import Context

__all__ = ["Steps"]


class Steps:
    """One call of a pipe or a listener, under way.

    A task would be in asyncio.all_tasks(), which programs cancel when they end, would be made by the loop's task
    factory, and would need a turn of the loop to end. This ends in the callback that brings its result, and `drop`
    ends it at once. `done` gets it then, but not if `start` has returned True.
    """

    __slots__ = ("_call", "_context", "_done", "_loop", "_waiting", "error", "result")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Awaitable[Any],
        done: Callable[[Any], object],
        context: Context | None = None,
    ) -> None:
        self._loop = loop
        self._call: Generator[Any, Any, Any] | None = call.__await__()
        self._done = done
        self._context = context
        self.result: Any = None
        self.error: BaseException | None = None

    def start(self) -> bool:
        """Whether it is over at once, with `result` or `error`."""
        return self._step()

    def _step(self) -> bool:
        if self._call is None:
            return False  # dropped
        try:
            waits: Any = next(self._call)
        except StopIteration as stop:
            self.result = stop.value
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - it is for whoever has asked
            self.error = error
        else:
            if waits is None:
                self._loop.call_soon(self._go_on, context=self._context)
            else:
                waits._asyncio_future_blocking = False  # noqa: SLF001 - what a task does
                waits.add_done_callback(self._go_on, context=self._context)
            return False
        self._call = None
        return True

    def _go_on(self, _: object = None) -> None:
        if self._step():
            self._done(self)

    def drop(self) -> None:
        """End it, as a cancelled call ends; `done` is not called."""
        call, self._call = self._call, None
        if call is not None:
            call.close()
