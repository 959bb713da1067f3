"""npipe.win32 as a face: blocking calls, PIPE_NOWAIT, overlapped calls."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe
from tests.integrity import numbered
from tests.integrity.ends import LIMIT, End, Ended, Server

if TYPE_CHECKING:
    import random

    from tests.integrity.plans import Plan


class Canceller:
    """Ends a thread's blocking call after a while, by CancelSynchronousIo."""

    def __init__(self) -> None:
        win32api.GetCurrentThreadId()
        self._target = completion.OpenThread(threading.current_thread())
        self._orders: queue.SimpleQueue[tuple[float, threading.Event] | None] = queue.SimpleQueue()
        self._over = threading.Event()  # the latest call's
        self._cancelling = threading.Lock()  # a call is over before a cancel or after it
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            seconds, over = order
            if over.wait(seconds):
                continue
            with self._cancelling:
                if not over.is_set():
                    with contextlib.suppress(pywintypes.error):  # 1168: it is not blocked
                        completion.CancelSynchronousIo(self._target)

    def cancel_in(self, seconds: float) -> None:
        self._over = threading.Event()
        self._orders.put((seconds, self._over))

    def forget(self) -> None:
        """From now on no cancel comes: it would end whatever the thread does next, a ConnectNamedPipe say."""
        with self._cancelling:
            self._over.set()

    def close(self) -> None:
        self.forget()
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
            if error.winerror != 109:  # it has gone
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


ENDS = {"win32": Win32End, "nowait": NowaitEnd, "overlapped": OverlappedEnd}


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
        return ENDS[self._face](self._plan, self._chance, pipe)

    async def close(self) -> None:
        win32file.CloseHandle(self._listening)


def open_client(plan: Plan, chance: random.Random, name: str, face: str, *, writing: bool) -> End:
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
    return ENDS[face](plan, chance, pipe)
