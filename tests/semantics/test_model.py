"""The model of SEMANTICS §0.3 against the engine: one pipe, one connection at a time, nothing that waits."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from npipe.errors import PipeError
from tests import helpers as h

_numbers = itertools.count()
SIDES = st.sampled_from(["server", "client"])
SIZES = st.one_of(st.integers(0, 12), st.integers(0, 300), st.sampled_from([127, 128, 4096, 16383, 16384, 66000]))
Outcome = tuple[int, bytes]


class Queue:
    """One direction: entries (message boundaries kept), and how much of the head has been read."""

    def __init__(self, quota: int, *, message_type: bool) -> None:
        self.quota = quota
        self.message_type = message_type
        self.entries: list[bytes] = []

    @property
    def unread(self) -> int:
        return sum(map(len, self.entries))

    def write(self, data: bytes) -> bool:
        """Whether the write is complete at once; if not, nothing is queued."""
        if data and self.unread + len(data) > self.quota:
            return False
        if data or self.message_type:
            self.entries.append(data)
        return True

    def read(self, size: int, *, message_mode: bool) -> Outcome | None:
        """(code, data); None when it would wait."""
        if not self.entries:
            return None
        if message_mode:
            head = self.entries.pop(0)
            if size < len(head):
                self.entries.insert(0, head[size:])
                return 234, head[:size]
            return 0, head
        if size == 0:
            if not self.entries[0]:
                self.entries.pop(0)
            return 0, b""
        got = b""
        while self.entries and len(got) < size:
            part = self.entries[0][: size - len(got)]
            rest = self.entries[0][len(part) :]
            got += part
            if rest:
                self.entries[0] = rest
            else:
                self.entries.pop(0)
        return 0, got

    def peek(self, size: int) -> tuple[bytes, int, int]:
        if self.message_type:
            head = self.entries[0] if self.entries else b""
            return head[:size], self.unread, len(head) - min(size, len(head))
        seen = b"".join(self.entries)[:size]
        return seen, self.unread, (1 << 32) - len(seen) if seen else 0


class PipeMachine(RuleBasedStateMachine):
    """Every rule does one thing to the engine and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(prefix="npipe-model-")
        self.before = os.environ.get("NPIPE_ROOT")
        os.environ["NPIPE_ROOT"] = str(Path(self.root) / "root")
        self.name = f"model-{os.getpid()}-{next(_numbers)}"
        self.number = 0
        self.handles: dict[str, h.Handle] = {}
        self.modes = {"server": 0, "client": 0}

    @initialize(
        message_type=st.booleans(),
        in_quota=st.sampled_from([0, 1, 10, 300, 65536]),
        out_quota=st.sampled_from([0, 1, 10, 300, 65536]),
        message_mode=st.booleans(),
    )
    def make(self, message_type: bool, in_quota: int, out_quota: int, message_mode: bool) -> None:
        self.message_type = message_type
        self.quotas = {"client": in_quota, "server": out_quota}  # by writer
        self.modes["server"] = h.READ_MESSAGE if message_type and message_mode else 0
        self._create()

    def _create(self) -> None:
        self.handles["server"] = h.create(
            self.name,
            type=h.MESSAGE if self.message_type else h.BYTE,
            mode=self.modes["server"],
            in_quota=self.quotas["client"],
            out_quota=self.quotas["server"],
        )
        self.state = "listening"
        self.client_state = "none"
        self._connect_client()

    def _connect_client(self) -> None:
        self.handles["client"] = h.open_client(self.name)
        self.modes["client"] = 0
        self.state = "connected"
        self.client_state = "open"
        self.queues = {side: Queue(self.quotas[side], message_type=self.message_type) for side in ("server", "client")}

    # ---- What an operation of a side may do now

    def _alive(self, side: str) -> bool:
        return self.state != "closed" if side == "server" else self.client_state == "open"

    def _trouble(self, side: str) -> int:
        """The code of reads in this state: 0 connected, 109 the peer has closed, 233, 536."""
        if side == "server":
            if self.state == "connected":
                return 0 if self.client_state == "open" else 109
            return {"listening": 536, "disconnected": 233}[self.state]
        return {"connected": 0, "closed": 109}.get(self.state, 233) if not self.dead_client else 233

    dead_client = False

    def _other(self, side: str) -> str:
        return "client" if side == "server" else "server"

    # ---- Rules

    @rule(side=SIDES, size=SIZES)
    def write(self, side: str, size: int) -> None:
        if not self._alive(side):
            return
        self.number += 1
        data = (b"%d." % self.number * (size + 1))[:size]
        trouble = self._trouble(side)
        nowait = self.modes[side] & h.NOWAIT
        if trouble:
            assert h.code_of(lambda: h.write(self.handles[side], data, 0)) == (232 if trouble == 109 else trouble)
        elif self.queues[side].write(data):
            assert h.write(self.handles[side], data, 0) == size
        elif nowait:
            assert h.write(self.handles[side], data, 0) == 0
        else:
            assert h.would_wait(lambda: h.write(self.handles[side], data, 0))

    @rule(side=SIDES, missing=st.integers(0, 2))
    def fill(self, side: str, missing: int) -> None:
        """Writes up to the quota, less a little."""
        if self._alive(side) and self._trouble(side) == 0:
            self.write(side, max(0, self.quotas[side] - self.queues[side].unread - missing))

    @rule(side=SIDES, size=st.sampled_from([1, 11, 400, 66_000, 100_000]), then=st.integers(0, 12))
    def write_in_vain(self, side: str, size: int, then: int) -> None:
        """A write that waits a moment and is withdrawn must leave no trace."""
        if not self._alive(side) or self._trouble(side) or self.modes[side] & h.NOWAIT:
            return
        if size and self.queues[side].unread + size > self.quotas[side]:
            assert h.code_of(lambda: h.write(self.handles[side], b"!" * size, 0.0005)) == 121
            self.write(side, then)

    @rule(side=SIDES, size=SIZES)
    def read(self, side: str, size: int) -> None:
        if not self._alive(side):
            return
        trouble = self._trouble(side)
        expected: int | Outcome
        if trouble in (0, 109):
            got = self.queues[self._other(side)].read(size, message_mode=bool(self.modes[side] & h.READ_MESSAGE))
            expected = got if got is not None else trouble or (232 if self.modes[side] & h.NOWAIT else 121)
        else:
            expected = trouble
        try:
            result: int | Outcome = h.read(self.handles[side], size, 0)
        except PipeError as error:
            result = error.winerror
        assert result == expected

    @rule(side=SIDES)
    def read_everything(self, side: str) -> None:
        for _ in range(20):
            self.read(side, 200_000)

    @rule(side=SIDES, size=SIZES)
    def peek(self, side: str, size: int) -> None:
        if not self._alive(side):
            return
        trouble = self._trouble(side)
        queue = self.queues[self._other(side)]
        if trouble == 109 and queue.entries:
            trouble = 0
        if side == "server" and trouble in (233, 536):
            trouble = 230
        if trouble:
            assert h.code_of(lambda: self.handles[side].peek_pipe(size)) == trouble
        else:
            assert self.handles[side].peek_pipe(size) == queue.peek(size)

    @rule(side=SIDES, mode=st.integers(0, 3))
    def switch_mode(self, side: str, mode: int) -> None:
        if not self._alive(side):
            return
        dead = side == "client" and self._trouble("client") == 233
        code = 233 if dead else 87 if mode & h.READ_MESSAGE and not self.message_type else 0
        assert h.code_of(lambda: self.handles[side].set_state(mode)) == code
        if code == 0:
            self.modes[side] = mode
            assert self.handles[side].get_state()[0] == mode

    @rule(side=SIDES)
    def flush(self, side: str) -> None:
        if not self._alive(side):
            return
        trouble = self._trouble(side)
        expected = 233 if trouble == 233 and side == "client" else 0
        if trouble == 0 and self.queues[side].entries:
            expected = 121
        assert h.code_of(lambda: self.handles[side].flush_buffers(0)) == expected

    @precondition(lambda self: self.client_state == "open")
    @rule()
    def close_client(self) -> None:
        self.handles["client"].close_handle()
        self.client_state = "closed"
        if self.state == "connected":
            self.queues["server"].entries.clear()

    @rule()
    def disconnect(self) -> None:
        if self.state == "closed":
            return
        assert h.code_of(self.handles["server"].disconnect) == (233 if self.state == "disconnected" else 0)
        if self.state == "connected":
            self.dead_client = True
        self.state = "disconnected"
        for queue in self.queues.values():
            queue.entries.clear()

    @rule()
    def connect(self) -> None:
        if self.state == "closed":
            return
        waits = 536 if self.modes["server"] & h.NOWAIT else 121
        gone = self.state == "connected" and self.client_state != "open"
        expected = 232 if gone else 0 if self.state == "connected" else waits
        assert h.code_of(lambda: self.handles["server"].connect(0)) == expected
        if self.state == "disconnected":
            self.state = "listening"

    @rule()
    def open_client(self) -> None:
        if self.state != "listening":
            assert h.code_of(lambda: h.open_client(self.name)) == (2 if self.state == "closed" else 231)
            return
        if self.client_state == "open":
            self.handles["client"].close_handle()  # a dead one's close touches nothing
        self.dead_client = False
        self._connect_client()

    @rule()
    def close_server_and_create_anew(self) -> None:
        if self.state == "closed":
            if self.client_state == "open":
                self.handles["client"].close_handle()
            self.dead_client = False
            self._create()
            return
        self.handles["server"].close_handle()
        if self.state == "connected":
            self.queues["client"].entries.clear()
        self.state = "closed"

    @rule()  # no invariant: even a peek moves the engine on, and what was not looked at must be right too
    def look_at_both(self) -> None:
        for side in ("server", "client"):
            if side in self.handles and self._alive(side) and self._trouble(side) == 0:
                assert self.handles[side].peek_pipe()[1] == self.queues[self._other(side)].unread

    def teardown(self) -> None:
        for handle in self.handles.values():
            handle.close_handle()
        if self.before is None:
            del os.environ["NPIPE_ROOT"]
        else:
            os.environ["NPIPE_ROOT"] = self.before
        shutil.rmtree(self.root, ignore_errors=True)


_LONG = bool(os.environ.get("NPIPE_LONG"))


@pytest.mark.slow
@pytest.mark.timeout(3600 if _LONG else 120)
class TestPipe(PipeMachine.TestCase):  # type: ignore[misc, valid-type]  # made by hypothesis
    settings = settings(
        max_examples=3000 if _LONG else 150,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
