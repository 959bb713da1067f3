"""The model of SEMANTICS §0.3 (pipe_model.py) against the engine through npipe.win32, with overlapped calls."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from npipe.win32 import completion, pywintypes, win32api, win32event, win32file, win32pipe
from tests import pipe_model as m

if TYPE_CHECKING:
    from collections.abc import Callable

_numbers = itertools.count()
READ_WRITE = win32file.GENERIC_READ | win32file.GENERIC_WRITE
OVERLAPPED = 0x40000000
QUOTAS = [0, 1, 10, 300, 65536]
SIZES = st.one_of(st.integers(0, 12), st.integers(0, 12), st.integers(0, 320), st.sampled_from([127, 128, 4096, 9000]))
PICK = st.integers(0, 5)
RARELY = st.integers(0, 2)  # at 0: most things happen on what is connected
MOST_UNREAD = 30_000  # what is longer than the ring comes bit by bit, and the model knows no bits
MOST_INSTANCES = 2  # with a limit of their own there are more in vain
MOST_PENDING = 14  # the engine advertises 16 reads


def code_of(call: Callable[[], object]) -> int:
    try:
        call()
    except pywintypes.error as error:
        return int(error.winerror)
    return 0


class Started:
    """An operation of both: the model's, and the OVERLAPPED with its buffer."""

    def __init__(self, end: Live, how: str) -> None:
        self.end = end
        self.how = how  # "event", "port" or "routine"
        self.overlapped = win32file.OVERLAPPED()
        if how == "event":
            self.overlapped.hEvent = win32event.CreateEvent(None, True, True, None)
        self.op: m.Op | None = None
        self.buffer: Any = None
        self.called: list[tuple[int, int]] = []  # by the routine or the port

    def result(self) -> int:
        return win32file.GetOverlappedResult(0, self.overlapped, False)

    def routine(self, code: int, count: int, overlapped: object) -> None:
        assert overlapped is self.overlapped
        self.called.append((code, count))


class Live:
    """A handle and what the model has for it."""

    def __init__(self, handle: Any, end: m.End) -> None:
        self.handle, self.end = handle, end
        self.port = False
        self.transacted = False

    @property
    def alive(self) -> bool:
        return not self.end.closed


class PipeMachine(RuleBasedStateMachine):
    """Every rule does one thing to the engine and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="npipe-model-")
        self.before = os.environ.get("NPIPE_ROOT")
        os.environ["NPIPE_ROOT"] = str(Path(self.root) / "root")
        self.name = rf"\\.\pipe\model-{os.getpid()}-{next(_numbers)}"
        self.number = 0
        self.now = 0
        self.ends: list[Live] = []
        self.started: list[Started] = []
        self.pipe: m.Pipe | None = None
        self.port = win32file.CreateIoCompletionPort(-1, None, 0, 1)

    @initialize(
        message_type=st.booleans(),
        message_mode=st.booleans(),
        most=st.sampled_from([1, 2, 255]),
        out_quota=st.sampled_from(QUOTAS),
        in_quota=st.sampled_from(QUOTAS),
        eager=st.booleans(),
        connected=st.booleans(),
    )
    def make(
        self,
        message_type: bool,
        message_mode: bool,
        most: int,
        out_quota: int,
        in_quota: int,
        eager: bool,
        connected: bool,
    ) -> None:
        self.type = m.MESSAGE if message_type else m.BYTE
        self.most = most
        self.eager = eager  # compare after each step; otherwise only now and then, for to look is to drive
        self.create(message_mode, out_quota, in_quota, False)
        if connected:
            self.open_client(False, message_mode)

    # ---- Choosing

    def _end(self, pick: int) -> Live | None:
        alive = [one for one in self.ends if one.alive]
        return alive[pick % len(alive)] if alive else None

    def _server(self, pick: int) -> Live | None:
        alive = [one for one in self.ends if one.alive and isinstance(one.end, m.Instance)]
        return alive[pick % len(alive)] if alive else None

    def _data(self, size: int) -> bytes:
        self.number += 1
        return (b"%d." % self.number * (size + 1))[:size]

    def _shy(self, live: Live) -> bool:
        """Engine: a NOWAIT write counts a transaction's request that was over the quota although it has been read."""
        return live.transacted and live.end.nowait

    # ---- Starting operations

    def _how(self, live: Live, routine: bool) -> str:
        return "port" if live.port else "routine" if routine else "event"

    def _begin(
        self,
        live: Live,
        how: str,
        expected: Callable[[], m.Op],
        start: Callable[[Started], tuple[int, Any]],
    ) -> None:
        """Start in both, and compare what the start gave."""
        one = Started(live, how)
        code = 0
        try:
            one.op = expected()
        except m.Failure as failed:
            code = failed.code
        if code:
            assert code_of(lambda: self._value(start(one)[0], code)) == code
            if how == "event":
                assert win32event.WaitForSingleObject(one.overlapped.hEvent, 0) == 258
            return
        assert one.op is not None
        given, one.buffer = start(one)
        if how == "routine":
            assert given == (234 if one.op.code == 234 else 0)
        elif one.op.kind == "connect":
            assert given == 997
        elif one.op.kind == "transact" and one.op.code != 997:
            assert given in (997, one.op.code)
        else:
            assert given == one.op.code, (given, one.op)
        self.started.append(one)

    def _value(self, given: int, code: int) -> None:
        """ConnectNamedPipe returns 535 where others raise."""
        if given == code:
            raise pywintypes.error(code, "", "")

    @rule(pick=PICK, size=SIZES, routine=st.booleans())
    def read(self, pick: int, size: int, routine: bool) -> None:
        live = self._end(pick)
        if live is None or (live.end.link is not None and len(live.end.inbound.reads) >= MOST_PENDING):
            return
        how = self._how(live, routine)

        def start(one: Started) -> tuple[int, Any]:
            if how == "routine":
                buffer = bytearray(size)
                return completion.ReadFileEx(live.handle, buffer, one.overlapped, one.routine), buffer
            return win32file.ReadFile(live.handle, size, one.overlapped)

        self._begin(live, how, lambda: live.end.read(size), start)

    @rule(pick=PICK, size=SIZES, routine=st.booleans())
    def write(self, pick: int, size: int, routine: bool) -> None:
        live = self._end(pick)
        if live is None or self._shy(live):
            return
        if live.end.link is not None and live.end.peer_open:
            queue = live.end.outbound
            if queue.unread + size > MOST_UNREAD or len(queue.pending()) > MOST_PENDING:
                return
        data = self._data(size)
        how = self._how(live, routine)

        def start(one: Started) -> tuple[int, Any]:
            if how == "routine":
                completion.WriteFileEx(live.handle, data, one.overlapped, one.routine)
                return 0, None
            return win32file.WriteFile(live.handle, data, one.overlapped)[0], None

        self._begin(live, how, lambda: live.end.write(data), start)

    @rule(pick=PICK, size=st.sampled_from([1, 11, 400]), times=st.integers(1, 3))
    def write_several(self, pick: int, size: int, times: int) -> None:
        for _ in range(times):
            self.write(pick, size, False)

    @rule(pick=PICK, size=st.sampled_from([0, 1, 3, 400]), times=st.integers(1, 3))
    def read_several(self, pick: int, size: int, times: int) -> None:
        for _ in range(times):
            self.read(pick, size, False)

    @rule(pick=PICK, missing=st.integers(0, 2))
    def fill(self, pick: int, missing: int) -> None:
        """Writes up to the quota, less a little."""
        live = self._end(pick)
        if live is not None and live.end.link is not None and live.end.peer_open:
            queue = live.end.outbound
            self.write(pick, max(0, queue.quota - queue.unread - missing), False)

    @rule(pick=PICK, size=st.integers(0, 12), reply=SIZES)
    def transact_on_emptied(self, pick: int, size: int, reply: int) -> None:
        live = self._end(pick)
        if live is not None and live.end.link is not None and self.type == m.MESSAGE:
            if not live.end.pending_io():
                while live.end.inbound.entries:
                    self.read_now(pick, 9000)
            if not live.end.nowait and not live.end.message_mode and not live.end.inbound.reads:
                self.switch_mode(pick, m.READ_MESSAGE)
        self.transact(pick, size, reply)

    @rule(pick=PICK, size=st.integers(0, 12), reply=SIZES)
    def transact(self, pick: int, size: int, reply: int) -> None:
        live = self._end(pick)
        if live is None:
            return
        data = self._data(size)
        live.transacted = True
        how = self._how(live, False)

        def start(one: Started) -> tuple[int, Any]:
            return win32pipe.TransactNamedPipe(live.handle, data, win32file.AllocateReadBuffer(reply), one.overlapped)

        self._begin(live, how, lambda: live.end.transact(data, reply), start)

    @rule(pick=PICK)
    def connect(self, pick: int) -> None:
        live = self._server(pick)
        if live is None:
            return
        self.now += 1
        end = live.end
        assert isinstance(end, m.Instance)
        how = self._how(live, False)

        def start(one: Started) -> tuple[int, Any]:
            return win32pipe.ConnectNamedPipe(live.handle, one.overlapped), None

        self._begin(live, how, lambda: end.connect(self.now), start)

    # ---- Calls without an OVERLAPPED that cannot wait

    @rule(pick=PICK, size=SIZES)
    def read_now(self, pick: int, size: int) -> None:
        live = self._end(pick)
        if live is None:
            return
        end = live.end
        if end.link is not None and end.peer_open and not end.inbound.entries and not end.nowait:
            return
        try:
            op = end.read(size)
        except m.Failure as failed:
            code = failed.code
            assert code_of(lambda: win32file.ReadFile(live.handle, size)) == code
        else:
            assert win32file.ReadFile(live.handle, size) == (op.code, op.data)

    @rule(pick=PICK, size=SIZES)
    def write_now(self, pick: int, size: int) -> None:
        live = self._end(pick)
        if live is None or self._shy(live):
            return
        end = live.end
        data = self._data(size)
        if end.link is not None and end.peer_open and not end.nowait and not end.outbound.fits(data):
            return
        try:
            op = end.write(data)
        except m.Failure as failed:
            code = failed.code
            assert code_of(lambda: win32file.WriteFile(live.handle, data)) == code
        else:
            assert op.code == 0
            assert win32file.WriteFile(live.handle, data) == (0, op.count)

    @rule(pick=PICK)
    def flush(self, pick: int) -> None:
        live = self._end(pick)
        if live is None or not live.end.flushes_at_once():
            return
        dead = live.end.link is None and live.end.side == m.CLIENT
        assert code_of(lambda: win32file.FlushFileBuffers(live.handle)) == (233 if dead else 0)

    @rule(pick=PICK, size=SIZES)
    def peek(self, pick: int, size: int) -> None:
        live = self._end(pick)
        if live is not None:
            self._peek(live, size)

    def _peek(self, live: Live, size: int) -> None:
        try:
            expected = live.end.peek(size)
        except m.Failure as failed:
            code = failed.code
            given = code_of(lambda: win32pipe.PeekNamedPipe(live.handle, size))
            assert given == code or (code == 109 and given == 0)  # engine: what a pended read is about to take counts
        else:
            assert win32pipe.PeekNamedPipe(live.handle, size) == expected

    @rule(pick=PICK, mode=st.sampled_from([0, 0, 2, 2, 1, 3]))
    def switch_mode(self, pick: int, mode: int) -> None:
        live = self._end(pick)
        if live is None or (live.end.link is not None and live.end.inbound.reads and (mode ^ live.end.mode) & 2):
            return  # what a pending read gets when the mode changes is nowhere written
        if mode & 1:
            self.look()  # engine: what is over but not driven yet counts as pending
        code, before = 0, live.end.mode
        try:
            live.end.set_mode(mode)
        except m.Failure as failed:
            code = failed.code
        given = code_of(lambda: win32pipe.SetNamedPipeHandleState(live.handle, mode, None, None))
        if mode & 1 and given == 231:
            live.end.mode = before  # engine: also for a transaction's request that is over the quota
        else:
            assert given == code

    @rule(pick=PICK)
    def state(self, pick: int) -> None:
        live = self._end(pick)
        if live is not None:
            self._state(live)

    def _state(self, live: Live) -> None:
        try:
            expected = live.end.instances()
        except m.Failure as failed:
            code = failed.code
            assert code_of(lambda: win32pipe.GetNamedPipeHandleState(live.handle)) == code
        else:
            mode, instances = win32pipe.GetNamedPipeHandleState(live.handle)[:2]
            assert mode == live.end.mode
            assert instances == expected

    # ---- Cancelling, closing, disconnecting

    @rule(pick=st.integers(0, 20))
    def cancel(self, pick: int) -> None:
        self.look()  # engine: a write that is cancelled before the reader was driven takes back what it had given
        under_way = [one for one in self.started if one.op is not None and one.op.code == 997 and one.end.alive]
        if not under_way:
            return
        one = under_way[pick % len(under_way)]
        assert one.op is not None
        one.end.end.cancel(one.op)
        assert code_of(lambda: completion.CancelIoEx(one.end.handle, one.overlapped)) == 0
        if self.eager:
            assert code_of(lambda: completion.CancelIoEx(one.end.handle, one.overlapped)) == 1168

    @rule(pick=PICK, of_thread=st.booleans())
    def cancel_all(self, pick: int, of_thread: bool) -> None:
        live = self._end(pick)
        if live is None:
            return
        self.look()  # engine: as above
        count = live.end.cancel_all()
        if of_thread:
            win32file.CancelIo(live.handle)
        else:
            assert code_of(lambda: completion.CancelIoEx(live.handle, None)) == (0 if count else 1168)

    @rule(pick=PICK, really=RARELY)
    def close(self, pick: int, really: int) -> None:
        live = self._end(pick)
        if live is None or really:
            return
        live.end.leave()
        win32file.CloseHandle(live.handle)
        if self.pipe is not None and not self.pipe.instances:
            self.pipe = None

    @rule(pick=PICK, really=RARELY)
    def disconnect(self, pick: int, really: int) -> None:
        live = self._server(pick)
        if live is None or really:
            return
        assert isinstance(live.end, m.Instance)
        code = 0
        try:
            live.end.disconnect()
        except m.Failure as failed:
            code = failed.code
        assert code_of(lambda: win32pipe.DisconnectNamedPipe(live.handle)) == code

    # ---- Creating and opening

    @rule(
        message_mode=st.booleans(),
        out_quota=st.sampled_from(QUOTAS),
        in_quota=st.sampled_from(QUOTAS),
        port=st.booleans(),
    )
    def create(self, message_mode: bool, out_quota: int, in_quota: int, port: bool) -> None:
        if self.pipe is not None and len(self.pipe.instances) == MOST_INSTANCES < self.pipe.most:
            return
        mode = m.READ_MESSAGE if message_mode and self.type == m.MESSAGE else 0

        def make() -> Any:
            return win32pipe.CreateNamedPipe(
                self.name, 3 | OVERLAPPED, self.type | mode, self.most, out_quota, in_quota, 0, None
            )

        if self.pipe is not None and len(self.pipe.instances) >= self.pipe.most:
            assert code_of(make) == 231
            return
        if self.pipe is None:
            self.pipe = m.Pipe(self.type, self.most)
        instance = m.Instance(self.pipe, mode, out_quota, in_quota)
        self.now += 1
        instance.since = self.now
        self._add(Live(make(), instance), port)

    def _add(self, live: Live, port: bool) -> None:
        self.ends.append(live)
        if port:
            live.port = True
            win32file.CreateIoCompletionPort(live.handle, self.port, len(self.ends), 0)

    @rule(port=st.booleans(), message_mode=st.booleans())
    def open_client(self, port: bool, message_mode: bool) -> None:
        def make() -> Any:
            return win32file.CreateFile(self.name, READ_WRITE, 0, None, win32file.OPEN_EXISTING, OVERLAPPED, None)

        listening = [one for one in self.pipe.instances if one.listening] if self.pipe is not None else []
        if not listening:
            assert code_of(make) == (2 if self.pipe is None else 231)
            return
        client = min(listening, key=lambda one: one.since).accept()
        live = Live(make(), client)
        self._add(live, port)
        if message_mode and self.type == m.MESSAGE:
            client.set_mode(m.READ_MESSAGE)
            win32pipe.SetNamedPipeHandleState(live.handle, m.READ_MESSAGE, None, None)

    @rule(pick=PICK, port=st.booleans(), message_mode=st.booleans())
    def mend(self, pick: int, port: bool, message_mode: bool) -> None:
        """Whatever has been closed: a connection again."""
        if self.pipe is None:
            self.create(message_mode, 10, 300, port)
        assert self.pipe is not None
        if any(one.link is not None and one.peer_open for one in self.pipe.instances):
            return
        if not any(one.listening for one in self.pipe.instances):
            self.disconnect(pick, 0)
            self.connect(pick)
        self.open_client(port, message_mode)

    # ---- Comparing

    @rule()
    def look(self) -> None:
        """Compare all that was started, and all queues."""
        self._collect()
        for one in self.started:
            self._compare(one)
        self.started = [one for one in self.started if one.op is not None and one.op.code == 997]
        for live in self.ends:
            if live.alive:
                self._peek(live, 3)
                self._state(live)
        self.ends = [live for live in self.ends if live.alive]

    def _collect(self) -> None:
        """Run what is queued to this thread, and take the port's packets."""
        for one in self.started:
            if one.how != "event":  # looking drives it
                code_of(lambda one=one: win32file.GetOverlappedResult(one.end.handle, one.overlapped, False))  # type: ignore[misc]
        win32api.SleepEx(0, True)
        by_overlapped = {id(one.overlapped): one for one in self.started}
        while True:
            code, count, _key, overlapped = win32file.GetQueuedCompletionStatus(self.port, 0)
            if overlapped is None:
                assert code == 258
                return
            by_overlapped[id(overlapped)].called.append((code, count))

    def _compare(self, one: Started) -> None:
        op = one.op
        assert op is not None
        if op.code != 997:
            code_of(one.result)  # engine: 996 while the native thread is just about to complete it
        if op.code == 997:
            assert code_of(lambda: completion.GetOverlappedResultEx(one.end.handle, one.overlapped, 0, False)) == 996, (
                op
            )
            assert not one.called
            if one.how == "event":
                assert win32event.WaitForSingleObject(one.overlapped.hEvent, 0) == 258
            return
        if op.or_code is not None and code_of(one.result):
            op.code, op.count = op.or_code, 0
        if op.kind == "write" and op.code in (109, 233) and code_of(one.result) == 0:
            op.code, op.count = 0, op.size  # a second pending write may count as written, as recorded
        if op.code:
            assert code_of(one.result) == op.code, op
        else:
            assert one.result() == op.count, op
        assert one.overlapped.InternalHigh == op.count, op
        if op.kind in ("read", "transact"):
            assert bytes(one.buffer[: op.count]) == op.data, op
        if one.how == "event":
            assert win32event.WaitForSingleObject(one.overlapped.hEvent, 0) == 0
        else:
            assert one.called == [(op.code, op.count)], op

    @invariant()
    def agree(self) -> None:
        if getattr(self, "eager", False):
            self.look()

    def teardown(self) -> None:
        for live in self.ends:
            if live.alive:
                live.handle.Close()
        win32api.SleepEx(0, True)
        self.port.Close()
        if self.before is None:
            del os.environ["NPIPE_ROOT"]
        else:
            os.environ["NPIPE_ROOT"] = self.before
        shutil.rmtree(self.root, ignore_errors=True)


_LONG = bool(os.environ.get("NPIPE_LONG"))


@pytest.mark.slow
@pytest.mark.timeout(3600 if _LONG else 120)
class TestPipes(PipeMachine.TestCase):  # type: ignore[misc, valid-type]  # made by hypothesis
    settings = settings(
        max_examples=5000 if _LONG else 400,
        derandomize=not _LONG,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
