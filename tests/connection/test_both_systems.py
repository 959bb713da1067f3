"""What a program may rely on with npipe.connection on Linux and on Windows, where it is multiprocessing's own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import threading
import time
from multiprocessing import AuthenticationError, BufferTooShort
from typing import Any

import pytest

from npipe.connection import Client, Connection, Listener, Pipe, answer_challenge, context, deliver_challenge, wait
from tests.connection.helpers import echo, pattern

pytestmark = pytest.mark.timeout(120)

OBJECTS: list[Any] = [
    None,
    {"a": [1, 2.5, "text"], (1, 2): b"bytes"},
    bytearray(pattern(70_000)),
    pattern(1_000_000),
    [pattern(5000, seed) for seed in range(20)],
]


class Block:
    """An object with a buffer that protocol 5 lets go beside the pickle."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if protocol >= 5:
            return _block, (pickle.PickleBuffer(self.content),)
        return _block, (bytes(self.content),)


def _block(content: Any) -> Block:
    return Block(bytes(content))


def _exchange(one: Any, other: Any) -> None:
    """Send objects from one end to the other, which sends them back."""
    thread = threading.Thread(target=echo, args=(other,))
    thread.start()
    for obj in OBJECTS:
        one.send(obj)
        got = one.recv()
        assert got == obj
        assert type(got) is type(obj)
    one.send(Block(bytearray(pattern(300_000, 5))))
    assert one.recv().content == pattern(300_000, 5)
    one.close()
    thread.join(30)
    assert not thread.is_alive()
    with pytest.raises(EOFError):
        other.recv()
    other.close()


def test_the_two_ends_of_a_pipe_exchange_objects() -> None:
    one, other = Pipe()
    assert isinstance(one, Connection)
    _exchange(one, other)
    assert one.closed
    with pytest.raises(OSError, match="handle is closed"):
        one.send(1)


def test_a_simplex_pipe_goes_one_way() -> None:
    reads, writes = Pipe(duplex=False)
    assert (reads.readable, reads.writable) == (True, False)
    assert (writes.readable, writes.writable) == (False, True)
    with pytest.raises(OSError, match="connection is read-only"):
        reads.send(1)
    with pytest.raises(OSError, match="connection is write-only"):
        writes.recv()
    writes.send_bytes(b"abc")
    assert reads.recv_bytes() == b"abc"
    writes.close()
    with pytest.raises(EOFError):
        reads.recv()
    reads.close()


def test_messages_of_bytes_stay_apart_and_whole() -> None:
    one, other = Pipe()
    with one, other:
        for size in (0, 1, 5000):
            one.send_bytes(pattern(size))
        one.send_bytes(pattern(100), 10, 20)
        one.send_bytes(memoryview(pattern(3000))[::1])
        assert [other.recv_bytes() for _ in range(3)] == [pattern(size) for size in (0, 1, 5000)]
        assert other.recv_bytes() == pattern(100)[10:30]
        block = bytearray(4000)
        assert other.recv_bytes_into(block, 500) == 3000
        assert block == bytes(500) + pattern(3000) + bytes(500)
        one.send_bytes(pattern(200))
        with pytest.raises(BufferTooShort) as short:
            other.recv_bytes_into(bytearray(100))
        assert short.value.args == (pattern(200),)
        one.send_bytes(b"after")
        assert other.recv_bytes(100) == b"after"


def test_poll_and_wait_tell_of_messages_and_of_the_end() -> None:
    pairs = [Pipe() for _ in range(3)]
    ends = [one for one, _ in pairs]
    assert wait(ends, 0) == []
    began = time.monotonic()
    assert not ends[0].poll(0.05)
    assert wait(ends, 0.05) == []
    assert time.monotonic() - began >= 0.09
    timer = threading.Timer(0.05, pairs[1][1].send, ["one"])
    timer.start()
    assert wait(ends, 60) == [ends[1]]
    timer.join()
    pairs[2][1].send("two")
    assert sorted(map(ends.index, wait(ends, 60))) == [1, 2]
    assert ends[1].poll()
    assert (ends[1].recv(), ends[2].recv()) == ("one", "two")
    assert wait(ends, 0) == []
    pairs[0][1].close()
    assert wait(ends, 60) == [ends[0]]
    with pytest.raises(EOFError):
        ends[0].recv()
    for pair in pairs:
        for end in pair:
            end.close()


def test_poll_is_true_at_the_end() -> None:
    one, other = Pipe()
    with one:
        other.close()
        assert one.poll(60)
        with pytest.raises(EOFError):
            one.recv()


@pytest.mark.parametrize("authkey", [None, b"secret"])
def test_a_client_and_a_listener_find_each_other_by_name(name: str, authkey: bytes | None) -> None:
    accepted: list[Any] = []
    with Listener(name, "AF_PIPE", authkey=authkey) as listener:
        assert listener.address == name
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
        thread.start()
        client = Client(name.rpartition("\\")[2], authkey=authkey)
        thread.join(60)
        assert listener.last_accepted is None
    _exchange(client, accepted[0])
    with pytest.raises(FileNotFoundError):
        Client(name)


def test_a_client_with_another_secret_is_refused(name: str) -> None:
    errors: list[BaseException] = []

    def accept() -> None:
        try:
            listener.accept()
        except AuthenticationError as error:
            errors.append(error)

    with Listener(name, authkey=b"secret") as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(AuthenticationError):
            Client(name, authkey=b"another")
        thread.join(60)
        assert len(errors) == 1


def test_the_challenge_is_multiprocessings() -> None:
    one, other = Pipe()
    ends: list[Any] = [one, other]
    with one, other:
        thread = threading.Thread(target=answer_challenge, args=(ends[1], b"key"))
        thread.start()
        deliver_challenge(ends[0], b"key")
        thread.join(60)
        assert not thread.is_alive()


def test_addresses_and_families_are_checked(name: str) -> None:
    for wrong in (("localhost", 1), 5):
        with pytest.raises(ValueError, match="address type"):
            Client(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Family AF_INET"):
        Listener(name, "AF_INET")
    with Listener() as one, Listener() as other:
        assert one.address != other.address


def _echo_and_say(connection: Any) -> None:
    connection.send(os.getpid())
    echo(connection)


def test_a_connection_is_an_argument_of_a_process() -> None:
    ctx: Any = context("spawn")
    one, other = ctx.Pipe()
    process = ctx.Process(target=_echo_and_say, args=(other,))
    process.start()
    other.close()
    assert one.poll(90)
    assert one.recv() == process.pid
    for obj in OBJECTS:
        one.send(obj)
        assert one.recv() == obj
    one.close()
    process.join(60)
    assert process.exitcode == 0


def _put_many(into: Any, count: int) -> None:
    for at in range(count):
        into.put((at, pattern(at * 1000)))


def test_a_queue_of_the_context_keeps_its_order() -> None:
    ctx: Any = context("spawn")
    shared = ctx.Queue()
    process = ctx.Process(target=_put_many, args=(shared, 50))
    process.start()
    for at in range(50):
        assert shared.get(timeout=90) == (at, pattern(at * 1000))
    process.join(60)
    assert process.exitcode == 0
    with pytest.raises(queue.Empty):
        shared.get_nowait()
    simple = ctx.SimpleQueue()
    simple.put([pattern(1000)])
    assert simple.get() == [pattern(1000)]
    assert simple.empty()


def _turned(block: bytes) -> bytes:
    return block[::-1]


def test_a_pool_of_the_context_maps() -> None:
    ctx: Any = context("spawn")
    assert ctx.get_start_method() == "spawn"
    blocks = [pattern(200_000, seed) for seed in range(4)]
    with ctx.Pool(2) as pool:
        assert pool.map_async(_turned, blocks).get(90) == [block[::-1] for block in blocks]


def test_the_context_is_by_default_what_multiprocessing_would_use() -> None:
    assert context().get_start_method() == multiprocessing.get_context().get_start_method()
    with pytest.raises(ValueError, match="nothing"):
        context("nothing")
