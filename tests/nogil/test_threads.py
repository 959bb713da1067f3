"""Threads that share what they use: nothing is lost, nobody waits for ever, and nothing is used that is no more.

With the interpreter's lock these are tests as others are; without it, and under ThreadSanitizer, they are what says
that npipe can do without (`make test-nogil`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import npipe
import npipe.aio
from npipe.win32 import completion, pywintypes, win32api, win32con, win32event, win32file
from tests.helpers import DEADLINE, started
from tests.nogil.helpers import (
    FREE,
    GONE,
    MANY,
    PATIENCE,
    ROUNDS,
    body,
    ended_by,
    times,
    together,
    until_it_ends,
)
from tests.win32 import helpers as w

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Ends

pytestmark = pytest.mark.slow


def test_an_import_leaves_the_lock_off() -> None:
    if not FREE:
        pytest.skip("this interpreter always has its lock")
    script = "import sys, npipe, npipe.aio, npipe.win32, npipe.anyio, npipe.servers\nprint(sys._is_gil_enabled())"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHON_GIL"}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_each_message_comes_once_between_many_threads(ends: Callable[..., Ends]) -> None:
    pair = ends(in_buffer_size=2000, out_buffer_size=2000)

    def send(sender: int) -> None:
        for number in range(MANY):
            pair.client.send(body(sender, number), timeout=PATIENCE)

    def receive(_: int) -> list[bytes]:
        found = []
        while (message := pair.server.recv(timeout=PATIENCE)) != b"end":
            found.append(message)
        return found

    def end() -> None:
        together(*times(3, send))
        for _ in range(3):
            pair.client.send(b"end", timeout=PATIENCE)

    lists = together(end, *times(3, receive))[1:]
    assert Counter(one for found in lists for one in found) == Counter(
        body(sender, number) for sender in range(3) for number in range(MANY)
    )
    for found in lists:  # who reads several of one sender reads them in their order
        for sender in range(3):
            mine = [int(one.split(b"/")[1]) for one in found if one.startswith(b"%d/" % sender)]
            assert mine == sorted(mine)


def left(block: Any, _: int) -> None:
    block.__exit__(None, None, None)


def test_a_block_that_two_threads_leave_ends_once(ends: Callable[..., Ends]) -> None:
    pair = ends()
    for number in range(MANY):
        for copied in (False, True):
            size = 70_000 if copied else 8
            data = b"%08d" % number * (size // 8)
            reservation = pair.client.reserve(size, timeout=PATIENCE)
            reservation.__enter__()[:] = data
            reading = started(lambda: pair.server.recv(timeout=PATIENCE))
            together(*times(2, partial(left, reservation)))
            assert reading.result() == data
            assert pair.server.peek(100) == npipe.Peek(b"", 0, 0)
            pair.client.send(b"first")
            pair.client.send(b"second")
            viewed = pair.server.recv_view(copy=copied)
            viewed.__enter__()
            together(*times(2, partial(left, viewed)))
            assert pair.server.recv(timeout=0) == b"second"


def test_both_directions_of_a_pipe_at_once(ends: Callable[..., Ends]) -> None:
    pair = ends()

    def send(end: Any, who: int) -> None:
        for number in range(MANY):
            end.send(body(who, number), timeout=PATIENCE)

    def receive(end: Any, who: int) -> None:
        for number in range(MANY):
            assert end.recv(timeout=PATIENCE) == body(who, number)

    together(
        lambda: send(pair.server, 1),
        lambda: send(pair.client, 2),
        lambda: receive(pair.client, 1),
        lambda: receive(pair.server, 2),
    )


def test_a_stream_is_the_same_whoever_reads_parts_of_it(ends: Callable[..., Ends]) -> None:
    pair = ends("byte", in_buffer_size=1000, out_buffer_size=1000)
    data = random.Random(3).randbytes(MANY * 400)
    turn = threading.Lock()  # so that the parts can be put together
    parts: list[bytes] = []

    def write() -> None:
        rest = memoryview(data)
        sizes = random.Random(4)
        while rest:
            size = sizes.choice([1, 10, 900, 3_000])
            pair.client.write(rest[:size], timeout=PATIENCE)
            rest = rest[size:]

    def read(index: int) -> None:
        sizes, missing = random.Random(index), 0
        while True:
            with turn:
                if sum(map(len, parts)) == len(data):
                    return
                try:
                    part = pair.server.read(sizes.choice([1, 100, 5_000]), timeout=sizes.choice([0, 1e-4, 1e-2]))
                except npipe.PipeTimeoutError:
                    missing += 1
                    continue
                parts.append(part)

    together(write, *times(3, read))
    assert b"".join(parts) == data


def end_under_users(server: Any, client: Any, how: str) -> None:
    buffer = bytearray(200)

    def end() -> None:
        victim = client if how == "peer" else server
        victim.close(timeout=0) if how == "close" else victim.abort()

    def poll() -> None:
        watch = select.poll()
        watch.register(server.fileno(), select.POLLIN)
        watch.poll(1)
        server.peek()

    server.fileno()
    calls: list[Callable[[], Any]] = [
        lambda: server.recv(timeout=0.01),
        lambda: server.recv_into(buffer, timeout=0),
        lambda: server.send(bytes(60), timeout=0.01),
        lambda: server.peek(10),
        poll,
    ]
    together(end, *times(len(calls), lambda index: until_it_ends(calls[index])))


@pytest.mark.parametrize("how", ["close", "abort", "peer"])
def test_a_pipe_ends_under_its_users(ends: Callable[..., Ends], how: str) -> None:
    for _ in range(ROUNDS):
        pair = ends(in_buffer_size=100, out_buffer_size=100)
        end_under_users(pair.server, pair.client, how)


def test_descriptors_are_right_while_others_read(ends: Callable[..., Ends]) -> None:
    pair = ends()
    descriptor = pair.server.fileno()
    left = threading.Semaphore(0)
    got: list[bytes] = []

    def send() -> None:
        for number in range(MANY):
            pair.client.send(body(0, number), timeout=PATIENCE)

    def read(_: int) -> None:
        while len(got) < MANY:
            if not select.select([descriptor], [], [], 0.05)[0]:
                continue
            with contextlib.suppress(npipe.PipeTimeoutError):  # another one was first
                got.append(pair.server.recv(timeout=0))
                left.release()

    together(send, *times(2, read))
    assert Counter(got) == Counter(body(0, number) for number in range(MANY))
    assert select.select([descriptor], [], [], 0)[0] == []
    pair.client.send(b"x")
    assert select.select([descriptor], [], [], DEADLINE)[0] == [descriptor]


def test_answers_that_are_owed_and_answers_that_come(ends: Callable[..., Ends]) -> None:
    pair = ends()

    def answer() -> None:
        for _ in range(ROUNDS * 3):
            pair.server.send(pair.server.recv(timeout=PATIENCE).upper(), timeout=PATIENCE)

    def ask(times_to_ask: int) -> None:
        asked = 0
        while asked < times_to_ask:
            try:
                assert pair.client.transact(b"abc", timeout=PATIENCE) == b"ABC"
                asked += 1
            except (npipe.PipeStateError, npipe.PipeBusyError) as error:  # the other one's is in progress
                ended_by(error, 170, 231, 996)

    together(answer, lambda: ask(ROUNDS), lambda: ask(ROUNDS), lambda: ask(ROUNDS))


# ---- npipe.win32


def write_all(handle: Any, messages: list[bytes]) -> None:
    """Overlapped writes, which are over when this returns: what a thread has under way ends with it (995)."""
    started = []
    for message in messages:
        overlapped = w.with_event()
        win32file.WriteFile(handle, message, overlapped)
        started.append((overlapped, len(message)))
    for overlapped, size in started:
        assert win32file.GetOverlappedResult(handle, overlapped, True) == size


def test_numbers_of_handles_are_each_somebodys(name: str) -> None:
    server, client = w.connected(name)
    seen: list[list[int]] = [[] for _ in range(4)]

    def duplicate(index: int) -> None:
        for _ in range(MANY):
            second = win32api.DuplicateHandle(-1, server, -1, 0, 0, 2)
            seen[index].append(int(second))
            if index % 2:
                second.Close()
            else:
                win32api.CloseHandle(second)

    together(*times(4, duplicate))
    numbers = [number for one in seen for number in one]
    assert len(set(numbers)) == len(numbers)
    win32file.WriteFile(client, b"still open")
    assert win32file.ReadFile(server, 100) == (0, b"still open")
    with pytest.raises(pywintypes.error) as caught:
        win32api.CloseHandle(numbers[0])
    assert caught.value.winerror == 6


def close_under_users(name: str) -> None:
    server, client = w.connected(name)

    def close(_: int) -> int:
        try:
            win32api.CloseHandle(raw)
        except pywintypes.error as error:
            return error.winerror
        return 0

    def use(_: int) -> None:
        try:
            while True:
                win32file.ReadFile(server, 10, w.with_event())
                win32api.DuplicateHandle(-1, server, -1, 0, 0, 2)
        except pywintypes.error as error:
            ended_by(error, *GONE)

    raw = int(server)
    results = together(*times(2, close), *times(2, use))[:2]
    assert sorted(results) == [0, 6]
    server.Detach()
    client.Close()


def test_a_handle_is_closed_once_and_used_while_it_is(name: str) -> None:
    for number in range(ROUNDS):
        close_under_users(f"{name}-{number}")


def test_a_name_is_one_object(name: str) -> None:
    makers: list[tuple[Callable[[str], Any], str]] = [
        (lambda known: win32event.CreateEvent(None, True, False, known), "event"),
        (lambda known: win32event.CreateSemaphore(None, 0, 9, known), "semaphore"),
        (lambda known: win32event.CreateMutex(None, True, known), "mutex"),
        (lambda known: win32event.CreateWaitableTimer(None, True, known), "timer"),
    ]
    for number in range(max(ROUNDS // 4, 2)):
        for make, word in makers:
            known = f"{word}-{os.getpid()}-{number}"

            def create(_: int, make: Any = make, known: str = known) -> tuple[Any, bool]:
                handle = make(known)
                return handle, win32api.GetLastError() == 183

            made = together(*times(4, create))
            assert sorted(existed for _, existed in made) == [False, True, True, True]
            if word == "event":
                win32event.SetEvent(made[0][0])
                assert all(win32event.WaitForSingleObject(handle, 0) == 0 for handle, _ in made)
            del made  # and with the last handle the name is free again
            assert win32event.WaitForSingleObject(make(known), 0) in (0, 258)
            assert win32api.GetLastError() != 183


def test_one_overlapped_is_looked_at_from_everywhere(name: str) -> None:
    server, client = w.connected(name, mode=w.MESSAGE)
    over = threading.Event()
    shown = w.with_event()

    def look() -> None:
        while not over.is_set():
            assert shown.Internal in (0, 0x103)
            assert 0 <= shown.InternalHigh <= 200
            hash(shown)
            shown.object = object()
            with contextlib.suppress(pywintypes.error):
                win32file.GetOverlappedResult(server, shown, False)

    def read() -> None:
        try:
            for number in range(MANY):
                code, buffer = win32file.ReadFile(server, win32file.AllocateReadBuffer(200), shown)
                assert code in (0, 997)
                count = win32file.GetOverlappedResult(server, shown, True)
                assert bytes(buffer[:count]) == body(0, number)
        finally:
            over.set()

    def write() -> None:
        write_all(client, [body(0, number) for number in range(MANY)])

    together(read, write, look, look)


def test_cancels_and_ends_meet(name: str) -> None:
    server, client = w.connected(name)
    taken: list[bytes] = []
    current: list[Any] = [None]
    over = threading.Event()

    def read() -> None:
        try:
            while sum(map(len, taken)) < MANY:
                overlapped = w.with_event()
                _, buffer = win32file.ReadFile(server, win32file.AllocateReadBuffer(7), overlapped)
                current[0] = overlapped
                try:
                    taken.append(bytes(buffer[: win32file.GetOverlappedResult(server, overlapped, True)]))
                except pywintypes.error as error:
                    ended_by(error, 995)
        finally:
            over.set()

    def write() -> None:
        write_all(client, [bytes([number % 256]) for number in range(MANY)])

    def cancel() -> None:
        while not over.is_set():
            if current[0] is not None:
                with contextlib.suppress(pywintypes.error):
                    completion.CancelIoEx(server, current[0])

    together(read, write, cancel)
    assert b"".join(taken) == bytes(number % 256 for number in range(MANY))


def test_threads_at_one_completion_port(name: str) -> None:
    ends = [w.connected(f"{name}-{index}", mode=w.MESSAGE) for index in range(3)]
    port = win32file.CreateIoCompletionPort(win32file.INVALID_HANDLE_VALUE, None, 0, 0)
    for key, (server, _) in enumerate(ends):
        win32file.CreateIoCompletionPort(server, port, key, 0)
    found: list[bytes] = []
    kept: dict[int, tuple[Any, Any]] = {}

    def start(key: int) -> None:
        overlapped = win32file.OVERLAPPED()
        overlapped.object = buffer = win32file.AllocateReadBuffer(200)
        kept[id(overlapped)] = (overlapped, buffer)
        win32file.ReadFile(ends[key][0], buffer, overlapped)

    def work(_: int) -> None:
        while True:
            code, count, key, overlapped = win32file.GetQueuedCompletionStatus(port, int(PATIENCE * 1000))
            if overlapped is None:
                assert (code, key) == (0, 99)
                return
            assert code == 0
            _, buffer = kept.pop(id(overlapped))
            message = bytes(buffer[:count])
            found.append(message)
            if message != b"last":
                start(key)

    def write(key: int) -> None:
        for number in range(MANY // 2):
            win32file.WriteFile(ends[key][1], body(key, number))
        win32file.WriteFile(ends[key][1], b"last")

    def end() -> None:
        together(*times(3, write))
        while found.count(b"last") < 3:
            win32event.WaitForSingleObject(idle, 1)
        for _ in range(3):
            win32file.PostQueuedCompletionStatus(port, 0, 99, None)

    idle = w.event()
    for key in range(3):
        start(key)
    together(end, *times(3, work))
    expected = Counter(body(key, number) for key in range(3) for number in range(MANY // 2))
    expected[b"last"] = 3
    assert Counter(found) == expected


def test_routines_of_each_thread_are_its_own(name: str) -> None:
    def run(index: int) -> None:
        server, client = w.connected(f"{name}-{index}", mode=w.MESSAGE)
        told: list[tuple[int, int]] = []
        thread = threading.get_ident()

        def routine(code: int, count: int, overlapped: Any) -> None:
            assert threading.get_ident() == thread
            told.append((code, count))

        for number in range(ROUNDS):
            overlapped = win32file.OVERLAPPED()
            buffer = win32file.AllocateReadBuffer(200)
            completion.ReadFileEx(server, buffer, overlapped, routine)
            win32file.WriteFile(client, body(index, number), w.with_event())
            while len(told) <= number:
                win32api.SleepEx(int(PATIENCE * 1000), True)
            assert told[-1] == (0, len(body(index, number)))
            assert bytes(buffer[: told[-1][1]]) == body(index, number)

    together(*times(3, run))


def test_the_last_error_is_each_threads_own() -> None:
    def run(index: int) -> None:
        for number in range(MANY):
            win32api.SetLastError(index * 100_000 + number)
            assert win32api.GetLastError() == index * 100_000 + number

    together(*times(3, run))


def test_children_get_handles_while_others_close_theirs(name: str) -> None:
    server, client = w.connected(name)

    def inherit(index: int) -> None:
        for _ in range(MANY):
            win32api.SetHandleInformation(server, win32con.HANDLE_FLAG_INHERIT, index % 2)
            win32api.GetHandleInformation(server)
            other = win32api.DuplicateHandle(-1, client, -1, 0, bool(index % 2), 2)
            other.Close()

    together(*times(3, inherit))


# ---- Listeners, pools, event loops


def test_a_pool_of_threads(name: str) -> None:
    with npipe.serve(name, bytes.upper), npipe.Pool(name, 3) as pool:

        def ask(index: int) -> None:
            for number in range(ROUNDS * 3):
                assert pool.call(body(index, number), timeout=PATIENCE) == body(index, number).upper()

        together(*times(6, ask))


def test_threads_that_accept_and_threads_that_connect(name: str) -> None:
    listener = npipe.listen(name)

    def accept(_: int) -> None:
        with contextlib.suppress(npipe.PipeClosedError):
            while True:
                with listener.accept() as pipe:
                    pipe.send(pipe.recv(timeout=PATIENCE).upper(), timeout=PATIENCE)

    def connect(index: int) -> None:
        for number in range(ROUNDS):
            with npipe.connect(name, timeout=PATIENCE) as pipe:
                pipe.send(body(index, number), timeout=PATIENCE)
                assert pipe.recv(timeout=PATIENCE) == body(index, number).upper()

    def end() -> None:
        try:
            together(*times(3, connect))
        finally:
            listener.close()

    together(end, *times(3, accept))


def test_waits_for_a_pipe_that_comes_and_goes(name: str) -> None:
    def serve() -> None:
        for _ in range(ROUNDS):
            with npipe.listen(name) as listener, listener.accept(PATIENCE) as pipe:
                pipe.send(b"hello", timeout=PATIENCE)
                with contextlib.suppress(npipe.PipeClosedError):
                    pipe.recv(timeout=PATIENCE)

    left = threading.Semaphore(ROUNDS)
    greeted: list[bytes] = []

    def visit(_: int) -> None:
        while left.acquire(blocking=False):
            while True:
                try:
                    with npipe.connect(name, timeout=PATIENCE, wait_for_server=True) as pipe:
                        greeted.append(pipe.recv(timeout=PATIENCE))
                        break
                except (npipe.PipeClosedError, npipe.PipeNotFoundError):
                    continue

    together(serve, *times(3, visit))
    assert greeted == [b"hello"] * ROUNDS


def test_a_loop_in_each_thread(name: str) -> None:
    async def talk(index: int) -> None:
        async with await npipe.aio.serve(f"{name}-{index}", bytes.upper):

            async def ask(task: int) -> None:
                async with await npipe.aio.connect(f"{name}-{index}") as pipe:
                    for number in range(ROUNDS * 2):
                        await pipe.send(body(task, number))
                        assert await pipe.recv(timeout=PATIENCE) == body(task, number).upper()

            await asyncio.gather(ask(0), ask(1), ask(2))

    together(*times(3, lambda index: asyncio.run(talk(index))))


def test_a_pipe_of_another_loop_is_refused_and_stays_whole(name: str) -> None:
    async def main() -> None:
        listener = npipe.aio.listen(name)
        client = await npipe.aio.connect(name)
        server = await listener.accept()
        done = threading.Event()

        async def intrude() -> None:
            while not done.is_set():
                with pytest.raises(npipe.PipeStateError):
                    await client.send(b"stranger")
                with pytest.raises(npipe.PipeStateError):
                    await client.recv()

        threads = [threading.Thread(target=lambda: asyncio.run(intrude())) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(MANY):
                await client.send(body(0, number))
                assert await server.recv(timeout=PATIENCE) == body(0, number)
                await server.send(body(1, number))
                assert await client.recv(timeout=PATIENCE) == body(1, number)
        finally:
            done.set()
            for thread in threads:
                await asyncio.to_thread(thread.join)
        await client.close()
        await server.close()
        await listener.close()

    asyncio.run(main())
