"""What is counted, on each face: what was really sent and read, and nothing that was taken back."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe import aio

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends


def sent(pipe: Any) -> tuple[int, int]:
    return pipe.stats.bytes_sent, pipe.stats.messages_sent


def received(pipe: Any) -> tuple[int, int]:
    return pipe.stats.bytes_received, pipe.stats.messages_received


def test_each_end_counts_each_direction(ends: Callable[..., Ends]) -> None:
    _, server, client = ends()
    before = time.time()
    for size in (0, 1, 127, 128, 20_000):
        client.send(bytes(size))
    server.send(b"abc")
    assert (sent(client), received(server)) == ((20_256, 5), (0, 0))
    assert (server.stats.unread, client.stats.unread_by_peer, client.stats.unread_messages_by_peer) == (
        20_256,
        20_256,
        5,
    )
    for size in (0, 1, 127, 128, 20_000):
        assert server.recv() == bytes(size)
    assert client.recv() == b"abc"
    assert (sent(client), received(server), sent(server), received(client)) == (
        (20_256, 5),
        (20_256, 5),
        (3, 1),
        (3, 1),
    )
    for pipe in (server, client):
        told = pipe.stats
        assert (told.unread, told.unread_by_peer, told.unread_messages_by_peer) == (0, 0, 0)
        assert (told.pending_reads, told.pending_writes, told.reading_for, told.writing_for) == (0, 0, None, None)
        assert abs(told.since - before) < 60


def test_messages_of_every_way_to_send_count_alike(ends: Callable[..., Ends]) -> None:
    _, server, client = ends()
    client.send(b"a", b"bc")
    client.send_parts(b"de", b"f")
    with client.reserve(10) as view:
        assert sent(client) == (6, 2)  # what is only reserved is not sent
        view[:4] = b"ghij"
    with pytest.raises(ZeroDivisionError), client.reserve(100):
        1 / 0  # noqa: B018
    assert sent(client) == (16, 3)
    buffer = bytearray(2)
    assert server.recv_into(buffer) == 2
    assert received(server) == (2, 0)
    assert server.recv_into(buffer) == 1
    assert received(server) == (3, 1)
    with server.recv_view() as view:
        assert bytes(view) == b"def"
    assert received(server) == (6, 2)
    with pytest.raises(ZeroDivisionError), server.recv_view():
        1 / 0  # noqa: B018
    assert received(server) == (6, 2)
    assert len(server.recv()) == 10
    assert received(server) == (16, 3)


def test_a_stream_counts_bytes_and_writes(ends: Callable[..., Ends]) -> None:
    _, server, client = ends("byte")
    for part in (b"abc", b"defg", b"h"):
        client.write(part)
    assert sent(client) == (8, 3)
    assert server.read(5) == b"abcde"
    assert received(server) == (5, 1)
    assert server.read(5) == b"fgh"
    assert received(server) == (8, 3)


def test_a_send_that_times_out_does_not_count(ends: Callable[..., Ends]) -> None:
    _, server, client = ends(in_buffer_size=100)
    client.send(bytes(100))
    for _ in range(3):
        with pytest.raises(npipe.PipeTimeoutError):
            client.send(bytes(50), timeout=0.02)
    assert sent(client) == (100, 1)
    assert server.recv() == bytes(100)
    with pytest.raises(npipe.PipeTimeoutError):
        server.recv(timeout=0)
    assert received(server) == (100, 1)
    assert (server.stats.pending_reads, client.stats.pending_writes) == (0, 0)


def test_counts_are_exact_under_threads_and_withdrawals(ends: Callable[..., Ends]) -> None:
    _, server, client = ends(in_buffer_size=300)
    done: list[list[int]] = [[], [], []]

    def write(mine: list[int], size: int) -> None:
        for number in range(400):
            try:
                client.send(bytes(size + number % 7), timeout=0.0002 if number % 3 else None)
            except npipe.PipeTimeoutError:
                continue
            mine.append(size + number % 7)

    got: list[int] = []

    def read() -> None:
        while message := server.recv():
            got.append(len(message))

    threads = [threading.Thread(target=write, args=(done[i], 20 + 90 * i)) for i in range(3)]
    reader = threading.Thread(target=read)
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    client.send(b"")
    reader.join()
    wanted = sorted(size for mine in done for size in mine)
    assert sorted(got) == wanted
    assert sent(client) == received(server) == (sum(wanted), len(wanted) + 1)


def test_a_closed_pipe_keeps_its_counts(ends: Callable[..., Ends]) -> None:
    _, server, client = ends()
    client.send(b"abc")
    client.close()
    assert sent(client) == (3, 1)
    assert server.recv() == b"abc"
    server.close()
    assert received(server) == (3, 1)
    assert (server.stats.pending_reads, server.stats.peer_waits_to_read) == (0, False)


def test_a_listener_counts_all_its_connections(name: str) -> None:
    before = time.time()
    with npipe.listen(name, max_instances=4) as listener:
        for number in range(1, 4):
            with npipe.connect(name) as client, listener.accept(10) as server:
                client.send(bytes(number))
                server.recv()
                server.send(b"four")
                told = listener.stats
                assert (told.connected, told.connections) == (1, number)
                assert (told.bytes_received, told.messages_received) == (number * (number + 1) // 2, number)
                assert (told.bytes_sent, told.messages_sent) == (4 * number, number)
        told = listener.stats
        assert (told.name, told.connected, told.connections, told.waiting) == (name, 0, 3, 0)
        assert (told.bytes_received, told.bytes_sent, told.instances) == (6, 12, 1)
        assert before - 1 <= told.since <= time.time()
    with pytest.raises(npipe.PipeClosedError) as caught:
        _ = listener.stats
    assert caught.value.winerror == 6


def test_a_client_that_waits_for_an_instance_is_counted(name: str) -> None:
    with npipe.listen(name, max_instances=1) as listener, npipe.connect(name), listener.accept(10) as server:

        def wait() -> None:
            with npipe.connect(name, timeout=20) as pipe:
                pipe.send(b"here")

        waiting = threading.Thread(target=wait)
        waiting.start()
        until = time.monotonic() + 20
        while listener.stats.waiting != 1:
            assert time.monotonic() < until
        server.close()
        with listener.accept(10) as other:
            assert other.recv(timeout=20) == b"here"
        waiting.join()
        assert listener.stats.waiting == 0


def test_the_process_counts_what_all_its_pipes_moved(name: str) -> None:
    before = npipe.stats()
    for number in range(2):
        with npipe.listen(f"{name}-{number}") as listener, npipe.connect(listener.name) as client:
            with listener.accept(10) as server:
                client.send(b"12345")
                server.recv()
                now = npipe.stats()
                assert now.server.connected - before.server.connected == 1
                assert now.client.connected - before.client.connected == 1
    now = npipe.stats()
    assert now.server.connections - before.server.connections == 2
    assert now.server.bytes_received - before.server.bytes_received == 10
    assert now.client.bytes_sent - before.client.bytes_sent == 10
    assert now.client.messages_sent - before.client.messages_sent == 2
    assert now.client.connected == before.client.connected


def test_a_forked_child_begins_at_zero(ends: Callable[..., Ends]) -> None:
    _, server, client = ends()
    client.send(b"abc")
    server.recv()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"?"
        try:
            _ = client.stats
        except npipe.PipeClosedError as error:
            now = npipe.stats()
            said = f"{error.winerror} {now.client.connections} {now.server.bytes_received}".encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"6 0 0"
    os.waitpid(pid, 0)
    assert sent(client) == (3, 1)


def test_an_event_loop_s_pipes_count_the_same(name: str) -> None:
    async def main() -> None:
        async with aio.listen(name, in_buffer_size=100) as listener:
            client = await aio.connect(name)
            server = await listener.accept()
            for size in (10, 0, 50):
                await client.send(bytes(size))
            assert (sent(client), server.stats.unread) == ((60, 3), 60)
            for size in (10, 0, 50):
                assert await server.recv() == bytes(size)
            assert received(server) == (60, 3)
            reading = asyncio.ensure_future(server.recv())
            await asyncio.sleep(0)
            assert server.stats.pending_reads == 1
            await client.send(b"x")
            assert await reading == b"x"
            await client.send(bytes(100))
            pending = asyncio.ensure_future(client.send(bytes(30)))
            await asyncio.sleep(0)
            assert client.stats.pending_writes == 1
            pending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pending
            assert sent(client) == (161, 5)
            assert await server.recv() == bytes(100)
            told = listener.stats
            assert (told.connected, told.bytes_received, told.messages_received) == (1, 161, 5)
            await client.close()
            await server.close()
            assert received(server) == (161, 5)

    asyncio.run(main())


def test_a_borrowed_pipe_tells_of_its_connection(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name, 1) as pool:
        for number in range(1, 3):
            with pool.connection() as pipe:
                pipe.send(b"abc")
                assert pipe.recv() == b"ABC"
                assert sent(pipe) == (3 * number, number)
