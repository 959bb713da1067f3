"""Threads that share the ends of npipe.connection's channels: each message goes and comes once, and as a whole."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from typing import Any

import pytest

from npipe import connection
from tests.connection.helpers import pattern
from tests.nogil.helpers import MANY, PATIENCE, ROUNDS, body, says, times, together

pytestmark = pytest.mark.slow

assert sys.platform != "win32"

END = "end"
SIZES = (0, 100, 5_000, 70_000)  # within the pickle, apart from it, as pickle hands it on
SOME = MANY // 4


def thing(sender: int, number: int) -> tuple[int, int, Any]:
    """An object that says whose it is, with content that goes in each of the ways."""
    content: Any = pattern(SIZES[number % 4], number % 50)
    if number % 8 > 3:
        content = bytearray(content)
    return sender, number, content if number % 3 else [content, {"number": number}]


def received(end: Any) -> Any:
    """The next object, within the time-out."""
    assert end.poll(PATIENCE)
    return end.recv()


def came_once(found: list[list[Any]], senders: int, many: int) -> None:
    """Fails unless all have come with their content, and to each reader those of one sender in their order."""
    assert Counter((sender, number) for some in found for sender, number, _ in some) == Counter(
        (sender, number) for sender in range(senders) for number in range(many)
    )
    for some in found:
        for one in some:
            assert one == thing(one[0], one[1])
            assert type(one[2]) is type(thing(one[0], one[1])[2])
        for sender in range(senders):
            mine = [number for who, number, _ in some if who == sender]
            assert mine == sorted(mine)


def until_end(end: Any) -> list[Any]:
    found = []
    while (one := end.recv()) != END:
        found.append(one)
    return found


def test_objects_come_once_between_many_threads() -> None:
    reader, writer = connection.Pipe(duplex=False)

    def send(sender: int) -> None:
        for number in range(SOME):
            writer.send(thing(sender, number))

    def end() -> None:
        together(*times(2, send))
        for _ in range(2):
            writer.send(END)

    with reader, writer:
        came_once(together(end, *times(2, lambda _: until_end(reader)))[1:], 2, SOME)
        assert not reader.poll(0)


def test_bytes_come_once_whichever_call_takes_them() -> None:
    reader, writer = connection.Pipe(duplex=False)

    def send(sender: int) -> None:
        for number in range(MANY):
            data = body(sender, number) * (500 if number % 20 == 0 else 1)
            writer.send_bytes(b"--" + data + b"--", 2, len(data)) if number % 2 else writer.send_bytes(data)

    def end() -> None:
        together(*times(2, send))
        for _ in range(2):
            writer.send_bytes(b"end")

    def as_bytes() -> list[bytes]:
        found = []
        while (data := reader.recv_bytes()) != b"end":
            found.append(data)
        return found

    def into() -> list[bytes]:
        found = []
        buffer = bytearray(120_000)
        while (data := bytes(buffer[7 : 7 + reader.recv_bytes_into(buffer, 7)])) != b"end":
            found.append(data)
        return found

    with reader, writer:
        lists = together(end, as_bytes, into)[1:]
        assert Counter(one for found in lists for one in found) == Counter(
            body(sender, number) * (500 if number % 20 == 0 else 1) for sender in range(2) for number in range(MANY)
        )


def test_both_directions_of_a_channel_at_once() -> None:
    one, other = connection.Pipe()

    def send(end: Any, who: int) -> None:
        for number in range(SOME):
            end.send(thing(who, number))

    def receive(end: Any, who: int) -> None:
        for number in range(SOME):
            assert received(end) == thing(who, number)

    with one, other:
        together(
            lambda: send(one, 1),
            lambda: send(other, 2),
            lambda: receive(other, 1),
            lambda: receive(one, 2),
        )


def test_who_polls_sees_what_is_there_while_others_read() -> None:
    reader, writer = connection.Pipe(duplex=False)
    over = threading.Event()

    def send() -> None:
        for number in range(SOME):
            writer.send(thing(0, number))
        writer.send(END)

    def look() -> None:
        descriptor = reader.fileno()
        while not over.is_set():
            reader.poll(0.001)
            assert connection.wait([reader, writer], 0.001) in ([], [reader])
            assert reader.fileno() == descriptor
            assert (reader.closed, reader.readable, reader.writable) == (False, True, False)

    def receive() -> list[Any]:
        try:
            return until_end(reader)
        finally:
            over.set()

    with reader, writer:
        came_once(together(receive, send, look)[:1], 1, SOME)
        assert connection.wait([reader, writer], 0) == []


def test_waits_for_several_connections_in_several_threads() -> None:
    pairs = [[connection.Pipe(duplex=False) for _ in range(2)] for _ in range(2)]
    stop, stopper = connection.Pipe(duplex=False)  # which both wait for, and neither reads

    def work(index: int) -> list[list[Any]]:
        ends = [reader for reader, _ in pairs[index]]
        found: list[list[Any]] = [[], []]
        while True:
            ready = connection.wait([*ends, stop], PATIENCE)
            assert ready
            for end in ready:
                if end is not stop:
                    found[ends.index(end)].append(end.recv())
            if ready == [stop]:
                return found

    def send() -> None:
        for number in range(SOME):
            for pair in pairs:
                for at, (_, writer) in enumerate(pair):
                    writer.send(thing(at, number))
        stopper.send(END)

    expected = [[thing(at, number) for number in range(SOME)] for at in range(2)]
    assert together(send, *times(2, work))[1:] == [expected, expected]
    for end in [stop, stopper, *(end for pair in pairs for two in pair for end in two)]:
        end.close()


@pytest.mark.parametrize("way", ["object", "bytes"])
def test_an_end_that_a_thread_closes_under_its_writers(way: str) -> None:
    for _ in range(ROUNDS):
        reader, writer = connection.Pipe(duplex=False)
        begun = threading.Semaphore(0)

        def send(sender: int, writer: Any = writer, begun: Any = begun) -> int:
            number = 0
            while True:
                try:
                    writer.send(thing(sender, number)) if way == "object" else writer.send_bytes(body(sender, number))
                except OSError as error:
                    says(error, "handle is closed")
                    return number
                number += 1
                begun.release()

        def close(writer: Any = writer, begun: Any = begun) -> None:
            for _ in range(5):
                assert begun.acquire(timeout=PATIENCE)
            writer.close()
            assert writer.closed

        def receive(reader: Any = reader) -> list[Any]:
            found = []
            while True:
                try:
                    found.append(reader.recv() if way == "object" else reader.recv_bytes())
                except EOFError:
                    return found

        found, *sent, _ = together(receive, *times(2, send), close)
        for sender in range(2):
            if way == "object":
                assert [one for one in found if one[0] == sender] == [thing(sender, n) for n in range(sent[sender])]
            else:
                mine = [one for one in found if one.startswith(b"%d/" % sender)]
                assert mine == [body(sender, n) for n in range(sent[sender])]
        assert len(found) == sum(sent)
        reader.close()


def test_an_end_that_a_thread_closes_under_those_that_look() -> None:
    for _ in range(ROUNDS):
        one, other = connection.Pipe()

        def look(index: int, one: Any = one) -> None:
            calls = [lambda: one.poll(0.001), one.fileno, lambda: connection.wait([one], 0.001), one._descriptors]
            while True:
                try:
                    calls[index]()
                except (OSError, ValueError) as error:
                    says(error, "closed")
                    return

        def close(_: int, one: Any = one) -> None:
            one.close()

        together(*times(4, look), *times(2, close))
        assert one.closed
        with pytest.raises(EOFError):
            other.recv()
        other.close()


def test_readers_are_told_of_the_end_in_every_thread() -> None:
    for _ in range(ROUNDS):
        one, other = connection.Pipe()

        def receive(_: int, one: Any = one) -> list[bytes]:
            found = []
            try:
                while True:
                    found.append(one.recv_bytes())
            except EOFError:
                return found

        def send(other: Any = other) -> None:
            for number in range(10):
                other.send_bytes(body(0, number))
            other.close()

        lists = together(*times(3, receive), send)[:3]
        assert Counter(one for found in lists for one in found) == Counter(body(0, number) for number in range(10))
        with pytest.raises(BrokenPipeError):
            one.send(1)
        one.close()


def test_connections_that_travel_between_threads() -> None:
    here, there = connection.Pipe()

    def give(sender: int) -> None:
        for number in range(ROUNDS):
            mine, yours = connection.Pipe()
            with mine:
                with yours:
                    here.send((sender, number, yours))
                    mine.send(thing(sender, number))
                    assert received(mine) == (sender, number)

    def take(_: int) -> int:
        taken = 0
        while (got := received(there)) != END:
            sender, number, yours = got
            with yours:
                assert received(yours) == thing(sender, number)
                yours.send((sender, number))
            taken += 1
        return taken

    def end() -> None:
        together(*times(2, give))
        for _ in range(2):
            here.send(END)

    with here, there:
        assert sum(together(end, *times(2, take))[1:]) == 2 * ROUNDS


def test_clients_in_threads_and_one_listener() -> None:
    key = b"of all of them"

    def serve(listener: Any) -> None:
        for _ in range(2 * ROUNDS):
            with listener.accept() as end:
                end.send(received(end))

    def ask(index: int, address: Any) -> None:
        for number in range(ROUNDS):
            with connection.Client(address, authkey=key) as end:
                end.send(thing(index, number))
                assert received(end) == thing(index, number)

    with connection.Listener(authkey=key) as listener:
        together(
            lambda: serve(listener),
            lambda: ask(0, listener.address),
            lambda: ask(1, listener.address),
        )
