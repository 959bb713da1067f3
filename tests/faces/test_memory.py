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
