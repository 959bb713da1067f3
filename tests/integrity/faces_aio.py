"""npipe.aio as a face: pipes and streams."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import npipe
import npipe.aio
from npipe import PipeClosedError, PipeTimeoutError
from tests.integrity import numbered
from tests.integrity.ends import LIMIT, End, Ended, Left, Server, T, Torn, server_options

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from tests.integrity.plans import Plan


class AioEnd(End):
    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance)
        self.pipe = pipe

    async def _within(self, patience: float | None, call: Callable[..., Coroutine[Any, Any, T]], what: Any) -> T | None:
        """Call it, with a time-out of its own or of asyncio's, or cancelled from outside: None when that was first."""
        if patience is None:
            return await call(what)
        how = self.chance.randrange(3)
        if how == 0:
            try:
                return await call(what, timeout=patience)
            except PipeTimeoutError:
                return None
        if how == 1:
            try:
                async with asyncio.timeout(patience):
                    return await call(what)
            except TimeoutError:
                return None
        task = asyncio.ensure_future(call(what))
        await asyncio.sleep(patience)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        async def write(data: bytes, **options: Any) -> bool:
            if not hasattr(self.pipe, "send"):
                await self.pipe.write(data, **options)
            elif self.chance.random() < 0.5:
                await self.pipe.send(data, **options)
            else:
                await self._send_in_place(data, **options)
            return True

        try:
            done = await self._within(patience, write, data)
        except PipeClosedError as error:
            if error.winerror == 109 and numbered.EITHER in log and "cancelled in the moment" in str(error):
                raise Torn from None
            raise
        log.append(numbered.SENT if done else numbered.EITHER)

    async def _send_in_place(self, data: bytes, **options: Any) -> None:
        if self.chance.random() < 0.1:
            with contextlib.suppress(Left):
                async with self.pipe.reserve(len(data), **options) as view:
                    view[:] = bytes(len(data))
                    raise Left
        spare = self.chance.choice([0, 0, 1, 100])
        reservation = self.pipe.reserve(len(data) + spare, **options)
        async with reservation as view:
            if self.chance.random() < 0.2:
                await asyncio.sleep(0)  # where it may be cancelled
            view[: len(data)] = data
            reservation.shrink(len(data))

    async def _look(self, **options: Any) -> bytes:
        copy = self.chance.random() < 0.3
        while self.chance.random() < 0.1:
            with contextlib.suppress(Left):
                async with self.pipe.recv_view(**options, copy=copy):
                    raise Left
        async with self.pipe.recv_view(**options, copy=copy) as view:
            if self.chance.random() < 0.2:
                await asyncio.sleep(0)
            return bytes(view)

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        async def read(size: int, **options: Any) -> tuple[bytes, bool]:
            if self.message_mode and self.chance.random() < 0.4:  # also the rest of one that was read in part
                return await self._look(**options), False
            if size == 0:
                return await self.pipe.recv(**options), False
            if not self.message_mode and self.chance.random() < 0.5:
                return await self.pipe.read(size, **options), False
            buffer = bytearray(size)
            if not self.message_mode:
                return bytes(buffer[: await self.pipe.readinto(buffer, **options)]), False
            got = await self.pipe.recv_into(buffer, **options)
            return bytes(buffer[:got]), self.pipe.more_data

        try:
            return await self._within(patience, read, size)
        except PipeClosedError as error:
            if error.winerror not in self.gone_codes:
                raise
            raise Ended from None

    async def peek(self, size: int) -> bytes:
        try:
            data: bytes = self.pipe.peek(size).data
        except PipeClosedError as error:
            if error.winerror not in self.gone_codes:
                raise
            return b""
        return data

    async def transact(self, data: bytes, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        async def transact(data: bytes, **options: Any) -> bytes:
            answer: bytes = await self.pipe.transact(data, **options)
            return answer

        answer = await self._within(patience, transact, data)
        return None if answer is None else (answer, False)

    async def flush(self) -> None:
        try:
            await self.pipe.flush()
        except PipeClosedError as error:
            if error.winerror != 109:
                raise

    async def close(self) -> None:
        await self.pipe.close(timeout=None)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def together(self, works: list[Coroutine[Any, Any, Any]]) -> list[Any]:
        return list(await asyncio.gather(*works))


class AioServer(Server):
    def __init__(self, plan: Plan, chance: random.Random, name: str, *, writing: bool) -> None:
        self._plan, self._chance = plan, chance
        self._listener: Any = npipe.aio.listen(name, **server_options(plan, writing=writing))

    async def accept(self) -> End:
        return AioEnd(self._plan, self._chance, await self._listener.accept(LIMIT))

    async def close(self) -> None:
        self._listener.close()


class StreamEnd(AioEnd):
    def __init__(
        self, plan: Plan, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(plan, chance, None)
        self._reader, self._writer = reader, writer

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        self._writer.write(data)
        if self.chance.random() < 0.7:
            await self._writer.drain()
        log.append(numbered.SENT)

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        if self.chance.random() < 0.3 and size <= 65536:
            try:
                return await self._reader.readexactly(size), False
            except asyncio.IncompleteReadError as error:
                if not error.partial:
                    raise Ended from None
                return error.partial, False
        data = await self._reader.read(size)
        if not data:
            raise Ended
        return data, False

    async def flush(self) -> None:
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


class StreamServer(Server):
    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self._plan, self._chance = plan, chance
        self._accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def listen(self, name: str) -> None:
        loop: Any = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            reader = asyncio.StreamReader(loop=loop)
            return asyncio.StreamReaderProtocol(
                reader, lambda reader, writer: self._accepted.put_nowait((reader, writer)), loop=loop
            )

        (self._server,) = await loop.start_serving_pipe(protocol, name)

    async def accept(self) -> End:
        return StreamEnd(self._plan, self._chance, *await self._accepted.get())

    async def close(self) -> None:
        self._server.close()
