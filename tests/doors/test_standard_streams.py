"""A named pipe's handle as the standard stream of a Python program: it opens it itself, under the door of children."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = r"""
import sys
import win32event, win32file, win32pipe, win32process, win32security

attributes = win32security.SECURITY_ATTRIBUTES()
attributes.bInheritHandle = 1
name = sys.argv[1]
server = win32pipe.CreateNamedPipe(name, 3, 0, 255, 4096, 4096, 0, None)
client = win32file.CreateFile(name, 0xC0000000, 0, attributes, 3, 0, None)
info = win32process.STARTUPINFO()
info.dwFlags = win32process.STARTF_USESTDHANDLES
info.hStdInput = info.hStdOutput = client
process, _, _, _ = win32process.CreateProcess(
    None, 'python.exe -c "print(input().upper(), flush=True)"', None, None, 1, 0, None, None, info
)
client.Close()
win32file.WriteFile(server, b"shout\n")
print(win32file.ReadFile(server, 100)[1])
win32event.WaitForSingleObject(process, win32event.INFINITE)
print(win32process.GetExitCodeProcess(process))
"""


def test_a_python_child_has_a_pipe_as_its_standard_streams(tmp_path: Path, name: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", str(script), name], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr, done.returncode) == ("b'SHOUT\\n'\n0\n", "", 0)


PIPE = """
import os, subprocess, sys
import win32file, win32pipe
name = sys.argv[1]
server = win32pipe.CreateNamedPipe(name, 3, 0, 255, 4096, 4096, 0, None)
SHOUT = "print(input().upper(), flush=True)"
def answered():
    win32file.WriteFile(server, b"shout\\n")
    return win32file.ReadFile(server, 100)[1]
def all_of():
    data = b""
    while True:
        try: data += win32file.ReadFile(server, 100)[1]
        except win32file.error as failure:
            print(failure.winerror)
            return data
"""


def run(folder: Path, program: str, name: str) -> list[str]:
    script = folder / "parent.py"
    script.write_text(PIPE + program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", str(script), name], capture_output=True, text=True, timeout=50
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "how",
    [
        "subprocess.Popen([sys.executable, '-c', SHOUT], stdin=file, stdout=file)",
        "subprocess.Popen([sys.executable, '-c', SHOUT], -1, None, file, file)",
        "subprocess.Popen(('python', '-c', SHOUT), -1, sys.executable, stdin=file.fileno(), stdout=file, env={})",
        "subprocess.Popen([sys.executable, '-u', '-Wignore', '-X', 'dev', '-c', SHOUT], stdin=file, stdout=file)",
    ],
)
@pytest.mark.parametrize("mode", ["'r+b', buffering=0", "'r+b'", "'r+'"])
def test_subprocess_gives_a_file_of_a_pipe_to_a_python_child(tmp_path: Path, name: str, how: str, mode: str) -> None:
    program = f"""
file = open(name, {mode})
process = {how}
file.close()
print(answered(), process.wait())
"""
    assert run(tmp_path, program, name) == ["b'SHOUT\\n' 0"]


def test_both_outputs_of_a_child_go_to_one_pipe(tmp_path: Path, name: str) -> None:
    program = """
file = open(name, 'wb', buffering=0)
code = "import sys; print('one'); sys.stdout.flush(); print('two', file=sys.stderr)"
process = subprocess.Popen([sys.executable, '-c', code], stdout=file, stderr=subprocess.STDOUT)
file.close()
print(all_of(), process.wait())
"""
    assert run(tmp_path, program, name) == ["109", "b'one\\ntwo\\n' 0"]


def test_a_pipe_whose_client_is_a_descriptor_takes_what_a_child_prints(tmp_path: Path, name: str) -> None:
    program = """
import msvcrt, win32con
client = win32file.CreateFile(name, win32con.GENERIC_WRITE, 0, None, 3, 0, None)
fd = msvcrt.open_osfhandle(client.Detach(), os.O_WRONLY)
done = subprocess.run([sys.executable, '-c', 'print(5 * "line ")'], stdout=fd)
os.close(fd)
print(all_of(), done.returncode)
"""
    assert run(tmp_path, program, name) == ["109", "b'line line line line line \\n' 0"]


def test_a_nameless_pipes_descriptor_is_any_programs(tmp_path: Path, name: str) -> None:
    program = """
import msvcrt
server, writer = win32pipe.CreatePipe(None, 0)
fd = msvcrt.open_osfhandle(writer.Detach(), os.O_WRONLY)
done = subprocess.run(['/bin/echo', 'any'], stdout=fd)
os.close(fd)
print(all_of(), done.returncode)
"""
    assert run(tmp_path, program, name) == ["109", "b'any\\n' 0"]


@pytest.mark.parametrize(
    "how",
    [
        "subprocess.Popen(['/bin/true'], stdin=file)",
        "subprocess.Popen(['/bin/true'], stdin=file.fileno())",
        "subprocess.Popen([sys.executable, '-I', '-c', SHOUT], stdin=file)",
        "subprocess.Popen([sys.executable, '-bE', '-c', SHOUT], stdin=file)",
        "subprocess.Popen([sys.executable, '-X', 'dev', '-S', 'script.py'], stdin=file)",
        "subprocess.Popen(f'{sys.executable} -c pass', stdin=file, shell=True)",
    ],
)
def test_a_child_that_could_do_nothing_with_it_is_refused(tmp_path: Path, name: str, how: str) -> None:
    program = f"""
file = open(name, 'r+b', buffering=0)
try: {how}
except OSError as failure: print(failure.winerror)
file.write(b'still here')
print(win32file.ReadFile(server, 100)[1])
"""
    assert run(tmp_path, program, name) == ["50", "b'still here'"]


def test_a_start_that_fails_leaves_the_pipe_to_the_programs_selector(tmp_path: Path, name: str) -> None:
    program = """
import selectors
file = open(name, 'r+b', buffering=0)
selector = selectors.DefaultSelector()
selector.register(file, selectors.EVENT_READ)
try: subprocess.Popen(['/nowhere/python'], stdin=file)
except FileNotFoundError: print('no such program')
for _ in range(3):
    win32file.WriteFile(server, b'abc')
    print(len(selector.select(20)), file.read(10), len(selector.select(0)))
"""
    assert run(tmp_path, program, name) == ["no such program", *["1 b'abc' 0"] * 3]


def test_a_variable_of_streams_that_did_not_come_is_left_alone(tmp_path: Path, name: str) -> None:
    program = """
told = {**os.environ, 'NPIPE_STANDARD_HANDLES': '1:260', 'NPIPE_HANDLES': '260:7:1'}
done = subprocess.run([sys.executable, '-c', 'print("hello")'], env=told, capture_output=True)
print(done.returncode, done.stdout, done.stderr)
"""
    assert run(tmp_path, program, name) == ["0 b'hello\\n' b''"]


def test_the_handle_of_a_process_is_its_own_and_never_anothers(tmp_path: Path, name: str) -> None:
    program = """
import win32event, win32process
child = subprocess.Popen([sys.executable, '-c', 'raise SystemExit(3)'])
handle = child._handle
print(win32event.WaitForSingleObject(handle, 20000), win32process.GetExitCodeProcess(handle), child.wait())
print(int(child._handle) == int(handle))
child = subprocess.Popen(['/bin/true'])
child.wait()
print(hasattr(child, '_handle'))  # its number may be another process's by now
"""
    assert run(tmp_path, program, name) == ["0 3 3", "True", "False"]
