"""Where the table of transports is tried: sockets and pipes, and protocols that write down what happens."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.aio.helpers import WITH_UVLOOP, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

KINDS = ["tcp", "npipe"] if sys.platform == "win32" else ["unix", "tcp", "npipe"]
LOOPS: dict[str, Callable[[], Any]] = {}
if WITH_UVLOOP:
    import uvloop

    class UvLoop(npipe.aio.PipeLoopMixin, uvloop.Loop):  # type: ignore[misc]  # its stubs differ from typeshed
        """uvloop with the two methods."""

    KINDS.append("npipe on uvloop")
    LOOPS["npipe on uvloop"] = UvLoop


class Place:
    """Where a scenario happens: one kind of transport, and what the loop's exception handler was told."""

    def __init__(self, kind: str, address: str) -> None:
        self.kind = kind
        self.address: Any = address
        self.told: list[tuple[str, str]] = []
        self.made: list[Any] = []
        self.server: Any = None

    @property
    def is_pipe(self) -> bool:
        return self.kind.startswith("npipe")

    def run(self, scenario: Callable[[Place], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(self.note)
            async with asyncio.timeout(20):
                await scenario(self)
                for transport in self.made:
                    if not transport.is_closing():
                        transport.abort()
                if self.server is not None:
                    self.server.close()
                await turns(5)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=LOOPS.get(self.kind, npipe.aio.PipeEventLoop)) as runner:
            runner.run(bounded())
        self.made.clear()
        gc.collect()

    def note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.told.append((type(context.get("exception")).__name__, str(context.get("exception"))))

    async def serve(self, factory: Callable[[], Any]) -> Any:
        loop: Any = asyncio.get_running_loop()
        if self.is_pipe:
            [self.server] = await loop.start_serving_pipe(factory, self.address)
        elif self.kind == "unix":
            self.server = await loop.create_unix_server(factory, self.address)
        else:
            self.server = await loop.create_server(factory, "127.0.0.1", 0)
            self.address = self.server.sockets[0].getsockname()[1]
        return self.server

    async def connect(self, factory: Callable[[], Any]) -> tuple[Any, Any]:
        loop: Any = asyncio.get_running_loop()
        if self.is_pipe:
            made = await loop.create_pipe_connection(factory, self.address)
        elif self.kind == "unix":
            made = await loop.create_unix_connection(factory, self.address)
        else:
            made = await loop.create_connection(factory, "127.0.0.1", self.address)
        self.made.append(made[0])
        return made[0], made[1]

    async def pair(self, server: Any, client: Any) -> None:
        """Connect the two protocols; both have had connection_made then."""
        await self.serve(lambda: server)
        await self.connect(lambda: client)
        await until(lambda: server.transport is not None)
        self.made.append(server.transport)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.0005)


class Recorder:
    """Writes down what happens to a protocol; `wrong` raises there, `then` does something there."""

    def __init__(
        self, wrong: str = "", error: type[BaseException] = ZeroDivisionError, **then: Callable[..., Any]
    ) -> None:
        self.events: list[Any] = []
        self.wrong, self.error, self.then = wrong, error, then
        self.transport: Any = None

    def _happens(self, what: str, *details: Any) -> Any:
        self.events.append((what, *details) if details else what)
        if what == self.wrong:
            raise self.error(f"in {what}")
        return self.then[what](self) if what in self.then else None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._happens("connection_made")

    def eof_received(self) -> Any:
        return self._happens("eof_received")

    def pause_writing(self) -> None:
        self._happens("pause_writing")

    def resume_writing(self) -> None:
        self._happens("resume_writing")

    def connection_lost(self, error: BaseException | None) -> None:
        self._happens("connection_lost", type(error).__name__)

    @property
    def is_lost(self) -> bool:
        return any(event[0] == "connection_lost" for event in self.events)


class Data(Recorder):
    """A protocol that subclasses nothing of asyncio's."""

    def data_received(self, data: bytes) -> None:
        if self.events and self.events[-1][0] == "data_received" and not self.then:
            self.events[-1] = ("data_received", self.events[-1][1] + data)  # how it is cut is nobody's promise
        else:
            self._happens("data_received", data)

    @property
    def received(self) -> bytes:
        return b"".join(event[1] for event in self.events if event[0] == "data_received")


class Subclass(Data, asyncio.Protocol):
    """The same as a subclass."""


class Buffered(Recorder, asyncio.BufferedProtocol):
    """A protocol with a buffer of four bytes."""

    def get_buffer(self, sizehint: int) -> Any:
        self.buffer = bytearray(0 if self.wrong == "empty buffer" else 4)
        self._happens("get_buffer")
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._happens("buffer_updated", bytes(self.buffer[:nbytes]))


EAGER = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager_task_factory came with 3.12; make test-pythons")
