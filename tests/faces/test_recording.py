"""A process records what its own pipes do: on Linux by the engine, on Windows at the transports (docs/tracing.md)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe import _tapping
from npipe._tapping import Event, Flags, Kind, Tap, Tapped
from npipe.tracing.files import read_trace
from npipe.tracing.own import Recorder
from tests import helpers as h

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

DEADLINE = 20.0


class Recorded(list[Event]):
    """What was recorded of this process, as of now."""

    def __init__(self, snaplen: int = 65536) -> None:
        super().__init__()
        self.recorder = Recorder(self.append, snaplen=snaplen)
        assert self.recorder.code == 0

    def of(self, *, server: bool) -> list[Event]:
        self.recorder.sync()
        return [event for event in self if bool(event.flags & Flags.SERVER) == server]

    def said(self, *, server: bool) -> list[tuple[str, bytes]]:
        """Direction and content of the messages of one end, as they came."""
        return [
            (event.direction, event.data)
            for event in self.of(server=server)
            if event.kind is Kind.DATA and not event.flags & Flags.WITHDRAWN
        ]

    def kinds(self, *, server: bool) -> list[Kind]:
        return [event.kind for event in self.of(server=server)]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    made = Recorded()
    yield made
    made.recorder.close()


def test_a_process_records_both_ends_from_its_start(name: str, child: Callable[..., Child], tmp_path: Path) -> None:
    path = tmp_path / "own-%p.pcapng"
    program = child(
        """
        import sys
        import npipe
        with npipe.listen(sys.argv[1]) as listener, npipe.connect(sys.argv[1]) as client, listener.accept() as server:
            for data in (b"question", b"q" * 30000, b"", bytes(range(256))):
                client.send(data)
                server.send(server.recv() + b"!")
                client.recv()
        print("said", flush=True)
        """,
        name,
        env={"NPIPE_TRACE": str(path), "NPIPE_TRACE_SNAPLEN": "200000"},
    )
    assert program.line() == "said"
    assert program.wait() == 0
    events = list(read_trace(tmp_path / f"own-{program.pid}.pcapng"))
    assert {event.pipe for event in events} == {name}
    assert {event.peer for event in events} == {program.pid} == {event.owner for event in events}
    said = [piece for data in (b"question", b"q" * 30000, b"", bytes(range(256))) for piece in (data, data + b"!")]
    for side in (Flags.SERVER, Flags(0)):
        mine = [event for event in events if event.flags & Flags.SERVER == side]
        assert [event.data for event in mine if event.kind is Kind.DATA] == said
        assert all(event.is_whole for event in mine if event.kind is Kind.DATA)
        assert mine[0].kind is Kind.OPENED
        assert Kind.CLOSED in {event.kind for event in mine}
        assert [event.time for event in mine] == sorted(event.time for event in mine)


def test_messages_are_recorded_whole_however_many_reads_they_took(name: str, recorded: Recorded) -> None:
    with (
        npipe.listen(name, in_buffer_size=1 << 20) as listener,
        npipe.connect(name) as client,
        listener.accept() as server,
    ):
        client.send(b"abcdefgh")
        room = bytearray(3)
        assert [bytes(room[: server.recv_into(room)]) for _ in range(3)] == [b"abc", b"def", b"gh"]
        client.send(b"x" * 100000)
        assert server.recv() == b"x" * 100000
        assert client.peek().available == 0
        assert recorded.said(server=True) == [("in", b"abcdefgh"), ("in", b"x" * 65536)]
        assert [event.size for event in recorded.of(server=True) if event.kind is Kind.DATA] == [8, 100000]
        assert recorded.said(server=False) == [("out", b"abcdefgh"), ("out", b"x" * 65536)]


def test_a_transaction_is_a_message_each_way(name: str, recorded: Recorded) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept() as server:
        answering = threading.Thread(target=lambda: server.send(server.recv(timeout=DEADLINE).upper()))
        answering.start()
        assert client.transact(b"what", timeout=DEADLINE) == b"WHAT"
        answering.join()
        assert recorded.said(server=False) == [("out", b"what"), ("in", b"WHAT")]
        assert recorded.said(server=True) == [("in", b"what"), ("out", b"WHAT")]


def test_bytes_are_recorded_as_they_go(name: str, recorded: Recorded) -> None:
    with (
        npipe.listen(name, mode="byte") as listener,
        npipe.connect(name, mode="byte") as client,
        listener.accept() as server,
    ):
        client.write(b"one")
        client.write(b"two")
        assert server.read(6) == b"onetwo"
        assert b"".join(data for _, data in recorded.said(server=True)) == b"onetwo"
        assert recorded.said(server=False) == [("out", b"one"), ("out", b"two")]
        assert not recorded.of(server=True)[-1].flags & Flags.MESSAGE


def test_a_write_that_is_given_up_is_told_as_withdrawn(name: str, recorded: Recorded) -> None:
    with (
        npipe.listen(name, in_buffer_size=1024) as listener,
        npipe.connect(name) as client,
        listener.accept(),
    ):
        with pytest.raises(npipe.PipeTimeoutError):
            client.send(b"x" * 100000, timeout=0.05)
        withdrawn = [event for event in recorded.of(server=False) if event.flags & Flags.WITHDRAWN]
        assert [event.code for event in withdrawn] == [995]


def test_who_goes_is_told_of(name: str, recorded: Recorded) -> None:
    with npipe.listen(name) as listener:
        client = npipe.connect(name)
        with listener.accept() as server:
            client.send(b"last")
            client.close()
            assert server.recv() == b"last"
            with pytest.raises(npipe.PipeClosedError):
                server.recv(timeout=DEADLINE)
            assert recorded.kinds(server=True)[0] is Kind.OPENED
            h.until(lambda: Kind.GONE in recorded.kinds(server=True), DEADLINE)
        assert recorded.kinds(server=False) == [Kind.OPENED, Kind.DATA, Kind.CLOSED]
        assert recorded.kinds(server=True)[-1] is Kind.CLOSED


def test_pipes_of_an_event_loop_are_recorded(name: str, recorded: Recorded) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, out_buffer_size=1 << 20) as listener:
            client = await npipe.aio.connect(name)
            server = await listener.accept()
            async with client, server:
                await client.send(b"ping")
                assert await server.recv() == b"ping"
                await server.send(b"pong" * 30000)
                assert await client.recv() == b"pong" * 30000
                with pytest.raises(npipe.PipeTimeoutError):
                    await client.recv(timeout=0.01)
                await client.send(b"")
                assert await server.recv() == b""

    asyncio.run(main())
    long = (b"pong" * 30000)[:65536]
    assert recorded.said(server=False) == [("out", b"ping"), ("in", long), ("out", b"")]
    assert recorded.said(server=True) == [("in", b"ping"), ("out", long), ("in", b"")]
    assert recorded.kinds(server=True)[-1] is Kind.CLOSED


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_servers_of_each_model_are_recorded(name: str, recorded: Recorded, model: Any) -> None:
    with npipe.serve(name, bytes.upper, model=model), npipe.connect(name) as client:
        client.send(b"what")
        assert client.recv(timeout=DEADLINE) == b"WHAT"
        assert recorded.said(server=True) == [("in", b"what"), ("out", b"WHAT")]
        assert recorded.said(server=False) == [("out", b"what"), ("in", b"WHAT")]


def test_connections_from_before_and_after_a_recording_are_not_in_it(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as early, listener.accept() as server:
        recorded = Recorded()
        early.send(b"early")
        assert server.recv() == b"early"
        recorded.recorder.close()
        with npipe.connect(name) as late, listener.accept() as other:
            late.send(b"late")
            assert other.recv() == b"late"
    assert recorded == []


def test_two_recordings_each_have_all_with_their_own_snaplen(name: str) -> None:
    first, second = Recorded(), Recorded(snaplen=2)
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept() as server:
        client.send(b"abcd")
        assert server.recv() == b"abcd"
        assert first.said(server=True) == [("in", b"abcd")]
        assert second.said(server=True) == [("in", b"ab")]
        second.recorder.close()
        client.send(b"more")
        assert server.recv() == b"more"
        assert first.said(server=True) == [("in", b"abcd"), ("in", b"more")]
    first.recorder.close()
    assert len(second.said(server=True)) == 1


def test_a_connection_of_an_earlier_recording_is_not_in_a_later_one(name: str) -> None:
    first = Recorded()
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept() as server:
        one = Tapped("x", Flags.MESSAGE, 0)
        first.recorder.close()
        second = Recorded()
        client.send(b"early")
        assert server.recv() == b"early"
        one.wrote(b"early")
        with npipe.connect(name) as late, listener.accept() as other:
            late.send(b"late")
            assert other.recv() == b"late"
        assert second.said(server=True) == [("in", b"late")]
        assert second.said(server=False) == [("out", b"late")]
        second.recorder.close()
    assert {event.pipe for event in second} == {name}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_neither_takes_nor_waits_for_what_is_its_parents(recorded: Recorded) -> None:
    one = Tapped("x", Flags.MESSAGE, 0)
    with recorded.recorder._taking:  # as the recorder's thread has it when it takes something
        one.wrote(b"said")
        child = os.fork()
        if child == 0:
            threading.Timer(DEADLINE, os._exit, (1,)).start()
            recorded.recorder.sync()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ("out", b"said") in recorded.said(server=False)


def test_what_is_told_to_a_recorder_that_has_ended_harms_nobody() -> None:
    asleep = threading.Event()
    recorded = Recorded()
    tap = recorded.recorder._tap  # which a thread may have in its hand when the recorder ends
    wait = tap.wait

    def waits() -> bool:
        there = wait()
        if not there:
            asleep.set()
        return there

    tap.wait = waits  # type: ignore[method-assign]
    one = Tapped("x", Flags.MESSAGE, 0)
    one.wrote(b"said")
    assert asleep.wait(DEADLINE)
    recorded.recorder.close()
    tap._waits = True  # as the reader has left it
    tap.put(Kind.DATA, Flags.OUT, "x", 1, 0)
    assert recorded.said(server=False) == [("out", b"said")]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_program_goes_on_where_recording_cannot_begin(child: Callable[..., Child], tmp_path: Path) -> None:
    program = child(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        import npipe
        print("goes on", flush=True)
        """,
        env={"NPIPE_TRACE": str(tmp_path / "own.pcapng")},
    )
    assert program.line() == "goes on"
    assert program.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no ring that is too small: the engine's is for Linux")
def test_pieces_of_two_messages_between_which_records_were_lost_are_never_told_as_one(name: str) -> None:
    asleep, goes_on = threading.Event(), threading.Event()
    events: list[Event] = []

    def sink(event: Event) -> None:
        events.append(event)
        if event.data == b"stop":
            asleep.set()
            goes_on.wait(DEADLINE)

    with contextlib.closing(Recorder(sink, snaplen=1 << 20)) as recorder:
        server, client = h.connected(name, quota=1 << 20)
        others = h.connected(f"{name}-busy", quota=1 << 20)
        h.write(client, b"1" * 2000)
        h.write(client, b"2" * 2000)

        def carry(data: bytes) -> None:
            h.write(others[1], data)
            assert h.read(others[0]) == (0, data)

        carry(b"stop")
        assert asleep.wait(DEADLINE)
        assert h.read(server, 1000) == (234, b"1" * 1000)
        for size in (1 << 19, 1 << 12, 1):  # until there is no room for anything
            for _ in range(300):
                carry(b"x" * size)
        assert h.read(server, 1000) == (0, b"1" * 1000)
        assert h.read(server, 1000) == (234, b"2" * 1000)
        goes_on.set()
        recorder.sync()
        carry(b"end")  # which is told with how much was lost
        assert h.read(server, 1000) == (0, b"2" * 1000)
        for handle in (server, client, *others):
            handle.close_handle()
    came = [event for event in events if event.kind is Kind.DATA and not event.flags & Flags.OUT]
    assert [event.data for event in came if event.pipe == name] == [b"1" * 1000, b"2" * 1000]
    assert any(event.kind is Kind.LOST for event in events)


@pytest.mark.skipif(sys.platform == "win32", reason="a descriptor has no number there")
def test_a_process_with_more_than_a_thousand_files_is_recorded_while_it_runs(
    name: str, child: Callable[..., Child], tmp_path: Path
) -> None:
    path = tmp_path / "own.pcapng"
    program = child(
        """
        import os, resource, socket, sys
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limit))
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        socket.setdefaulttimeout(0.01)  # which is not the recorder's
        import npipe
        with npipe.listen(sys.argv[1]) as listener, npipe.connect(sys.argv[1]) as client, listener.accept() as server:
            client.send(b"question")
            server.recv()
            print("said", flush=True)
            sys.stdin.read()
        """,
        name,
        env={"NPIPE_TRACE": str(path)},
    )
    assert program.line() == "said"
    h.until(lambda: b"question" in path.read_bytes())
    program.kill()


def test_where_no_thread_can_be_started_nothing_is_recorded_and_nothing_kept(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Recorded().recorder.close()
    before = h.descriptors()

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", start)
        for _ in range(5):  # more than may record at a time
            with pytest.raises(RuntimeError, match="new thread"):
                Recorded()
    assert not _tapping.active()
    if sys.platform != "win32":  # where threads that were never started, and are not collected, have some
        assert h.descriptors() == before
    later = Recorded()
    with npipe.listen(name) as listener, npipe.connect(name) as client, listener.accept() as server:
        client.send(b"said")
        assert server.recv() == b"said"
        assert later.said(server=True) == [("in", b"said")]
    later.recorder.close()


# ---- What transports tell


@pytest.fixture
def tap() -> Iterator[Tap]:
    made = Tap(100, lambda: None, most=1 << 16)
    made.begin()
    yield made
    made.end()


def told(tap: Tap) -> list[tuple[Kind, Flags, int, bytes]]:
    return [(event.kind, event.flags & ~Flags.MESSAGE, event.code, event.data) for event in tap.take()]


def test_a_message_that_its_writer_gives_up_is_told_apart_from_the_next_one(tap: Tap) -> None:
    one = Tapped("x", Flags.MESSAGE, 0)
    one.read(b"", more=True)  # seen, and no more
    one.read(b"half", more=True)
    one.read(b"other", rest=7)
    one.read(b"half", more=True)
    one.read(b"rest", rest=4)
    one.read(b"part", more=True)
    one.gone(109)
    one.gone(109)
    one.closed()
    one.closed()
    first = Flags.FIRST
    assert told(tap) == [
        (Kind.OPENED, Flags(0), 0, b""),
        (Kind.DATA, first | Flags.WITHDRAWN, 995, b"half"),
        (Kind.DATA, first | Flags.LAST, 0, b"other"),
        (Kind.DATA, first | Flags.LAST, 0, b"halfrest"),
        (Kind.DATA, first, 0, b"part"),
        (Kind.GONE, Flags(0), 109, b""),
        (Kind.CLOSED, Flags(0), 0, b""),
    ]


def test_what_finds_no_room_is_lost_and_counted_and_nobody_waits(tap: Tap) -> None:
    one = Tapped("x", Flags.MESSAGE, 0)
    for _ in range(500):
        one.wrote(b"a" * 90)
    kept = len(tap.take())
    assert 100 < kept < 130  # what 64 KiB hold
    assert tap.lost == 501 - kept
    one.wrote(b"b" * 90)
    lost, after = tap.take()
    assert (lost.kind, lost.size, after.data) == (Kind.LOST, 501 - kept, b"b" * 90)
    assert tap.lost == 0


def test_of_a_long_write_no_more_is_kept_than_was_asked_for(tap: Tap) -> None:
    one = Tapped("x", Flags.MESSAGE, 0)
    one.wrote(b"a" * 70, b"b" * 70, memoryview(bytearray(70)))
    one.wrote(b"abcdef", count=4)
    one.withdrew(b"never", code=0)
    events = tap.take()[1:]
    assert [(event.size, event.code, event.data) for event in events] == [
        (210, 0, b"a" * 70 + b"b" * 30),
        (4, 0, b"abcd"),
        (5, 995, b"never"),
    ]


def test_who_waits_is_woken_once(tap: Tap) -> None:
    woken: list[int] = []
    other = Tap(10, lambda: woken.append(1))
    other.begin()
    try:
        assert other.wait() is False
        one = Tapped("x", Flags(0), 0)
        one.wrote(b"a")
        assert woken == [1]
        assert other.wait() is True
    finally:
        other.end()


def test_nobody_is_told_while_nobody_records() -> None:
    def ask() -> int:
        raise AssertionError("who the peer is was asked for")

    assert _tapping.tapped("x", is_server=True, is_message=True, peer=ask) is None


def test_a_connection_that_begins_while_a_tap_does_is_told_from_its_beginning_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new_number: Callable[[], int] = vars(_tapping)["_new_number"]
    made: list[Tapped] = []

    def another_threads_turn() -> int:
        number = new_number()
        monkeypatch.setattr(_tapping, "_new_number", new_number)
        made.append(Tapped("x", Flags.MESSAGE, 0))
        return number

    monkeypatch.setattr(_tapping, "_new_number", another_threads_turn)
    tap = Tap(100, lambda: None)
    tap.begin()
    made.append(Tapped("y", Flags.MESSAGE, 0))
    for one in made:
        one.wrote(b"said")
    tap.end()
    events = tap.take()
    assert {event.connection for event in events if event.kind is Kind.OPENED} == {event.connection for event in events}
    assert [event.pipe for event in events if event.kind is Kind.DATA][-1] == "y"


def test_taps_that_begin_and_end_at_the_same_time_are_all_told_and_then_none() -> None:
    def come_and_go() -> None:
        for _ in range(5000):
            tap = Tap(1, lambda: None)
            tap.begin()
            untold.extend([tap] if tap not in _tapping._taps else [])
            tap.end()

    untold: list[Tap] = []
    h.in_four_threads(come_and_go)
    assert untold == []
    assert not _tapping.active()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_tells_nobody(tap: Tap) -> None:
    one = Tapped("x", Flags.MESSAGE, 0)
    child = os.fork()
    if child == 0:
        one.wrote(b"child")
        os._exit(len(tap.take()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
