"""Handles of pipes in other processes: inherited, duplicated, taken. Real processes; what comes is compared."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from npipe.binding.win32 import travel
from npipe.win32 import _inheritance, pywintypes, win32api, win32event, win32file, win32pipe
from tests.win32.helpers import code_of, connected, create

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("told", [f"{1 << 70}:0:1", f"1:{1 << 40}:1", "-4:0:1", "a:b:c", "1:2", f"{1 << 47}:0:1", ","])
def test_a_variable_that_is_no_list_of_handles_is_left_alone(told: str) -> None:
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD + "print('imported')"],
        env={**os.environ, _inheritance.VARIABLE: told},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert child.stdout == "imported\n"


def test_a_handle_that_came_by_a_number_of_another_process_does_not_move_the_childs_numbers(name: str) -> None:
    server, client = pipe_pair(name)
    number = travel.offer_handle(client, os.getpid())
    win32file.WriteFile(number, b"here now")
    win32api.SetHandleInformation(number, 1, 1)
    child = start(
        """
from npipe.win32 import win32event
assert int(win32event.CreateEvent(None, 0, 0, None)) < 1 << 32
win32file.WriteFile(int(sys.argv[1]), b"there now")
""",
        number,
    )
    assert [win32file.ReadFile(server, 100)[1] for _ in range(2)] == [b"here now", b"there now"]
    end(child)


def test_a_child_closes_what_it_never_used(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    win32api.SetHandleInformation(server, 1, 0)
    child = start(
        """
input()
win32api.CloseHandle(int(sys.argv[1]))
try:
    win32api.CloseHandle(int(sys.argv[1]))
except pywintypes.error as error:
    print(error.winerror, flush=True)
input()
""",
        int(client),
    )
    client.Close()
    child.stdin.write("\n")  # type: ignore[union-attr]
    child.stdin.flush()  # type: ignore[union-attr]
    assert child.stdout.readline() == "6\n"  # type: ignore[union-attr]
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109  # and the child still runs
    child.stdin.write("\n")  # type: ignore[union-attr]
    end(child)


def test_a_child_that_closes_what_it_never_used_leaves_it_to_its_parent(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    end(start("win32api.CloseHandle(int(sys.argv[1]))", int(client)))
    win32file.WriteFile(client, b"mine")
    assert win32file.ReadFile(server, 100) == (0, b"mine")


def test_threads_that_lend_do_not_stop_each_other(name: str) -> None:
    _server, client = pipe_pair(name)

    def lend() -> None:
        for _ in range(3000):
            os.close(travel.lend_handle(client))

    threads = [threading.Thread(target=lend, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_lend_for_which_there_is_no_descriptor_changes_nothing(name: str) -> None:
    server, client = pipe_pair(name)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            travel.lend_handle(client)  # there are two, for the pair
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    win32file.WriteFile(client, b"as before")
    assert win32file.ReadFile(server, 100) == (0, b"as before")
    client.Close()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_the_number_of_a_duplicate_that_is_closed_is_nobodys(name: str) -> None:
    server, client = pipe_pair(name)
    mine = win32api.GetCurrentProcess()
    copy = win32api.DuplicateHandle(mine, client, mine, 0, False, 2)
    number = int(copy)
    copy.Close()
    child = start(
        """
from npipe.binding.win32 import travel
try:
    travel.take_handle(int(sys.argv[1]), int(sys.argv[2]))
except pywintypes.error as error:
    print(error.winerror)
""",
        os.getpid(),
        number,
    )
    assert end(child) == "6\n"
    win32file.WriteFile(client, b"still mine")
    assert win32file.ReadFile(server, 100) == (0, b"still mine")


def test_all_that_is_lent_goes_when_the_process_ends_though_one_is_in_use(name: str) -> None:
    free = create(name)
    used = create(name + "-used")
    parent = start(
        """
import os, subprocess
from npipe.win32 import _inheritance
attributes = pywintypes.SECURITY_ATTRIBUTES()
free, used = (
    win32file.CreateFile(path, 0xC0000000, 0, attributes, 3, 0x40000000, None).Detach() for path in sys.argv[1:]
)
code = '''
import sys
sys.stdin.read()
from npipe.win32 import win32file
win32file.WriteFile(int(sys.argv[1]), b"the grandchild")
'''
with _inheritance.inherited_by() as (variables, descriptors):
    subprocess.Popen([sys.executable, "-c", code, str(free)], env={**os.environ, **variables}, pass_fds=descriptors)
reading = pywintypes.OVERLAPPED()
assert win32file.ReadFile(used, win32file.AllocateReadBuffer(10), reading)[0] == 997
""",
        name,
        name + "-used",
    )
    assert parent.stdin is not None
    parent.stdin.close()
    parent.wait(60)
    overlapped = pywintypes.OVERLAPPED()
    overlapped.hEvent = win32event.CreateEvent(None, 1, 0, None)
    _, buffer = win32file.ReadFile(free, win32file.AllocateReadBuffer(100), overlapped)
    assert win32event.WaitForSingleObject(overlapped.hEvent, 30000) == 0
    count = win32file.GetOverlappedResult(free, overlapped, False)
    assert bytes(buffer[:count]) == b"the grandchild"
    used.Close()
    parent.stdout.close()  # type: ignore[union-attr]


def test_a_servers_end_that_came_is_connected_already(name: str) -> None:
    server, client = connected(name)
    win32api.SetHandleInformation(server, 1, 1)
    child = start(
        """
handle = int(sys.argv[1])
overlapped = pywintypes.OVERLAPPED()
print(win32pipe.ConnectNamedPipe(handle, overlapped), win32pipe.ConnectNamedPipe(handle, None))
input()
try:
    win32pipe.ConnectNamedPipe(handle, overlapped)
except pywintypes.error as error:
    print(error.winerror)
win32pipe.DisconnectNamedPipe(handle)
for how in (overlapped, None):
    try:
        win32pipe.ConnectNamedPipe(handle, how)
    except pywintypes.error as error:
        print(error.winerror)
""",
        int(server),
    )
    assert child.stdout.readline() == "535 535\n"  # type: ignore[union-attr]
    client.Close()
    child.stdin.write("\n")  # type: ignore[union-attr]
    assert end(child) == "232\n233\n233\n"


OWNER = """
from npipe.binding.win32 import travel
client = win32file.CreateFile(sys.argv[1], 0xC0000000, 0, None, 3, 0, None)
mine = win32api.GetCurrentProcess()
copy = win32api.DuplicateHandle(mine, client, mine, 0, False, 2)
print(int(copy), travel.offer_handle(client, 1), flush=True)
input()
"""

ASKING = """
import os, signal
from npipe.binding.win32 import travel

class Alarm(Exception):
    pass

def use():
    if len(sys.argv) == 3:
        return travel.take_handle(int(sys.argv[1]), int(sys.argv[2]))
    win32pipe.GetNamedPipeInfo(int(sys.argv[1]))
    return int(sys.argv[1])

def handler(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("interrupted", flush=True)
    if len(sys.argv) == 2:
        try:
            use()
        except pywintypes.error as error:
            print(error.winerror, flush=True)
    raise Alarm

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
try:
    use()
except Alarm:
    print("left", flush=True)
input()
win32file.WriteFile(use(), b"the second time")
"""


class Stopped:
    """A process that has a pipe's client, and answers nobody until it is told to go on."""

    def __init__(self, name: str) -> None:
        self.process = start(OWNER, name)
        self.numbers = self.process.stdout.readline().split()  # type: ignore[union-attr]
        os.kill(self.process.pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(self.process.pid, os.WUNTRACED)[1])

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        self.process.stdin.write("\n")  # type: ignore[union-attr]
        end(self.process)


@pytest.mark.parametrize("in_time", [False, True], ids=["no answer comes", "the answer comes while it leaves"])
def test_a_handle_is_not_lost_when_who_takes_it_is_interrupted(name: str, in_time: bool) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 255, 4096, 4096, 0, None)
    owner = Stopped(name)
    child = start(ASKING, owner.process.pid, owner.numbers[0])
    assert child.stdout.readline() == "interrupted\n"  # type: ignore[union-attr]
    if in_time:
        owner.go_on()
    assert child.stdout.readline() == "left\n"  # type: ignore[union-attr]
    if not in_time:
        owner.go_on()
    child.stdin.write("\n")  # type: ignore[union-attr]
    end(child)
    assert win32file.ReadFile(server, 100) == (0, b"the second time")
    owner.end()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


@pytest.mark.parametrize("in_time", [False, True], ids=["no answer comes", "the answer comes while it leaves"])
def test_a_number_is_busy_in_the_signal_handler_of_the_thread_that_asks_for_it(name: str, in_time: bool) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 255, 4096, 4096, 0, None)
    owner = Stopped(name)
    child = start(ASKING, owner.numbers[1])
    assert child.stdout.readline() == "interrupted\n"  # type: ignore[union-attr]
    assert child.stdout.readline() == "231\n"  # type: ignore[union-attr]
    if in_time:
        owner.go_on()
    assert child.stdout.readline() == "left\n"  # type: ignore[union-attr]
    if not in_time:
        owner.go_on()
    child.stdin.write("\n")  # type: ignore[union-attr]
    end(child)
    assert win32file.ReadFile(server, 100) == (0, b"the second time")
    owner.end()
    assert code_of(lambda: win32file.ReadFile(server, 100)) == 109


def test_a_child_does_not_get_what_another_one_has_got(name: str) -> None:
    server, client = pipe_pair(name, inheritable())
    win32api.SetHandleInformation(server, 1, 0)
    use = "win32file.WriteFile(int(sys.argv[1]), b'mine')"
    end(start(use, int(client)))
    assert win32file.ReadFile(server, 100) == (0, b"mine")
    end(start("", int(client)))  # of all: without that one
    assert code_of(lambda: start("", handles=[int(client)])) == 6


SHARED = """
import os, subprocess
from npipe.win32 import _inheritance

number, is_child = int(sys.argv[1]), len(sys.argv) == 3
if is_child:  # what it has inherited and not used goes on to its own child
    with _inheritance.inherited_by() as (variables, descriptors):
        other = subprocess.Popen(
            [sys.executable, "-c", sys.argv[2], str(number)],
            env={**os.environ, **variables}, pass_fds=descriptors, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
    assert other.stdout.readline() == b"there\\n"
    other.stdin.write(b"go\\n")
    other.stdin.flush()
else:
    print("there", flush=True)
    sys.stdin.readline()
for _ in range(20_000):
    try:
        win32pipe.GetNamedPipeInfo(number)
        raise SystemExit("its owner is using it")
    except pywintypes.error as failure:
        assert failure.winerror == 231, failure
if is_child:
    assert other.wait(60) == 0
"""


def test_two_processes_that_have_inherited_one_number_both_get_answers(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3 | 0x40000000, 4 | 2, 255, 4096, 4096, 0, None)
    client = win32file.CreateFile(name, 0xC0000000, 0, inheritable(), 3, 0x40000000, None)
    overlapped = pywintypes.OVERLAPPED()
    overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
    assert win32file.ReadFile(client, win32file.AllocateReadBuffer(10), overlapped)[0] == 997
    end(start(SHARED, int(client), CHILD + SHARED))
    server.Close()


def test_two_handles_of_one_descriptor_are_two_files_in_a_child(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("0123456789", encoding="ascii")
    descriptor = os.open(path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    first = win32file._get_osfhandle(descriptor)
    process = win32api.GetCurrentProcess()
    second = win32api.DuplicateHandle(process, first, process, 0, True, 2)
    child = start(
        """
import os
first, second = map(int, sys.argv[1:3])
assert win32file.ReadFile(first, 3) == (0, b"012")
win32api.CloseHandle(first)
own = os.open("/dev/null", os.O_RDONLY)
assert win32file.ReadFile(second, 3) == (0, b"345")
win32api.CloseHandle(second)
assert os.read(own, 5) == b""
""",
        int(first),
        int(second),
    )
    os.close(descriptor)
    end(child)


def test_the_number_of_an_inherited_file_is_not_given_to_what_is_made_before_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content", encoding="ascii")
    descriptor = os.open(path, os.O_RDONLY)
    code = """
import sys
from npipe.win32 import win32event
event = win32event.CreateEvent(None, True, False, None)
assert int(event) != 256
from npipe.win32 import win32file
assert win32file.ReadFile(256, 100) == (0, b"content")
"""
    told = f"256:{descriptor}:{os.fstat(descriptor).st_ino}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, _inheritance.FILES: told},
        pass_fds=[descriptor],
        capture_output=True,
        text=True,
        timeout=60,
    )
    os.close(descriptor)
    assert done.returncode == 0, done.stderr


def test_a_file_for_which_there_is_no_descriptor_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    file = win32file.CreateFile(str(path), 0x80000000, 0, inheritable(), 3, 0, None)
    with _inheritance.inherited_by([int(file)]) as (variables, _):
        assert list(variables) == [_inheritance.FILES]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"), _inheritance.inherited_by([int(file)]):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
