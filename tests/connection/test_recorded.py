"""Connections are recorded with the process's other pipes (docs/tracing.md)."""

from __future__ import annotations

import mmap
import os
import threading
import traceback
from typing import TYPE_CHECKING

import pytest

import npipe
from npipe._tapping import Event, Flags, Kind, Tapped
from npipe.connection import Client, Listener, Pipe
from npipe.tracing.own import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child


class Recorded(list[Event]):
    """What was recorded of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder(self.append, snaplen=1 << 20)

    def data(self, pipe: str, *, server: bool) -> list[tuple[str, bytes]]:
        self.recorder.sync()
        return [
            (event.direction, event.data)
            for event in self
            if event.kind is Kind.DATA and event.pipe == pipe and bool(event.flags & Flags.SERVER) == server
        ]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    yield made
    made.recorder.close()


def test_both_ends_record_each_message_once(name: str, recorded: Recorded) -> None:
    with Listener(name) as listener:
        answered: list[bytes] = []

        def serve() -> None:
            with listener.accept() as server:
                server.send_bytes(server.recv_bytes() + b"!")
                room = bytearray(100000)
                count = server.recv_bytes_into(room)
                answered.append(bytes(room[:count]))
                server.send({"a": server.recv()})

        serving = threading.Thread(target=serve)
        serving.start()
        with Client(name) as client:
            client.send_bytes(b"short")
            assert client.recv_bytes() == b"short!"
            client.send_bytes(b"long" * 20000)
            client.send([1, bytearray(b"x" * 100000)])
            assert client.recv() == {"a": [1, bytearray(b"x" * 100000)]}
        serving.join()
    mine, its = recorded.data(name, server=False), recorded.data(name, server=True)
    assert [data for _, data in mine] == [data for _, data in its]
    assert [data for _, data in mine[:3]] == [b"short", b"short!", b"long" * 20000]
    assert [way for way, _ in mine] == ["out", "in", "out", "out", "in"]
    assert [way for way, _ in its] == ["in", "out", "in", "in", "out"]
    assert all(b"x" * 100000 in data for _, data in mine[3:])
    assert answered == [b"long" * 20000]
    assert {event.peer for event in recorded} == {os.getpid()}
    said = {event.connection for event in recorded if event.kind is Kind.DATA}
    for number in said:
        kinds = [event.kind for event in recorded if event.connection == number]
        assert kinds[0] is Kind.OPENED
        assert kinds[-1] is Kind.CLOSED


def test_the_end_of_the_other_side_is_told(recorded: Recorded) -> None:
    one, other = Pipe()
    with one:
        other.send_bytes(b"last")
        other.close()
        assert one.recv_bytes() == b"last"
        for _ in range(2):
            with pytest.raises(EOFError):
                one.recv_bytes()
        with pytest.raises(BrokenPipeError):
            one.send_bytes(b"x")
    recorded.recorder.sync()
    mine = [event for event in recorded if event.pipe == "npipe.connection" and event.flags & Flags.SERVER]
    assert [event.kind for event in mine] == [Kind.OPENED, Kind.DATA, Kind.GONE, Kind.CLOSED]
    assert mine[1].data == b"last"


def test_connections_that_have_ended_take_no_memory_of_the_recorder(name: str, recorded: Recorded) -> None:
    with Listener(name) as listener:
        for _ in range(3):
            serving = threading.Thread(target=lambda: listener.accept().close())
            serving.start()
            Client(name).close()
            serving.join()
    recorded.recorder.sync()
    numbers = {event.connection for event in recorded if event.kind is Kind.OPENED}
    assert len(numbers) == 12  # at each end the pipe, and what goes on beside it
    assert {event.connection for event in recorded if event.kind is Kind.CLOSED} == numbers
    assert recorded.recorder._engine._pipes == {}


def test_a_message_is_not_lost_when_there_is_no_memory_to_record_it(child: Callable[..., Child]) -> None:
    program = child(
        """
        import resource
        import threading
        from npipe.connection import Pipe
        from npipe.tracing.own import Recorder

        SIZE = 200 << 20
        recorder = Recorder(lambda event: None, snaplen=100)
        one, other = Pipe()
        data, room = bytearray(SIZE), bytearray(SIZE)
        data[-1] = 7
        sender = threading.Thread(target=one.send_bytes, args=(data,))
        sender.start()
        other.poll(None)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
        print(other.recv_bytes_into(room) == SIZE, room[-1], flush=True)
        sender.join()
        """
    )
    assert program.line() == "True 7"
    assert program.wait() == 0


class HandlerError(Exception):
    pass


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("sends", [True, False])
def test_no_view_of_memory_is_left_where_a_handler_raises(monkeypatch: pytest.MonkeyPatch, *, sends: bool) -> None:
    """In the traceback's frames it would be one of memory that somebody has freed meanwhile."""

    def raises(*_: object, **__: object) -> None:
        raise HandlerError

    one, other = Pipe()
    with one, other, mmap.mmap(-1, 4096) as memory:
        memory[:] = b"a" * 4096
        if not sends:
            one.send_bytes(b"b" * 4096)
        monkeypatch.setattr(Tapped, "_put", raises)
        with pytest.raises(HandlerError) as caught:
            if sends:
                one.send_bytes(memory)
            else:
                other.recv_bytes_into(memory)
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        values = [value for frame in frames for value in frame.f_locals.values()]
        values += [part for value in values if isinstance(value, (list, tuple)) for part in value]
        assert not [value for value in values if isinstance(value, memoryview) and value.obj is None]
        monkeypatch.undo()
        assert other.recv_bytes() == (b"a" if sends else b"b") * 4096


def test_what_a_connection_moves_is_counted() -> None:
    before = npipe.stats().connections
    one, other = Pipe()
    room = bytearray(100)
    with one, other:
        one.send_bytes(b"12345")
        assert other.recv_bytes() == b"12345"
        one.send_bytes(b"123")
        assert other.recv_bytes_into(room) == 3
        other.send_bytes(b"x" * 30000)
        assert one.recv_bytes() == b"x" * 30000
        assert one.poll() is False
        assert one.stats == npipe.Totals(1, 1, 30000, 1, 8, 2, 0)
        # A long message is not sent at once.
        assert other.stats == npipe.Totals(1, 1, 8, 2, 30000, 1, 1)
        now = npipe.stats().connections
        assert (now.connected - before.connected, now.connections - before.connections) == (2, 2)
    assert one.stats.connected == 0
    assert one.stats.bytes_received == 30000
    del one, other
    after = npipe.stats().connections
    assert (after.connected, after.connections - before.connections) == (before.connected, 2)
    assert (after.bytes_received - before.bytes_received, after.messages_sent - before.messages_sent) == (30008, 3)


def test_a_forked_child_counts_from_zero() -> None:
    one, other = Pipe()
    with one, other:
        one.send_bytes(b"parent's")
        child = os.fork()
        if child == 0:
            other.recv_bytes()
            moved = npipe.stats().connections
            os._exit(int((moved.bytes_received, moved.bytes_sent) != (8, 0)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
