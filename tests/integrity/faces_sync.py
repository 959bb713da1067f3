"""npipe as a face: blocking calls, with selectors, as a file."""

from __future__ import annotations

import contextlib
import selectors
from typing import TYPE_CHECKING, Any

import npipe
import npipe.aio
from npipe import PipeClosedError, PipeTimeoutError
from tests.integrity import numbered
from tests.integrity.ends import LIMIT, End, Ended, Left, Server, server_options

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.integrity.plans import Plan


class SyncEnd(End):
    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance)
        self.pipe = pipe

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        try:
            if hasattr(self.pipe, "send"):
                if self.chance.random() < 0.5:
                    self.pipe.send(data, timeout=patience)
                else:
                    self._send_in_place(data, patience)
            else:
                assert self.pipe.write(data, timeout=patience) == len(data)
        except PipeTimeoutError:
            log.append(numbered.WITHDRAWN)
        else:
            log.append(numbered.SENT)

    def _send_in_place(self, data: bytes, patience: float | None) -> None:
        if self.chance.random() < 0.1:
            with contextlib.suppress(Left), self.pipe.reserve(len(data), timeout=patience) as view:
                view[:] = bytes(len(data))
                raise Left
        spare = self.chance.choice([0, 0, 1, 100])
        reservation = self.pipe.reserve(len(data) + spare, timeout=patience)
        with reservation as view:
            view[: len(data)] = data
            reservation.shrink(len(data))

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        return self._read(size, patience)

    def _look(self, patience: float | None) -> bytes:
        copy = self.chance.random() < 0.3
        while self.chance.random() < 0.1:
            with contextlib.suppress(Left), self.pipe.recv_view(timeout=patience, copy=copy):
                raise Left
        with self.pipe.recv_view(timeout=patience, copy=copy) as view:
            return bytes(view)

    def _read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        try:
            if self.message_mode and self.chance.random() < 0.4:  # also the rest of one that was read in part
                return self._look(patience), False
            if size == 0:
                return self.pipe.recv(timeout=patience), False
            if not self.message_mode and self.chance.random() < 0.5:
                return self.pipe.read(size, timeout=patience), False
            buffer = bytearray(size)
            if not self.message_mode:
                return bytes(buffer[: self.pipe.readinto(buffer, timeout=patience)]), False
            got = self.pipe.recv_into(buffer, timeout=patience)
            return bytes(buffer[:got]), self.pipe.more_data
        except PipeTimeoutError:
            return None
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
        try:
            return self.pipe.transact(data, timeout=patience), False
        except PipeTimeoutError:
            return None

    async def flush(self) -> None:
        try:
            self.pipe.flush()
        except PipeClosedError as error:
            if error.winerror != 109:  # the other side has what it wanted, and left
                raise

    async def close(self) -> None:
        self.pipe.close(timeout=None)


class SelectorEnd(SyncEnd):
    _selector: selectors.BaseSelector | None = None

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self._selector.register(self.pipe, selectors.EVENT_READ)
        while True:
            if not self._selector.select(LIMIT if patience is None else patience):
                assert patience is not None, "the selector has never told"
                return None
            got = self._read(size, 0)
            if got is not None:
                return got

    async def close(self) -> None:
        if self._selector is not None:
            self._selector.close()
        await super().close()


class FileEnd(SyncEnd):
    """makefile, with its default buffer: what is written there is the buffer's, and sent when it is full or flushed."""

    def __init__(self, plan: Plan, chance: random.Random, pipe: Any, *, writing: bool) -> None:
        super().__init__(plan, chance, pipe)
        self.file = pipe.makefile("wb" if writing else "rb")

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        assert self.file.write(data) == len(data)
        log.append(numbered.SENT)

    async def flush(self) -> None:
        self.file.flush()

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        how = self.chance.randrange(3)
        if how == 0:
            data = self.file.read(size)
        elif how == 1:
            data = self.file.read1(size)
        else:
            buffer = bytearray(size)
            data = bytes(buffer[: self.file.readinto(buffer)])
        if not data:
            raise Ended
        return data, False

    async def close(self) -> None:
        self.file.close()
        await super().close()


class SyncServer(Server):
    def __init__(self, plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> None:
        self._make = sync_end(plan, chance, face, writing=writing)
        self._listener: Any = npipe.listen(name, **server_options(plan, writing=writing))

    async def accept(self) -> End:
        return self._make(self._listener.accept(LIMIT))

    async def close(self) -> None:
        self._listener.close()


def sync_end(plan: Plan, chance: random.Random, face: str, *, writing: bool) -> Callable[[Any], SyncEnd]:
    if face == "file":
        return lambda pipe: FileEnd(plan, chance, pipe, writing=writing)
    kind = SelectorEnd if face == "selectors" else SyncEnd
    return lambda pipe: kind(plan, chance, pipe)
