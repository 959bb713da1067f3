"""Streams of bytes in which every byte says where it stands: none is lost, whatever the sizes, whatever ends a read."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

import npipe
from tests.helpers import asleep, fails, is_stopped, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child, Ends

    Start = Callable[..., Child]

NUMBERED = """
    import array
    def numbered(begin, size):
        'Bytes [begin, begin + size) of a stream in which each group of eight bytes is its own number.'
        first = begin // 8
        groups = array.array("Q", range(first, (begin + size) // 8 + 1)).tobytes()
        return groups[begin - first * 8 : begin - first * 8 + size]
"""
exec(textwrap.dedent(NUMBERED))  # the children's, and this process's own

if TYPE_CHECKING:

    def numbered(begin: int, size: int) -> bytes: ...


WRITER = textwrap.dedent(NUMBERED) + textwrap.dedent(
    """
    import sys, npipe
    name, total, quota, connections, *sizes = sys.argv[1], *map(int, sys.argv[2:])
    data = numbered(0, total)
    with npipe.listen(name, mode="byte", out_buffer_size=quota, in_buffer_size=quota) as listener:
        print("listens", flush=True)
        for number in range(connections):
            with listener.accept(20) as pipe:
                at = turn = 0
                while at < total:
                    piece = data[at : at + sizes[(turn + number) % len(sizes)]]
                    assert pipe.write(piece, timeout=20) == len(piece)
                    at, turn = at + len(piece), turn + 1
    """
)


def read_with_read(name: str, size: int) -> bytes:
    parts = []
    with npipe.connect(name, mode="byte", timeout=20) as pipe:
        try:
            while True:
                parts.append(pipe.read(size, timeout=20))
        except EOFError:
            pass
    return b"".join(parts)


def read_with_makefile(name: str, size: int) -> bytes:
    parts = []
    with npipe.connect(name, mode="byte", timeout=20) as pipe, pipe.makefile("rb") as file:
        while part := file.read(size):
            parts.append(part)
    return b"".join(parts)


def read_all(name: str, _size: int) -> bytes:
    with npipe.connect(name, mode="byte", timeout=20) as pipe, pipe.makefile("rb") as file:
        data: bytes = file.read()
    return data


def read_with_win32(name: str, size: int) -> bytes:
    from npipe.win32 import pywintypes, win32file, win32pipe

    win32pipe.WaitNamedPipe(name, 20000)
    handle = win32file.CreateFile(name, win32file.GENERIC_READ, 0, None, win32file.OPEN_EXISTING, 0, None)
    parts = []
    try:
        while True:
            parts.append(bytes(win32file.ReadFile(handle, size)[1]))
    except pywintypes.error as error:
        assert error.winerror == 109  # noqa: PT017 - the end
    finally:
        handle.Close()
    return b"".join(parts)


def read_with_aio(name: str, size: int) -> bytes:
    import asyncio

    import npipe.aio

    async def read() -> bytes:
        parts = []
        async with await npipe.aio.connect(name, mode="byte", timeout=20) as pipe:
            try:
                while True:
                    parts.append(await pipe.read(size, timeout=20))
            except EOFError:
                pass
        return b"".join(parts)

    return asyncio.run(read())


WAYS = [read_with_read, read_with_makefile, read_all, read_with_win32, read_with_aio]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("quota", "writes", "read"), [(65536, (65536,), 1 << 20), (4096, (4096,), 65536)])
def test_what_another_process_writes_arrives_whole_when_reads_ask_for_more(
    child: Start, name: str, way: Callable[[str, int], bytes], quota: int, writes: tuple[int, ...], read: int
) -> None:
    total = 24 * 1024 * 1024 if quota > 4096 else 2 * 1024 * 1024
    writer = child(WRITER, name, str(total), str(quota), "1", *map(str, writes))
    assert writer.line() == "listens"
    assert way(name, read) == numbered(0, total)
    assert writer.wait() == 0


@pytest.mark.parametrize("way", WAYS)
def test_short_connections_lose_nothing(child: Start, name: str, way: Callable[[str, int], bytes]) -> None:
    writer = child(WRITER, name, "10000", "4096", "100", "1000", "5000")
    assert writer.line() == "listens"
    expected = numbered(0, 10000)
    for _ in range(100):
        assert way(name, 65536) == expected
    assert writer.wait() == 0


def test_a_read_of_all_that_times_out_leaves_what_it_had_read(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    data = numbered(0, 50000)
    pair.server.write(data[:20000])
    for timeout in (0, 0.05):
        with fails(121):
            pair.client.read(timeout=timeout)
    assert pair.client.peek(30000).data == data[:20000]
    assert pair.client.peek().available == 20000
    pair.server.write(data[20000:])
    assert pair.client.read(7) == data[:7]
    pair.server.close()
    assert pair.client.read(timeout=5) == data[7:]


def test_a_read_of_all_that_the_server_disconnects_leaves_what_it_had_read(ends: Callable[..., Ends]) -> None:
    pair = ends("byte")
    pair.server.write(b"read before the end")
    with fails(121):
        pair.client.read(timeout=0)
    pair.server.abort()
    assert pair.client.read(8) == b"read bef"
    with fails(233):
        pair.client.read()
    assert pair.client.read(100) == b"ore the end"
    with fails(233):
        pair.client.read(100)


@pytest.mark.skipif(sys.platform == "win32", reason="a selector's descriptor: POSIX")
def test_a_selector_tells_of_bytes_that_a_read_of_all_has_left(ends: Callable[..., Ends]) -> None:
    import select

    pair = ends("byte")
    assert select.select([pair.client], [], [], 0)[0] == []
    pair.server.write(b"there")
    with fails(121):
        pair.client.read(timeout=0)
    assert select.select([pair.client], [], [], 5)[0] == [pair.client]
    assert pair.client.read(100) == b"there"
    assert select.select([pair.client], [], [], 0)[0] == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals that stop a process: POSIX")
@pytest.mark.parametrize(
    "read", ["p.read(1 << 20)", "p.read()", "p.makefile('rb').read()", "p.readinto(bytearray(1 << 20))"]
)
def test_ctrl_c_in_the_middle_of_a_read_takes_no_byte_with_it(child: Start, name: str, read: str) -> None:
    # The second write is longer than the ring, so a reader has a part of it and waits for the rest.
    writer = child(
        NUMBERED
        + """
    import sys, threading, npipe
    with npipe.listen(sys.argv[1], mode="byte", out_buffer_size=4096, in_buffer_size=4096) as listener:
        print("listens", flush=True)
        with listener.accept(20) as pipe:
            data = numbered(0, 301000)
            pipe.write(data[:1000])
            threading.Thread(target=pipe.write, args=(data[1000:],)).start()
            sys.stdin.readline()
    """,
        name,
    )
    assert writer.line() == "listens"
    reader = child(
        NUMBERED
        + f"""
    import signal, sys, npipe
    signal.signal(signal.SIGINT, signal.default_int_handler)
    p = npipe.connect(sys.argv[1], mode="byte", timeout=20)
    while p.peek().available < 301000:
        pass
    print("there", flush=True)
    sys.stdin.readline()
    try:
        print("begins", flush=True)
        {read}
        print("returned", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    sys.stdin.readline()
    data = b""
    while len(data) < 301000:
        data += p.read(1 << 20, timeout=20)
    print(data == numbered(0, 301000), flush=True)
    """,
        name,
    )
    assert reader.line() == "there"
    writer.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: is_stopped(writer.pid))
        reader.say("go on")
        assert reader.line() == "begins"
        until(lambda: asleep(reader.pid))
        reader.process.send_signal(signal.SIGINT)
        assert reader.line() == "interrupted"
    finally:
        writer.process.send_signal(signal.SIGCONT)
    reader.say("go on")
    assert reader.line() == "True"
    writer.say("end")
    assert writer.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals: POSIX")
@pytest.mark.parametrize("read", ["p.read()", "p.makefile('rb').read()"])
def test_a_handler_that_raises_whenever_it_likes_takes_no_byte_from_reads_of_all(
    child: Start, name: str, read: str
) -> None:
    total = 32 * 1024 * 1024
    writer = child(WRITER, name, str(total), "65536", "1", "30000")
    assert writer.line() == "listens"
    reader = child(
        NUMBERED
        + f"""
    import signal, sys, npipe
    class Alarm(Exception): pass
    def ring(*about):
        global left
        left -= 1
        raise Alarm
    left = 20
    signal.signal(signal.SIGALRM, ring)
    p = npipe.connect(sys.argv[1], mode="byte", timeout=20)
    while left:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0015)
            {read}
        except Alarm:
            pass
    print(p.read() == numbered(0, {total}), flush=True)
    """,
        name,
    )
    assert reader.line() == "True"
    assert writer.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="forks: POSIX")
def test_a_handler_that_forks_in_the_middle_of_a_read_leaves_its_bytes_to_the_parent(child: Start, name: str) -> None:
    writer = child(
        NUMBERED
        + """
    import sys, threading, npipe
    with npipe.listen(sys.argv[1], mode="byte", out_buffer_size=4096, in_buffer_size=4096) as listener:
        print("listens", flush=True)
        with listener.accept(20) as pipe:
            pipe.write(numbered(0, 301000))
    """,
        name,
    )
    assert writer.line() == "listens"
    reader = child(
        NUMBERED
        + """
    import os, signal, sys, npipe
    def fork(*about):
        global pid
        pid = os.fork()
        if pid:
            print("forked", flush=True)
    signal.signal(signal.SIGUSR1, fork)
    p = npipe.connect(sys.argv[1], mode="byte", timeout=20)
    while p.peek().available < 301000:
        pass
    print("there", flush=True)
    sys.stdin.readline()
    pid = -1
    print("begins", flush=True)
    try:
        data = p.read(1 << 20, timeout=20)
    except npipe.PipeClosedError:
        os._exit(0 if pid == 0 else 2)
    if pid == 0:
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    while len(data) < 301000:
        data += p.read(1 << 20, timeout=20)
    print(data == numbered(0, 301000), flush=True)
    """,
        name,
    )
    assert reader.line() == "there"
    writer.process.send_signal(signal.SIGSTOP)
    try:
        reader.say("go on")
        assert reader.line() == "begins"
        until(lambda: asleep(reader.pid))
        reader.process.send_signal(signal.SIGUSR1)
        assert reader.line() == "forked"
    finally:
        writer.process.send_signal(signal.SIGCONT)
    assert reader.line() == "0"
    assert reader.line() == "True"
    assert writer.wait() == 0


def has_nothing(pipe: npipe.StreamPipe) -> bool:
    """Whether all that came is with a read."""
    return pipe.peek().available == 0


def test_a_read_behind_a_read_of_all_that_times_out_gets_what_that_had_read(ends: Callable[..., Ends]) -> None:
    # Again and again, for how a thread sleeps is not the same each time.
    for _ in range(10):
        pair = ends("byte")
        pair.server.write(b"read before the time was over")
        with ThreadPoolExecutor(2) as threads:
            first = threads.submit(pair.client.read, timeout=0.2)
            until(partial(has_nothing, pair.client))
            second = threads.submit(pair.client.read, 100, timeout=20)
            with fails(121):
                first.result()
            try:
                assert second.result(timeout=5) == b"read before the time was over"
            finally:
                pair.server.close()


@pytest.mark.skipif(sys.platform == "win32", reason="looks where a thread sleeps in /proc")
@pytest.mark.parametrize("way", ["read", "makefile"])
def test_a_stream_that_another_thread_closes_has_no_ordinary_end(ends: Callable[..., Ends], way: str) -> None:
    pair = ends("byte")
    pair.server.write(b"a part")
    numbers: list[int] = []

    def read_noted() -> bytes:
        numbers.append(threading.get_native_id())
        data: bytes = pair.client.read() if way == "read" else pair.client.makefile("rb").read(100)
        return data

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_noted)
        until(lambda: has_nothing(pair.client) and asleep(os.getpid(), numbers[0]))
        pair.client.close()
        with fails(109):
            reading.result(timeout=10)
