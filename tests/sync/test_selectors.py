"""fileno: pipes in select, selectors and other event loops."""

from __future__ import annotations

import asyncio
import select
import selectors
import time
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import Background, blocked, fails, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends


def readable(*pipes: Any, timeout: float = 0) -> list[bool]:
    found = select.select(pipes, [], [], timeout)[0]
    return [pipe in found for pipe in pipes]


def test_fileno_is_readable_when_a_read_would_not_wait(ends: Callable[..., Ends]) -> None:
    pair = ends()
    assert readable(pair.client, pair.server) == [False, False]
    assert pair.client.fileno() == pair.client.fileno()
    pair.server.send(b"a")
    assert readable(pair.client, timeout=5) == [True]
    assert readable(pair.client, pair.server) == [True, False]
    pair.server.send(b"b")
    assert pair.client.recv() == b"a"
    assert readable(pair.client, timeout=5) == [True]  # another message is there
    assert pair.client.recv() == b"b"
    assert readable(pair.client) == [False]
    pair.server.send(b"")
    assert readable(pair.client, timeout=5) == [True]
    assert pair.client.recv() == b""
    assert readable(pair.client) == [False]


def test_fileno_asked_for_when_data_or_the_end_is_there_already(ends: Callable[..., Ends]) -> None:
    pair, gone = ends(), ends()
    pair.server.send(b"early")
    assert readable(pair.client, timeout=5) == [True]
    gone.server.close()
    assert readable(gone.client, timeout=5) == [True]
    with fails(109):
        gone.client.recv(timeout=0)
    assert readable(gone.client, timeout=5) == [True]


@pytest.mark.parametrize("how", ["close", "abort"])
def test_fileno_tells_of_the_end(ends: Callable[..., Ends], how: str) -> None:
    pair = ends()
    assert readable(pair.client) == [False]
    pair.server.send(b"last")
    getattr(pair.server, how)()
    assert readable(pair.client, timeout=5) == [True]
    if how == "close":
        assert pair.client.recv(timeout=0) == b"last"
        assert readable(pair.client, timeout=5) == [True]
    with pytest.raises(npipe.PipeClosedError):
        pair.client.recv(timeout=0)


def test_fileno_with_parts_and_large_messages(ends: Callable[..., Ends]) -> None:
    pair, stream = ends(), ends("byte")
    assert readable(pair.client, stream.client) == [False, False]
    pair.server.send(b"abcdef")
    assert pair.client.recv_into(bytearray(2)) == 2
    assert readable(pair.client, timeout=5) == [True]
    assert pair.client.recv_into(bytearray(20)) == 4
    assert readable(pair.client) == [False]
    sending = blocked(lambda: pair.server.send(bytes(2 << 20)))
    assert readable(pair.client, timeout=5) == [True]
    assert len(pair.client.recv(timeout=5)) == 2 << 20
    sending.result()
    assert readable(pair.client) == [False]
    stream.server.write(b"abcdef")
    assert readable(stream.client, timeout=5) == [True]
    assert stream.client.read(3) == b"abc"
    assert readable(stream.client, timeout=5) == [True]
    assert stream.client.read(3) == b"def"
    assert readable(stream.client) == [False]


def test_fileno_after_a_read_that_timed_out(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.fileno()
    with fails(121):
        pair.client.recv(timeout=0.01)
    pair.server.send(b"x")
    assert readable(pair.client, timeout=5) == [True]
    assert pair.client.recv(timeout=0) == b"x"
    assert readable(pair.client) == [False]


def test_fileno_after_a_transaction_that_timed_out(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.fileno()
    with fails(121):
        pair.client.transact(b"?", timeout=0.01)
    assert readable(pair.client) == [False]
    pair.server.send(b"late")
    assert readable(pair.client, timeout=5) == [True]
    pair.client.discard_reply(timeout=5)
    assert readable(pair.client) == [False]


def test_fileno_with_reads_in_another_thread(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.fileno()
    reading = blocked(lambda: pair.client.recv(timeout=20))
    pair.server.send(b"for the thread")
    assert reading.result() == b"for the thread"
    until(lambda: readable(pair.client) == [False])
    pair.server.send(b"for the selector")
    assert readable(pair.client, timeout=5) == [True]


def test_selector_over_many_pipes(ends: Callable[..., Ends]) -> None:
    pairs = [ends() for _ in range(20)]
    with selectors.DefaultSelector() as selector:
        for number, pair in enumerate(pairs):
            selector.register(pair.client, selectors.EVENT_READ, number)
        total = [0] * 20

        def write() -> None:
            for turn in range(200):
                pairs[turn % 20].server.send(b"x" * turn)

        writer = Background(write)
        end = time.monotonic() + 20
        while sum(total) < 200:
            assert time.monotonic() < end
            for key, _ in selector.select(5):
                pairs[key.data].client.recv(timeout=0)
                total[key.data] += 1
        writer.result()
        assert selector.select(0) == []
        assert total == [10] * 20


def test_asyncio_add_reader(ends: Callable[..., Ends]) -> None:
    pair = ends()
    messages: list[bytes] = []

    async def read_all() -> None:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def ready() -> None:
            try:
                messages.append(pair.client.recv(timeout=0))
            except npipe.PipeTimeoutError:
                pass
            except npipe.PipeClosedError:
                loop.remove_reader(pair.client)
                ended.set_result(None)

        loop.add_reader(pair.client, ready)
        await asyncio.wait_for(ended, 20)

    def write() -> None:
        for number in range(1000):
            pair.server.send(b"%d" % number)
        pair.server.close()

    pair.server.send(b"early")
    writer = Background(write)
    asyncio.run(read_all())
    writer.result()
    assert messages == [b"early", *(b"%d" % number for number in range(1000))]


def test_no_wake_is_lost_by_a_selector(ends: Callable[..., Ends]) -> None:
    """Ping-pong over select alone: a byte that is not sent or not armed for would hang it."""
    pair = ends()

    def echo() -> None:
        while True:
            if readable(pair.server, timeout=10) != [True]:
                raise AssertionError("the server was not woken")
            try:
                message = pair.server.recv(timeout=0)
            except npipe.PipeTimeoutError:
                continue
            except npipe.PipeClosedError:
                return
            pair.server.send(message)

    server = Background(echo)
    for number in range(2000):
        pair.client.send(b"%d" % number)
        while True:
            assert readable(pair.client, timeout=10) == [True]
            try:
                assert pair.client.recv(timeout=0) == b"%d" % number
                break
            except npipe.PipeTimeoutError:
                continue
    pair.client.close()
    server.result()
