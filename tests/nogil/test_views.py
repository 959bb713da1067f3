"""Threads that write and look at messages in place: each comes once and whole, and whoever looks sees what was sent."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from tests.nogil.helpers import MANY, PATIENCE, ROUNDS, body, ended_by, says, times, together, until_it_ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

pytestmark = pytest.mark.slow

END = b"end"


class LeftError(Exception):
    pass


def message(sender: int, number: int) -> bytes:
    """Some lie in the buffer, some are longer than it."""
    return body(sender, number) * (60 if number % 23 == 0 else 1)


def reserved(pipe: Any, data: bytes, *, more: int = 0) -> None:
    """Send it from a block that has reserved `more` bytes than that."""
    reservation = pipe.reserve(len(data) + more, timeout=PATIENCE)
    with reservation as view:
        view[: len(data)] = data
        reservation.shrink(len(data))


def withdrawn(pipe: Any, data: bytes) -> None:
    """Write it, and send nothing."""
    with contextlib.suppress(LeftError), pipe.reserve(len(data), timeout=PATIENCE) as view:
        view[:] = data
        raise LeftError


def viewed(pipe: Any, *, copy: bool = False, leave: bool = False) -> bytes | None:
    """What comes next; None if it was left to others."""
    with contextlib.suppress(LeftError), pipe.recv_view(timeout=PATIENCE, copy=copy) as view:
        data = bytes(view)
        if leave and data != END:
            raise LeftError
        return data
    return None


def came_once(found: list[list[bytes]], senders: int, many: int) -> None:
    """Fails unless all of them have come, and to each of the readers those of one sender in their order."""
    expected = Counter(message(sender, number) for sender in range(senders) for number in range(many))
    assert Counter(one for some in found for one in some) == expected
    for some in found:
        for sender in range(senders):
            mine = [int(one.split(b"/")[1]) for one in some if one.startswith(b"%d/" % sender)]
            assert mine == sorted(mine)


def ended(pipe: Any, send: Callable[[int], None], readers: int) -> Callable[[], None]:
    """A call for `together`: two senders, and then an end for each reader."""

    def run() -> None:
        together(*times(2, send))
        for _ in range(readers):
            pipe.send(END, timeout=PATIENCE)

    return run


def test_each_message_in_place_comes_once_between_many_threads(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=4000, out_buffer_size=4000)

    def send(sender: int) -> None:
        for number in range(MANY):
            reserved(pair.client, message(sender, number), more=number % 5)

    def receive(index: int) -> list[bytes]:
        found = []
        while (data := viewed(pair.server, copy=index == 1)) != END:
            found.append(data or b"nothing")
        return found

    came_once(together(ended(pair.client, send, 2), *times(2, receive))[1:], 2, MANY)


def test_blocks_that_raise_and_calls_that_copy_are_between_them(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=4000, out_buffer_size=4000)

    def send(sender: int) -> None:
        for number in range(MANY):
            data = message(sender, number)
            if number % 3 == 0:
                withdrawn(pair.client, b"never")
                reserved(pair.client, data)
            elif number % 3 == 1:
                pair.client.send(data[:5], data[5:], timeout=PATIENCE)
            else:
                pair.client.send(data, timeout=PATIENCE)

    def view(_: int) -> list[bytes]:
        found: list[bytes] = []
        tries = 0
        while True:
            tries += 1
            data = viewed(pair.server, leave=tries % 4 == 0)
            if data == END:
                return found
            if data is not None:
                found.append(data)

    def receive(_: int) -> list[bytes]:
        found: list[bytes] = []
        buffer = bytearray(20_000)
        while True:
            data = bytes(buffer[: pair.server.recv_into(buffer, timeout=PATIENCE)])
            if data == END:
                return found
            found.append(data)

    came_once(together(ended(pair.client, send, 3), *times(2, view), lambda: receive(0))[1:], 2, MANY)


def test_two_threads_enter_a_block_and_one_of_them_gets_it(ends: Callable[..., Ends]) -> None:
    pair = ends()
    over = threading.Event()

    def entered(block: Any, data: bytes, reading: bool) -> bool:
        try:
            view = block.__enter__()
        except RuntimeError as error:
            says(error, "for one block")
            return False
        assert len(view) == len(data)
        if reading:
            assert view == data
        else:
            view[:] = data
        return True

    def look(block: Any, size: int) -> int:
        seen = 0
        while not over.is_set():
            assert block.in_place in (False, True)
            with contextlib.suppress(BufferError), memoryview(block) as view:
                assert len(view) == size
                seen += 1
        return seen

    for number in range(MANY):
        data = b"%d." % number * 9
        for block, reading in ((pair.client.reserve(len(data)), False), (pair.server.recv_view(), True)):
            over.clear()

            def enter(_: int, block: Any = block, reading: bool = reading, data: bytes = data) -> bool:
                return entered(block, data, reading)

            def both(enter: Callable[[int], bool] = enter) -> list[bool]:
                try:
                    return together(*times(2, enter))
                finally:
                    over.set()

            def seen(block: Any = block, size: int = len(data)) -> int:
                return look(block, size)

            assert sorted(together(both, seen)[0]) == [False, True]
            block.__exit__(None, None, None)
        assert pair.server.peek() == npipe.Peek(b"", 0, 0)


def test_who_shrinks_and_who_asks_and_who_ends(ends: Callable[..., Ends]) -> None:
    pair = ends()
    data = bytes(range(200))
    for _ in range(MANY):
        reservation = pair.client.reserve(len(data))
        reservation.__enter__()[:] = data

        def shrink(_: int, reservation: Any = reservation) -> None:
            for size in range(len(data) - 1, 100, -1):
                try:
                    reservation.shrink(size)
                except npipe.PipeArgumentError as error:  # the other one was further already
                    ended_by(error, 87)

        def ask(reservation: Any = reservation) -> list[int]:
            return [reservation.size for _ in range(50)]

        def end(reservation: Any = reservation) -> None:
            reservation.__exit__(None, None, None)

        sizes = together(ask, end, *times(2, shrink))[0]
        assert sizes == sorted(sizes, reverse=True)
        got = pair.server.recv(timeout=PATIENCE)
        assert got == data[: len(got)]
        assert 101 <= len(got) <= 200


@pytest.mark.parametrize("copied", [False, True])
def test_a_view_that_another_thread_looks_at_stays_as_it_was(ends: Callable[..., Ends], copied: bool) -> None:
    pair = ends(in_buffer_size=300_000)
    size = 100_000 if copied else 30_000
    looking: queue.Queue[tuple[memoryview, bytes] | None] = queue.Queue()
    seen = threading.Semaphore(0)
    over = threading.Semaphore(0)

    def look() -> int:
        looks = 0
        while (given := looking.get(timeout=PATIENCE)) is not None:
            part, expected = given
            seen.release()
            while not over.acquire(blocking=False):  # while the block ends, and the ring goes round
                assert bytes(part) == expected
                looks += 1
            assert bytes(part) == expected
            del part, given
            seen.release()
        return looks

    def receive() -> None:
        for number in range(ROUNDS):
            data = b"%06d" % number * (size // 6)
            pair.client.send(data, timeout=PATIENCE)
            with pytest.raises(npipe.PipeViewError) as caught, pair.server.recv_view(copy=copied) as view:
                part = view[6:-6]
                looking.put((part, data[6:-6]))
                assert seen.acquire(timeout=PATIENCE)
            assert caught.value.winerror == 1224
            del part
            for _ in range(12):  # over what it stood in
                pair.client.send(bytes(size), timeout=PATIENCE)
                assert pair.server.recv(timeout=PATIENCE) == bytes(size)
            over.release()
            assert seen.acquire(timeout=PATIENCE)
        looking.put(None)

    together(look, receive)


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_a_pipe_ends_under_blocks(ends: Callable[..., Ends], how: str) -> None:
    def write(pipe: Any, size: int) -> None:
        with pipe.reserve(size, timeout=0.01) as view:
            view[:] = b"w" * size

    def look(pipe: Any) -> None:
        with pipe.recv_view(timeout=0.01) as view:
            assert bytes(view) == b"w" * len(view)

    for _ in range(ROUNDS):
        pair = ends(in_buffer_size=1000, out_buffer_size=1000)

        def end(pair: Ends = pair) -> None:
            victim = pair.client if how == "peer" else pair.server
            victim.close(timeout=0) if how == "close" else victim.abort()

        calls: list[Callable[[], Any]] = [
            lambda pair=pair: write(pair.server, 300),  # type: ignore[misc]
            lambda pair=pair: look(pair.server),  # type: ignore[misc]
            lambda pair=pair: write(pair.client, 2000),  # type: ignore[misc]
            lambda pair=pair: look(pair.client),  # type: ignore[misc]
        ]
        together(end, *[lambda call=call: until_it_ends(call) for call in calls])


def test_blocks_that_are_dropped_in_other_threads(ends: Callable[..., Ends]) -> None:
    pair = ends()
    blocks: queue.Queue[Any] = queue.Queue(2)

    def drop(_: int) -> None:
        while blocks.get(timeout=PATIENCE) is not None:
            pass

    def work() -> None:
        for number in range(MANY):
            block = pair.client.reserve(100, timeout=PATIENCE)
            block.__enter__()
            blocks.put(block, timeout=PATIENCE)
            del block
            data = body(0, number)
            while True:
                try:
                    pair.client.send(data, timeout=PATIENCE)
                    break
                except npipe.PipeStateError as error:  # this thread's own, which is there yet
                    ended_by(error, 170)
            view = pair.server.recv_view(timeout=PATIENCE)
            assert view.__enter__() == data
            blocks.put(view, timeout=PATIENCE)
            del view
            while True:
                try:
                    assert pair.server.recv(timeout=PATIENCE) == data
                    break
                except npipe.PipeStateError as error:
                    ended_by(error, 170)
        for _ in range(2):
            blocks.put(None, timeout=PATIENCE)

    together(work, *times(2, drop))


def test_views_of_a_pools_connections(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name, 2) as pool:

        def ask(index: int) -> None:
            for number in range(ROUNDS * 2):
                with pool.connection(timeout=PATIENCE) as pipe:
                    reserved(pipe, body(index, number))
                    assert viewed(pipe) == body(index, number).upper()

        together(*times(4, ask))


# ---- Event loops


async def reserve(pipe: Any, data: bytes) -> None:
    async with pipe.reserve(len(data), timeout=PATIENCE) as view:
        view[:] = data


async def view(pipe: Any) -> bytes:
    async with pipe.recv_view(timeout=PATIENCE) as view:
        return bytes(view)


def test_blocks_on_a_loop_in_each_thread(name: str) -> None:
    async def talk(index: int) -> None:
        listener = npipe.aio.listen(f"{name}-{index}", in_buffer_size=4000)
        client = await npipe.aio.connect(f"{name}-{index}")
        server = await listener.accept()

        async def send() -> None:
            for number in range(MANY):
                await reserve(client, message(index, number))

        async def receive() -> None:
            for number in range(MANY):
                assert await view(server) == message(index, number)

        await asyncio.gather(send(), receive())
        await client.close()
        await server.close()
        await listener.close()

    together(*times(3, lambda index: asyncio.run(talk(index))))


def test_a_loop_at_one_end_and_threads_at_the_other(name: str) -> None:
    listener = npipe.listen(name, in_buffer_size=4000, out_buffer_size=4000)

    async def answer() -> None:
        async with await npipe.aio.connect(name) as pipe:
            while True:
                async with pipe.recv_view(timeout=PATIENCE) as view:
                    data = bytes(view)
                await reserve(pipe, data)
                if data == END:
                    return

    def talk() -> None:
        with listener.accept(PATIENCE) as pipe:

            def send(sender: int) -> None:
                for number in range(MANY):
                    reserved(pipe, message(sender, number))

            def receive(_: int) -> list[bytes]:
                return [viewed(pipe) or b"nothing" for _ in range(MANY)]

            came_once(together(*times(2, send), *times(2, receive))[2:], 2, MANY)
            reserved(pipe, END)
            assert viewed(pipe) == END

    together(lambda: asyncio.run(answer()), talk)
    listener.close()


def test_a_threads_look_at_what_a_loop_has_out(name: str) -> None:
    def fill(part: memoryview, data: bytes) -> None:
        part[:] = data

    async def each(call: Callable[..., Any], *given: tuple[Any, ...]) -> list[Any]:
        """Call it with each of these in a thread of its own. The parts go here, one by one: CPython counts them so."""
        try:
            return await asyncio.gather(*[asyncio.to_thread(call, *one) for one in given])
        finally:
            for part, *_ in given:
                part.release()

    async def main() -> None:
        listener = npipe.aio.listen(name, in_buffer_size=300_000)
        client = await npipe.aio.connect(name)
        server = await listener.accept()
        for number in range(ROUNDS * 5):
            first, second = body(1, number) + b"1", body(2, number) + b"2"
            async with client.reserve(len(first) + len(second)) as view:
                await each(fill, (view[: len(first)], first), (view[len(first) :], second))
            async with server.recv_view() as view:
                seen = await each(bytes, (view[:],), (view[:],))
            assert seen == [first + second] * 2
        await client.close()
        await server.close()
        await listener.close()

    asyncio.run(main())
