"""What a read has consumed is not lost when Python has no memory for its result: one allocation after another fails."""

from __future__ import annotations

import importlib.util
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Child

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="this Python cannot let its allocations fail"
)

FAILING = """
import sys, _testcapi

def failing(number, call):
    # What `call` returns when its allocation `number` fails; None when it raises MemoryError.
    found = [None]
    try:
        _testcapi.set_nomemory(number, number + 1)
        found[0] = call()
    except MemoryError:
        pass
    while True:
        try:
            _testcapi.remove_mem_hooks()
            return found[0]
        except MemoryError:
            pass

def numbered(n):
    return b"%08d" % n * 125
"""

READS = {
    "read": ("byte", "lambda: pipe.read(65536)"),
    "readinto": ("byte", "lambda: pipe.readinto(buffer)"),
    "read of a message pipe": ("bytes of messages", "lambda: pipe.read(65536)"),
    "recv": ("message", "lambda: pipe.recv()"),
    "read_file": ("byte", "lambda: pipe._handle.read_file(65536)[1]"),
    "ReadFile": ("win32", "lambda: win32file.ReadFile(pipe, 65536)[1]"),
    "ReadFile into a buffer": ("win32", "lambda: win32file.ReadFile(pipe, buffer)[1]"),
}


@pytest.mark.parametrize("way", READS)
def test_a_read_that_has_no_memory_for_its_result_has_lost_nothing(
    child: Callable[..., Child], name: str, way: str
) -> None:
    mode, read = READS[way]
    script = f"""
        import npipe
        from npipe.win32 import win32file
        mode, name, buffer = {mode!r}, sys.argv[1], bytearray(65536)
        listener = npipe.listen(name, mode="message" if "message" in mode else "byte")
        if mode == "win32":
            pipe = win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None)
        else:
            pipe = npipe.connect(name, mode="message" if mode == "message" else "byte")
        server = listener.accept()
        write = getattr(server, "send", None) or server.write
        read = {read}
        failed = 0
        for number in range(40):
            write(numbered(number))
            found = failing(number // 2, read)
            failed += found is None
            if found is None:
                found = read()
            if isinstance(found, int):
                found = bytes(buffer[:found])
            assert found == numbered(number), (number, len(found), found[:20])
        print("failed" if failed else "nothing failed", flush=True)
    """
    assert child(FAILING + textwrap.dedent(script), name).line() == "failed"


def test_a_reply_is_not_lost_for_want_of_memory(child: Callable[..., Child], name: str) -> None:
    serving = """
        import npipe
        with npipe.listen(sys.argv[1]) as listener:
            print("listening", flush=True)
            with listener.accept() as server:
                for number, _ in enumerate(server):
                    server.send(numbered(number))
    """
    script = """
        from npipe.win32 import win32file, win32pipe
        pipe = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
        win32pipe.SetNamedPipeHandleState(pipe, 2, None, None)
        ask = lambda: win32pipe.TransactNamedPipe(pipe, b"question", 65536, None)[1]
        failed = answered = 0
        while answered < 30:
            found = failing(answered // 2, ask)
            failed += found is None
            if found is None:
                found = ask()  # the number says whether that was the first time
            assert found == numbered(answered), (answered, len(found), found[:20])
            answered += 1
        print("failed" if failed else "nothing failed", flush=True)
    """
    assert child(FAILING + textwrap.dedent(serving), name).line() == "listening"
    assert child(FAILING + textwrap.dedent(script), name).line() == "failed"


@pytest.mark.parametrize("way", ["read", "readinto"])
def test_an_async_read_that_has_no_memory_for_its_result_has_lost_nothing(
    child: Callable[..., Child], name: str, way: str
) -> None:
    script = f"""
        import asyncio
        import npipe.aio
        buffer = bytearray(65536)

        async def attempt(number, pipe):
            found = [None]
            try:
                _testcapi.set_nomemory(number, number + 1)
                found[0] = await pipe.{"read(65536)" if way == "read" else "readinto(buffer)"}
            except MemoryError:
                pass
            while True:
                try:
                    _testcapi.remove_mem_hooks()
                    return bytes(buffer[: found[0]]) if isinstance(found[0], int) else found[0]
                except MemoryError:
                    pass

        async def main():
            async with npipe.aio.listen(sys.argv[1], mode="byte") as listener:
                pipe = await npipe.aio.connect(sys.argv[1], mode="byte")
                async with pipe, await listener.accept() as server:
                    failed = 0
                    for number in range(30):
                        await server.write(numbered(number))
                        found = await attempt(number // 2, pipe)
                        failed += found is None
                        if found is None:
                            found = await pipe.read(65536)
                        assert found == numbered(number), (number, len(found), found[:20])
            print("failed" if failed else "nothing failed", flush=True)

        asyncio.run(main())
    """
    assert child(FAILING + textwrap.dedent(script), name).line() == "failed"


def test_an_async_read_of_all_that_has_no_memory_for_its_result_keeps_all(
    child: Callable[..., Child], name: str
) -> None:
    script = """
        import asyncio, resource, threading
        import npipe, npipe.aio
        name, size = sys.argv[1], 100_000_000

        def serve(listener):
            with listener, listener.accept() as server:
                for number in range(100):
                    server.write(b"%08d" % number * 125_000)

        async def main():
            async with await npipe.aio.connect(name, mode="byte") as pipe:
                # There is memory for the pieces, and not for all of them once more.
                pages = int(open("/proc/self/statm").read().split()[0])
                resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + size // 2, resource.RLIM_INFINITY))
                try:
                    await pipe.read()
                    print("it had memory", flush=True)
                except MemoryError:
                    pass
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                return b"".join([piece async for piece in pipe])

        thread = threading.Thread(target=serve, args=[npipe.listen(name, mode="byte")])
        thread.start()
        data = asyncio.run(main())
        thread.join()
        assert data == b"".join(b"%08d" % n * 125_000 for n in range(100)), len(data)
        print("all", flush=True)
    """
    assert child("import sys\n" + textwrap.dedent(script), name).line(60) == "all"


# ---- Blocks of messages in place

# What a block's failed entry leaves: its pipe as it was, and the block to be tried again. `enter` is called with its
# allocation `number` failing, and gives None then.
BLOCKS = """
import npipe, npipe.aio
FAILED = set()

def reservations(server, client, enter, leave, send, recv):
    for size in (8, 100_000):  # in place, and a copy
        for number in range(45):
            block = server.reserve(size)
            view = yield from enter(block, number)
            if view is None:
                FAILED.add(("reserve", size))
                assert not block.in_place
                yield from send(server, b"own%d" % number)
                found = yield from recv(client)
                assert found == b"own%d" % number, found
                view = yield from enter(block, 1_000_000)
            view[:] = b"%08d" % number * (size // 8)
            view = None
            yield from leave(block, client, b"%08d" % number * (size // 8))

def views(server, client, enter, leave, send, recv):
    for copied in (False, True):
        for number in range(45):
            yield from send(client, b"first%d" % number)
            yield from send(client, b"second%d" % number)
            block = server.recv_view(copy=copied)
            view = yield from enter(block, number)
            if view is None:
                FAILED.add(("view", copied))
                assert not block.in_place
                if number % 2:
                    found = yield from recv(server)
                    assert found == b"first%d" % number, found
                    found = yield from recv(server)
                    assert found == b"second%d" % number, found
                    continue
                view = yield from enter(block, 1_000_000)
            assert bytes(view) == b"first%d" % number, bytes(view)
            view = None
            yield from leave(block, None, b"")
            found = yield from recv(server)
            assert found == b"second%d" % number, found

def check():
    assert FAILED == {("reserve", 8), ("reserve", 100_000), ("view", False), ("view", True)}, FAILED
    print("as it was", flush=True)
"""


def test_a_block_that_has_no_memory_for_its_entry_leaves_all_as_it_was(child: Callable[..., Child], name: str) -> None:
    script = """
        import threading

        def enter(block, number):
            return failing(number, block.__enter__)
            yield

        def leave(block, reader, data):
            found = []
            thread = threading.Thread(target=lambda: reader and found.append(reader.recv(timeout=20)))
            thread.start()
            block.__exit__(None, None, None)
            thread.join()
            assert found == [data] or not reader, found
            return
            yield

        def send(pipe, data):
            pipe.send(data, timeout=0)
            return
            yield

        def recv(pipe):
            return pipe.recv(timeout=0)
            yield

        with npipe.listen(sys.argv[1]) as listener:
            client = npipe.connect(sys.argv[1])
            server = listener.accept()
            for test in (reservations, views):
                assert list(test(server, client, enter, leave, send, recv)) == []
        check()
    """
    assert child(FAILING + BLOCKS + textwrap.dedent(script), name).line(60) == "as it was"


def test_an_async_block_that_has_no_memory_for_its_entry_leaves_all_as_it_was(
    child: Callable[..., Child], name: str
) -> None:
    script = """
        import asyncio

        ENDS = []

        def awaited(what):
            return (yield what)

        def enter(block, number):
            return (yield from awaited(attempt(block, number)))

        async def attempt(block, number):
            found = [None]
            server, client = ENDS
            while server._handle.turns_left <= 0:  # it is not to go round the loop, whose allocation would fail
                await server.send(b"ping", timeout=0)
                assert await client.recv(timeout=0) == b"ping"
            try:
                _testcapi.set_nomemory(number, number + 1)
                found[0] = await block.__aenter__()
            except MemoryError:
                pass
            while True:
                try:
                    _testcapi.remove_mem_hooks()
                    return found[0]
                except MemoryError:
                    pass

        def leave(block, reader, data):
            reading = asyncio.create_task(reader.recv(timeout=20)) if reader else None
            yield from awaited(block.__aexit__(None, None, None))
            if reading:
                found = yield from awaited(reading)
                assert found == data, found

        def send(pipe, data):
            yield from awaited(pipe.send(data, timeout=0))

        def recv(pipe):
            return (yield from awaited(pipe.recv(timeout=0)))

        async def main():
            async with npipe.aio.listen(sys.argv[1]) as listener:
                connecting = asyncio.create_task(npipe.aio.connect(sys.argv[1]))
                async with await listener.accept() as server, await connecting as client:
                    ENDS[:] = server, client
                    for test in (reservations, views):
                        steps, result = test(server, client, enter, leave, send, recv), None
                        while True:
                            try:
                                step = steps.send(result)
                            except StopIteration:
                                break
                            result = await step
            check()

        asyncio.run(main())
    """
    assert child(FAILING + BLOCKS + textwrap.dedent(script), name).line(60) == "as it was"


ASKS = {
    "inspect": "lambda: [len(row[5]) for row in binding.describe_named_pipe(*where, name)]",
    "list": "lambda: [row[4] for row in binding.list_named_pipes(where[0]) if name.endswith(row[0])]",
}


@pytest.mark.parametrize("way", ASKS)
def test_a_part_of_what_owners_tell_is_not_taken_for_the_whole(
    child: Callable[..., Child], name: str, way: str
) -> None:
    script = f"""
        import npipe
        from npipe import binding
        from npipe.names import parse_name
        from npipe.transports.local.place import place
        name = sys.argv[1]
        where = place(parse_name(name))
        listener = npipe.listen(name)
        ends = [(npipe.connect(name), listener.accept()) for _ in range(3)]
        ask = {ASKS[way]}
        whole = ask()
        assert len(whole) == 1
        found = [failing(number, ask) for number in range(400)]
        assert None in found and whole in found and all(said in (None, whole) for said in found), found
        print("done", flush=True)
    """
    assert child(FAILING + textwrap.dedent(script), name).line() == "done"
