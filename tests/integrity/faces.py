"""The faces behind one set of methods: whoever writes and reads does it the same way through each.

All methods are coroutines, so that those of event loops may wait in them. Those of the others never do, and are driven
by `drive`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import selectors
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import npipe
import npipe.aio
from npipe import PipeClosedError, PipeTimeoutError
from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe
from tests.integrity import numbered

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from tests.integrity.plans import Plan

T = TypeVar("T")

LIMIT = 90.0  # seconds for what should come at once; the runner's own deadline is before it
LOOPS = ("aio", "stream")
WIN32 = ("win32", "nowait", "overlapped")


class Ended(Exception):  # noqa: N818 - no error
    """The peer has closed, and everything is read."""


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


# ---- npipe


class SyncEnd(End):
    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance)
        self.pipe = pipe

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        try:
            if hasattr(self.pipe, "send"):
                self.pipe.send(data, timeout=patience)
            else:
                assert self.pipe.write(data, timeout=patience) == len(data)
        except PipeTimeoutError:
            log.append(numbered.WITHDRAWN)
        else:
            log.append(numbered.SENT)

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        return self._read(size, patience)

    def _read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        try:
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
        self._make = _sync_end(plan, chance, face, writing=writing)
        self._listener: Any = npipe.listen(name, **_options(plan, writing=writing))

    async def accept(self) -> End:
        return self._make(self._listener.accept(LIMIT))

    async def close(self) -> None:
        self._listener.close()


def _options(plan: Plan, *, writing: bool) -> dict[str, Any]:
    return {
        "mode": "message" if plan.message_type else "byte",
        "access": "duplex" if plan.duplex else "outbound" if writing else "inbound",
        "in_buffer_size": plan.quota,
        "out_buffer_size": plan.quota,
    }


def _client_options(plan: Plan, *, writing: bool) -> dict[str, Any]:
    return {
        "mode": "message" if plan.message_mode else "byte",
        "access": "duplex" if plan.duplex else "write" if writing else "read",
        "timeout": LIMIT,
    }


def _sync_end(plan: Plan, chance: random.Random, face: str, *, writing: bool) -> Callable[[Any], SyncEnd]:
    if face == "file":
        return lambda pipe: FileEnd(plan, chance, pipe, writing=writing)
    kind = SelectorEnd if face == "selectors" else SyncEnd
    return lambda pipe: kind(plan, chance, pipe)


# ---- npipe.win32


class Canceller:
    """Ends a thread's blocking call after a while, by CancelSynchronousIo."""

    def __init__(self) -> None:
        win32api.GetCurrentThreadId()
        self._target = completion.OpenThread(threading.current_thread())
        self._orders: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (seconds := self._orders.get()) is not None:
            if not self._over.wait(seconds):
                with contextlib.suppress(pywintypes.error):  # 1168: it is not blocked
                    completion.CancelSynchronousIo(self._target)

    def cancel_in(self, seconds: float) -> None:
        self._over.clear()
        self._orders.put(seconds)

    def forget(self) -> None:
        """One that was just on its way may still come, and end the next call: who asks for 995 has to expect that."""
        self._over.set()

    def close(self) -> None:
        self._over.set()
        self._orders.put(None)


class Win32End(End):
    """ReadFile and WriteFile on a synchronous handle."""

    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance)
        self.pipe = pipe
        self._cancellers = threading.local()
        self._made: list[Canceller] = []

    def _cancel_in(self, patience: float | None) -> Canceller | None:
        if patience is None:
            return None
        mine: Canceller | None = getattr(self._cancellers, "mine", None)
        if mine is None:
            mine = self._cancellers.mine = Canceller()
            self._made.append(mine)
        mine.cancel_in(patience)
        return mine

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        canceller = self._cancel_in(patience)
        try:
            assert win32file.WriteFile(self.pipe, data) == (0, len(data))
        except pywintypes.error as error:
            if error.winerror != 995:
                raise
            log.append(numbered.WITHDRAWN)
        else:
            log.append(numbered.SENT)
        finally:
            if canceller:
                canceller.forget()

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        size = size or max(self.plan.sizes)
        canceller = self._cancel_in(patience)
        try:
            code, data = win32file.ReadFile(
                self.pipe, win32file.AllocateReadBuffer(size) if self.chance.random() < 0.3 else size
            )
        except pywintypes.error as error:
            if error.winerror in self.gone_codes:
                raise Ended from None
            if error.winerror != 995:
                raise
            return None
        finally:
            if canceller:
                canceller.forget()
        assert code in (0, 234), code
        return bytes(data), code == 234

    async def peek(self, size: int) -> bytes:
        try:
            data: bytes = win32pipe.PeekNamedPipe(self.pipe, size)[0]
        except pywintypes.error as error:
            if error.winerror not in self.gone_codes:
                raise
            return b""
        return data

    async def transact(self, data: bytes, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        canceller = self._cancel_in(patience)
        try:
            code, answer = win32pipe.TransactNamedPipe(self.pipe, data, size or max(self.plan.sizes))
        except pywintypes.error as error:
            if error.winerror != 995:
                raise
            return None
        finally:
            if canceller:
                canceller.forget()
        return bytes(answer), code == 234

    async def flush(self) -> None:
        try:
            win32file.FlushFileBuffers(self.pipe)
        except pywintypes.error as error:
            if error.winerror not in (109, 995):  # it has gone; or see Canceller.forget
                raise

    async def close(self) -> None:
        for canceller in self._made:
            canceller.close()
        win32file.CloseHandle(self.pipe)


class NowaitEnd(Win32End):
    """The same with PIPE_NOWAIT, asked again and again."""

    STEP = 0.0002

    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance, pipe)
        win32pipe.SetNamedPipeHandleState(pipe, (2 if plan.message_mode else 0) | 1, None, None)

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        done = 0
        while done < len(data) or not data:
            _, count = win32file.WriteFile(self.pipe, data[done:])
            done += count
            if not data:
                break
            assert count in (0, len(data)) or not self.plan.message_type, count
            if count == 0:
                await self.pause(self.STEP)
        log.append(numbered.SENT)

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        while True:
            try:
                return await super().read(size, None)
            except pywintypes.error as error:
                if error.winerror != 232:
                    raise
            if patience is not None:
                return None
            await self.pause(self.STEP)


class Pended:
    """An overlapped operation."""

    def __init__(self, way: str, key: int) -> None:
        self.overlapped = win32file.OVERLAPPED()
        self.key, self.code, self.count, self.over = key, 0, 0, False
        self.buffer: Any = None
        if way == "event":
            self.overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)

    def complete(self, code: int, count: int) -> None:
        self.code, self.count, self.over = code, count, True


class OverlappedEnd(End):
    """Several operations at a time; what became of them comes by event, completion port or completion routine."""

    def __init__(self, plan: Plan, chance: random.Random, pipe: Any) -> None:
        super().__init__(plan, chance)
        self.pipe, self.way = pipe, plan.way
        if plan.kind != "stream" and self.way == "port":
            self.way = "event"  # two threads, or a transaction and a read, would take each other's packets
        self._port = win32file.CreateIoCompletionPort(pipe, None, 0, 0) if self.way == "port" else None
        self._writes: deque[tuple[Pended, list[str], int]] = deque()
        self._reads: deque[Pended] = deque()
        self._flying: dict[int, Pended] = {}
        self._keys = 0

    # ---- One operation

    def _begin(self, call: str, what: Any) -> Pended:
        self._keys += 1
        pended = Pended(self.way, self._keys)
        pended.buffer = what
        if self.way == "routine":
            start = completion.ReadFileEx if call == "read" else completion.WriteFileEx
            start(self.pipe, what, pended.overlapped, lambda code, count, _: pended.complete(code, count))
            return pended
        code, _ = (win32file.ReadFile if call == "read" else win32file.WriteFile)(self.pipe, what, pended.overlapped)
        assert code in (0, 234, 997), code
        if self.way == "port":
            pended.overlapped.object = pended
        return pended

    def _await(self, pended: Pended, patience: float | None) -> bool:
        """Wait until it is over; False when the patience is."""
        milliseconds = int(LIMIT * 1000) if patience is None else int(patience * 1000)
        if self.way == "event":
            if win32event.WaitForSingleObject(pended.overlapped.hEvent, milliseconds) != 0:
                assert patience is not None, "an operation has no end"
                return False
            if not pended.over:
                try:
                    pended.complete(0, win32file.GetOverlappedResult(self.pipe, pended.overlapped, False))
                except pywintypes.error as error:
                    # pywin32 does not tell how much of a message was there; InternalHigh does.
                    pended.complete(error.winerror, pended.overlapped.InternalHigh if error.winerror == 234 else 0)
            return True
        end = time.monotonic() + milliseconds / 1000
        while not pended.over:
            left = max(0, int((end - time.monotonic()) * 1000))
            if self.way == "port":
                assert self._port is not None
                code, count, _, overlapped = win32file.GetQueuedCompletionStatus(self._port, left)
                if overlapped is not None:
                    overlapped.object.complete(code, count)
                    continue
            elif completion.SleepEx(left, True) == 192:
                continue
            if not pended.over and time.monotonic() >= end:
                assert patience is not None, "an operation has no end"
                return False
        return True

    def _cancel(self, pended: Pended) -> None:
        try:
            completion.CancelIoEx(self.pipe, pended.overlapped)
        except pywintypes.error as error:
            if error.winerror != 1168:  # it was over
                raise

    # ---- Writing

    async def write(self, data: bytes, patience: float | None, log: list[str]) -> None:
        log.append("")
        self._writes.append((self._begin("write", data), log, len(log) - 1))
        if patience is not None:
            pended, its_log, number = self._writes[self.chance.randrange(len(self._writes))]
            if not its_log[number] and not self._await(pended, patience):
                self._cancel(pended)
            self._account(pended, its_log, number)
        while len(self._writes) >= self.plan.write_depth:
            self._account(*self._writes.popleft())

    def _account(self, pended: Pended, log: list[str], number: int) -> None:
        if log[number]:
            return
        self._await(pended, None)
        assert pended.code in (0, 995), pended.code
        assert pended.code or pended.count == len(pended.buffer), pended.count
        log[number] = numbered.WITHDRAWN if pended.code else numbered.SENT

    async def settle(self) -> None:
        while self._writes:
            self._account(*self._writes.popleft())

    # ---- Reading

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        size = size or max(self.plan.sizes) or 1
        try:
            while len(self._reads) < self.plan.read_depth:
                self._reads.append(self._begin("read", win32file.AllocateReadBuffer(size)))
        except pywintypes.error as error:
            if error.winerror not in self.gone_codes:
                raise
            if not self._reads:
                raise Ended from None
        pended = self._reads[0]
        if not self._await(pended, patience):
            self._cancel(pended)
            self._await(pended, None)
        self._reads.popleft()
        return self._outcome(pended)

    def _outcome(self, pended: Pended) -> tuple[bytes, bool] | None:
        if pended.code in self.gone_codes:
            if self._reads:
                return None  # the others have to say so, too
            raise Ended
        if pended.code == 995:
            assert pended.count == 0
            return None
        assert pended.code in (0, 234), pended.code
        return bytes(memoryview(pended.buffer)[: pended.count]), pended.code == 234

    async def peek(self, size: int) -> bytes:
        try:
            data: bytes = win32pipe.PeekNamedPipe(self.pipe, size)[0]
        except pywintypes.error as error:
            if error.winerror not in self.gone_codes:
                raise
            return b""
        return data

    async def transact(self, data: bytes, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        pended = Pended("event", 0)
        pended.buffer = win32file.AllocateReadBuffer(size or max(self.plan.sizes) or 1)
        way, self.way = self.way, "event"
        try:
            code, _ = win32pipe.TransactNamedPipe(self.pipe, data, pended.buffer, pended.overlapped)
            assert code in (0, 234, 997), code
            if not self._await(pended, patience):
                self._cancel(pended)
                self._await(pended, None)
        finally:
            self.way = way
        return self._outcome(pended)

    async def flush(self) -> None:
        try:
            win32file.FlushFileBuffers(self.pipe)
        except pywintypes.error as error:
            if error.winerror != 109:
                raise

    async def close(self) -> None:
        win32file.CloseHandle(self.pipe)
        if self._port is not None:
            win32file.CloseHandle(self._port)


_ENDS = {"win32": Win32End, "nowait": NowaitEnd, "overlapped": OverlappedEnd}


class Win32Server(Server):
    def __init__(self, plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> None:
        self._plan, self._chance, self._name, self._face, self._writing = plan, chance, name, face, writing
        self._listening = self._create()

    def _create(self) -> Any:
        plan = self._plan
        direction = 3 if plan.duplex else 2 if self._writing else 1
        return win32pipe.CreateNamedPipe(
            self._name,
            direction | (win32file.FILE_FLAG_OVERLAPPED if self._face == "overlapped" else 0),
            (4 if plan.message_type else 0) | (2 if plan.message_mode else 0),
            255,
            plan.quota,
            plan.quota,
            0,
            None,
        )

    async def accept(self) -> End:
        pipe = self._listening
        try:
            if self._face == "overlapped":
                overlapped = win32file.OVERLAPPED()
                overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)
                if win32pipe.ConnectNamedPipe(pipe, overlapped) == 997:
                    assert win32event.WaitForSingleObject(overlapped.hEvent, int(LIMIT * 1000)) == 0
            else:
                win32pipe.ConnectNamedPipe(pipe)
        except pywintypes.error as error:
            if error.winerror != 232:  # the client has left already, and what it wrote is there
                raise
        self._listening = self._create()
        return _ENDS[self._face](self._plan, self._chance, pipe)

    async def close(self) -> None:
        win32file.CloseHandle(self._listening)


def _open(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> End:
    reads, writes = win32file.GENERIC_READ, win32file.GENERIC_WRITE
    access = reads | writes if plan.duplex else writes if writing else reads | win32file.FILE_WRITE_ATTRIBUTES
    flags = win32file.FILE_FLAG_OVERLAPPED if face == "overlapped" else 0
    end = time.monotonic() + LIMIT
    while True:
        try:
            pipe = win32file.CreateFile(name, access, 0, None, win32file.OPEN_EXISTING, flags, None)
            break
        except pywintypes.error as error:
            if error.winerror != 231 or time.monotonic() > end:
                raise
        win32pipe.WaitNamedPipe(name, int(LIMIT * 1000))
    if (plan.message_mode and not writing) or plan.kind != "stream":
        win32pipe.SetNamedPipeHandleState(pipe, 2 if plan.message_mode else 0, None, None)
    return _ENDS[face](plan, chance, pipe)


# ---- npipe.aio


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
            await (self.pipe.send if hasattr(self.pipe, "send") else self.pipe.write)(data, **options)
            return True

        try:
            done = await self._within(patience, write, data)
        except PipeClosedError as error:
            if error.winerror == 109 and numbered.EITHER in log and "cancelled in the moment" in str(error):
                raise Torn from None
            raise
        log.append(numbered.SENT if done else numbered.EITHER)

    async def read(self, size: int, patience: float | None) -> tuple[bytes, bool] | None:
        async def read(size: int, **options: Any) -> tuple[bytes, bool]:
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
        self._listener: Any = npipe.aio.listen(name, **_options(plan, writing=writing))

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


# ---- By name


async def listen(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> Server:
    """Begin to serve a pipe through a face."""
    if face == "stream":
        server = StreamServer(plan, chance)
        await server.listen(name)
        return server
    if face == "aio":
        return AioServer(plan, chance, name, writing=writing)
    return (Win32Server if face in _ENDS else SyncServer)(plan, chance, name, face, writing=writing)


async def connect(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> End:
    """Connect through a face."""
    options = _client_options(plan, writing=writing)
    if face == "stream":
        del options["mode"]
        return StreamEnd(plan, chance, *await npipe.aio.open_stream(name, **options))
    if face == "aio":
        return AioEnd(plan, chance, await npipe.aio.connect(name, **options))
    if face in _ENDS:
        return _open(plan, chance, name, face, writing=writing)
    pipe: Any = npipe.connect(name, **options)
    return _sync_end(plan, chance, face, writing=writing)(pipe)


async def call(plan: Plan, name: str, face: str, request: bytes) -> bytes:
    """Ask once, on a connection for this."""
    if face == "aio":
        return await npipe.aio.call(name, request)
    if face == "win32":
        return win32pipe.CallNamedPipe(name, request, max(plan.sizes), int(LIMIT * 1000))
    return npipe.call(name, request)
