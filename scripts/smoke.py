"""Tries an installed npipe, every face of it once; prints the same lines on every platform: smoke.py [--bare].

--bare: without the command, which takes the extra cli.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import npipe
import npipe.aio
from npipe.win32 import completion, pywintypes, win32event, win32file, win32pipe

TIMEOUT = 20.0
NAME = rf"\\.\pipe\smoke-{os.getpid()}"


def sync_face() -> None:
    """Try messages, a time-out, and the three servers."""
    with npipe.listen(NAME) as listener:
        thread = threading.Thread(target=lambda: [shout(pipe) for pipe in listener])
        thread.start()
        with npipe.connect(NAME, timeout=TIMEOUT) as pipe:
            pipe.send(b"hello")
            print("received", pipe.recv(timeout=TIMEOUT))
            print("long", len(pipe.transact(b"x" * 1_000_000, timeout=TIMEOUT)))
            try:
                pipe.recv(timeout=0.01)
            except npipe.PipeTimeoutError as error:
                print("time-out", error.winerror)
            print("peer", pipe.peer.pid == os.getpid(), pipe.info.type, pipe.info.direction)
        listener.close()
        thread.join()
    try:
        npipe.connect(NAME, timeout=0)
    except npipe.PipeNotFoundError as error:
        print("gone", error.winerror)
    for model in ("threaded", "overlapped", "completion"):
        with npipe.serve(NAME, bytes.upper, model=model):
            print(model, npipe.call(NAME, b"call", timeout=TIMEOUT))


def shout(pipe: npipe.MessagePipe) -> None:
    """Answer until the client leaves."""
    with pipe:
        for message in pipe:
            pipe.send(message.upper())


async def async_face() -> None:
    """Try a server, calls at the same time, and a cancelled read."""
    async with await npipe.aio.serve(NAME, bytes.upper):
        answers = await asyncio.gather(*(npipe.aio.call(NAME, b"call %d" % number) for number in range(5)))
        print("async", answers)
        async with await npipe.aio.connect(NAME) as pipe:
            try:
                async with asyncio.timeout(0.05):
                    await pipe.recv()
            except TimeoutError:
                print("async time-out")
            print("async", await pipe.transact(b"after it"))


def win32_face() -> None:
    """Try overlapped I/O, a completion routine, and an error."""
    overlapped_flag = win32file.FILE_FLAG_OVERLAPPED
    server = win32pipe.CreateNamedPipe(NAME, 3 | overlapped_flag, 6, 1, 4096, 4096, 0, None)
    overlapped = pywintypes.OVERLAPPED()
    overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
    print("connect", win32pipe.ConnectNamedPipe(server, overlapped))
    access = win32file.GENERIC_READ | win32file.GENERIC_WRITE
    client = win32file.CreateFile(NAME, access, 0, None, win32file.OPEN_EXISTING, overlapped_flag, None)
    print("connected", win32event.WaitForSingleObject(overlapped.hEvent, 5000))
    buffer = bytearray(10)
    done: list[tuple[int, int]] = []
    completion.ReadFileEx(server, buffer, pywintypes.OVERLAPPED(), lambda code, count, _: done.append((code, count)))
    print("written", win32file.WriteFile(client, b"routine", pywintypes.OVERLAPPED()))
    print("slept", completion.SleepEx(5000, True), done, bytes(buffer))
    try:
        win32file.CreateFile(NAME, access, 0, None, win32file.OPEN_EXISTING, 0, None)
    except pywintypes.error as error:
        print("busy", error.winerror, error.funcname)  # its text is the system's own
    client.Close()
    server.Close()


def command() -> None:
    """Try the article's client against a server of this process."""
    with npipe.serve(NAME, lambda request: request):
        client = [sys.executable, "-m", "npipe", "client", NAME, "hello"]
        print(subprocess.run(client, check=True, text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout)


if __name__ == "__main__":
    sync_face()
    asyncio.run(async_face())
    win32_face()
    if "--bare" not in sys.argv:
        command()
    print("npipe works")
