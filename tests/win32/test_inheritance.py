"""Handles of pipes in other processes: inherited, duplicated, taken. Real processes; what comes is compared."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from npipe.win32 import _inheritance, pywintypes, win32api, win32file, win32pipe
from tests.win32.helpers import code_of

CHILD = """
import sys
from npipe.win32 import pywintypes, win32api, win32file, win32pipe
"""


def pipe_pair(name: str, attributes: Any = None) -> tuple[Any, Any]:
    """A connected message pipe: the server's end and the client's."""
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 255, 4096, 4096, 0, attributes)
    client = win32file.CreateFile(name, 0xC0000000, 0, attributes, 3, 0, None)
    win32pipe.SetNamedPipeHandleState(client, 2, None, None)
    return server, client


def start(code: str, *arguments: object, handles: list[int] | None = None) -> subprocess.Popen[str]:
    """A child with all inheritable handles, or with these."""
    with _inheritance.inherited_by(handles) as (variables, descriptors):
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", CHILD + code, *map(str, arguments)],
            env={**os.environ, **variables},
            pass_fds=descriptors,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def end(child: subprocess.Popen[str]) -> str:
    """What it has printed; it has ended well."""
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return out


def inheritable() -> Any:
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    attributes.bInheritHandle = 1
    return attributes


def test_a_child_reads_and_writes_on_an_inherited_handle(name: str) -> None:
    server, client = pipe_pair(name)
    win32api.SetHandleInformation(client, 1, 1)
    win32file.WriteFile(server, b"first")
    win32file.WriteFile(server, b"012345")
    assert win32file.ReadFile(client, 100) == (0, b"first")
    child = start(
        """
handle = int(sys.argv[1])
assert win32file.ReadFile(handle, 3) == (234, b"012")
assert win32file.ReadFile(handle, 100) == (0, b"345")
win32file.WriteFile(handle, b"from the child")
win32api.CloseHandle(handle)
""",
        int(client),
    )
    client.Close()
    assert win32file.ReadFile(server, 100) == (0, b"from the child")
    end(child)
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_the_servers_end_is_inherited_too(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    win32api.SetHandleInformation(client, 1, 0)
    child = start(
        """
handle = int(sys.argv[1])
print(win32file.ReadFile(handle, 100)[1].decode(), end="")
win32file.WriteFile(handle, b"answer")
win32file.FlushFileBuffers(handle)
""",
        int(server),
    )
    server.Close()
    win32file.WriteFile(client, b"question")
    assert win32file.ReadFile(client, 100) == (0, b"answer")
    assert end(child) == "question"
    assert code_of(lambda: win32file.ReadFile(client, 100)) == 109


def test_a_handle_that_is_not_inheritable_does_not_come(name: str) -> None:
    server, client = pipe_pair(name)
    child = start(
        """
try:
    win32file.ReadFile(int(sys.argv[1]), 1)
except pywintypes.error as error:
    print(error.winerror)
""",
        int(client),
    )
    assert end(child) == "6\n"
    win32file.WriteFile(client, b"still mine")
    assert win32file.ReadFile(server, 100) == (0, b"still mine")
    assert code_of(lambda: start("", handles=[int(client)])) == 87


def test_a_child_that_does_not_use_it_leaves_it_to_its_parent(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    end(start("", int(client)))
    win32file.WriteFile(client, b"mine")
    assert win32file.ReadFile(server, 100) == (0, b"mine")
    client.Close()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_the_parent_has_it_no_more_once_the_child_has(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    child = start(
        """
win32file.WriteFile(int(sys.argv[1]), b"now it is here")
input()
""",
        int(client),
        handles=[int(client)],
    )
    assert win32file.ReadFile(server, 100) == (0, b"now it is here")
    assert code_of(lambda: win32file.WriteFile(client, b"x")) == 6
    child.stdin.write("\n")  # type: ignore[union-attr]
    end(child)
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_what_a_parent_wrote_before_it_closed_comes_first(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    for number in range(50):
        win32file.WriteFile(client, b"parent %d" % number)
    child = start(
        """
for number in range(50):
    win32file.WriteFile(int(sys.argv[1]), b"child %d" % number)
""",
        int(client),
        handles=[int(client)],
    )
    client.Close()
    got = [win32file.ReadFile(server, 100)[1] for _ in range(100)]
    assert got == [b"parent %d" % number for number in range(50)] + [b"child %d" % number for number in range(50)]
    end(child)


def test_a_child_inherits_from_a_parent_that_ends(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 255, 4096, 4096, 0, None)
    parent = start(
        """
import os, subprocess
from npipe.win32 import _inheritance
attributes = pywintypes.SECURITY_ATTRIBUTES()
client = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, attributes, 3, 0, None)
code = "import sys; sys.stdin.read()\\n" + '''
from npipe.win32 import win32file
win32file.WriteFile(int(sys.argv[1]), b"the grandchild")
'''
with _inheritance.inherited_by() as (variables, descriptors):
    subprocess.Popen([sys.executable, "-c", code, str(int(client))], env={**os.environ, **variables},
                     pass_fds=descriptors)
""",
        name,
    )
    assert parent.stdin is not None
    parent.stdin.close()
    parent.wait(60)
    win32pipe.ConnectNamedPipe(server, None)
    assert win32file.ReadFile(server, 100) == (0, b"the grandchild")
    parent.stdout.close()  # type: ignore[union-attr]


def process(pid: int) -> Any:
    """A handle of a process that handles may be duplicated for."""
    return win32api.OpenProcess(0x40, False, pid)  # PROCESS_DUP_HANDLE


def test_a_handle_is_duplicated_into_another_process(name: str) -> None:
    server, client = pipe_pair(name)
    child = start(
        """
handle = int(input())
win32file.WriteFile(handle, win32file.ReadFile(handle, 100)[1].upper())
win32api.CloseHandle(handle)
"""
    )
    there = win32api.DuplicateHandle(
        win32api.GetCurrentProcess(), client, process(child.pid), 0, False, 3
    )  # DUPLICATE_CLOSE_SOURCE | DUPLICATE_SAME_ACCESS
    win32file.WriteFile(server, b"shout")
    child.stdin.write(f"{there.Detach()}\n")  # type: ignore[union-attr]
    child.stdin.flush()  # type: ignore[union-attr]
    assert win32file.ReadFile(server, 100) == (0, b"SHOUT")
    end(child)
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_a_handle_is_taken_out_of_another_process(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 255, 4096, 4096, 0, None)
    child = start(
        """
client = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
mine = win32api.GetCurrentProcess()
copy = win32api.DuplicateHandle(mine, client, mine, 0, False, 2)
win32file.WriteFile(client, b"one")
print(int(copy), flush=True)
input()
try:
    win32file.WriteFile(client, b"x")
except pywintypes.error as error:
    print(error.winerror)
""",
        name,
    )
    number = int(child.stdout.readline())  # type: ignore[union-attr]
    win32pipe.ConnectNamedPipe(server, None)
    taken = win32api.DuplicateHandle(process(child.pid), number, win32api.GetCurrentProcess(), 0, False, 2)
    win32file.WriteFile(taken, b"two")
    assert [win32file.ReadFile(server, 100)[1] for _ in range(2)] == [b"one", b"two"]
    child.stdin.write("\n")  # type: ignore[union-attr]
    assert end(child) == "6\n"
    taken.Close()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_closing_a_duplicate_and_its_source_ends_the_connection(name: str) -> None:
    server, client = pipe_pair(name)
    mine = win32api.GetCurrentProcess()
    copy = win32api.DuplicateHandle(mine, client, mine, 0, True, 2)
    assert win32api.GetHandleInformation(copy) == 1
    assert win32api.GetHandleInformation(client) == 0
    client.Close()
    win32file.WriteFile(copy, b"still")
    assert win32file.ReadFile(server, 100) == (0, b"still")
    copy.Close()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_numbers_that_nobody_gave_are_no_handles() -> None:
    for number in (1 << 46, (1 << 46) | (os.getpid() << 24) | 4, (1 << 46) | (1 << 24) | 4, 0x7FFFFFFC):
        assert code_of(lambda number=number: win32file.ReadFile(number, 1)) == 6


def test_an_anonymous_pipe_reaches_a_child() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    child = start(
        """
handle = int(sys.argv[1])
win32file.WriteFile(handle, b"x" * 100000)
""",
        int(writer),
        handles=[int(writer)],
    )
    writer.Close()
    got = b""
    while len(got) < 100000:
        got += win32file.ReadFile(reader, 65536)[1]
    assert code_of(lambda: win32file.ReadFile(reader, 1)) == 109
    assert got == b"x" * 100000
    end(child)
