"""Packages that wrap pipes for others, unmodified: namedpipe and pywinpipe on kernel32, communica on asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)  # with what is fetched


@pytest.mark.parametrize("bufsize", [-1, 0])
def test_namedpipe_carries_to_and_from_a_child(bufsize: int, wrappers_folder: Path, tmp_path: Path) -> None:
    program = f"""
import subprocess, sys
from namedpipe import NPopen

data = bytes(range(256)) * 1000
with NPopen("wb", bufsize={bufsize}) as there, NPopen("rb", bufsize={bufsize}) as back:
    code = "import sys\\nwith open(sys.argv[1], 'rb') as a, open(sys.argv[2], 'wb') as b: b.write(a.read()[::-1])"
    child = subprocess.Popen([sys.executable, "-c", code, there.path, back.path])
    stream = there.wait()
    view = memoryview(data)
    while view:
        view = view[stream.write(view):]
    stream.close()
    got = back.wait().read()
    print(there.path.startswith(chr(92) * 2 + "."), got == data[::-1], child.wait(20))
"""
    printed = run(wrappers_folder, tmp_path / "program", program, *as_windows("namedpipe"))
    assert printed == ["True True 0"]


def test_namedpipe_s_text(wrappers_folder: Path, tmp_path: Path) -> None:
    program = """
import threading
from namedpipe import NPopen

with NPopen("rt", bufsize=1, encoding="utf-8", name="of-a-name") as pipe:
    def client():
        with open(pipe.path, "wb", buffering=0) as file:
            file.write("gr\u00fc\u00dfe\\r\\nb\\n".encode())
    thread = threading.Thread(target=client)
    thread.start()
    print([line for line in pipe.wait()])
    thread.join()
"""
    printed = run(wrappers_folder, tmp_path / "program", program, *as_windows("namedpipe"))
    assert printed == [str(["gr\u00fc\u00dfe\n", "b\n"])]


def test_pywinpipe_sends_what_it_is_given(wrappers_folder: Path, tmp_path: Path, name: str) -> None:
    program = """
import os, sys, threading, time
from pywinpipe import ReadFromPipe, Write2Pipe

def write():
    with Write2Pipe(sys.argv[1]) as pipe:
        for message in (b"one", b"x" * 5000, b"three"):
            pipe.write_message(message)
        done.wait(20)

done = threading.Event()
thread = threading.Thread(target=write)
thread.start()
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
with ReadFromPipe(sys.argv[1]) as pipe:
    data = b""
    for message, size in pipe.read_message():  # of a byte pipe, by what it says of it
        assert len(message) == size
        data += message
        if len(data) == 5008:
            break
    print(data == b"one" + b"x" * 5000 + b"three")
done.set()
thread.join()
"""
    printed = run(wrappers_folder, tmp_path / "program", program, *as_windows("pywinpipe"), arguments=(name,))
    assert printed[-1] == "True"


def test_communica_calls_and_answers(wrappers_folder: Path, tmp_path: Path) -> None:
    program = """
import asyncio
from communica import SimpleClient, SimpleServer
from communica.connectors import LocalConnector

async def main():
    server = SimpleServer(LocalConnector("calls"), lambda data: {"got": data, "size": len(data)})
    async with server:
        async with SimpleClient(LocalConnector("calls")) as client:
            answers = await asyncio.gather(*(client.request("\u00fc" * size) for size in (1, 10, 100_000)))
            print([(answer["size"], answer["got"] == "\u00fc" * answer["size"]) for answer in answers])

asyncio.run(main())
"""
    printed = run(wrappers_folder, tmp_path / "program", program, *as_windows("communica"))
    assert printed == ["[(1, True), (10, True), (100000, True)]"]
