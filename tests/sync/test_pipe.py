"""The pipes of the sync face: time-outs, closed ends, iteration, files, peeking, sizes, directions."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import pickle
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import Background, blocked, fails

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Ends

# ---- go-winio's list


def test_connect_to_an_unknown_name_fails_immediately(name: str) -> None:
    began = time.monotonic()
    for timeout in (0, 20, None):
        with fails(2):
            npipe.connect(name, timeout=timeout)
        with fails(2):
            npipe.wait(name, timeout=timeout)
    with fails(2):
        npipe.call(name, b"x", timeout=20)
    assert time.monotonic() - began < 5


def test_connect_times_out_when_all_instances_stay_busy(ends: Callable[..., Ends]) -> None:
    pair = ends(max_instances=1)
    for call in (
        lambda: npipe.connect(pair.listener.name, timeout=0.1),
        lambda: npipe.wait(pair.listener.name, timeout=0.1),
    ):
        began = time.monotonic()
        with fails(121):
            call()
        assert 0.09 < time.monotonic() - began < 5
    with fails(231):
        npipe.connect(pair.listener.name, timeout=0)
    with fails(231):
        npipe.call(pair.listener.name, b"x", timeout=0.1)


def test_wait_uses_the_pipes_own_time_out(ends: Callable[..., Ends]) -> None:
    pair = ends(max_instances=1, default_timeout=0.2)
    began = time.monotonic()
    with fails(121):
        npipe.wait(pair.listener.name, timeout="default")
    assert 0.19 < time.monotonic() - began < 5


def test_read_time_out_consumes_nothing(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for timeout in (0, 0.001, 0.05):
        with fails(121):
            pair.client.recv(timeout=timeout)
        with fails(121):
            pair.client.recv_into(bytearray(10), timeout=timeout)
    pair.server.send(b"after")
    assert pair.client.recv(timeout=0) == b"after"


def test_read_of_what_is_there_needs_no_time(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"a")
    pair.server.send(b"")
    assert pair.client.recv(timeout=0) == b"a"
    assert pair.client.recv(timeout=0) == b""


def test_write_time_out_sends_nothing(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=100)
    pair.client.send(bytes(60))
    for timeout in (0, 0.001, 0.05):
        for size in (41, 5000, 1 << 20):
            with fails(121):
                pair.client.send(bytes(size), timeout=timeout)
    assert pair.server.peek().available == 60
    assert pair.server.recv(timeout=0) == bytes(60)
    with fails(121):
        pair.server.recv(timeout=0)
    pair.client.send(bytes(100), timeout=0)


def test_time_out_of_a_pending_read_and_of_a_pending_write(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=0)
    reads = [blocked(lambda: pair.client.recv(timeout=0.3)) for _ in range(3)]
    writes = [blocked(lambda: pair.client.send(b"x" * 10, timeout=0.3)) for _ in range(3)]
    for call in (*reads, *writes):
        assert call.code() == 121
    with fails(121):
        pair.server.recv(timeout=0)


def test_time_out_in_the_middle_of_a_long_message_keeps_it(ends: Callable[..., Ends]) -> None:
    pair = ends()
    data = bytes(range(256)) * 4096
    # A writer that stops for want of a reader: nothing can be had beyond the ring until someone reads on.
    sending = blocked(lambda: pair.server.send(data, timeout=20))
    for timeout in (0, 0.0001, 0.001):
        try:
            assert pair.client.recv(timeout=timeout) == data
            break
        except npipe.PipeTimeoutError:
            continue
    else:
        assert pair.client.recv(timeout=10) == data
    sending.result()


@pytest.mark.parametrize("timeout", [-1, float("nan"), True])
def test_time_outs_that_are_none(ends: Callable[..., Ends], timeout: Any) -> None:
    pair = ends()
    for call in (
        lambda: pair.client.recv(timeout=timeout),
        lambda: pair.client.flush(timeout=timeout),
        lambda: pair.client.close(timeout=timeout),
        lambda: pair.client.transact(b"x", timeout=timeout),
        lambda: pair.listener.accept(timeout),
        lambda: npipe.connect(pair.listener.name, timeout=timeout),
        lambda: npipe.wait(pair.listener.name, timeout=timeout),
    ):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        pair.client.recv(timeout="soon")
    assert not pair.client.closed


@pytest.mark.parametrize("timeout", [float("inf"), 1e300, 10**400], ids=["infinity", "1e300", "10**400"])
def test_very_long_time_outs(ends: Callable[..., Ends], timeout: Any) -> None:
    pair = ends()
    reading = blocked(lambda: pair.client.recv(timeout=timeout))
    pair.server.send(b"x")
    assert reading.result() == b"x"
    npipe.wait(pair.listener.name, timeout=timeout)


def test_close_of_the_client_is_the_servers_end(ends: Callable[..., Ends]) -> None:
    pair = ends()
    reading = blocked(lambda: pair.server.recv(timeout=20))
    pair.client.close()
    assert reading.code() == 109


def test_close_of_the_server_is_the_clients_end(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"last words")
    pair.server.close()
    assert pair.client.recv(timeout=5) == b"last words"
    with fails(109):
        pair.client.recv(timeout=5)
    with fails(232):
        pair.client.send(b"x")


def test_abort_of_the_server_disconnects(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"never read")
    reading = blocked(lambda: pair.server.recv(timeout=20))
    pair.server.abort()
    assert reading.code() in (109, 233)
    for call in (pair.client.recv, pair.client.peek, lambda: pair.client.send(b"x"), pair.client.flush):
        with fails(233):
            call()


def test_abort_of_the_client_discards(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"never read")
    pair.client.abort()
    with fails(109):
        pair.server.recv(timeout=5)


def test_many_clients_at_once_are_each_served_once(name: str) -> None:
    """Many clients at once, each served once."""
    with npipe.serve(name, lambda request: request):
        clients = [Background(lambda n=n: npipe.call(name, b"%d" % n, timeout=20)) for n in range(50)]  # type: ignore[misc]
        assert [client.result() for client in clients] == [b"%d" % n for n in range(50)]


# ---- Closed pipes


def test_every_call_on_a_closed_pipe(ends: Callable[..., Ends]) -> None:
    pair, stream = ends(), ends("byte")

    def calls_of(pipe: Any) -> list[Callable[[], object]]:
        return [
            lambda: pipe.send(b"x"),
            pipe.recv,
            lambda: pipe.recv_into(bytearray(4)),
            lambda: pipe.transact(b"x"),
            pipe.peek,
            pipe.flush,
            pipe.fileno,
            lambda: pipe.peer,
            lambda: pipe.info,
            lambda: next(iter(pipe)),
        ]

    for pipe in (pair.client, pair.server):
        pipe.close()
        pipe.close()
        pipe.abort()
        assert pipe.closed
        for number, call in enumerate(calls_of(pipe)):
            with pytest.raises(npipe.PipeClosedError) as caught:
                call()
            assert caught.value.winerror == 6, number
            assert isinstance(caught.value, (BrokenPipeError, EOFError))
        assert pipe.more_data is False
        assert "closed" in repr(pipe)
        assert pipe.name == pair.listener.name
    stream.client.close()
    for call in (lambda: stream.client.write(b"x"), lambda: stream.client.read(1), lambda: stream.client.read()):
        with fails(6):
            call()


def test_close_while_other_threads_are_in_calls(ends: Callable[..., Ends]) -> None:
    for _ in range(20):
        pair = ends(in_buffer_size=10)
        reads = [blocked(lambda: pair.client.recv()) for _ in range(3)]  # noqa: B023
        pair.client.close()
        for read in reads:
            assert read.code() == 109
        with fails(109):
            pair.server.recv(timeout=5)


def test_close_lets_a_pending_write_finish(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=10)
    writing = blocked(lambda: pair.client.send(bytes(100_000)))
    closing = blocked(lambda: pair.client.close(timeout=20))
    assert pair.server.recv(timeout=5) == bytes(100_000)
    writing.result()
    closing.result()
    with fails(109):
        pair.server.recv(timeout=5)


def test_close_gives_up_on_a_pending_write_in_time(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=10)
    writing = blocked(lambda: pair.client.send(bytes(100_000)))
    began = time.monotonic()
    pair.client.close(timeout=0.1)
    assert time.monotonic() - began < 4.5  # not the usual 5
    assert writing.code() in (109, 6)
    with fails(109):
        pair.server.recv(timeout=5)


def test_with_closes_pipes_and_listeners_after_an_error_too(name: str) -> None:
    with npipe.listen(name) as listener:
        with pytest.raises(ZeroDivisionError):
            with npipe.connect(name) as client, listener.accept(5) as server:
                raise ZeroDivisionError
        assert client.closed
        assert server.closed
    assert listener.closed


def test_abandoned_pipe_is_closed(ends: Callable[..., Ends]) -> None:
    pair = ends()
    client = npipe.connect(pair.listener.name)
    server = pair.listener.accept(5)
    client.send(b"kept")
    del client
    gc.collect()
    assert server.recv(timeout=5) == b"kept"
    with fails(109):
        server.recv(timeout=5)
    server.close()


# ---- Messages


def test_iteration_until_the_peer_closes(ends: Callable[..., Ends]) -> None:
    pair = ends()
    messages = [b"", b"one", bytes(60_000), b""]
    for message in messages:
        pair.server.send(message)
    pair.server.close()
    assert list(pair.client) == messages
    assert list(pair.client) == []


def test_iteration_raises_when_the_server_disconnects(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.abort()
    with fails(233):
        list(pair.client)


@pytest.mark.parametrize(("mode", "kind"), [("message", npipe.MessagePipe), ("byte", npipe.StreamPipe)])
def test_a_pipe_shows_its_public_methods_alone(name: str, mode: Any, kind: type[npipe.Pipe]) -> None:
    with (
        npipe.listen(name, mode=mode) as listener,
        npipe.connect(name, mode=mode) as client,
        listener.accept() as server,
    ):
        public = {word for word in (*dir(kind), *kind.__annotations__) if not word.startswith("_")}
        for pipe in (client, server):
            shown = {word for word in dir(pipe) if not word.startswith("_")}
            assert shown - ({"adopt"} if sys.platform == "win32" else set()) == public


def test_max_message_size_leaves_the_message(ends: Callable[..., Ends]) -> None:
    pair = ends()
    assert pair.client.max_message_size == 2**32 - 1
    for size in (1000, 300_000):
        pair.client.max_message_size = 999
        sending = Background(lambda: pair.server.send(bytes(size)))  # noqa: B023
        for _ in range(3):
            with fails(234):
                pair.client.recv(timeout=5)
        with pytest.raises(npipe.PipeMessageTooLargeError):
            pair.client.recv(timeout=5)
        assert pair.client.peek().left == size
        pair.client.max_message_size = size
        assert pair.client.recv(timeout=5) == bytes(size)
        sending.result()


def test_max_message_size_belongs_to_each_pipe_and_is_checked(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.max_message_size = 0
    pair.server.send(b"")
    assert pair.client.recv(timeout=5) == b""
    for wrong in (-1, 2**32):
        with pytest.raises((OverflowError, ValueError)):
            pair.client.max_message_size = wrong
    with pytest.raises(TypeError):
        pair.client.max_message_size = "many"
    assert pair.server.max_message_size == 2**32 - 1


def test_recv_into_and_more_data(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"abcdefgh")
    pair.server.send(b"next")
    buffer = bytearray(3)
    assert not pair.client.more_data
    assert pair.client.recv_into(buffer, timeout=5) == 3
    assert buffer == b"abc"
    assert pair.client.more_data
    assert pair.client.peek(10) == (b"defgh", 9, 0)
    assert pair.client.recv_into(memoryview(buffer)[1:], timeout=5) == 2
    assert buffer == b"ade"
    assert pair.client.recv(timeout=5) == b"fgh"
    assert not pair.client.more_data
    assert pair.client.recv_into(bytearray(100), timeout=5) == 4
    assert not pair.client.more_data


@pytest.mark.parametrize("size", [100_000, 200_000, 300_000, 1 << 20, 10 << 20])
@pytest.mark.parametrize("part", [0, 10, 60_000, 140_000, 250_000, 1 << 20])
def test_parts_of_a_message_that_is_longer_than_the_ring(ends: Callable[..., Ends], size: int, part: int) -> None:
    """Also when the writer is asleep already, with a full ring, at the time of the read."""
    pair = ends()
    sending = blocked(lambda: pair.server.send(bytes(size)))
    buffer = bytearray(part)
    assert pair.client.recv_into(buffer, timeout=5) == min(part, size)
    assert pair.client.more_data == (0 < part < size)
    assert pair.client.recv(timeout=5) == bytes(max(0, size - part)) if part < size else not pair.client.more_data
    sending.result()


@pytest.mark.parametrize("part", [1, 60_000, 140_000, 1 << 20])
def test_parts_of_a_stream_that_is_longer_than_the_ring(ends: Callable[..., Ends], part: int) -> None:
    pair = ends("byte")
    sending = blocked(lambda: pair.server.write(bytes(1 << 20)))
    assert 1 <= len(pair.client.read(part, timeout=5)) <= part
    pair.client.abort()
    assert sending.code() == (0 if part == 1 << 20 else 109)


def test_buffers_of_all_kinds(ends: Callable[..., Ends]) -> None:
    import array

    pair = ends()
    for data in (b"x", bytearray(b"yy"), memoryview(b"zzz"), array.array("I", [1, 2]), memoryview(b"abcdef")[2:4]):
        pair.client.send(data)
        assert pair.server.recv(timeout=5) == bytes(data)
    for wrong in ("text", None, 5, memoryview(b"abcdef")[::2]):
        with pytest.raises((TypeError, BufferError, ValueError)):
            pair.client.send(wrong)
    with pytest.raises((TypeError, BufferError)):
        pair.client.recv_into(b"read-only", timeout=1)
    with fails(121):
        pair.server.recv(timeout=0)


def test_buffer_in_use_cannot_be_resized(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1)
    buffer = bytearray(100)
    reading = blocked(lambda: pair.client.recv_into(buffer, timeout=20))
    with pytest.raises(BufferError):
        buffer.clear()
    pair.server.send(b"x")
    assert reading.result() == 1
    buffer.clear()


@pytest.mark.timeout(120)
@pytest.mark.skipif("NPIPE_FAST_TESTS" in os.environ, reason="takes seconds and 3 GiB")
@pytest.mark.slow
def test_one_gibibyte_in_one_message_through_64_kib(ends: Callable[..., Ends]) -> None:
    pair = ends()
    block = hashlib.sha512(b"npipe").digest() * 16384
    data = block * 1024
    assert len(data) == 1 << 30
    sending = Background(lambda: pair.server.send(data, timeout=60))
    received = pair.client.recv(timeout=60)
    sending.result(60)
    assert len(received) == len(data)
    assert received == data


def test_transact_returns_an_answer_of_any_length(ends: Callable[..., Ends]) -> None:
    pair = ends()

    def echo() -> None:
        for message in pair.server:
            pair.server.send(message * 2)

    server = Background(echo)
    for size in (0, 1, 1000, 65_536, 200_000, 3_000_000):
        assert pair.client.transact(b"z" * size, timeout=20) == b"z" * size * 2
    pair.client.close()
    server.result()


def test_transact_refuses_when_messages_wait(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"unread")
    with fails(231):
        pair.client.transact(b"x", timeout=5)
    with fails(121):
        pair.server.recv(timeout=0)
    assert pair.client.recv(timeout=5) == b"unread"
    with fails(121):
        pair.client.transact(b"request", timeout=0.05)
    assert pair.server.recv(timeout=0) == b"request"  # it stays sent


def test_a_transaction_whose_request_was_withdrawn_leaves_nothing_owed(ends: Callable[..., Ends]) -> None:
    pair = ends()
    withdrawn = "was withdrawn before all of it was sent; give it more time"
    with pytest.raises(npipe.PipeTimeoutError, match=withdrawn) as raised:
        pair.client.transact(bytes(5_000_000), timeout=0.05)
    assert raised.value.sent is False
    assert "nothing was consumed" not in str(raised.value)  # of a part that the server had read nobody tells
    answering = Background(lambda: pair.server.send(pair.server.recv(timeout=5).upper()))
    assert pair.client.transact(b"small", timeout=5) == b"SMALL"
    answering.result()


def test_only_a_transaction_says_whether_it_was_sent(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pytest.raises(npipe.PipeTimeoutError) as raised:
        pair.client.recv(timeout=0)
    assert raised.value.sent is None
    with pytest.raises(npipe.PipeTimeoutError) as raised:
        npipe.call(pair.listener.name, b"x", timeout=0.05)
    assert raised.value.sent is True
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (copy.sent, str(copy)) == (True, str(raised.value))


def test_peek_tells_what_is_there_and_takes_nothing(ends: Callable[..., Ends]) -> None:
    pair, stream = ends(), ends("byte")
    assert pair.client.peek(10) == (b"", 0, 0)
    pair.server.send(b"hello")
    pair.server.send(b"world!")
    for _ in range(2):
        assert pair.client.peek() == (b"", 11, 5)
        assert pair.client.peek(3) == (b"hel", 11, 2)
        assert pair.client.peek(100) == (b"hello", 11, 0)
    stream.server.write(b"hello")
    stream.server.write(b"world!")
    assert stream.client.peek(100) == (b"helloworld!", 11, 0)
    assert stream.client.peek(7) == (b"hellowo", 11, 0)
    assert stream.client.read(100, timeout=5) == b"helloworld!"


def test_flush_waits_for_the_reader(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.flush(timeout=0)
    pair.client.send(b"x")
    with fails(121):
        pair.client.flush(timeout=0.05)
    flushing = blocked(lambda: pair.client.flush(timeout=20))
    pair.server.peek(1)
    assert flushing.running
    pair.server.recv(timeout=5)
    flushing.result()


# ---- Directions and modes


@pytest.mark.parametrize(("access", "wrong"), [("inbound", ("duplex", "read")), ("outbound", ("duplex", "write"))])
def test_each_end_may_do_what_the_direction_says(name: str, access: Any, wrong: tuple[Any, ...]) -> None:
    with npipe.listen(name, access=access, mode="byte") as listener:
        for how in wrong:
            with fails(5):
                npipe.connect(name, mode="byte", access=how)
        client: Any = npipe.connect(name, mode="byte", access=access)
        server: Any = listener.accept(5)
        writer, reader = (client, server) if access == "inbound" else (server, client)
        writer.write(b"x")
        assert reader.read(1, timeout=5) == b"x"
        for call in (lambda: writer.read(1, timeout=1), writer.peek):
            with fails(5):
                call()
        for call in (lambda: reader.write(b"x", timeout=1), reader.flush):
            with fails(5):
                call()
        assert client.info.direction == server.info.direction == access
        client.close()
        server.close()


def test_message_pipes_of_one_direction(name: str) -> None:
    with npipe.listen(name, access="inbound") as listener:
        with npipe.connect(name, access="write") as client, listener.accept(5) as server:
            client.send(b"x")
            assert server.recv(timeout=5) == b"x"
            with pytest.raises(npipe.PipeError):
                client.transact(b"x", timeout=1)
    with npipe.listen(name, access="outbound") as listener:
        with npipe.connect(name, access="read") as reader, listener.accept(5) as writer:
            writer.send(b"x")
            assert reader.recv(timeout=5) == b"x"


def test_access_none_is_a_full_connection(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener:
        client = npipe.connect(name, mode="byte", access="none")
        server = listener.accept(5)
        with fails(231):
            npipe.connect(name, timeout=0)
        for call in (lambda: client.read(1, timeout=1), lambda: client.write(b"x"), client.peek):
            with fails(5):
                call()
        client.close()
        with fails(109):
            server.recv(timeout=5)
        server.close()


def test_message_mode_on_a_byte_pipe_is_refused_and_leaves_nothing(name: str) -> None:
    with npipe.listen(name, mode="byte") as listener:
        with fails(87):
            npipe.connect(name)
        with fails(121):
            listener.accept(0.05)  # a client has come and gone (SEMANTICS §8.3), and is passed over
        with fails(87):
            npipe.call(name, b"x", timeout=5)
        with fails(121):
            listener.accept(0.05)


def test_message_pipe_read_as_a_stream(ends: Callable[..., Ends]) -> None:
    pair = ends(client_mode="byte")
    pair.server.send(b"one")
    pair.server.send(b"two")
    assert pair.client.read(100, timeout=5) == b"onetwo"
    pair.client.write(b"three")
    assert pair.server.recv(timeout=5) == b"three"
    assert pair.client.info.read_mode == "byte"
    assert pair.client.info.type == "message"


def test_info_and_peer(name: str) -> None:
    with npipe.listen(name, max_instances=7, in_buffer_size=111, out_buffer_size=0) as listener:
        with npipe.connect(name) as client, listener.accept(5) as server:
            for pipe in (client, server):
                info = pipe.info
                assert (info.in_buffer_size, info.out_buffer_size) == (111, 0)
                assert (info.max_instances, info.instances) == (7, 2)
                assert info.name == name
                assert pipe.peer.pid == os.getpid()
                assert pipe.peer.uid == (os.geteuid() if sys.platform != "win32" else None)


# ---- Streams and files


def test_stream_reads_return_what_is_there_whatever_the_writes_were(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    pair.server.write(b"abc")
    pair.server.write(b"defgh")
    assert pair.client.read(2, timeout=5) == b"ab"
    buffer = bytearray(4)
    assert pair.client.readinto(buffer, timeout=5) == 4
    assert buffer == b"cdef"
    assert pair.client.read(100, timeout=5) == b"gh"
    assert pair.server.write(b"") == 0
    with fails(121):
        pair.client.read(1, timeout=0.02)
    writing = Background(lambda: (pair.server.write(bytes(500_000)), pair.server.close()))
    assert pair.client.read(timeout=5) == bytes(500_000)
    writing.result()
    assert pair.client.read() == b""
    with pytest.raises(EOFError):
        pair.client.read(1)


def test_makefile_gives_files_of_text_and_of_bytes(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    with pair.client.makefile("rw", encoding="utf-8", newline="\n") as text:
        text.write("grüße\nzwei\n")
        text.flush()
        reader = pair.server.makefile("rb")
        assert reader.readline() == "grüße\n".encode()
        pair.server.write(b"eins\nzwei")
        assert text.readline() == "eins\n"
    assert not pair.client.closed  # closing the file leaves the pipe
    raw = pair.client.makefile("wb", buffering=0)
    assert isinstance(raw, io.RawIOBase)
    assert raw.write(b"raw\n") == 4
    assert reader.readline() == b"zwei\n"
    assert reader.readline() == b"raw\n"
    pair.client.close()
    assert reader.read() == b""
    for mode in ("", "x", "a", "rx"):
        with pytest.raises(ValueError):
            pair.server.makefile(mode)


def test_makefile_reads_to_the_end(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    writing = Background(lambda: (pair.server.write(b"line\n" * 50_000), pair.server.close()))
    with pair.client.makefile("r") as lines:
        assert sum(1 for _ in lines) == 50_000
    writing.result()


# ---- Threads


def test_many_writers_and_readers_of_one_end(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    got: list[bytes] = []
    lock = threading.Lock()

    def write(writer: int) -> None:
        for number in range(200):
            pair.client.send(b"%d:%d:" % (writer, number) + b"x" * (number * 37 % 3000))

    def read() -> None:
        for message in pair.server:
            with lock:
                got.append(message)

    readers = [Background(read) for _ in range(4)]
    writers = [Background(lambda n=n: write(n)) for n in range(4)]  # type: ignore[misc]
    for writer in writers:
        writer.result(20)
    pair.client.close()
    for reader in readers:
        reader.result(20)
    assert sorted(got) == sorted(b"%d:%d:" % (w, n) + b"x" * (n * 37 % 3000) for w in range(4) for n in range(200))


def test_pipes_are_listed_while_they_exist(name: str, root: Path) -> None:
    assert npipe.list_pipes() == []
    with npipe.listen(name, max_instances=3), npipe.listen(name + "-b", mode="byte", access="outbound"):
        first, second = npipe.list_pipes()
        assert (first.name, first.type, first.direction) == (name, "message", "duplex")
        assert (first.instances, first.max_instances, first.pid) == (1, 3, os.getpid())
        assert (second.name, second.type, second.direction) == (name + "-b", "byte", "outbound")
        assert second.max_instances is None
    assert npipe.list_pipes() == []
    assert list(root.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the kernel keeps what is written")
def test_a_close_waits_no_longer_than_the_write_that_it_waits_for(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=100)
    writing = blocked(lambda: pair.client.send(b"x" * (1 << 20), timeout=0.5))
    closing = Background(lambda: pair.client.close(timeout=30))
    with fails(121):
        writing.result()
    closing.result(10)


def test_a_transaction_beside_a_read_says_that_another_thread_reads(ends: Callable[..., Ends]) -> None:
    pair = ends()
    reading = blocked(pair.client.recv)
    with pytest.raises(npipe.PipeBusyError, match="another thread reads from it, and would get the answer"):
        pair.client.transact(b"x", timeout=0)
    pair.server.send(b"news")
    assert reading.result() == b"news"
