"""What every face is here: an end of a connection, and what accepts connections.

All methods are coroutines, so that those of event loops may wait in them. Those of the others never do, and are driven
by `drive`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine

    from tests.integrity.plans import Plan

T = TypeVar("T")

LIMIT = 90.0  # seconds for what should come at once; the runner's own deadline is before it


class Ended(Exception):  # noqa: N818 - no error
    """The peer has closed, and everything is read."""


class Left(Exception):  # noqa: N818
    """A block that is left in its midst: what it was to write is not sent, what it looked at stays."""


class Torn(Exception):  # noqa: N818
    """The connection was closed by a write that was cancelled while the peer had begun to read it (docs/aio.md)."""


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits for an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("a blocking face waited for a loop")


class End:
    """One end of a connection. `patience` is in seconds, None for none."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self.plan, self.chance = plan, chance
        self.message_mode = plan.message_mode
        self.gone_codes = {109}
        if plan.writer_hurry and plan.first == "aio":
            self.gone_codes.add(233)  # see Torn: a server's end disconnects then

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        """Write, and enter into the log what became of it, now or later."""
        raise NotImplementedError

    async def settle(self) -> None:
        """Wait until the log is complete."""

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        """Read up to `size` bytes (0: a whole message); whether the message has more. None: the patience is over."""
        raise NotImplementedError

    async def peek(self, size: int) -> bytes:
        raise NotImplementedError

    async def transact(self, data: bytes, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        raise NotImplementedError

    async def flush(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    async def together(self, works: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        """Do several things at the same time; the first exception of one is raised."""
        if len(works) == 1:
            return [await works[0]]
        results: list[Any] = [None] * len(works)
        errors: list[BaseException] = []

        def run(number: int) -> None:
            try:
                results[number] = drive(works[number])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not errors:
                thread.join(0.05)
        if errors:
            raise errors[0]
        return results


class Server:
    """What accepts connections."""

    async def accept(self) -> End:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def server_options(plan: Plan, *, writing: bool) -> dict[str, Any]:
    return {
        "mode": "message" if plan.message_type else "byte",
        "access": "duplex" if plan.duplex else "outbound" if writing else "inbound",
        "in_buffer_size": plan.quota,
        "out_buffer_size": plan.quota,
    }


def client_options(plan: Plan, *, writing: bool) -> dict[str, Any]:
    return {
        "mode": "message" if plan.message_mode else "byte",
        "access": "duplex" if plan.duplex else "write" if writing else "read",
        "timeout": LIMIT,
    }
