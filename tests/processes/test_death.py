"""Processes that are killed with -9 while they use a pipe: what the survivor sees, and what is left behind."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import npipe
from npipe.transports.local.blocking import TRANSPORT
from tests.helpers import Background, requests_held, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

    Start = Callable[..., Child]

SOON = 5.0  # seconds; the aim is 0.1 s after the kill has been reaped, which tests/faults measures
LONG = 20.0
KEPT = 0.3  # a segment is kept for 20 ms, and goes some time after


@pytest.fixture(autouse=True)
def nothing_of_other_tests() -> None:
    """What another test has left, or is kept for its next connection, must not go while a later one counts."""
    gc.collect()
    end, seen = time.monotonic() + KEPT, mappings()
    while seen and time.monotonic() < end:  # nothing tells of it
        threading.Event().wait(0.005)
        if mappings() < seen:
            end, seen = time.monotonic() + KEPT, mappings()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:npipe-link")


def until(condition: Callable[[], bool], what: str, deadline: float = LONG) -> None:
    """Wait for something that no event tells of: files that another thread removes."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        threading.Event().wait(0.005)


def files_below(root: Path) -> list[str]:
    # os.walk passes over what goes meanwhile.
    return sorted(entry for _, folders, files in os.walk(root) for entry in folders + files)


class Call:
    """A call in a thread of its own that is blocked, with what comes of it and when."""

    def __init__(self, call: Callable[[], object], *, blocked: bool = True, holds: str | None = None) -> None:
        """`holds`: the name of the pipe whose owner has to hold the call's request first."""
        held_before = requests_held(holds) if holds else 0
        self.result: object = None
        self.error: BaseException | None = None
        self.ended = 0.0
        self._call = call
        self._background = Background(self._run)
        if holds:
            until(lambda: requests_held(holds) > held_before or not self._background.running, "held")
            settle(holds)
        if blocked:
            self._background.blocked()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error
        self.ended = time.monotonic()

    def wait(self, deadline: float = LONG) -> None:
        self._background.result(deadline)

    def code(self) -> int:
        self.wait()
        assert isinstance(self.error, npipe.PipeError), f"{self.result!r} {self.error!r}"
        return self.error.winerror


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", "stopped", 5)


SERVER = """
    import sys, npipe
    listener = npipe.listen(sys.argv[1], mode=sys.argv[2])
    print("listening", flush=True)
    pipe = listener.accept()
    for line in sys.stdin:
        exec(line)
"""

CLIENT = """
    import sys, npipe
    pipe = npipe.connect(sys.argv[1], mode=sys.argv[2])
    print("connected", flush=True)
    for line in sys.stdin:
        exec(line)
"""


def with_server(child: Start, name: str, mode: str = "message") -> tuple[Child, Any]:
    server = child(SERVER, name, mode)
    assert server.line() == "listening"
    return server, npipe.connect(name, mode=cast("Any", mode))


def with_client(child: Start, name: str, mode: str = "message", **options: Any) -> tuple[Child, Any, Any]:
    listener = npipe.listen(name, mode=cast("Any", mode), **options)
    client = child(CLIENT, name, mode)
    pipe = listener.accept(LONG)
    assert client.line() == "connected"
    return client, listener, pipe


# ---- What the survivor reads


@pytest.mark.parametrize("role", ["server", "client"])
def test_survivor_reads_what_was_written_and_then_gets_109(child: Start, name: str, role: str) -> None:
    listener = None
    if role == "server":
        peer, pipe = with_server(child, name)
    else:
        peer, listener, pipe = with_client(child, name)
    peer.say("[pipe.send(b'message %d' % i) for i in range(50)]; pipe.send(b''); print('written', flush=True)")
    assert peer.line() == "written"
    peer.kill()
    for number in range(50):
        assert pipe.recv(timeout=LONG) == b"message %d" % number
    assert pipe.recv(timeout=LONG) == b""
    for _ in range(3):
        with pytest.raises(npipe.PipeClosedError) as caught:
            pipe.recv(timeout=LONG)
        assert caught.value.winerror == 109
    with pytest.raises(npipe.PipeClosedError) as caught:
        pipe.peek()
    assert caught.value.winerror == 109
    for data in (b"x", b"", bytes(1 << 20)):
        with pytest.raises(npipe.PipeClosedError) as caught:
            pipe.send(data, timeout=LONG)
        assert caught.value.winerror == 232
    with pytest.raises(npipe.PipeModeError) as mode:
        pipe.transact(b"x", timeout=LONG)
    assert mode.value.winerror == 230
    pipe.flush(timeout=LONG)  # nothing of ours will be read any more: SEMANTICS §3.5
    pipe.close()
    if listener is not None:
        listener.close()


@pytest.mark.parametrize("role", ["server", "client"])
def test_survivor_of_a_byte_pipe_reads_to_the_end(child: Start, name: str, role: str) -> None:
    listener = None
    if role == "server":
        peer, pipe = with_server(child, name, "byte")
    else:
        peer, listener, pipe = with_client(child, name, "byte")
    peer.say("pipe.write(bytes(range(256)) * 200); print('written', flush=True)")
    assert peer.line() == "written"
    peer.kill()
    assert pipe.read(100, timeout=LONG) == (bytes(range(256)) * 200)[:100]
    assert pipe.read(timeout=LONG) == (bytes(range(256)) * 200)[100:]
    with pytest.raises(npipe.PipeClosedError) as caught:
        pipe.read(1, timeout=LONG)
    assert caught.value.winerror == 109
    with pytest.raises(npipe.PipeClosedError) as caught:
        pipe.write(b"x", timeout=LONG)
    assert caught.value.winerror == 232
    pipe.close()
    if listener is not None:
        listener.close()


# ---- A call that is blocked at that moment

BLOCKED: dict[str, tuple[str, Callable[[Any], object], int]] = {
    "recv": ("message", lambda pipe: pipe.recv(timeout=LONG), 109),
    "recv_into": ("message", lambda pipe: pipe.recv_into(bytearray(10), timeout=LONG), 109),
    "send": ("message", lambda pipe: pipe.send(bytes(1 << 20), timeout=LONG), 109),
    "transact": ("message", lambda pipe: pipe.transact(b"request", timeout=LONG), 109),
    "flush": ("message", lambda pipe: (pipe.send(b"unread"), pipe.flush(timeout=LONG)), 109),
    "read": ("byte", lambda pipe: pipe.read(10, timeout=LONG), 109),
    "write": ("byte", lambda pipe: pipe.write(bytes(1 << 20), timeout=LONG), 109),
}


@pytest.mark.parametrize("call", BLOCKED)
@pytest.mark.parametrize("role", ["server", "client"])
def test_blocked_call_ends_with_the_peer(
    child: Start, name: str, role: str, call: str, record_property: Callable[[str, object], None]
) -> None:
    mode, function, code = BLOCKED[call]
    listener = None
    if role == "server":
        peer, pipe = with_server(child, name, mode)
    else:
        peer, listener, pipe = with_client(child, name, mode)
    blocked = Call(lambda: function(pipe))
    peer.kill()
    reaped = time.monotonic()
    assert blocked.code() == code
    record_property("seconds after the kill was reaped", blocked.ended - reaped)
    assert blocked.ended - reaped < SOON
    pipe.close()
    if listener is not None:
        listener.close()


def test_connect_that_waits_for_an_instance_ends_when_the_server_dies(child: Start, name: str) -> None:
    server = child(
        """
        import sys, npipe
        listener = npipe.listen(sys.argv[1], max_instances=1)
        print("listening", flush=True)
        sys.stdin.readline()
        """,
        name,
    )
    assert server.line() == "listening"
    first = npipe.connect(name)
    waits = [
        Call(lambda: npipe.connect(name, timeout=None), holds=name),
        Call(lambda: npipe.wait(name, timeout=None), holds=name),
    ]
    server.kill()
    reaped = time.monotonic()
    for blocked in waits:
        assert blocked.code() == 2
        assert blocked.ended - reaped < SOON
    first.close()


def test_serving_thread_notices_many_deaths_at_once(child: Start, name: str) -> None:
    clients = [
        child(
            """
            import sys, npipe
            pipes = [npipe.connect(sys.argv[1]) for _ in range(50)]
            print("connected", flush=True)
            sys.stdin.readline()
            """,
            name,
        )
        for _ in range(2)
    ]
    before, mapped = descriptors(), mappings()
    with npipe.listen(name) as listener:
        pipes = [listener.accept(LONG) for _ in range(100)]
        for client in clients:
            assert client.line() == "connected"
        calls = [Call(lambda pipe=pipe: pipe.recv(timeout=LONG)) for pipe in pipes]  # type: ignore[misc]
        for client in clients:
            os.kill(client.pid, signal.SIGKILL)
        for client in clients:
            client.wait()
        reaped = time.monotonic()
        for call in calls:
            assert call.code() == 109
            assert call.ended - reaped < 2 * SOON
        for pipe in pipes:
            pipe.close()
        assert mappings() == mapped
    assert mappings() == mapped
    assert descriptors() <= before + 2  # the native thread's own two


# ---- Writes that were not complete


def test_over_quota_write_of_a_killed_writer_vanishes(child: Start, name: str) -> None:
    client, listener, pipe = with_client(child, name, in_buffer_size=1000)
    client.say("pipe.send(b'whole'); print('written', flush=True); pipe.send(bytes(2000))")
    assert client.line() == "written"
    until(lambda: pipe.peek().available == 2005, "the second message")
    client.kill()
    assert pipe.recv(timeout=LONG) == b"whole"
    with pytest.raises(npipe.PipeClosedError) as caught:
        pipe.recv(timeout=LONG)
    assert caught.value.winerror == 109
    pipe.close()
    listener.close()


@pytest.mark.parametrize("mode", ["message", "byte"])
def test_rest_of_a_partly_read_pending_write_vanishes(child: Start, name: str, mode: str) -> None:
    client, listener, pipe = with_client(child, name, mode, in_buffer_size=10)
    verb = "send" if mode == "message" else "write"
    client.say(f"pipe.{verb}(bytes(range(100)))")
    buffer = bytearray(20)
    count = pipe.recv_into(buffer, timeout=LONG) if mode == "message" else pipe.readinto(buffer, timeout=LONG)
    assert bytes(buffer[:count]) == bytes(range(20))
    client.kill()
    until(lambda: _is_broken(pipe), "the peer's death")
    with pytest.raises(npipe.PipeClosedError) as caught:
        if mode == "message":
            pipe.recv_into(buffer, timeout=LONG)
        else:
            pipe.readinto(buffer, timeout=LONG)
    assert caught.value.winerror == 109
    if mode == "message":
        assert not pipe.more_data
    pipe.close()
    listener.close()


def _is_broken(pipe: Any) -> bool:
    try:
        pipe.peek()
    except npipe.PipeClosedError as error:
        return error.winerror == 109
    return False


@pytest.mark.parametrize("mode", ["message", "byte"])
def test_rest_of_a_completed_write_stays_although_it_was_pending_once(child: Start, name: str, mode: str) -> None:
    client, listener, pipe = with_client(child, name, mode, in_buffer_size=10)
    verb = "send" if mode == "message" else "write"
    client.say(f"pipe.{verb}(bytes(range(25))); print('written', flush=True)")
    buffer = bytearray(15)
    count = pipe.recv_into(buffer, timeout=LONG) if mode == "message" else pipe.readinto(buffer, timeout=LONG)
    assert bytes(buffer[:count]) == bytes(range(15))
    assert client.line() == "written"  # ten bytes are unread, which is the quota
    client.kill()
    rest = pipe.recv(timeout=LONG) if mode == "message" else pipe.read(timeout=LONG)
    assert rest == bytes(range(15, 25))
    with pytest.raises(npipe.PipeClosedError):
        pipe.recv(timeout=LONG) if mode == "message" else pipe.read(1, timeout=LONG)
    pipe.close()
    listener.close()


@pytest.mark.parametrize("size", [1 << 20, 5_000_001, 40 << 20])
@pytest.mark.parametrize("role", ["server", "client"])
def test_message_cut_off_in_the_middle_is_never_delivered_in_part(
    child: Start, name: str, role: str, size: int
) -> None:
    listener = None
    if role == "server":
        peer, pipe = with_server(child, name)
    else:
        peer, listener, pipe = with_client(child, name)
    peer.say(f"pipe.send(b'first'); print('begins', flush=True); pipe.send(bytes({size}))")
    assert peer.line() == "begins"
    until(lambda: pipe.peek().available == size + 5, "the second message")
    stop(peer.pid)  # in the middle: it cannot put more than the ring holds
    assert pipe.recv(timeout=LONG) == b"first"
    blocked = Call(lambda: pipe.recv(timeout=LONG))
    peer.kill()
    assert blocked.code() == 109
    with pytest.raises(npipe.PipeClosedError):
        pipe.recv(timeout=LONG)
    pipe.close()
    if listener is not None:
        listener.close()


def test_pending_write_to_a_dead_reader_does_not_come_back(child: Start, name: str) -> None:
    client, listener, pipe = with_client(child, name)
    blocked = Call(lambda: pipe.send(bytes(10 << 20), timeout=LONG))
    client.say("pipe.recv_into(bytearray(1 << 20)); print('part', flush=True)")
    assert client.line() == "part"
    client.kill()
    assert blocked.code() == 109
    pipe.close()
    listener.close()


# ---- What is left behind


@pytest.mark.parametrize("noticed_by", ["client", "connect", "list", "listen", "wait"])
def test_nothing_is_left_of_a_killed_server(child: Start, name: str, root: Path, noticed_by: str) -> None:
    server = child(SERVER, name, "message")
    assert server.line() == "listening"
    pipe = npipe.connect(name) if noticed_by == "client" else None
    server.kill()
    if noticed_by == "client":
        pass
    elif noticed_by == "connect":
        with pytest.raises(npipe.PipeNotFoundError):
            npipe.connect(name)
    elif noticed_by == "wait":
        with pytest.raises(npipe.PipeNotFoundError):
            npipe.wait(name, timeout=LONG)
    elif noticed_by == "list":
        assert npipe.list_pipes() == []
    else:
        npipe.listen(name).close()
    if noticed_by == "client":
        until(lambda: files_below(root) == [], f"an empty root, not {files_below(root)}", 5)
    assert files_below(root) == []
    if pipe is not None:
        pipe.close()


@pytest.mark.slow
def test_nothing_is_left_of_servers_killed_while_they_listen_and_close(child: Start, name: str, root: Path) -> None:
    chance = random.Random(7)
    for _ in range(12):
        server = child(
            """
            import sys, npipe
            print("runs", flush=True)
            while True:
                listeners = [npipe.listen(sys.argv[1] + str(i)) for i in range(3)]
                for listener in listeners:
                    listener.close()
            """,
            name,
        )
        assert server.line() == "runs"
        threading.Event().wait(chance.random() * 0.02)  # a random moment is what is tested
        server.kill()
        for number in range(3):
            with npipe.listen(name + str(number)):  # the name can be had at once
                assert npipe.list_pipes()
        assert npipe.list_pipes() == []
        assert files_below(root) == []
        server.end()


def test_restarted_server_takes_the_name_at_once_with_other_attributes(child: Start, name: str) -> None:
    for _ in range(5):
        server = child(SERVER, name, "byte")
        assert server.line() == "listening"
        server.kill()
        with npipe.listen(name, max_instances=1, access="outbound") as listener:
            client = npipe.connect(name, mode="byte", access="read")
            pipe = listener.accept(LONG)
            assert pipe.info.type == "message"
            assert pipe.info.direction == "outbound"
            pipe.send(b"new")
            assert client.read(10, timeout=LONG) == b"new"
            client.close()
            pipe.close()


def test_survivor_does_not_leak_over_many_deaths(child: Start, name: str, root: Path) -> None:
    npipe.listen(name).close()
    warm = descriptors(), mappings()
    with npipe.listen(name) as listener:
        client = child(
            """
            import os, sys, npipe
            for line in sys.stdin:
                pid = os.fork()
                if pid == 0:
                    pipe = npipe.connect(sys.argv[1])
                    pipe.send(b"here")
                    os.kill(os.getpid(), 9)
                os.waitpid(pid, 0)
                print("dead", flush=True)
            """,
            name,
        )
        for _ in range(50):
            client.say("next")
            assert client.line() == "dead"
            with listener.accept(LONG) as pipe:
                assert pipe.recv(timeout=LONG) == b"here"
                with pytest.raises(npipe.PipeClosedError):
                    pipe.recv(timeout=LONG)
    assert (descriptors(), mappings()) <= (warm[0] + 1 + 2, warm[1])  # two of the child's standard streams
    client.end()
    assert descriptors() == warm[0]
    assert files_below(root) == []


def test_instance_of_a_dead_client_is_free_again_after_disconnect(child: Start, name: str) -> None:
    client, listener, pipe = with_client(child, name, max_instances=1)
    client.kill()
    with pytest.raises(npipe.PipeClosedError):
        pipe.recv(timeout=LONG)
    with pytest.raises(npipe.PipeBusyError):  # until the server disconnects it (SEMANTICS §2.4)
        TRANSPORT.open(npipe.names.parse_name(name), access=3)
    waits = Call(lambda: npipe.connect(name, timeout=LONG), holds=name)
    pipe.close()
    waits.wait()
    assert waits.error is None
    cast("npipe.MessagePipe", waits.result).close()
    listener.close()


# ---- Kills at any moment, under load

LOAD_SERVER = """
    import sys, npipe
    def answer(request):
        return request
    server = npipe.serve(sys.argv[1], answer)
    print("serving", flush=True)
    sys.stdin.readline()
"""

LOAD_CLIENT = """
    import itertools, sys, npipe
    pipe = npipe.connect(sys.argv[1])
    print("connected", flush=True)
    for number in itertools.count():
        size = (number * 7919) % 300_000
        pipe.send(number.to_bytes(8, "little") + bytes([number % 251]) * size)
"""


@pytest.mark.slow
def test_messages_of_a_client_killed_under_load_are_a_whole_prefix(child: Start, name: str) -> None:
    chance = random.Random(1)
    warm = None
    with npipe.listen(name) as listener:
        for _ in range(30):
            client = child(LOAD_CLIENT, name)
            pipe = listener.accept(LONG)
            assert client.line() == "connected"
            stop_after = chance.randrange(200)
            killer = threading.Timer(chance.random() * 0.02, os.kill, (client.pid, signal.SIGKILL))
            killer.daemon = True
            expected = 0
            while True:
                if expected == stop_after:
                    killer.start()
                try:
                    message = pipe.recv(timeout=LONG)
                except npipe.PipeClosedError as error:
                    end = error.winerror
                    break
                size = (expected * 7919) % 300_000
                assert int.from_bytes(message[:8], "little") == expected
                assert message[8:] == bytes([expected % 251]) * size
                expected += 1
            assert end == 109
            with pytest.raises(npipe.PipeClosedError) as caught:
                pipe.send(b"x")
            assert caught.value.winerror == 232
            pipe.close()
            client.end()
            killer.join(10)
            now = descriptors(), mappings()
            warm = warm or now
            assert now == warm


@pytest.mark.slow
def test_servers_killed_under_load_leave_clients_with_a_clear_end(child: Start, name: str, root: Path) -> None:
    chance = random.Random(2)
    limit: tuple[int, int] | None = None
    for _ in range(30):
        server = child(LOAD_SERVER, name)
        assert server.line() == "serving"
        pipes = [npipe.connect(name) for _ in range(3)]
        counts = [0, 0, 0]

        def ask(index: int, pipes: list[npipe.MessagePipe] = pipes, counts: list[int] = counts) -> None:
            while True:
                request = bytes([index, counts[index] % 251]) * (1 + (counts[index] * 911) % 60_000)
                assert pipes[index].transact(request, timeout=LONG) == request
                counts[index] += 1

        calls = [Call(lambda index=index: ask(index), blocked=False) for index in range(3)]  # type: ignore[misc]
        threading.Event().wait(chance.random() * 0.03)  # a random moment is what is tested
        server.kill()
        reaped = time.monotonic()
        for call in calls:
            assert call.code() in (109, 230, 232)
            assert call.ended - reaped < SOON
        for pipe in pipes:
            pipe.close()
        until(lambda: files_below(root) == [], f"an empty root, not {files_below(root)}", 5)
        server.end()
        # The native thread may still have the dead server's folder open, to clean it up.
        limit = limit or (descriptors(), mappings())

        def within(limit: tuple[int, int] = limit) -> bool:
            return descriptors() <= limit[0] and mappings() <= limit[1]

        until(within, f"no more descriptors and mappings than at first, {limit}", 5)
