"""Tracing a running server: what it records is what was sent, in order, and nobody waits for it (docs/tracing.md)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.cli import main
from npipe.errors import PipeAccessError, PipeBusyError, PipeNotFoundError, PipeTimeoutError
from npipe.tracing.attach import Tracer
from npipe.tracing.events import Event, Flags, Kind
from npipe.win32 import completion, pywintypes, win32con, win32event, win32file, win32pipe
from tests import helpers as h
from tests.rendezvous import MAGIC, VERSION, dial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Child

TRACE = 6


def taken(tracer: Tracer, is_last: Callable[[Event], bool]) -> list[Event]:
    """Return what is recorded until `is_last` of an event."""
    events: list[Event] = []
    for event in tracer.events(4 * h.DEADLINE):
        events.append(event)
        if is_last(event):
            return events
    raise AssertionError(f"only {len(events)} events in time, the last ones {events[-5:]}")


def after(count: int, direction: str = "out") -> Callable[[Event], bool]:
    """The `count`-th message in that direction is the last event."""
    left = [count]

    def is_last(event: Event) -> bool:
        left[0] -= event.kind is Kind.DATA and event.direction == direction and Flags.LAST in event.flags
        return left[0] == 0

    return is_last


def saying(data: bytes) -> Callable[[Event], bool]:
    """A message with that content is the last event."""
    return lambda event: event.data == data


def messages(events: list[Event], direction: str, connection: int | None = None) -> list[bytes]:
    return [
        event.data
        for event in events
        if event.kind is Kind.DATA
        and event.direction == direction
        and (connection is None or event.connection == connection)
    ]


@contextlib.contextmanager
def echoing(name: str, **options: object) -> Iterator[None]:
    """A server in this process that sends each message back, doubled."""
    listener = npipe.listen(name, **options)  # type: ignore[call-overload]

    def serve(pipe: npipe.MessagePipe) -> None:
        with pipe, contextlib.suppress(npipe.PipeError):
            while True:
                pipe.send(pipe.recv() * 2)

    def accept() -> None:
        with contextlib.suppress(npipe.PipeError):
            while True:
                threading.Thread(target=serve, args=(listener.accept(),), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.close()
        thread.join(h.DEADLINE)


def test_a_trace_has_what_was_sent_from_then_on_and_nothing_before(name: str) -> None:
    sent = [b"", b"a", bytes(range(256)), b"x" * 70000, b"y" * 300000, b"end"]
    with echoing(name), npipe.connect(name) as client:
        client.send(b"before")
        client.recv()
        with Tracer([name], snaplen=1 << 20) as tracer:
            for data in sent:
                client.send(data)
                assert client.recv() == data * 2
            events = taken(tracer, after(len(sent)))
            assert events[0].kind is Kind.PRESENT
            assert messages(events, "in") == sent
            assert messages(events, "out") == [data * 2 for data in sent]
            assert all(event.peer == os.getpid() for event in events)
            assert all(event.is_whole for event in events if event.kind is Kind.DATA)
            kinds = [event.direction for event in events if event.kind is Kind.DATA]
            assert kinds == ["in", "out"] * len(sent)
            assert tracer.lost == 0


def test_connections_that_open_and_close_are_told_of(name: str) -> None:
    closed: list[Event] = []

    def closed_twice(event: Event) -> bool:
        closed.extend([event] if event.kind is Kind.CLOSED else [])
        return len(closed) == 2

    with echoing(name), Tracer([name]) as tracer:
        for data in (b"one", b"two"):
            with npipe.connect(name) as client:
                client.send(data)
                client.recv()
        events = taken(tracer, closed_twice)
        numbers = {event.connection for event in events if event.kind is Kind.OPENED}
        assert len(numbers) == 2
        assert sorted(messages(events, "in", number)[0] for number in numbers) == [b"one", b"two"]


def test_what_many_threads_send_is_recorded_in_each_ones_order(name: str) -> None:
    count, each = 6, 300
    with echoing(name), Tracer([name], ring_size=1 << 24) as tracer:

        def talk(number: int) -> None:
            with npipe.connect(name) as client:
                for i in range(each):
                    client.send(b"%d %d" % (number, i))
                    assert client.recv() == b"%d %d" % (number, i) * 2

        threads = [h.started(talk, number) for number in range(count)]
        events = taken(tracer, after(count * each))
        for thread in threads:
            thread.result()
        for connection in {event.connection for event in events}:
            got = messages(events, "in", connection)
            number = int(got[0].split()[0])
            assert got == [b"%d %d" % (number, i) for i in range(each)]
            assert messages(events, "out", connection) == [data * 2 for data in got]


def test_a_byte_pipe_is_recorded_byte_by_byte(name: str) -> None:
    data = os.urandom(500000)
    with npipe.listen(name, mode="byte") as listener, npipe.connect(name, mode="byte") as client:
        with listener.accept() as server, Tracer([name], snaplen=1 << 20) as tracer:
            writer = h.started(client.write, data)
            got = b""
            while len(got) < len(data):
                got += server.read(7001)
            writer.result()
            server.write(b"answer")
            events = taken(tracer, saying(b"answer"))
            assert b"".join(messages(events, "in")) == got == data


def test_views_and_reservations_are_recorded_too(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client:
        with listener.accept() as server, Tracer([name]) as tracer:
            client.send(b"in place")
            with server.recv_view() as view:
                assert bytes(view) == b"in place"
            with server.reserve(10) as place:
                place[:] = b"0123456789"
            with server.reserve(10) as reservation:
                reservation[:4] = b"left"
            events = taken(tracer, after(2))
            assert messages(events, "in") == [b"in place"]
            assert messages(events, "out")[0] == b"0123456789"
            assert client.recv() == b"0123456789"
            assert client.recv() == messages(events, "out")[1]


def test_a_view_that_is_given_back_is_recorded_when_it_is_read(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client:
        with listener.accept() as server, Tracer([name]) as tracer:
            client.send(b"once")
            with pytest.raises(KeyError), server.recv_view():
                raise KeyError
            assert server.recv() == b"once"
            server.send(b"done")
            events = taken(tracer, saying(b"done"))
            assert messages(events, "in") == [b"once"]


def test_a_message_that_is_withdrawn_is_recorded_as_such(name: str) -> None:
    with npipe.listen(name, out_buffer_size=1000) as listener, npipe.connect(name) as client:
        with listener.accept() as server, Tracer([name]) as tracer:
            with pytest.raises(PipeTimeoutError):
                server.send(b"w" * 500000, timeout=0.05)
            server.send(b"after")
            assert client.recv() == b"after"
            events = taken(tracer, saying(b"after"))
            withdrawn = [event for event in events if event.flags & Flags.WITHDRAWN]
            assert [(event.code, event.direction) for event in withdrawn] == [(995, "out")]


def test_an_aio_server_is_traced_as_any(name: str) -> None:
    async def main() -> list[Event]:
        async with npipe.aio.listen(name) as listener:
            client = await npipe.aio.connect(name)
            server = await listener.accept()
            with Tracer([name], snaplen=1 << 20) as tracer:
                for data in (b"short", b"l" * 200000):
                    sending = asyncio.create_task(client.send(data))
                    assert await server.recv() == data
                    await sending
                    sending = asyncio.create_task(server.send(data + b"!"))
                    assert await client.recv() == data + b"!"
                    await sending
                events = await asyncio.to_thread(taken, tracer, after(2))
            await client.close()
            await server.close()
            return events

    events = asyncio.run(main())
    assert messages(events, "in") == [b"short", b"l" * 200000]
    assert messages(events, "out") == [b"short!", b"l" * 200000 + b"!"]


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_servers_of_each_model_are_traced(name: str, model: str) -> None:
    with npipe.serve(name, lambda data: bytes(data).upper(), model=model):  # type: ignore[arg-type]
        with Tracer([name], snaplen=1 << 20) as tracer, npipe.connect(name) as client:
            for data in (b"a", b"b" * 100000):
                client.send(data)
                assert client.recv() == data.upper()
            events = taken(tracer, after(2))
    assert b"".join(messages(events, "in")) == b"a" + b"b" * 100000
    assert messages(events, "out") == [b"A", b"B" * 100000]


def test_what_a_slow_tracer_does_not_read_is_lost_and_counted_and_nobody_waits(name: str) -> None:
    count = 5000
    with echoing(name), Tracer([name], ring_size=1 << 16) as tracer, npipe.connect(name) as client:
        for i in range(count):
            client.send(b"%d" % i)
            client.recv()
        lost = tracer.lost
        assert lost > 0
        first = taken(tracer, after(101, "in"))
        assert messages(first, "in") == [b"%d" % i for i in range(101)]
        rest = list(tracer.events(0.2))
        client.send(b"seen")
        client.recv()
        rest += taken(tracer, saying(b"seen"))
        told = sum(event.size for event in rest if event.kind is Kind.LOST)
        assert told == lost
        data = sum(event.kind is Kind.DATA for event in [*first, *rest])
        assert data + lost == 2 * count + 2 - (messages(rest, "out")[-1:] != [b"seenseen"])


def test_four_may_trace_a_pipe_and_each_gets_all(name: str) -> None:
    with echoing(name), npipe.connect(name) as client:
        with contextlib.ExitStack() as stack:
            tracers = [stack.enter_context(Tracer([name])) for _ in range(4)]
            with pytest.raises(PipeBusyError):
                Tracer([name])
            client.send(b"to all")
            client.recv()
            for tracer in tracers:
                events = taken(tracer, after(1))
                assert messages(events, "in") == [b"to all"]
        h.until(lambda: _can_trace(name))


def _can_trace(name: str) -> bool:
    with contextlib.suppress(PipeBusyError):
        Tracer([name]).close()
        return True
    return False


def test_a_server_that_forbids_it_is_not_traced(name: str) -> None:
    with echoing(name, traceable=False):
        with pytest.raises(PipeAccessError) as caught:
            Tracer([name])
        assert caught.value.winerror == 5
        assert "its server has said traceable=False" in str(caught.value)


def test_an_aio_server_that_forbids_it_is_not_traced(name: str) -> None:
    async def main() -> None:
        async with npipe.aio.listen(name, traceable=False):
            with pytest.raises(PipeAccessError):
                await asyncio.to_thread(Tracer, [name])

    asyncio.run(main())


@pytest.mark.parametrize("model", ["threaded", "overlapped", "completion"])
def test_servers_of_each_model_can_forbid_it(name: str, model: str) -> None:
    with npipe.serve(name, bytes, model=model, traceable=False):  # type: ignore[arg-type]
        with pytest.raises(PipeAccessError):
            Tracer([name])


def test_who_traces_what_is_not_there_is_told_so(name: str) -> None:
    with pytest.raises(PipeNotFoundError):
        Tracer([name])


def test_a_trace_ends_with_the_server(name: str, child: Callable[..., Child]) -> None:
    server = child(
        """
        import sys
        import npipe
        listener = npipe.listen(sys.argv[1])
        print("listens", flush=True)
        with listener.accept() as pipe:
            pipe.send(pipe.recv())
            print("sent", flush=True)
            sys.stdin.readline()
        """,
        name,
    )
    assert server.line() == "listens"
    with Tracer([name]) as tracer, npipe.connect(name) as client:
        client.send(b"last")
        assert client.recv() == b"last"
        server.kill()
        events = list(tracer.events(h.DEADLINE))
        assert messages(events, "out") == [b"last"]
        assert tracer.pids == []


def test_a_server_goes_on_when_its_tracer_is_killed(name: str, child: Callable[..., Child]) -> None:
    with echoing(name), npipe.connect(name) as client:
        tracer = child(
            """
            import sys
            from npipe.tracing.attach import Tracer
            with Tracer([sys.argv[1]]) as tracer:
                print("traces", flush=True)
                for event in tracer.events():
                    print(event.kind.name, flush=True)
            """,
            name,
        )
        assert tracer.line() == "traces"
        client.send(b"1")
        assert client.recv() == b"11"
        assert tracer.line() == "PRESENT"
        tracer.kill()
        for _ in range(1000):
            client.send(b"2")
            assert client.recv() == b"22"
        h.until(lambda: _all_can_trace(name))


def _all_can_trace(name: str) -> bool:
    """Whether none of the four places is taken."""
    with contextlib.suppress(PipeBusyError), contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Tracer([name]))
        return True
    return False


def test_a_child_that_is_forked_takes_no_part_in_a_trace(name: str) -> None:
    with npipe.listen(name) as listener, npipe.connect(name) as client:
        with listener.accept() as server, Tracer([name]) as tracer:
            server.send(b"parent's")
            forked = os.fork()
            if forked == 0:
                status = 1
                with contextlib.suppress(npipe.PipeError):
                    try:
                        server.send(b"child's")
                    finally:
                        status = 0
                os._exit(status)
            assert os.waitpid(forked, 0)[1] == 0
            server.send(b"again")
            assert [client.recv(), client.recv()] == [b"parent's", b"again"]
            events = taken(tracer, after(2))
            assert messages(events, "out") == [b"parent's", b"again"]


def test_each_of_several_owners_is_traced(name: str, child: Callable[..., Child]) -> None:
    server = child(
        """
        import sys
        import npipe
        with npipe.listen(sys.argv[1], exclusive=False) as listener:
            print("listens", flush=True)
            pipe = listener.accept()
        print("accepted", flush=True)
        sys.stdin.readline()
        pipe.send(b"from the other process")
        sys.stdin.readline()
        """,
        name,
    )
    assert server.line() == "listens"
    with npipe.connect(name) as first:
        assert server.line() == "accepted"
        with npipe.listen(name, exclusive=False) as listener, npipe.connect(name) as second, listener.accept() as pipe:
            with Tracer([name]) as tracer:
                assert sorted(tracer.pids) == sorted([os.getpid(), server.pid])
                server.say("send")
                pipe.send(b"from this one")
                events = taken(tracer, after(2))
            assert (first.recv(), second.recv()) == (b"from the other process", b"from this one")
    assert {event.owner: event.data for event in events if event.kind is Kind.DATA} == {
        os.getpid(): b"from this one",
        server.pid: b"from the other process",
    }


def _request(memory: int | None, *, snaplen: int = 100) -> tuple[bytes, list[int]]:
    return struct.pack("<8I", MAGIC, VERSION, TRACE, 0, 0, 0, snaplen, 0), [] if memory is None else [memory]


@pytest.mark.parametrize("what", ["nothing", "a file", "unsealed", "too small"])
def test_memory_that_could_harm_the_server_is_refused(name: str, what: str, tmp_path: object) -> None:
    del tmp_path
    memory: int | None = None
    if what == "a file":
        memory = os.open("/dev/null", os.O_RDWR)
    elif what != "nothing":
        memory = os.memfd_create("trace", os.MFD_ALLOW_SEALING)
        os.truncate(memory, 4096 + (65536 if what == "unsealed" else 64))
        os.pwrite(memory, struct.pack("<IIQ", 0x5254504E, 1, 65536), 0)
        if what == "too small":
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    with contextlib.ExitStack() as stack:
        stack.enter_context(echoing(name))
        client = stack.enter_context(npipe.connect(name))
        before = h.descriptors()
        asking = stack.enter_context(dial(name))
        request, descriptors = _request(memory)
        socket.send_fds(asking, [request], descriptors)
        assert struct.unpack("<12I", asking.recv(100))[3] == 13
        client.send(b"on")
        assert client.recv() == b"onon"
        assert asking.recv(100) == b""
        h.until(lambda: h.descriptors() <= before + 1)  # asking
    if memory is not None:
        os.close(memory)


def served_by_handle(name: str) -> tuple[Any, npipe.MessagePipe]:
    """The only instance of a message pipe, read in pieces, and its client."""
    handle = win32pipe.CreateNamedPipe(
        name, 3 | win32con.FILE_FLAG_OVERLAPPED, win32pipe.PIPE_TYPE_MESSAGE | 2, 1, 4096, 4096, 0, None
    )
    return handle, npipe.connect(name)


def test_a_listener_that_forbids_it_ends_the_traces_that_run(name: str) -> None:
    with (
        npipe.listen(name, exclusive=False) as listener,
        npipe.connect(name) as client,
        listener.accept(h.DEADLINE) as server,
        Tracer([name]) as tracer,
        npipe.listen(name, exclusive=False, traceable=False),
    ):
        client.send(b"secret")
        assert server.recv(timeout=h.DEADLINE) == b"secret"
        assert [event.data for event in tracer.events(h.DEADLINE) if event.kind is Kind.DATA] == []
        assert tracer.pids == []


def test_the_write_that_is_cancelled_is_the_one_that_is_told_of(name: str) -> None:
    handle, client = served_by_handle(name)
    first, second = b"a" * 8000, b"b" * 300000
    with client, Tracer([name], snaplen=1 << 20) as tracer:
        writes = [pywintypes.OVERLAPPED() for _ in range(2)]
        for write, data in zip(writes, (first, second), strict=True):
            write.hEvent = win32event.CreateEvent(None, True, False, None)
            assert win32file.WriteFile(handle, data, write)[0] == 997
        completion.CancelIoEx(handle, writes[0])
        assert client.recv(timeout=h.DEADLINE) == second
        events = taken(tracer, saying(second))
        assert events[-1].is_whole
        # The other one was in the ring by then, as a whole: it is told of, and then that it was taken back.
        assert [event.data for event in events if event.kind is Kind.DATA] == [first, b"", second]
        assert [Flags.WITHDRAWN in event.flags for event in events[-3:]] == [False, True, False]
    handle.Close()


def test_what_is_read_behind_the_clients_end_is_one_message(name: str) -> None:
    handle, client = served_by_handle(name)
    with Tracer([name]) as tracer:
        client.send(b"0123456789")
        assert win32file.ReadFile(handle, 4, None)[1] == b"0123"
        client.close()
        events = taken(tracer, lambda event: event.kind is Kind.GONE)
        assert win32file.ReadFile(handle, 64, None)[1] == b"456789"
        events += taken(tracer, after(1, "in"))
        assert messages(events, "in") == [b"0123456789"]
        assert events[-1].is_whole
        handle.Close()
        assert [event.kind for event in tracer.events(h.DEADLINE)] == [Kind.CLOSED]


def test_an_empty_message_that_is_viewed_is_recorded_once(name: str) -> None:
    with (
        npipe.listen(name) as listener,
        npipe.connect(name) as client,
        listener.accept(h.DEADLINE) as server,
        Tracer([name]) as tracer,
    ):
        for data in (b"", b"x", b"", b"end"):
            client.send(data)
            with server.recv_view(timeout=h.DEADLINE) as view:
                assert bytes(view) == data
        assert messages(taken(tracer, saying(b"end")), "in") == [b"", b"x", b"", b"end"]


def test_a_stopped_owner_does_not_hide_another_one(name: str, child: Callable[..., Child]) -> None:
    script = """
    import sys, npipe
    listener = npipe.listen(sys.argv[1], exclusive=False)
    print("listens", flush=True)
    input()
    """
    stopped = child(script, name)
    assert stopped.line() == "listens"
    with npipe.listen(name, exclusive=False):
        h.stop(stopped.pid)
        os.waitpid(stopped.pid, os.WUNTRACED)  # all its threads have stopped
        with Tracer([name]) as tracer:
            assert tracer.pids == [os.getpid()]
            assert tracer.problems == [f"{name}: a process that serves it does not answer"]
            assert tracer.problems.code == 121
        assert main(["trace", name, "--for", "0", "-q"]) == 4
    with pytest.raises(PipeTimeoutError):
        Tracer([name])


SAYS = """
    import sys
    import npipe
    with npipe.listen(sys.argv[1], exclusive=False) as listener:
        print("listens", flush=True)
        with listener.accept() as pipe:
            pipe.send(sys.argv[2].encode())
            sys.stdin.readline()
"""


def said_by(tracer: Tracer, count: int) -> dict[int, bytes]:
    """What so many processes have said, each one message."""
    events = taken(tracer, after(count))
    return {event.owner: event.data for event in events if event.kind is Kind.DATA}


def test_who_begins_to_serve_a_pipe_later_is_traced_too(name: str, child: Callable[..., Child]) -> None:
    began: list[int] = []
    with npipe.listen(name, exclusive=False) as listener, npipe.connect(name) as first, listener.accept() as pipe:
        listener.close()  # the next client is the other process's
        with Tracer([name], on_owner=began.append) as tracer:
            assert began == [os.getpid()]
            server = child(SAYS, name, "later")
            assert server.line() == "listens"
            with npipe.connect(name, timeout=h.DEADLINE) as second:
                # It is asked as soon as it is there; what it says before is not in the trace.
                assert taken(tracer, lambda event: event.owner == server.pid)
                assert second.recv(timeout=h.DEADLINE) == b"later"
                pipe.send(b"from here")
                assert first.recv() == b"from here"
                server.say("end")
                taken(tracer, lambda event: event.owner == server.pid and event.kind is Kind.CLOSED)
            assert began == [os.getpid(), server.pid]
            h.until(lambda: not list(tracer.events(0)) and tracer.pids == [os.getpid()])
            assert tracer.problems == []


def test_a_trace_that_follows_waits_for_a_server_and_for_the_next_one(name: str, child: Callable[..., Child]) -> None:
    began: list[int] = []
    servers: list[Child] = []
    with Tracer([name], follow=True, on_owner=began.append) as tracer:
        assert tracer.pids == []
        assert list(tracer.events(0.01)) == []
        for word in ("one", "two"):
            server = child(SAYS, name, word)
            servers.append(server)
            assert server.line() == "listens"
            assert list(tracer.events(0)) == []
            with npipe.connect(name) as client:
                assert said_by(tracer, 1) == {server.pid: word.encode()}
                assert client.recv() == word.encode()
                server.kill()
        assert began == [server.pid for server in servers]
        assert list(tracer.events(0.01)) == []
        assert tracer.problems == []


def test_a_later_owner_that_forbids_it_is_a_problem_and_no_end(name: str, child: Callable[..., Child]) -> None:
    with npipe.listen(name, exclusive=False) as listener, npipe.connect(name) as client, listener.accept() as server:
        with Tracer([name]) as tracer:
            other = child(
                "import sys, npipe\nwith npipe.listen(sys.argv[1], exclusive=False, traceable=False):\n"
                "    print('listens', flush=True)\n    sys.stdin.readline()",
                name,
            )
            assert other.line() == "listens"
            server.send(b"goes on")
            assert client.recv() == b"goes on"
            assert messages(taken(tracer, after(1)), "out") == [b"goes on"]
            assert tracer.pids == [os.getpid()]
            (problem,) = tracer.problems
            assert "traceable=False" in problem
            assert tracer.problems.code == 5


def test_where_nothing_tells_of_later_owners_those_that_are_there_are_traced(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Arrival:
        def __init__(self, *_: object) -> None:
            pass

        def arm(self) -> None:
            raise npipe.PipeResourceError(1450, name)

        def close(self) -> None:
            pass

    monkeypatch.setattr("npipe.binding.Arrival", Arrival)
    with echoing(name), npipe.connect(name) as client, Tracer([name]) as tracer:
        client.send(b"a")
        assert client.recv() == b"aa"
        assert messages(taken(tracer, after(1)), "in") == [b"a"]
        (problem,) = tracer.problems
        assert problem.startswith("processes that begin to serve it later are not traced")
    with pytest.raises(npipe.PipeResourceError):
        Tracer([name], follow=True)
