"""What people ask about pipes: the usual programs of questions and answers, as they stand, by the command."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.clients.programs import as_windows, environment, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

WRITE_THEN_SEEK_SERVER = r"""
import struct, sys
import win32file, win32pipe

pipe = win32pipe.CreateNamedPipe(
    sys.argv[1],
    win32pipe.PIPE_ACCESS_DUPLEX,
    win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_WAIT,
    win32pipe.PIPE_UNLIMITED_INSTANCES, 65536, 65536, 0, None,
)
print("listening", flush=True)
win32pipe.ConnectNamedPipe(pipe, None)
for _ in range(3):
    (size,) = struct.unpack("I", win32file.ReadFile(pipe, 4)[1])
    text = win32file.ReadFile(pipe, size)[1]
    win32file.WriteFile(pipe, struct.pack("I", size) + text[::-1])
win32file.CloseHandle(pipe)
"""

WRITE_THEN_SEEK_CLIENT = r"""
import struct, sys

f = open(sys.argv[1], "r+b", 0)
for s in (b"Message[1]", b"x" * 60_000, b"Message[3]"):
    f.write(struct.pack("I", len(s)) + s)
    f.seek(0)
    n = struct.unpack("I", f.read(4))[0]
    print(f.read(n) == s[::-1])
    f.seek(0)
f.close()
"""

RETRY_UNTIL_THERE = r"""
import sys, time
import pywintypes, win32file, win32pipe

def client(name):
    while True:
        try:
            handle = win32file.CreateFile(
                name, win32file.GENERIC_READ | win32file.GENERIC_WRITE, 0, None, win32file.OPEN_EXISTING, 0, None
            )
            res = win32pipe.SetNamedPipeHandleState(handle, win32pipe.PIPE_READMODE_MESSAGE, None, None)
            if res == 0:
                print(f"SetNamedPipeHandleState return code: {res}")
            while True:
                resp = win32file.ReadFile(handle, 64 * 1024)
                print(f"message: {resp}")
        except pywintypes.error as e:
            if e.args[0] == 2:
                print("no pipe, trying again in a bit", flush=True)
                time.sleep(0.1)
            elif e.args[0] == 109:
                print("broken pipe, bye bye")
                return

client(sys.argv[1])
"""

COUNTING_SERVER = r"""
import sys
import win32file, win32pipe

pipe = win32pipe.CreateNamedPipe(
    sys.argv[1],
    win32pipe.PIPE_ACCESS_DUPLEX,
    win32pipe.PIPE_TYPE_MESSAGE | win32pipe.PIPE_READMODE_MESSAGE | win32pipe.PIPE_WAIT,
    1, 65536, 65536, 0, None,
)
try:
    win32pipe.ConnectNamedPipe(pipe, None)
    for count in range(3):
        win32file.WriteFile(pipe, str.encode(f"{count}"))
    win32file.FlushFileBuffers(pipe)
finally:
    win32file.CloseHandle(pipe)
"""


def server(place: Path, program: str, *arguments: str) -> subprocess.Popen[str]:
    place.mkdir()
    (place / "server.py").write_text(program, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "-m", "npipe", "run", "server.py", *arguments],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_open_write_seek_read(tmp_path: Path, name: str) -> None:
    with server(tmp_path / "server", WRITE_THEN_SEEK_SERVER, name) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == "listening\n"
        printed = run(tmp_path, tmp_path / "client", WRITE_THEN_SEEK_CLIENT, arguments=(name,))
        assert printed == ["True", "True", "True"]
        assert serving.wait(20) == 0


def test_a_client_that_tries_until_there_is_a_server(tmp_path: Path, name: str) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "client.py").write_text(RETRY_UNTIL_THERE)
    with subprocess.Popen(
        [sys.executable, "-m", "npipe", "run", "client.py", name],
        cwd=tmp_path / "client",
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "no pipe, trying again in a bit\n"
        with server(tmp_path / "server", COUNTING_SERVER, name) as serving:
            assert serving.wait(20) == 0
        lines = [line for line in client.stdout.read().splitlines() if not line.startswith("no pipe")]
        assert lines == [*(f"message: (0, b'{count}')" for count in range(3)), "broken pipe, bye bye"]
        assert client.wait(20) == 0


def test_a_branch_for_the_platform_and_a_list_of_the_pipes(tmp_path: Path, name: str) -> None:
    program = r"""
import os, pathlib, sys
import win32pipe

assert os.name == "nt" and sys.platform.startswith("win")
prefix = r"\\.\pipe" + "\\"
pipe = win32pipe.CreateNamedPipe(sys.argv[1], 3, 4, 1, 4096, 4096, 0, None)
print(sys.argv[1].removeprefix(prefix) in os.listdir(prefix), os.path.exists(sys.argv[1]))
print(sys.argv[1].removeprefix(prefix) in [path.name for path in pathlib.Path(prefix).glob("*")])
pipe.Close()
print(os.path.exists(sys.argv[1]))
"""
    printed = run(tmp_path, tmp_path / "program", program, *as_windows(), arguments=(name,))
    assert printed == ["True True", "True", "False"]


def test_an_overlapped_connect_with_an_event_and_a_stop(tmp_path: Path, name: str) -> None:
    program = r"""
import sys, threading
import pywintypes, win32event, win32file, win32pipe, winerror

stop = win32event.CreateEvent(None, True, False, None)
overlapped = pywintypes.OVERLAPPED()
overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
pipe = win32pipe.CreateNamedPipe(
    sys.argv[1], win32pipe.PIPE_ACCESS_DUPLEX | win32file.FILE_FLAG_OVERLAPPED, 0, 1, 4096, 4096, 0, None
)
print(win32pipe.ConnectNamedPipe(pipe, overlapped) == winerror.ERROR_IO_PENDING)
client = threading.Thread(target=lambda: open(sys.argv[1], "wb", buffering=0).write(b"hello"))
client.start()
print(win32event.WaitForMultipleObjects([stop, overlapped.hEvent], False, 20_000) - win32event.WAIT_OBJECT_0)
client.join()
buffer = win32file.AllocateReadBuffer(100)
win32event.ResetEvent(overlapped.hEvent)
win32file.ReadFile(pipe, buffer, overlapped)
print(bytes(buffer[: win32file.GetOverlappedResult(pipe, overlapped, True)]))
win32event.SetEvent(stop)
print(win32event.WaitForMultipleObjects([stop, overlapped.hEvent], False, 0) - win32event.WAIT_OBJECT_0)
"""
    printed = run(tmp_path, tmp_path / "program", program, arguments=(name,))
    assert printed == ["True", "1", "b'hello'", "0"]


def test_lines_by_a_file_object_in_a_thread_of_each_side(tmp_path: Path, name: str) -> None:
    program = r"""
import msvcrt, os, sys, threading
import _winapi

handle = _winapi.CreateNamedPipe(sys.argv[1], _winapi.PIPE_ACCESS_DUPLEX, 0, 1, 4096, 4096, 0, 0)

def client():
    with open(sys.argv[1], "rb") as file:
        for line in file:
            print(line.decode().rstrip())

thread = threading.Thread(target=client)
thread.start()
try:
    _winapi.ConnectNamedPipe(handle)
except OSError as error:
    assert error.winerror == _winapi.ERROR_PIPE_CONNECTED
with os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDWR), "w", encoding="utf-8") as file:
    for number in range(3):
        print("line", number, "\u00fc", file=file, flush=True)
thread.join()
"""
    printed = run(tmp_path, tmp_path / "program", program, arguments=(name,))
    assert printed == [f"line {number} \u00fc" for number in range(3)]
