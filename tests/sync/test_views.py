"""Messages in place: reserve and recv_view of message pipes, and what is asked while one is out."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import random
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from tests.helpers import DEADLINE, blocked, fails, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Ends

KIB = 1024
MIB = KIB * KIB
IN_PLACE = pytest.mark.skipif(sys.platform == "win32", reason="on Windows every one is a copy")


class StopError(Exception):
    pass


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    with pytest.raises(StopError):
        yield


def is_in_place(pipe: Any) -> bool:
    """Whether the next message is looked at where it stands; it stays."""
    with stopped(), pipe.recv_view() as view:
        in_place = view.obj.in_place
        raise StopError
    return bool(in_place)


# ---- What they do


def test_what_is_written_into_a_reservation_is_a_message(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pair.client.reserve(6) as view:
        assert isinstance(view, memoryview)
        assert not view.readonly
        assert (view.nbytes, view.format, view.ndim) == (6, "B", 1)
        view[:] = b"abcdef"
        assert pair.server.peek().available == 0  # until the end
    assert pair.server.recv() == b"abcdef"


def test_a_view_is_the_next_message_and_the_end_consumes_it(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"first")
    pair.client.send(b"second")
    with pair.server.recv_view() as view:
        assert isinstance(view, memoryview)
        assert view.readonly
        assert bytes(view) == b"first"
        with pytest.raises(TypeError):
            view[0] = 1
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert pair.server.recv() == b"second"
    with fails(121):
        pair.server.recv_view(timeout=0).__enter__()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("copied", [False, True])
def test_every_size_comes_whole(ends: Callable[..., Ends], size: int, copied: bool) -> None:
    pair = ends()
    for turn in range(20):  # at other places in the ring
        data = random.Random(size + turn).randbytes(size)

        def send(data: bytes = data) -> None:
            with pair.client.reserve(len(data)) as view:
                view[:] = data

        sender = threading.Thread(target=send)
        sender.start()
        with pair.server.recv_view(copy=copied) as view:
            assert bytes(view) == data
        sender.join(DEADLINE)


@IN_PLACE
def test_what_lies_in_the_buffer_is_not_copied(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=MIB)
    for size in (1, 1000, MIB // 2, MIB):
        for _ in range(9):  # also over the ring's end
            with pair.client.reserve(size) as view:
                assert view.obj.in_place
            assert is_in_place(pair.server)
            with pair.server.recv_view(copy=True) as view:
                assert not view.obj.in_place


def test_shrinking_sends_the_beginning(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=100_000)
    for size, sent in ((10, 3), (10, 0), (200, 100), (200, 0), (20_000, 130), (20_000, 19_999), (90_000, 1), (0, 0)):
        for _ in range(3):
            reservation = pair.client.reserve(size)
            assert reservation.size == size
            data = random.Random(size).randbytes(size)
            with reservation as view:
                view[:] = data
                reservation.shrink((size + sent) // 2)
                reservation.shrink(sent)
                assert reservation.size == sent
                assert len(view) == size
                for wrong in (sent + 1, -1):
                    with pytest.raises(npipe.PipeArgumentError) as caught:
                        reservation.shrink(wrong)
                    assert caught.value.winerror == 87
            pair.client.send(b"behind")
            assert pair.server.recv() == data[:sent]
            assert pair.server.recv() == b"behind"


def test_an_exception_withdraws_the_reservation(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (0, 5, 60_000, 200_000):
        with stopped(), pair.client.reserve(size) as view:
            view[:] = bytes(size)
            raise StopError
        assert pair.server.peek().available == 0
        pair.client.send(b"next")
        assert pair.server.recv() == b"next"
    with pair.client.reserve(65536):  # all of the room is there again
        pass
    assert len(pair.server.recv()) == 65536


@pytest.mark.parametrize("size", [0, 5, 60_000, 200_000])
@pytest.mark.parametrize("copied", [False, True])
def test_an_exception_leaves_the_message(ends: Callable[..., Ends], size: int, copied: bool) -> None:
    pair = ends()
    data = random.Random(size).randbytes(size)
    sender = threading.Thread(target=lambda: [pair.client.send(data), pair.client.send(b"next")])
    sender.start()
    for _ in range(3):
        with stopped(), pair.server.recv_view(copy=copied) as view:
            assert bytes(view) == data
            raise StopError
    assert pair.server.recv() == data
    assert pair.server.recv() == b"next"
    sender.join(DEADLINE)


def test_the_rest_of_a_message_is_viewed(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"0123456789")
    part = bytearray(4)
    assert pair.server.recv_into(part) == 4
    for copied in (False, True):
        with stopped(), pair.server.recv_view(copy=copied) as view:
            assert bytes(view) == b"456789"
            raise StopError
        assert pair.server.more_data
    with pair.server.recv_view() as view:
        assert bytes(view) == b"456789"
    assert not pair.server.more_data


def test_arrays_read_and_write_in_place(ends: Callable[..., Ends]) -> None:
    numpy = pytest.importorskip("numpy")
    pair = ends(in_buffer_size=MIB)
    with pair.client.reserve(8 * 1000) as view:
        numbers = numpy.frombuffer(view, numpy.float64)
        numbers[:] = numpy.arange(1000)
        del numbers
    with pair.server.recv_view() as view:
        numbers = numpy.frombuffer(view, numpy.float64)
        assert not numbers.flags.writeable
        assert numbers.sum() == 499500
        del numbers


def test_sizes_that_no_message_has(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (-1, 1 << 32):
        with pytest.raises(npipe.PipeArgumentError):
            pair.client.reserve(size)
    for nonsense in ("5", 5.0, None):
        with pytest.raises(TypeError):
            pair.client.reserve(nonsense)
    refused: list[Callable[[], object]] = [
        lambda: pair.client.reserve(5, timeout=-1),
        lambda: pair.server.recv_view(timeout=-1),
    ]
    for call in refused:
        with pytest.raises(ValueError, match="time"):
            call()
    pair.client.max_message_size = 10
    pair.server.send(bytes(11))
    for copied in (False, True):
        with fails(234), pair.client.recv_view(copy=copied):
            pass
    assert pair.client.peek().left == 11
    pair.client.max_message_size = 11
    with pair.client.recv_view() as view:
        assert len(view) == 11


def test_each_is_for_one_block_and_belongs_to_nobody_else(ends: Callable[..., Ends]) -> None:
    pair = ends()
    reservation, viewed = pair.client.reserve(1), pair.server.recv_view()
    with reservation:
        pass
    with viewed:
        pass
    for used in (reservation, viewed):
        with pytest.raises(RuntimeError):
            used.__enter__()
        for of_it in (copy.copy, pickle.dumps):
            with pytest.raises(TypeError):
                of_it(used)


def test_who_waits_for_its_reservation_is_the_only_one(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    pair.client.send(bytes(1000))
    reservation = pair.client.reserve(500)
    entering = blocked(reservation.__enter__)
    with pytest.raises(RuntimeError, match="one block"):
        reservation.__enter__()
    assert pair.server.recv() == bytes(1000)
    view = entering.result()
    with pytest.raises(RuntimeError, match="one block"):
        reservation.__enter__()
    view[:] = b"r" * 500
    del view, entering
    reservation.__exit__(None, None, None)
    assert pair.server.recv() == b"r" * 500


def test_who_waits_for_its_view_is_the_only_one(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for copied in (False, True):
        viewed = pair.server.recv_view(copy=copied)
        looking = blocked(viewed.__enter__)
        with pytest.raises(RuntimeError, match="one block"):
            viewed.__enter__()
        pair.client.send(b"first")
        pair.client.send(b"second")
        assert bytes(looking.result()) == b"first"
        del looking
        viewed.__exit__(None, None, None)
        assert pair.server.recv() == b"second"


def test_a_reservation_that_could_not_begin_is_tried_again(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    for timeout in (0, 0.02):
        pair.client.send(bytes(1000))
        reservation = pair.client.reserve(500, timeout=timeout)
        for _ in range(2):
            with fails(121):
                reservation.__enter__()
        assert pair.server.recv() == bytes(1000)
        with reservation as view:
            view[:] = b"r" * 500
        assert pair.server.recv() == b"r" * 500


def test_a_view_that_could_not_begin_is_tried_again(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for timeout in (0, 0.02):
        for copied in (False, True):
            viewed = pair.server.recv_view(timeout=timeout, copy=copied)
            for _ in range(2):
                with fails(121):
                    viewed.__enter__()
            pair.client.send(b"message")
            with viewed as view:
                assert bytes(view) == b"message"


def test_a_block_that_is_left_twice_ends_once(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (0, 5, 200_000):
        reservation, viewed = pair.client.reserve(size), pair.server.recv_view()
        sender = started(lambda reservation=reservation, size=size: twice(reservation, b"r" * size))
        assert twice(viewed) == b"r" * size
        sender.result()
        pair.client.send(b"next")
        assert pair.server.recv() == b"next"


def twice(block: Any, data: bytes | None = None) -> bytes:
    with block as view:
        if data is not None:
            view[:] = data
        content = bytes(view)
    block.__exit__(None, None, None)
    return content


def test_one_that_never_begins_is_nothing(ends: Callable[..., Ends]) -> None:
    pair = ends()
    reservation, viewed = pair.client.reserve(5), pair.server.recv_view()
    pair.client.send(b"x")
    assert pair.server.recv() == b"x"
    del reservation, viewed


def test_one_that_is_dropped_in_its_block_is_withdrawn_at_once(ends: Callable[..., Ends]) -> None:
    pair = ends()
    gc.collect()
    gc.disable()  # nothing waits for the collector
    try:
        for size in (5, 200_000):
            for begin in (None, 1):  # what the block gets, and a part of that
                _ = pair.client.reserve(size).__enter__()[begin:]
                del _
                pair.client.send(b"x", timeout=0)
                for copied in (False, True):
                    _ = pair.server.recv_view(copy=copied).__enter__()[begin:]
                    del _
                assert pair.server.recv(timeout=0) == b"x"
    finally:
        gc.enable()


def test_only_an_end_that_may(ends: Callable[..., Ends]) -> None:
    pair = ends(access="inbound")
    with fails(5), pair.server.reserve(5):
        pass
    with fails(5), pair.server.reserve(200_000):
        pass
    with fails(5), pair.client.recv_view():
        pass
    with pair.client.reserve(5) as view:
        view[:] = b"hello"
    with pair.server.recv_view() as view:
        assert bytes(view) == b"hello"


# ---- While one is out


def test_the_same_thread_is_told_what_it_would_wait_for(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (5, 200_000):
        with stopped(), pair.client.reserve(size):
            writes: list[Callable[[], object]] = [
                lambda: pair.client.send(b"x"),
                lambda: pair.client.send(b""),
                lambda: pair.client.send(bytearray(b"x")),
                lambda: pair.client.send(b"x", b"y"),
                lambda: pair.client.send_parts(),
                lambda: pair.client.transact(b"x"),
                lambda: pair.client.reserve(1).__enter__(),
            ]
            for write in writes:
                with fails(170):
                    write()
            raise StopError
    pair.client.send(b"message")
    for copied in (False, True):
        with stopped(), pair.server.recv_view(copy=copied) as view:
            for read in (
                pair.server.recv,
                lambda: pair.server.recv_into(bytearray(5)),
                lambda: pair.server.recv_into(bytearray(5), exact=True),
                lambda: pair.server.recv_into(bytearray(5), bytearray(5)),
                lambda: pair.server.recv_view().__enter__(),
                lambda: pair.server.recv(timeout=0),
            ):
                with fails(170):
                    read()
            assert bytes(view) == b"message"
            raise StopError
    assert pair.server.recv() == b"message"


def test_every_thread_is_told_of_its_own_whoever_else_has_one(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for first_size, second_size in ((5, 200_000), (200_000, 5), (200_000, 300_000)):
        entered, go = threading.Event(), threading.Event()

        def write(size: int = second_size, entered: Any = entered, go: Any = go) -> None:
            with pair.client.reserve(size) as view:
                with fails(170):
                    pair.client.send(b"own")
                entered.set()
                assert go.wait(DEADLINE)
                with fails(170):
                    pair.client.send_parts(b"own")
                view[:] = b"2" * size

        first = pair.client.reserve(first_size)
        view = first.__enter__()
        in_order = first_size == 5 and view.obj.in_place
        writing = started(write)
        assert entered.wait(DEADLINE)
        with fails(170):
            pair.client.send(b"own")
        receiving = started(lambda: [pair.server.recv(), pair.server.recv()])
        go.set()
        if in_order:
            writing.blocked()  # behind this one
        else:
            writing.result()
        with fails(170):
            pair.client.send(b"own")
        view[:] = b"1" * first_size
        del view
        first.__exit__(None, None, None)
        messages = [b"1" * first_size, b"2" * second_size]
        assert receiving.result() == (messages if in_order else messages[::-1])
        writing.result()
        pair.client.send(b"free")
        assert pair.server.recv() == b"free"


def test_another_direction_goes_on(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pair.client.reserve(7) as view:
        pair.server.send(b"answer")
        assert pair.client.recv() == b"answer"
        view[:] = b"request"
    with pair.server.recv_view() as view, pair.server.reserve(len(view)) as answer:
        answer[:] = view
    assert pair.client.recv() == b"request"


def test_another_thread_writes_behind_it(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for size in (0, 1, 70_000):
        for end in (contextlib.nullcontext, stopped):
            data = bytes([size % 251]) * size
            with end(), pair.client.reserve(5) as view:
                waiting = blocked(lambda data=data: pair.client.send(data)) if size else None  # type: ignore[misc]
                second = blocked(lambda: pair.client.reserve(3).__enter__().obj.__exit__(None, None, None))
                view[:] = b"first"
                if end is stopped:
                    raise StopError
            if end is contextlib.nullcontext:
                assert pair.server.recv() == b"first"
            if waiting:
                assert pair.server.recv() == data
                waiting.result()
            second.result()
            assert len(pair.server.recv()) == 3


def test_another_threads_write_behind_it_has_its_time_out(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pair.client.reserve(5) as view:
        for call in (
            lambda: pair.client.send(b"x", timeout=0.02),
            lambda: pair.client.send(bytes(100_000), timeout=0.02),
            lambda: pair.client.reserve(1, timeout=0.02).__enter__(),
            lambda: pair.client.send(b"x", timeout=0),
        ):
            outcome: list[int] = []

            def run(call: Callable[[], object] = call, outcome: list[int] = outcome) -> None:
                try:
                    call()
                except npipe.PipeTimeoutError as error:
                    outcome.append(error.winerror)

            thread = threading.Thread(target=run)
            thread.start()
            thread.join(DEADLINE)
            assert outcome == [121]
        view[:] = b"first"
    pair.client.send(b"second")
    assert [pair.server.recv(), pair.server.recv()] == [b"first", b"second"]


def test_another_thread_reads_behind_it(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for copied in (False, True):
        for end in (contextlib.nullcontext, stopped):
            pair.client.send(b"first")
            with end(), pair.server.recv_view(copy=copied) as view:
                waiting = blocked(pair.server.recv)
                pair.client.send(b"second")
                assert bytes(view) == b"first"
                if end is stopped:
                    raise StopError
            read = [waiting.result(), pair.server.recv()] if end is stopped else [b"first", waiting.result()]
            assert read == [b"first", b"second"]
            pair.client.send(b"first")
            with pair.server.recv_view(copy=copied):
                waiting = blocked(lambda: bytes(pair.server.recv_view().__enter__()))
                pair.client.send(b"second")
            assert waiting.result() == b"second"
            gc.collect()
            assert pair.server.recv() == b"second"  # that view never ended


def test_who_reads_behind_a_view_keeps_its_turn(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"first")
    with pair.server.recv_view():
        waiting = [blocked(pair.server.recv) for _ in range(3)]
        for message in (b"second", b"third", b"fourth"):
            pair.client.send(message)
    assert [one.result() for one in waiting] == [b"second", b"third", b"fourth"]


def test_what_is_looked_at_is_no_more_to_be_seen(ends: Callable[..., Ends]) -> None:
    for copied in (False, True):
        for size in (0, 7, 60_000):
            pair = ends()
            pair.client.send(bytes(size))
            pair.client.send(b"next")
            nothing = npipe.Peek(b"", 0, 0)
            with stopped(), pair.server.recv_view(copy=copied):
                assert pair.server.peek(100) == nothing
                assert not pair.server.more_data
                with fails(170):
                    pair.server.transact(b"x")
                raise StopError
            assert pair.server.peek(3).available == size + 4
            with pair.server.recv_view(copy=copied):
                assert pair.server.peek(100) == nothing
            assert pair.server.peek(100) == npipe.Peek(b"next", 4, 0)
            with pair.server.recv_view(copy=copied):
                pair.server.close()
                with fails(6):
                    pair.server.peek()


def test_flush_does_not_wait_for_a_reservation(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pair.client.reserve(5) as view:
        pair.client.flush(timeout=DEADLINE)
        view[:] = b"later"
    with fails(121):
        pair.client.flush(timeout=0.02)
    assert pair.server.recv() == b"later"
    pair.client.flush(timeout=DEADLINE)


def test_flush_waits_for_the_end_of_a_view(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"message")
    with pair.server.recv_view():
        with fails(121):
            pair.client.flush(timeout=0.02)  # it is not consumed yet
    pair.client.flush(timeout=DEADLINE)


def test_a_viewed_message_fills_the_buffer(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    pair.client.send(bytes(1000))
    with pair.server.recv_view():
        with fails(121):
            pair.client.send(b"x", timeout=0.02)
        with fails(121):
            pair.client.reserve(1, timeout=0.02).__enter__()
        with fails(121):
            pair.client.reserve(1, timeout=0).__enter__()
    with pair.client.reserve(1, timeout=0) as view:
        view[:] = b"x"
    assert pair.server.recv() == b"x"


def test_what_is_reserved_counts_as_written(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    with pair.client.reserve(600):
        pass
    with fails(121):
        pair.client.send(bytes(401), timeout=0)
    reservation = pair.client.reserve(400, timeout=0)
    with reservation:
        reservation.shrink(100)
    pair.client.send(bytes(300), timeout=0)  # what was shrunk is free
    with fails(121):
        pair.client.send(b"x", timeout=0)
    assert [len(pair.server.recv()) for _ in range(3)] == [600, 100, 300]
    waiting_for = pair.client.reserve(1000, timeout=0)
    with waiting_for:
        pass


def test_a_reservation_waits_for_room(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    pair.client.send(bytes(900))

    def send() -> None:
        with pair.client.reserve(500) as view:
            view[:] = b"r" * 500

    waiting = blocked(send)
    behind = blocked(lambda: pair.client.send(b"behind"))
    assert pair.server.peek().available == 900 + 6  # what is reserved is no secret of the queue: it is not written yet
    assert pair.server.recv() == bytes(900)
    waiting.result()
    behind.result()
    assert [pair.server.recv(), pair.server.recv()] == [b"r" * 500, b"behind"]


def test_one_longer_than_the_buffer_waits_at_its_end(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=1000)
    with fails(121), pair.client.reserve(5000, timeout=0.02):
        pass
    assert pair.server.peek().available == 0
    data = random.Random(1).randbytes(5000)

    def send() -> None:
        with pair.client.reserve(5000) as view:
            view[:] = data

    waiting = blocked(send)
    with pair.server.recv_view() as view:
        assert bytes(view) == data
    waiting.result()


# ---- Ends of the pipe


def test_a_close_in_the_block_of_a_reservation(ends: Callable[..., Ends]) -> None:
    for size in (5, 200_000):
        pair = ends()
        with fails(6), pair.client.reserve(size) as view:
            pair.client.close()
            view[:] = bytes(size)
        with fails(109):
            pair.server.recv()


def test_a_close_in_the_block_of_a_view(ends: Callable[..., Ends]) -> None:
    for data in (b"message", bytes(range(256)) * 800):
        for close in ("close", "abort"):
            pair = ends()
            sender = threading.Thread(target=lambda pair=pair, data=data: suppress(lambda: pair.client.send(data)))
            sender.start()
            with pair.server.recv_view() as view:
                getattr(pair.server, close)()
                assert bytes(view) == data
            assert pair.server.closed
            sender.join(DEADLINE)


def suppress(call: Callable[[], object]) -> None:
    with contextlib.suppress(npipe.PipeError):
        call()


def test_a_close_by_another_thread_ends_the_wait_for_room(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=10)
    pair.client.send(bytes(10))
    waiting = blocked(lambda: pair.client.reserve(5).__enter__())
    pair.client.close()
    with fails(109):
        waiting.result()


def test_a_close_by_another_thread_ends_the_wait_for_a_message(ends: Callable[..., Ends]) -> None:
    pair = ends()
    waiting = blocked(lambda: pair.client.recv_view().__enter__())
    pair.client.close()
    with fails(109):
        waiting.result()


def test_the_peers_close(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.send(b"message")
    with pair.server.recv_view() as view:
        pair.client.close()
        assert bytes(view) == b"message"
    with fails(109), pair.server.recv_view():
        pass
    with fails(232), pair.server.reserve(5):
        pass
    pair = ends()
    with fails(232), pair.server.reserve(5) as view:
        pair.client.close()
        view[:] = b"hello"


def test_the_peers_close_ends_the_wait_for_room(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=10)
    pair.client.send(bytes(10))
    waiting = blocked(lambda: pair.client.reserve(5).__enter__())
    pair.server.close()
    with fails(109):
        waiting.result()


def test_what_is_looked_at_is_not_the_end_of_a_pipe_whose_peer_has_gone(ends: Callable[..., Ends]) -> None:
    for copied in (False, True):
        pair = ends()
        pair.client.send(b"last")
        with stopped(), pair.server.recv_view(copy=copied):
            pair.client.close()
            assert pair.server.peek(100) == npipe.Peek(b"", 0, 0)
            raise StopError
        assert pair.server.peek(100) == npipe.Peek(b"last", 4, 0)
        with pair.server.recv_view(copy=copied) as view:
            assert pair.server.peek(100) == npipe.Peek(b"", 0, 0)
            assert bytes(view) == b"last"
        with fails(109):
            pair.server.peek()


def test_a_disconnect(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.server.send(b"message")
    with pair.client.recv_view() as view:
        pair.server.abort()
        assert bytes(view) == b"message"
    with fails(233), pair.client.recv_view():
        pass
    pair = ends()
    with fails(233), pair.client.reserve(5):
        pair.server.abort()


def test_a_closed_pipe(ends: Callable[..., Ends]) -> None:
    pair = ends()
    pair.client.close()
    for block in (pair.client.reserve(5), pair.client.reserve(200_000), pair.client.recv_view()):
        with fails(6), block:
            pass


# ---- What outlives its block


@pytest.mark.parametrize("size", [5, 4096, 60_000, 200_000])
def test_what_still_looks_at_a_reservation_is_told_and_nothing_is_sent(ends: Callable[..., Ends], size: int) -> None:
    pair = ends()
    kept: memoryview
    for make in (lambda view: view[:], memoryview):
        with fails(1224), pair.client.reserve(size) as view:
            view[:] = b"a" * size
            kept = make(view)
        assert bytes(kept) == b"a" * size
        kept[:] = b"b" * size
        pair.client.send(b"next")
        with pair.client.reserve(size if size <= 60_000 else 5) as view:
            view[:] = b"c" * len(view)
        assert pair.server.recv() == b"next"
        assert set(pair.server.recv()) == {ord("c")}
        assert bytes(kept) == b"b" * size
        del kept


@pytest.mark.parametrize("size", [5, 4096, 60_000, 200_000])
@pytest.mark.parametrize("copied", [False, True])
def test_what_still_looks_at_a_view_is_told_and_keeps_a_copy(
    ends: Callable[..., Ends], size: int, copied: bool
) -> None:
    pair = ends()
    for number in range(5):
        data = random.Random(number).randbytes(size)
        sender = threading.Thread(target=lambda data=data: pair.client.send(data))
        sender.start()
        with pytest.raises(npipe.PipeViewError) as caught, pair.server.recv_view(copy=copied) as view:
            kept = view[:]
        assert caught.value.winerror == 1224
        assert isinstance(caught.value, BufferError)
        sender.join(DEADLINE)
        for _ in range(12):  # what comes later does not come there
            pair.client.send(b"\xff" * 60_000)
            assert pair.server.recv() == b"\xff" * 60_000
        assert bytes(kept) == data
        del view
        gc.collect()
        assert bytes(kept) == data


def test_what_still_looks_at_a_view_outlives_the_pipe(ends: Callable[..., Ends], name: str) -> None:
    del ends
    kept = []
    for number in range(10):
        with npipe.listen(f"{name}-out") as listener, npipe.connect(listener.name) as client:
            server = listener.accept(DEADLINE)
            client.send(bytes([number]) * 1000)
            with fails(1224), server.recv_view() as view:
                kept.append(view[:])
            del view
            with stopped(), client.reserve(1000) as view:
                view[:] = bytes([100 + number]) * 1000
                kept.append(view[:])
                raise StopError
            del view
            server.close()
            client.close()
            del server, client
    gc.collect()
    assert [bytes(one) for one in kept[::2]] == [bytes([number]) * 1000 for number in range(10)]
    assert [bytes(one) for one in kept[1::2]] == [bytes([100 + number]) * 1000 for number in range(10)]


def test_a_view_is_good_until_its_end_whatever_becomes_of_the_pipe(ends: Callable[..., Ends], name: str) -> None:
    del ends
    with npipe.listen(f"{name}-gone") as listener:
        client, server = npipe.connect(listener.name), listener.accept(DEADLINE)
        client.send(b"a" * 5000)
        viewed: Any = server.recv_view()
        view = viewed.__enter__()
        dead = weakref.ref(server)
        server.close()
        client.close()
        del server, client
        gc.collect()
        if view.obj.in_place:
            assert dead() is None  # else it is kept for the end, closed as it is
        for _ in range(5):  # connections that might get the segment
            with npipe.connect(listener.name) as client, listener.accept(DEADLINE) as server:
                client.send(b"b" * 60_000)
                assert server.recv() == b"b" * 60_000
        assert bytes(view) == b"a" * 5000
        viewed.__exit__(None, None, None)


def test_a_view_that_its_block_releases_itself(ends: Callable[..., Ends]) -> None:
    pair = ends()
    with pair.client.reserve(3) as view:
        view[:] = b"abc"
        view.release()
    with pair.server.recv_view() as view, view:
        assert bytes(view) == b"abc"


# ---- Answers


def test_an_answer_is_viewed(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for copied in (False, True):
        with fails(121):
            pair.client.transact(b"ask", timeout=0.01)
        assert pair.server.recv() == b"ask"
        with pair.server.reserve(6) as view:
            view[:] = b"answer"
        with stopped(), pair.client.recv_view(copy=copied) as view:
            raise StopError
        with fails(996):
            pair.client.transact(b"again")
        with pair.client.recv_view(copy=copied) as view:
            assert bytes(view) == b"answer"
        waiting = blocked(lambda: pair.client.transact(b"again"))
        assert pair.server.recv() == b"again"
        pair.server.send(b"done")
        assert waiting.result() == b"done"


def test_a_dropped_answer_is_not_viewed(ends: Callable[..., Ends]) -> None:
    pair = ends(out_buffer_size=100)
    with fails(121):
        pair.client.transact(b"ask", timeout=0.01)
    pair.server.recv()
    waiting = blocked(lambda: pair.client.discard_reply())
    pair.server.send(b"answer")
    waiting.result()
    pair.server.send(b"next")
    with pair.client.recv_view() as view:
        assert bytes(view) == b"next"


# ---- Pools


def test_a_pools_connection_has_them(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name) as pool, pool.connection() as lent:
        reservation = lent.reserve(7)
        with reservation as view:
            view[:] = b"request"
            reservation.shrink(3)
            assert reservation.size == 3
        with lent.recv_view() as view:
            assert bytes(view) == b"REQ"
        lent.send(b"again")
        with lent.recv_view(copy=True) as view:
            assert bytes(view) == b"AGAIN"
