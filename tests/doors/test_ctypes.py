"""The door of ctypes: kernel32 by ctypes' own means, in this process and in programs as they are."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import pickle
import signal
import subprocess
import sys
import threading
from ctypes import wintypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe.win32 import install, win32api, win32event, win32file, win32pipe
from tests.doors.helpers import run as run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = Path(__file__).parent / "programs"
READ_WRITE = 0xC0000000
OPEN_EXISTING = 3
OVERLAPPED_FLAG = 0x40000000
INVALID = -1
DEADLINE_MS = 10_000
STATUS_PENDING = 0x103

CT: Any = ctypes  # with what the door puts there
LONG_OF_8 = ctypes.c_long
ULONG_OF_8 = ctypes.c_ulong


@pytest.fixture
def door() -> Iterator[Any]:
    with install(pywin32=False, ctypes=True) as installation:
        yield installation


@pytest.fixture
def k32(door: Any) -> Any:
    del door
    return CT.WinDLL("kernel32", use_last_error=True)


class OVERLAPPED(ctypes.Structure):
    _fields_ = (
        ("Internal", ctypes.c_size_t),
        ("InternalHigh", ctypes.c_size_t),
        ("Offset", ctypes.c_uint32),
        ("OffsetHigh", ctypes.c_uint32),
        ("hEvent", ctypes.c_void_p),
    )


class OfLongs(ctypes.Structure):
    """An OVERLAPPED that was declared with c_ulong where that has 8 bytes."""

    _fields_ = (
        ("Internal", ULONG_OF_8),
        ("InternalHigh", ULONG_OF_8),
        ("Offset", ULONG_OF_8),
        ("OffsetHigh", ULONG_OF_8),
        ("hEvent", ctypes.c_void_p),
    )


def connected(k32: Any, name: str, *, flags: int = 0, mode: int = 0) -> tuple[int, int]:
    server = k32.CreateNamedPipeW(name, 3 | flags, mode, 1, 4096, 4096, 0, None)
    assert server != INVALID
    client = k32.CreateFileW(name, READ_WRITE, 0, None, OPEN_EXISTING, flags, None)
    assert client != INVALID
    return server, client


def close(k32: Any, *handles: Any) -> None:
    for handle in handles:
        assert k32.CloseHandle(handle)


# ---- Programs


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "npipe", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.mark.parametrize("server", ["threads", "overlapped", "routines", "port"])
def test_microsofts_servers_and_client_in_ctypes_run_as_they_are(server: str, name: str) -> None:
    clients = 3
    command = [sys.executable, "-m", "npipe", "run", str(PROGRAMS / f"ctypes_{server}.py"), name, str(clients)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number in range(clients):
                client = run(str(PROGRAMS / "ctypes_client.py"), name, f"hello {number}", "long", "end")
                assert client.stderr == ""
                assert client.stdout == f"HELLO {number}\n{'LONG' * 250}\nEND\n"
            _, errors = process.communicate(timeout=30)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def test_the_client_in_ctypes_talks_to_a_server_of_npipes(name: str) -> None:
    with npipe.listen(name, mode="message") as listener:
        command = [sys.executable, "-m", "npipe", "run", str(PROGRAMS / "ctypes_client.py"), name, "ping"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, listener.accept() as pipe:
            assert pipe.recv() == b"ping"
            pipe.send(b"x" * 1300)  # more than the client's buffer
            output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "x" * 1300 + "\n")


# ---- The door


PATCHED = {
    "ctypes": ctypes,
    "ctypes.util": ctypes.util,
    "ctypes.wintypes": wintypes,
    "CDLL": ctypes.CDLL,
    "PyDLL": ctypes.PyDLL,
    "cdll": ctypes.cdll,
}


def everything() -> dict[tuple[str, str], int]:
    found = {(place, name): id(value) for place, target in PATCHED.items() for name, value in vars(target).items()}
    return found | {("ctypes", "its class"): id(type(ctypes)), ("asked", "c_ulong"): id(ctypes.c_ulong)}


def test_nothing_of_ctypes_stays_changed() -> None:
    before = everything()
    with install(pywin32=False, ctypes=True):
        assert ctypes.cdll.kernel32
        assert ctypes.cdll.LoadLibrary("kernel32.dll")
        assert ctypes.CDLL("kernel32")
        assert everything() != before
    assert everything() == before


def test_the_door_may_be_opened_twice_and_closed_in_any_order() -> None:
    before = everything()
    first = install(pywin32=False, ctypes=True)
    library = CT.WinDLL("kernel32")
    second = install(pywin32=False, ctypes=True)
    first.uninstall()
    assert library.GetCurrentProcessId() == os.getpid()
    assert CT.windll.kernel32.GetCurrentProcessId() == os.getpid()
    second.uninstall()
    assert everything() == before
    assert library.GetCurrentProcessId() == os.getpid()  # what a program has, it keeps


def test_a_patch_above_the_doors_stays_and_finds_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    installation = install(pywin32=False, ctypes=True)
    theirs = ctypes.util.find_library

    def above(name: str) -> str | None:
        return theirs(name)

    monkeypatch.setattr(ctypes.util, "find_library", above)
    assert above("kernel32") == "kernel32.dll"
    installation.uninstall()
    assert ctypes.util.find_library is above
    assert above("kernel32") is None


def test_a_closed_door_loads_what_it_loaded_before() -> None:
    with install(pywin32=False, ctypes=True):
        initializer = ctypes.CDLL.__init__
    with pytest.raises(OSError, match="kernel32"):
        initializer(object.__new__(ctypes.CDLL), "kernel32")
    with pytest.raises(OSError, match="kernel32"):
        ctypes.CDLL("kernel32")


def test_threads_may_use_it_while_it_opens_and_closes() -> None:
    over = threading.Event()
    failures: list[BaseException] = []

    def use() -> None:
        try:
            while not over.is_set():
                assert ctypes.CDLL(None).getpid() == os.getpid()
                assert ctypes.sizeof(wintypes.DWORD) in (4, 8)
                assert ctypes.sizeof(ctypes.c_ulong) in (4, 8)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        with install(pywin32=False, ctypes=True):
            assert CT.windll.kernel32.GetCurrentProcessId() == os.getpid()
    over.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_threads_that_ask_for_a_function_first_get_the_same_code() -> None:
    script = """
import ctypes, sys, threading
sys.setswitchinterval(1e-6)
names = ["SetEvent", "ResetEvent", "CloseHandle", "GetTickCount64", "GetCurrentProcessId", "ReadFile", "WriteFile"]
start = threading.Barrier(8)
found = []
def ask():
    library = ctypes.WinDLL("kernel32")
    start.wait()
    found.append([ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names])
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(addresses == found[0] for addresses in found))
"""
    done = run("-c", script)
    assert (done.stdout, done.stderr) == ("8 True\n", "")


@pytest.mark.parametrize(
    "load",
    [
        lambda: CT.WinDLL("kernel32"),
        lambda: CT.WinDLL("kernel32.dll"),
        lambda: CT.WinDLL("KERNEL32"),
        lambda: CT.WinDLL(r"C:\Windows\System32\kernel32.dll"),
        lambda: CT.WinDLL(ctypes.util.find_library("kernel32")),
        lambda: CT.windll.kernel32,
        lambda: CT.windll.LoadLibrary("kernel32"),
        lambda: CT.windll["kernel32"],
        lambda: ctypes.cdll.kernel32,
        lambda: ctypes.cdll.LoadLibrary("kernel32"),
        lambda: ctypes.CDLL("kernel32"),
        lambda: ctypes.CDLL("kernel32", use_last_error=True),
    ],
)
@pytest.mark.usefixtures("door")
def test_all_ways_to_load_it_lead_there(load: Callable[[], Any]) -> None:
    library = load()
    assert isinstance(library, ctypes.CDLL)
    assert library.GetCurrentProcessId() == os.getpid()
    assert library["GetCurrentProcessId"]() == os.getpid()
    assert library.CloseHandle is library.CloseHandle
    assert library["CloseHandle"] is not library["CloseHandle"]
    assert library.CloseHandle.__name__ == "CloseHandle"


@pytest.mark.parametrize(
    "statement",
    [
        "from ctypes import byref, windll, wintypes",
        "from ctypes import wintypes, WinDLL as windll",
        "import ctypes.wintypes; from ctypes import windll",
        "import ctypes.wintypes as wintypes; from ctypes import windll",
        "import ctypes.util; from ctypes import windll",
        "from ctypes.wintypes import DWORD; from ctypes import windll",
        "from ctypes import *; from ctypes.wintypes import *",
        "import importlib; importlib.import_module('ctypes.wintypes'); from ctypes import windll",
    ],
)
@pytest.mark.parametrize("switches", [(), ("--no-pywin32", "--no-files", "--no-asyncio", "--no-winapi")])
def test_the_first_import_of_ctypes_may_have_any_form(
    statement: str, switches: tuple[str, ...], tmp_path: Path
) -> None:
    program = f"""
        {statement}
        import ctypes
        from ctypes import wintypes as types
        print(windll is not None, ctypes.sizeof(types.DWORD), ctypes.WinDLL("kernel32").GetLastError())
    """
    assert run_script(tmp_path, program, *switches) == "True 4 0\n"


def test_what_there_is_not_is_told_by_name(k32: Any) -> None:
    for missing in ("CreateProcessW", "NoSuchFunction"):
        with pytest.raises(AttributeError, match=rf"function '{missing}' not found.*docs/porting\.md"):
            getattr(k32, missing)
        assert not hasattr(k32, missing)
    with pytest.raises(AttributeError, match="function ordinal 1 not found"):
        k32[1]
    with pytest.raises(FileNotFoundError, match=r"'nonesuch'.*docs/porting\.md"):
        CT.WinDLL("nonesuch")
    with pytest.raises(AttributeError, match=r"'oledll'.*docs/porting\.md"):
        CT.oledll  # noqa: B018
    with pytest.raises(ImportError, match=r"cannot import name 'OleDLL' from 'ctypes'.*docs/porting\.md"):
        exec("from ctypes import OleDLL")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        CT.nonsense  # noqa: B018


@pytest.mark.usefixtures("door")
def test_functions_of_libraries_beside_can_be_named_and_fail_when_they_are_called() -> None:
    box = CT.windll.user32.MessageBoxW
    with pytest.raises(AttributeError, match=r"'MessageBoxW' not found in user32.*docs/porting\.md"):
        box(None, "text", "caption", 0)
    sockets = CT.WinDLL("Ws2_32.dll", use_last_error=True)
    sockets.socket.argtypes, sockets.socket.restype = [ctypes.c_int] * 3, CT.wintypes.HANDLE
    with pytest.raises(AttributeError, match=r"'socket' not found in Ws2_32\.dll.*docs/porting\.md"):
        sockets.socket(1, 1, 0)
    prototype = CT.WINFUNCTYPE(CT.wintypes.BOOL, CT.wintypes.HANDLE)(("GetProcessMemoryInfo", CT.windll.psapi))
    with pytest.raises(AttributeError, match="GetProcessMemoryInfo"):
        prototype(None)
    with pytest.raises(AttributeError, match="function ordinal 1 not found"):
        CT.windll.shell32[1]


# ---- Types


@pytest.mark.usefixtures("door")
def test_types_have_windows_sizes() -> None:
    four = ("DWORD", "LONG", "ULONG", "BOOL", "COLORREF", "LCID", "INT", "UINT")
    assert {name: ctypes.sizeof(getattr(wintypes, name)) for name in four} == dict.fromkeys(four, 4)
    eight = ("HANDLE", "WPARAM", "LPARAM", "LARGE_INTEGER", "LPVOID", "FILETIME", "POINT", "SIZE")
    assert {name: ctypes.sizeof(getattr(wintypes, name)) for name in eight} == dict.fromkeys(eight, 8)
    assert wintypes.LPDWORD is ctypes.POINTER(wintypes.DWORD)
    pointer: Any = wintypes.PULONG
    assert pointer._type_ is wintypes.ULONG
    assert ctypes.sizeof(wintypes.MSG) == 48
    assert ctypes.c_ulong is wintypes.DWORD  # as a module of the program's own sees it
    assert ctypes.sizeof(ctypes.c_long) == 4
    package = compile("import ctypes; size = ctypes.sizeof(ctypes.c_ulong)", "<test>", "exec")
    seen: dict[str, Any] = {"__name__": "package", "__file__": str(Path(os.__file__).with_name("x.py"))}
    exec(package, seen)
    assert seen["size"] == 8


def test_numbers_are_written_as_wide_as_the_programs_variable(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    row = (ctypes.c_uint32 * 3)(7, 7, 7)
    middle = ctypes.addressof(row) + 4
    assert k32.WriteFile(client, b"abc", 3, ctypes.c_void_p(middle), None)
    assert list(row) == [7, 3, 7]
    wide = ULONG_OF_8(2**64 - 1)
    buffer = ctypes.create_string_buffer(8)
    assert k32.ReadFile(server, buffer, 8, ctypes.byref(wide), None)
    assert (wide.value, buffer.raw[:3]) == (3, b"abc")
    close(k32, server, client)


def test_types_that_are_one_on_windows_may_be_mixed(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    k32.WriteFile.argtypes = [
        wintypes.HANDLE,
        ctypes.c_void_p,
        wintypes.DWORD,
        ctypes.POINTER(wintypes.DWORD),
        ctypes.c_void_p,
    ]
    wide = ULONG_OF_8(2**64 - 1)
    assert k32.WriteFile(client, b"abc", ULONG_OF_8(3), ctypes.byref(wide), None)
    assert wide.value == 3
    assert k32.WriteFile(client, b"abcd", 4, ctypes.pointer(wide), None)
    assert wide.value == 4
    k32.ReadFile.argtypes = [wintypes.HANDLE, ctypes.c_void_p, ULONG_OF_8, ctypes.POINTER(ULONG_OF_8), ctypes.c_void_p]
    row = (wintypes.DWORD * 2)(0, 9)
    buffer = ctypes.create_string_buffer(20)
    assert k32.ReadFile(server, buffer, 20, row, None)
    assert (list(row), buffer.raw[:7]) == ([7, 9], b"abcabcd")
    close(k32, server, client)


# ---- Calling


def test_results_are_as_restype_says(k32: Any) -> None:
    nothing = (r"\\.\pipe\nothing", READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
    assert k32.CreateFileW(*nothing) == -1
    k32.CreateFileW.restype = wintypes.HANDLE
    assert k32.CreateFileW(*nothing) == 2**64 - 1 == wintypes.HANDLE(-1).value
    k32.CreateFileW.restype = wintypes.DWORD
    assert k32.CreateFileW(*nothing) == 2**32 - 1
    k32.CreateFileW.restype = None
    assert k32.CreateFileW(*nothing) is None
    k32.WaitForSingleObject.restype = ULONG_OF_8
    assert k32.WaitForSingleObject(0, 0) == 0xFFFFFFFF
    assert ctypes.get_last_error() == 6  # type: ignore[attr-defined]
    k32.CloseHandle.restype = CT.HRESULT
    assert k32.CloseHandle(k32.CreateEventW(None, True, False, None)) == 1


def test_errcheck_sees_and_replaces_the_result(k32: Any) -> None:
    seen = []

    def check(result: int, function: Any, arguments: tuple[Any, ...]) -> str:
        seen.append((result, function, arguments))
        if not result:
            raise CT.WinError(CT.get_last_error())
        return "done"

    k32.CloseHandle.errcheck = check
    event = k32.CreateEventW(None, True, False, None)
    assert k32.CloseHandle(event) == "done"
    assert seen == [(1, k32.CloseHandle, (event,))]
    with pytest.raises(OSError, match=r"^\[WinError 6\] The handle is invalid\.$") as failure:
        k32.CloseHandle(event)
    assert failure.value.errno == errno.EBADF


def test_wrong_arguments_raise_what_ctypes_raises(k32: Any) -> None:
    with pytest.raises(TypeError, match=r"this function takes 7 arguments \(1 given\)"):
        k32.CreateFileW(r"\\.\pipe\x")
    with pytest.raises(ctypes.ArgumentError, match="argument 1"):
        k32.CloseHandle(1.5)
    k32.CloseHandle.argtypes = [wintypes.HANDLE]
    with pytest.raises(ctypes.ArgumentError, match="argument 1: "):
        k32.CloseHandle(1.5)
    with pytest.raises(TypeError, match=r"this function takes 1 argument \(2 given\)"):
        k32.CloseHandle(1, 2)
    k32.ReadFile.argtypes = [wintypes.HANDLE]
    with pytest.raises(TypeError, match=r"this function takes 5 arguments \(1 given\)"):
        k32.ReadFile(1)
    with pytest.raises((TypeError, AttributeError)):
        k32.CloseHandle.argtypes = [object()]


def test_prototypes_with_flags_take_names_and_return_what_is_out(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    prototype = CT.WINFUNCTYPE(wintypes.BOOL, wintypes.HANDLE, ctypes.POINTER(wintypes.ULONG), use_last_error=True)
    assert prototype is CT.WINFUNCTYPE(
        wintypes.BOOL, wintypes.HANDLE, ctypes.POINTER(wintypes.ULONG), use_last_error=True
    )
    pid_of = prototype(("GetNamedPipeServerProcessId", k32), ((1, "pipe"), (2, "pid")))
    assert pid_of(pipe=client) == pid_of(client) == os.getpid()
    assert pid_of(0) == 0
    assert CT.get_last_error() == 6
    with pytest.raises(AttributeError, match="'Nonesuch' not found"):
        prototype(("Nonesuch", k32))
    close(k32, server, client)


def test_what_looks_at_a_result_finds_the_last_error(k32: Any, name: str) -> None:
    def checked(result: int, *_: object) -> int:
        if result in (INVALID, wintypes.HANDLE(-1).value):
            raise CT.WinError(CT.get_last_error())
        return result

    parameters: Any = (
        wintypes.LPCWSTR,
        *(wintypes.DWORD,) * 2,
        wintypes.LPVOID,
        *(wintypes.DWORD,) * 2,
        wintypes.HANDLE,
    )
    prototype = CT.WINFUNCTYPE(wintypes.HANDLE, *parameters, use_last_error=True)
    defaults = ((1, "access", READ_WRITE), (1, "share", 0), (1, "rule", None), (1, "how", 3), (1, "flags", 0))
    with_flags: Any = prototype(("CreateFileW", k32), ((1, "name"), *defaults, (1, "template", None)))
    with_flags.errcheck = checked
    plain = k32["CreateFileW"]
    plain.errcheck = checked
    by_restype = k32["CreateFileW"]
    by_restype.restype = checked
    rest = (READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
    for function, arguments in ((with_flags, ()), (plain, rest), (by_restype, rest)):
        CT.set_last_error(0)
        with pytest.raises(FileNotFoundError):
            function(name, *arguments)
        assert CT.get_last_error() == 2


def test_a_function_may_be_called_by_its_address(k32: Any) -> None:
    address = ctypes.cast(k32.GetCurrentProcessId, ctypes.c_void_p).value
    assert CT.WINFUNCTYPE(wintypes.DWORD)(address)() == os.getpid()


def test_the_last_error_is_the_threads_and_the_private_copy_is_swapped(k32: Any) -> None:
    plain = CT.windll.kernel32
    plain.SetLastError(11)
    CT.set_last_error(22)
    assert k32.GetLastError() == 22  # the library's own functions see the copy
    assert plain.GetLastError() == CT.GetLastError() == win32api.GetLastError() == 11
    assert not k32.CloseHandle(0)
    assert (CT.get_last_error(), CT.GetLastError()) == (6, 11)
    assert CT.set_last_error(5) == 6
    other: list[int] = []
    thread = threading.Thread(target=lambda: other.extend((CT.get_last_error(), CT.GetLastError())))
    thread.start()
    thread.join()
    assert other == [0, 0]
    plain.CloseHandle(0)
    assert CT.WinError().winerror == 6


@pytest.mark.parametrize(
    ("code", "kind", "number"),
    [
        (2, FileNotFoundError, errno.ENOENT),
        (5, PermissionError, errno.EACCES),
        (6, OSError, errno.EBADF),
        (109, BrokenPipeError, errno.EPIPE),
        (183, FileExistsError, errno.EEXIST),
        (231, OSError, errno.EINVAL),
        (232, BrokenPipeError, errno.EPIPE),
        (258, TimeoutError, errno.ETIMEDOUT),
        (10054, ConnectionResetError, errno.ECONNRESET),
    ],
)
@pytest.mark.usefixtures("door")
def test_an_error_is_the_one_of_windows_python(code: int, kind: type[OSError], number: int) -> None:
    error: Any = CT.WinError(code)
    assert issubclass(type(error), kind)
    assert type(error).__name__ == kind.__name__
    assert (error.winerror, error.errno, error.strerror) == (code, number, CT.FormatError(code))
    assert str(error) == f"[WinError {code}] {CT.FormatError(code)}"
    again: Any = pickle.loads(pickle.dumps(error))
    assert (str(again), again.winerror, issubclass(type(again), kind)) == (str(error), code, True)
    assert error.args == again.args == (number, error.strerror, None, code)
    assert str(CT.WinError(code, "so it is")) == f"[WinError {code}] so it is"


def test_an_exception_comes_out_of_the_call(k32: Any) -> None:
    routine = CT.WINFUNCTYPE(None, ctypes.c_size_t)
    script = """
import ctypes, signal, threading
k = ctypes.windll.kernel32
event = k.CreateEventW(None, True, False, None)
def stop(*_):
    k.SetEvent(event)
    raise KeyboardInterrupt("stopped")
signal.signal(signal.SIGALRM, stop)
signal.setitimer(signal.ITIMER_REAL, 0.2)
pipe = k.CreateNamedPipeW(r"\\\\.\\pipe\\never", 3, 0, 1, 10, 10, 0, None)
try:
    k.ConnectNamedPipe(pipe, None)
except KeyboardInterrupt as error:
    print(error, k.WaitForSingleObject(event, 0))
"""
    done = run("-c", script)
    assert (done.stdout, done.stderr) == ("stopped 0\n", "")
    assert routine


# ---- Overlapped operations in the program's memory


@pytest.mark.parametrize("kind", [OVERLAPPED, OfLongs])
def test_the_programs_overlapped_shows_what_becomes_of_it(k32: Any, name: str, kind: Any) -> None:
    server, client = connected(k32, name, flags=OVERLAPPED_FLAG)
    overlapped = kind(hEvent=k32.CreateEventW(None, True, False, None))
    buffer = ctypes.create_string_buffer(16)
    count = wintypes.DWORD(77)
    assert not k32.ReadFile(server, buffer, 16, ctypes.byref(count), ctypes.byref(overlapped))
    assert (ctypes.get_last_error(), overlapped.Internal, count.value) == (997, STATUS_PENDING, 0)  # type: ignore[attr-defined]
    assert not k32.GetOverlappedResult(server, ctypes.byref(overlapped), ctypes.byref(count), False)
    assert CT.get_last_error() == 996
    write = OVERLAPPED()
    assert k32.WriteFile(client, b"ping", 4, ctypes.byref(count), ctypes.byref(write))
    assert (write.Internal, write.InternalHigh, count.value) == (0, 4, 4)
    assert k32.WaitForSingleObject(overlapped.hEvent, DEADLINE_MS) == 0
    assert (overlapped.Internal, overlapped.InternalHigh, buffer.value) == (0, 4, b"ping")
    assert k32.GetOverlappedResult(server, ctypes.byref(overlapped), ctypes.byref(count), True)
    assert count.value == 4
    assert not k32.ReadFile(server, buffer, 16, None, ctypes.byref(overlapped))
    assert k32.CancelIoEx(server, ctypes.byref(overlapped))
    assert not k32.GetOverlappedResult(server, ctypes.byref(overlapped), ctypes.byref(count), True)
    assert (CT.get_last_error(), overlapped.Internal, overlapped.InternalHigh) == (995, 0xC0000120, 0)
    assert not k32.CancelIoEx(server, ctypes.byref(overlapped))
    assert CT.get_last_error() == 1168
    close(k32, overlapped.hEvent, server, client)


def test_a_program_that_looks_at_its_memory_alone_sees_the_end(name: str) -> None:
    """HasOverlappedIoCompleted is a macro: no call tells of it."""
    server_script = """
import ctypes, sys, time
from ctypes import wintypes
k = ctypes.windll.kernel32
class OVERLAPPED(ctypes.Structure):
    _fields_ = [("Internal", ctypes.c_void_p), ("InternalHigh", ctypes.c_void_p), ("Offset", ctypes.c_ulong),
                ("OffsetHigh", ctypes.c_ulong), ("hEvent", wintypes.HANDLE)]
pipe = k.CreateNamedPipeW(sys.argv[1], 3 | 0x40000000, 0, 1, 100, 100, 0, None)
def completed(overlapped):
    return overlapped.Internal != 0x103
connect, read = OVERLAPPED(), OVERLAPPED()
k.ConnectNamedPipe(pipe, ctypes.byref(connect))
print("ready", flush=True)
while not completed(connect): time.sleep(0.001)
buffer = (ctypes.c_char * 100)()
k.ReadFile(pipe, ctypes.addressof(buffer), 100, None, ctypes.byref(read))
while not completed(read): time.sleep(0.001)
print(connect.Internal, read.Internal, read.InternalHigh, buffer.value)
"""
    command = [sys.executable, "-m", "npipe", "run", "-c", server_script, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            with npipe.connect(name, mode="byte") as pipe:
                pipe.write(b"seen")
                output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert output == "None None 4 b'seen'\n"


def test_a_message_that_is_longer_than_its_buffer_is_234_with_its_part(k32: Any, name: str) -> None:
    server, client = connected(k32, name, flags=OVERLAPPED_FLAG, mode=6)
    count, overlapped = wintypes.DWORD(), OVERLAPPED()
    buffer = ctypes.create_string_buffer(4)
    assert k32.WriteFile(client, b"abcdef", 6, ctypes.byref(count), ctypes.byref(OVERLAPPED()))
    assert not k32.ReadFile(server, buffer, 4, ctypes.byref(count), ctypes.byref(overlapped))
    assert (CT.get_last_error(), buffer.raw, overlapped.Internal) == (234, b"abcd", 0x80000005)
    assert not k32.GetOverlappedResult(server, ctypes.byref(overlapped), ctypes.byref(count), True)
    assert (CT.get_last_error(), count.value) == (234, 4)
    assert k32.ReadFile(server, buffer, 4, ctypes.byref(count), ctypes.byref(overlapped))
    assert (count.value, buffer.raw[:2]) == (2, b"ef")
    close(k32, server, client)


def test_operations_keep_what_the_program_lets_go_of(k32: Any, name: str) -> None:
    server, client = connected(k32, name, flags=OVERLAPPED_FLAG)
    for _ in range(50):
        k32.ReadFile(server, ctypes.create_string_buffer(4096), 4096, None, ctypes.byref(OVERLAPPED()))
    junk = [bytes(4096) for _ in range(50)]
    for number in range(50):
        assert k32.WriteFile(client, b"%02d" % number, 2, None, ctypes.byref(OVERLAPPED()))
    assert junk == [bytes(4096)] * 50
    close(k32, server, client)


def test_routines_get_the_programs_own_pointer(k32: Any, name: str) -> None:
    server, client = connected(k32, name, flags=OVERLAPPED_FLAG)
    routine_type = CT.WINFUNCTYPE(None, wintypes.DWORD, wintypes.DWORD, ctypes.POINTER(OVERLAPPED))
    got: list[tuple[int, int, int, int]] = []

    def routine(code: int, count: int, overlapped: Any) -> None:
        there = overlapped.contents
        got.append((code, count, ctypes.addressof(there), there.hEvent))

    kept = routine_type(routine)
    buffer, overlapped = ctypes.create_string_buffer(16), OVERLAPPED(hEvent=0xFACE)
    assert k32.ReadFileEx(server, buffer, 16, ctypes.byref(overlapped), kept)
    sent = OVERLAPPED()
    assert k32.WriteFileEx(client, b"apc", 3, ctypes.byref(sent), kept)
    results = set()
    while len(got) < 2:
        results.add(k32.SleepEx(DEADLINE_MS, True))
    assert results == {192}
    assert sorted(got, key=lambda one: one[3] or 0) == [
        (0, 3, ctypes.addressof(sent), None),
        (0, 3, ctypes.addressof(overlapped), 0xFACE),
    ]
    assert buffer.value == b"apc"
    values: list[int] = []
    apc = CT.WINFUNCTYPE(None, ctypes.c_size_t)(values.append)
    assert k32.QueueUserAPC(apc, k32.GetCurrentThread(), 2**40)
    assert k32.WaitForSingleObjectEx(k32.CreateEventW(None, 0, 0, None), 0, True) in (192, 258)
    assert values == [2**40]
    close(k32, server, client)


def test_a_port_gives_the_programs_own_pointer(k32: Any, name: str) -> None:
    server, client = connected(k32, name, flags=OVERLAPPED_FLAG)
    port = k32.CreateIoCompletionPort(INVALID, None, 0, 0)
    assert k32.CreateIoCompletionPort(server, port, 2**40 + 1, 0) == port
    overlapped, buffer = OVERLAPPED(), ctypes.create_string_buffer(8)
    assert not k32.ReadFile(server, buffer, 8, None, ctypes.byref(overlapped))
    assert k32.WriteFile(client, b"abc", 3, None, ctypes.byref(OVERLAPPED()))
    count, key, found = wintypes.DWORD(), ctypes.c_size_t(), ctypes.POINTER(OVERLAPPED)()
    take = (ctypes.byref(count), ctypes.byref(key), ctypes.byref(found))
    assert k32.GetQueuedCompletionStatus(port, *take, DEADLINE_MS)
    assert (count.value, key.value, ctypes.addressof(found.contents)) == (3, 2**40 + 1, ctypes.addressof(overlapped))
    assert not k32.GetQueuedCompletionStatus(port, *take, 0)
    assert (CT.get_last_error(), bool(found)) == (258, False)
    assert not k32.ReadFile(server, buffer, 8, None, ctypes.byref(overlapped))
    assert k32.CancelIoEx(server, None)
    assert not k32.GetQueuedCompletionStatus(port, *take, DEADLINE_MS)
    assert (CT.get_last_error(), ctypes.addressof(found.contents)) == (995, ctypes.addressof(overlapped))

    class Entry(ctypes.Structure):
        _fields_ = (
            ("lpCompletionKey", ctypes.c_size_t),
            ("lpOverlapped", ctypes.c_void_p),
            ("Internal", ctypes.c_size_t),
            ("dwNumberOfBytesTransferred", ctypes.c_uint32),
        )

    for number in range(3):
        assert k32.PostQueuedCompletionStatus(port, number, number * 10, ctypes.byref(overlapped))
    entries, taken = (Entry * 8)(), wintypes.ULONG()
    assert k32.GetQueuedCompletionStatusEx(port, entries, 8, ctypes.byref(taken), DEADLINE_MS, False)
    got = [(e.lpCompletionKey, e.lpOverlapped, e.dwNumberOfBytesTransferred) for e in entries[: taken.value]]
    assert got == [(number * 10, ctypes.addressof(overlapped), number) for number in range(3)]
    close(k32, port, server, client)


# ---- The functions


def test_a_pipes_state_is_told_and_set(k32: Any, name: str) -> None:
    server, client = connected(k32, name, mode=6)
    mode = wintypes.DWORD(2)
    assert k32.SetNamedPipeHandleState(client, ctypes.byref(mode), None, None)
    state, instances = wintypes.DWORD(), wintypes.DWORD()
    assert k32.GetNamedPipeHandleStateW(client, ctypes.byref(state), ctypes.byref(instances), None, None, None, 0)
    assert (state.value, instances.value) == (2, 1)
    numbers = [wintypes.DWORD() for _ in range(4)]
    assert k32.GetNamedPipeInfo(server, *map(ctypes.byref, numbers))
    assert [number.value for number in numbers] == [5, 4096, 4096, 1]
    assert k32.WriteFile(client, b"first", 5, ctypes.byref(mode), None)
    buffer = ctypes.create_string_buffer(3)
    read, available, left = wintypes.DWORD(), wintypes.DWORD(), wintypes.DWORD()
    assert k32.PeekNamedPipe(server, buffer, 3, ctypes.byref(read), ctypes.byref(available), ctypes.byref(left))
    assert (buffer.raw, read.value, available.value, left.value) == (b"fir", 3, 5, 2)
    assert k32.PeekNamedPipe(server, None, 0, None, ctypes.byref(available), None)
    assert available.value == 5
    assert not k32.GetNamedPipeClientComputerNameW(server, ctypes.create_unicode_buffer(20), 20)
    assert CT.get_last_error() == 229
    assert k32.GetFileType(server) == 3
    assert k32.DisconnectNamedPipe(server)
    assert not k32.ReadFile(client, buffer, 3, ctypes.byref(read), None)
    assert CT.get_last_error() == 233
    close(k32, server, client)


@pytest.mark.parametrize("room", [100, 3])
def test_a_transaction_and_a_call_bring_the_reply(k32: Any, name: str, room: int) -> None:
    server = k32.CreateNamedPipeW(name, 3, 6, 1, 4096, 4096, 0, None)
    buffer = ctypes.create_string_buffer(100)

    def answer() -> None:
        count = wintypes.DWORD()
        k32.ConnectNamedPipe(server, None)
        k32.ReadFile(server, buffer, 100, ctypes.byref(count), None)
        k32.WriteFile(server, buffer.raw[: count.value] * 2, count.value * 2, ctypes.byref(count), None)
        k32.FlushFileBuffers(server)
        k32.DisconnectNamedPipe(server)

    for way in ("call", "transaction"):
        thread = threading.Thread(target=answer)
        thread.start()
        reply, count = ctypes.create_string_buffer(room), wintypes.DWORD()
        if way == "call":
            done = k32.CallNamedPipeW(name, b"abc", 3, reply, room, ctypes.byref(count), DEADLINE_MS)
            code = CT.get_last_error()
        else:
            assert k32.WaitNamedPipeW(name, DEADLINE_MS)  # the instance listens again when the thread has got there
            client = k32.CreateFileW(name, READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
            k32.SetNamedPipeHandleState(client, ctypes.byref(wintypes.DWORD(2)), None, None)
            done = k32.TransactNamedPipe(client, b"abc", 3, reply, room, ctypes.byref(count), None)
            code = CT.get_last_error()
            close(k32, client)
        thread.join()
        assert reply.raw[: count.value] == b"abcabc"[:room]
        assert done == (room > 6)
        assert done or code == 234
    close(k32, server)


def test_an_anonymous_pipe_and_its_handles(k32: Any) -> None:
    reader, writer = wintypes.HANDLE(), wintypes.HANDLE()
    assert k32.CreatePipe(ctypes.byref(reader), ctypes.byref(writer), None, 0)
    count, buffer = wintypes.DWORD(), ctypes.create_string_buffer(10)
    assert k32.WriteFile(writer, b"xyz", 3, ctypes.byref(count), None)
    copy = wintypes.HANDLE()
    process = k32.GetCurrentProcess()
    assert k32.DuplicateHandle(process, reader, process, ctypes.byref(copy), 0, False, 2)
    assert k32.CloseHandle(reader)
    assert k32.ReadFile(copy, buffer, 10, ctypes.byref(count), None)
    assert buffer.value == b"xyz"
    assert k32.CloseHandle(writer)
    assert not k32.ReadFile(copy, buffer, 10, ctypes.byref(count), None)
    assert CT.get_last_error() == 109
    flags = wintypes.DWORD(9)
    assert k32.GetHandleInformation(copy, ctypes.byref(flags))
    assert flags.value == 0
    close(k32, copy)


def test_handles_are_the_same_numbers_in_all_faces(k32: Any, name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 0, 1, 100, 100, 0, None)
    client = k32.CreateFileW(name, READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
    win32file.WriteFile(client, b"one")
    count, buffer = wintypes.DWORD(), ctypes.create_string_buffer(10)
    assert k32.ReadFile(int(server), buffer, 10, ctypes.byref(count), None)
    assert buffer.value == b"one"
    event = k32.CreateEventW(None, True, False, None)
    win32event.SetEvent(event)
    assert k32.WaitForSingleObject(event, 0) == 0
    close(k32, client, event)
    server.Close()


def test_objects_of_all_kinds(k32: Any) -> None:
    event = k32.CreateEventW(None, False, True, "ctypes test")
    assert k32.CreateEventA(None, False, True, b"ctypes test") != event
    assert CT.get_last_error() == 183
    assert k32.OpenEventW(0x1F0003, False, "ctypes test")
    assert k32.OpenEventW(0x1F0003, False, "ctypes other") == 0
    assert CT.get_last_error() == 2
    assert [k32.WaitForSingleObject(event, 0) for _ in range(2)] == [0, 258]
    semaphore = k32.CreateSemaphoreW(None, 1, 5, None)
    before = wintypes.LONG()
    assert k32.ReleaseSemaphore(semaphore, 2, ctypes.byref(before))
    assert before.value == 1
    mutex = k32.CreateMutexW(None, True, None)
    assert k32.ReleaseMutex(mutex)
    assert not k32.ReleaseMutex(mutex)
    assert CT.get_last_error() == 288
    timer = k32.CreateWaitableTimerW(None, True, None)
    assert k32.SetWaitableTimer(timer, ctypes.byref(ctypes.c_longlong(-10_000)), 0, None, None, False)
    assert k32.WaitForSingleObject(timer, DEADLINE_MS) == 0
    handles = (wintypes.HANDLE * 3)(event, semaphore, timer)
    assert k32.WaitForMultipleObjects(3, handles, False, 0) == 1
    assert k32.SetEvent(event)
    assert k32.WaitForMultipleObjects(3, handles, True, 0) == 0
    assert k32.WaitForMultipleObjects(0, handles, True, 0) == -1
    assert CT.get_last_error() == 87
    assert k32.SignalObjectAndWait(event, event, 0, False) == 0
    close(k32, event, semaphore, mutex, timer)


def test_a_security_descriptor_in_the_programs_memory_is_held(k32: Any, name: str) -> None:
    advapi32 = CT.WinDLL("advapi32", use_last_error=True)

    class Attributes(ctypes.Structure):
        _fields_ = (
            ("nLength", wintypes.DWORD),
            ("lpSecurityDescriptor", wintypes.LPVOID),
            ("bInheritHandle", wintypes.BOOL),
        )

    def server_with(attributes: Any) -> int:
        handle: int = k32.CreateNamedPipeW(name, 3, 0, 1, 100, 100, 0, attributes)
        return handle

    descriptor, size = wintypes.LPVOID(), wintypes.ULONG()
    convert = advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW
    assert convert("D:(A;;GR;;;OW)", 1, ctypes.byref(descriptor), ctypes.byref(size))
    assert size.value > 20
    server = server_with(ctypes.byref(Attributes(24, descriptor, False)))
    assert server != INVALID
    assert k32.CreateFileW(name, READ_WRITE, 0, None, OPEN_EXISTING, 0, None) == INVALID
    assert CT.get_last_error() == 5
    client = k32.CreateFileW(name, 0x80000000, 0, None, OPEN_EXISTING, 0, None)
    assert client != INVALID
    close(k32, client, server)
    assert k32.LocalFree(descriptor) == 0
    assert not convert("D:(nonsense", 1, ctypes.byref(descriptor), None)
    assert CT.get_last_error() in (87, 1336)

    memory = ctypes.create_string_buffer(40)
    assert advapi32.InitializeSecurityDescriptor(memory, 1)
    assert advapi32.SetSecurityDescriptorDacl(memory, True, None, False)
    server = server_with(ctypes.pointer(Attributes(24, ctypes.addressof(memory), False)))
    assert server != INVALID
    close(k32, server)
    user, room = ctypes.create_unicode_buffer(100), wintypes.DWORD(100)
    assert advapi32.GetUserNameW(user, ctypes.byref(room))
    assert (user.value, room.value) == (win32api.GetUserName(), len(user.value) + 1)


def test_messages_are_given_into_a_buffer_and_into_memory_to_free(k32: Any) -> None:
    buffer = ctypes.create_unicode_buffer(200)
    assert k32.FormatMessageW(0x1200, None, 2, 0, buffer, 200, None) == len(buffer.value)
    assert buffer.value == "The system cannot find the file specified.\r\n"
    given = ctypes.c_wchar_p()
    assert k32.FormatMessageW(0x1300, None, 5, 0, ctypes.byref(given), 0, None) == 19
    assert given.value == "Access is denied.\r\n"
    assert k32.LocalFree(given) == 0
    narrow = ctypes.create_string_buffer(5)
    assert k32.FormatMessageA(0x1200, None, 2, 0, narrow, 5, None) == 0
    assert CT.get_last_error() == 122


def test_memory_is_handed_out_zeroed_and_taken_back(k32: Any) -> None:
    k32.GlobalAlloc.restype = k32.HeapAlloc.restype = k32.GetProcessHeap.restype = ctypes.c_void_p
    heap = wintypes.HANDLE(k32.GetProcessHeap())
    for address in (k32.GlobalAlloc(0x40, 100), k32.HeapAlloc(heap, 8, 100)):
        assert ctypes.string_at(address, 100) == bytes(100)
    assert k32.HeapSize(heap, 0, ctypes.c_void_p(address)) == 100
    assert k32.HeapFree(heap, 0, ctypes.c_void_p(address))


class FindData(ctypes.Structure):
    """WIN32_FIND_DATAW as programs write it down."""

    _fields_ = (
        ("dwFileAttributes", ctypes.c_uint32),
        ("ftCreationTime", ctypes.c_uint32 * 2),
        ("ftLastAccessTime", ctypes.c_uint32 * 2),
        ("ftLastWriteTime", ctypes.c_uint32 * 2),
        ("nFileSizeHigh", ctypes.c_uint32),
        ("nFileSizeLow", ctypes.c_uint32),
        ("dwReserved0", ctypes.c_uint32),
        ("dwReserved1", ctypes.c_uint32),
        ("cFileName", ctypes.c_uint16 * 260),  # UTF-16
        ("cAlternateFileName", ctypes.c_uint16 * 14),
    )

    @property
    def name(self) -> str:
        return bytes(self.cFileName).decode("utf-16-le").partition("\0")[0]


def test_the_pipes_there_are_are_found_by_pattern(k32: Any, name: str) -> None:
    names = sorted(f"{name}-{number}" for number in (1, 2))
    servers = [k32.CreateNamedPipeW(each, 3, 0, 5, 100, 100, 0, None) for each in (names[0], names[0], names[1])]
    short = [each.rpartition("\\")[2] for each in names]
    k32.FindFirstFileW.restype = k32.FindFirstFileA.restype = wintypes.HANDLE
    wide: Any = (k32.FindFirstFileW, k32.FindNextFileW, name + "-*", str)
    narrow: Any = (k32.FindFirstFileA, k32.FindNextFileA, (name + "-*").encode(), bytes.decode)
    ways = [(FindData(), *wide), (wintypes.WIN32_FIND_DATAW(), *wide), (wintypes.WIN32_FIND_DATAA(), *narrow)]
    for data, first, following, pattern, text in ways:
        search = wintypes.HANDLE(first(pattern, ctypes.byref(data)))
        assert search.value != wintypes.HANDLE(-1).value, CT.get_last_error()
        found = {}
        while True:
            found[data.name if isinstance(data, FindData) else text(data.cFileName)] = data.nFileSizeLow
            assert data.dwFileAttributes == 0x80
            if not following(search, ctypes.byref(data)):
                break
        assert CT.get_last_error() == 18
        assert found == {short[0]: 2, short[1]: 1}
        assert k32.FindClose(search)
        assert not k32.FindNextFileW(search, ctypes.byref(data))
        assert CT.get_last_error() == 6
    assert k32.FindFirstFileW(name + "-3*", ctypes.byref(data)) == wintypes.HANDLE(-1).value
    assert CT.get_last_error() == 2
    assert k32.GetFileAttributesW(names[0]) == 0x80
    assert k32.GetFileAttributesW(name) == -1
    assert CT.get_last_error() == 2
    close(k32, *servers)


def test_files_are_found_measured_and_deleted(k32: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, (0, 1_000_000_000))
    data = wintypes.WIN32_FIND_DATAW()
    assert k32.FindFirstFileW(str(tmp_path / "f*"), ctypes.byref(data)) != INVALID
    assert (data.cFileName, data.nFileSizeLow) == ("file", 5)
    written = data.ftLastWriteTime.dwHighDateTime << 32 | data.ftLastWriteTime.dwLowDateTime
    assert written == (11_644_473_600 + 1_000_000_000) * 10_000_000
    handle = k32.CreateFileW(str(path), READ_WRITE, 0, None, OPEN_EXISTING, 0, None)
    size, high = ctypes.c_int64(), wintypes.LONG(-1)
    assert k32.GetFileSize(handle, None) == 5
    assert k32.GetFileSizeEx(handle, ctypes.byref(size))
    assert size.value == 5
    assert k32.SetFilePointer(handle, -2, ctypes.byref(high), 2) == 3
    assert high.value == 0
    k32.SetFilePointerEx.argtypes = [wintypes.HANDLE, ctypes.c_int64, ctypes.c_void_p, wintypes.DWORD]
    assert k32.SetFilePointerEx(handle, -1, ctypes.addressof(size), 1)
    assert size.value == 2
    assert k32.SetEndOfFile(handle)
    assert path.read_bytes() == b"12"
    close(k32, handle)
    assert k32.DeleteFileW(str(path))
    assert not path.exists()


def test_a_pipe_has_a_size_and_no_position(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    assert k32.WriteFile(client, b"abc", 3, ctypes.byref(wintypes.DWORD()), None)
    assert k32.GetFileSize(server, None) == 3
    assert k32.SetFilePointer(server, 0, None, 0) == -1
    assert CT.get_last_error() == 1
    close(k32, server, client)


def test_names_come_in_all_forms_of_text(k32: Any, name: str) -> None:
    server = k32.CreateNamedPipeW(ctypes.create_unicode_buffer(name), 3, 0, 255, 100, 100, 0, None)
    forms = [name, ctypes.c_wchar_p(name), name.encode("utf-16-le") + b"\0\0"]
    for form in forms:
        assert k32.WaitNamedPipeW(form, 1000), form
    for narrow in (name.encode(), ctypes.c_char_p(name.encode()), ctypes.create_string_buffer(name.encode())):
        assert k32.WaitNamedPipeA(narrow, 1000), narrow
    assert not k32.WaitNamedPipeW(None, 0)
    assert k32.CreateFileW(None, READ_WRITE, 0, None, OPEN_EXISTING, 0, None) == INVALID
    assert CT.get_last_error() == 3
    close(k32, server)


def test_null_where_there_has_to_be_memory_is_998(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    assert not k32.WriteFile(client, None, 3, None, None)
    assert CT.get_last_error() == 998
    assert k32.WriteFile(client, None, 0, None, None)
    assert not k32.GetOverlappedResult(client, None, None, False)
    assert CT.get_last_error() == 998
    close(k32, server, client)


def test_a_thread_is_called_back_from_a_blocked_call(k32: Any, name: str) -> None:
    server, client = connected(k32, name)
    ready, result = threading.Event(), []

    def block() -> None:
        result.append(k32.GetCurrentThreadId())
        ready.set()
        buffer = ctypes.create_string_buffer(1)
        result.append(k32.ReadFile(server, buffer, 1, ctypes.byref(wintypes.DWORD()), None))
        result.append(CT.get_last_error())

    thread = threading.Thread(target=block)
    thread.start()
    ready.wait()
    handle = k32.OpenThread(1, False, result[0])
    assert handle
    while thread.is_alive() and not k32.CancelSynchronousIo(handle):
        assert CT.get_last_error() == 1168  # not in its call yet
        thread.join(0.001)
    thread.join()
    assert result[1:] == [0, 995]
    close(k32, handle, server, client)


def test_a_thread_is_created_and_gives_its_code(k32: Any) -> None:
    seen: list[Any] = []

    @CT.WINFUNCTYPE(wintypes.DWORD, wintypes.LPVOID)  # type: ignore[untyped-decorator]
    def routine(parameter: int) -> int:
        seen.append((parameter, k32.GetCurrentThreadId()))
        return 0xFFFFFFFE

    number, code = wintypes.DWORD(), wintypes.DWORD()
    k32.CreateThread.restype = wintypes.HANDLE
    thread = wintypes.HANDLE(k32.CreateThread(None, 0, routine, ctypes.c_void_p(42), 4, ctypes.byref(number)))
    assert k32.GetExitCodeThread(thread, ctypes.byref(code))
    assert (code.value, seen) == (259, [])  # CREATE_SUSPENDED
    assert k32.ResumeThread(thread) == 1
    assert k32.WaitForSingleObject(thread, DEADLINE_MS) == 0
    assert k32.GetExitCodeThread(thread, ctypes.byref(code))
    assert (code.value, seen) == (0xFFFFFFFE, [(42, number.value)])
    close(k32, thread)
    assert not k32.CreateThread(None, 0, None, None, 0, None)
    assert CT.get_last_error() == 87


def test_ctrl_c_is_the_programs_own(k32: Any) -> None:
    seen: list[int] = []

    @CT.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)  # type: ignore[untyped-decorator]
    def handler(event: int) -> bool:
        seen.append(event)
        return True

    assert k32.SetConsoleCtrlHandler(handler, True)
    signal.raise_signal(signal.SIGINT)
    assert seen == [0]
    assert k32.SetConsoleCtrlHandler(handler, False)
    assert not k32.SetConsoleCtrlHandler(handler, False)
    assert CT.get_last_error() == 87


def test_descriptors_and_sids_become_texts_and_come_from_them(k32: Any) -> None:
    advapi32 = CT.WinDLL("advapi32", use_last_error=True)
    place, text, length = ctypes.c_void_p(), wintypes.LPWSTR(), wintypes.ULONG()
    sddl = "O:BAD:(A;;GA;;;WD)"
    assert advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(sddl, 1, ctypes.byref(place), None)
    assert advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW(
        place, 1, 5, ctypes.byref(text), ctypes.byref(length)
    )
    assert (text.value, length.value) == (sddl, len(sddl) + 1)
    assert advapi32.ConvertStringSidToSidW("S-1-1-0", ctypes.byref(place))
    assert advapi32.ConvertSidToStringSidW(place, ctypes.byref(text))
    assert text.value == "S-1-1-0"
    assert not advapi32.ConvertStringSidToSidW("nonsense", ctypes.byref(place))
    assert CT.get_last_error() == 1337
    assert k32.LocalFree(text) == 0


def test_consoles_and_serial_lines_are_refused_as_windows_refuses_them(k32: Any, name: str) -> None:
    """Packages declare these as soon as they find kernel32, and ask whether there is a console."""
    server, client = connected(k32, name)
    assert k32.GetStdHandle(-13) == INVALID
    assert not k32.GetConsoleMode(k32.GetStdHandle(-11), ctypes.byref(ctypes.c_uint32()))
    assert not k32.GetConsoleMode(INVALID, ctypes.byref(wintypes.DWORD()))
    assert CT.get_last_error() == 6
    assert not k32.GetCommState(server, ctypes.create_string_buffer(28))
    assert CT.get_last_error() == 1
    assert not k32.ClearCommError(0, None, None)
    assert CT.get_last_error() == 6
    close(k32, server, client)


def test_another_process_is_waited_for_and_tells_its_code(k32: Any) -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(int(input()))"], stdin=subprocess.PIPE)
    process = k32.OpenProcess(0x100400, False, child.pid)  # SYNCHRONIZE | PROCESS_QUERY_INFORMATION
    code = wintypes.DWORD()
    assert k32.GetExitCodeProcess(process, ctypes.byref(code))
    assert (code.value, k32.GetProcessId(process)) == (259, child.pid)
    assert k32.WaitForSingleObject(process, 0) == 258
    child.communicate(b"5\n")
    assert k32.WaitForSingleObject(process, 20_000) == 0
    assert k32.GetExitCodeProcess(process, ctypes.byref(code))
    assert code.value == 5
    assert not k32.TerminateProcess(process, 1)
    assert CT.get_last_error() == 5
    close(k32, process)
    assert not k32.OpenProcess(0x400, False, 0)
    assert CT.get_last_error() == 87


def test_a_pipes_device_is_asked_by_number(k32: Any, name: str) -> None:
    server, client = connected(k32, name, mode=6)
    count, out = wintypes.DWORD(), ctypes.create_string_buffer(32)
    assert k32.WriteFile(client, b"peek", 4, ctypes.byref(count), None)
    assert k32.DeviceIoControl(server, 0x11400C, None, 0, out, 32, ctypes.byref(count), None)  # FSCTL_PIPE_PEEK
    assert (count.value, out.raw[4:8], out.raw[12:20]) == (20, b"\4\0\0\0", b"\4\0\0\0peek")
    assert not k32.DeviceIoControl(server, 0x110099, None, 0, None, 0, ctypes.byref(count), None)
    assert CT.get_last_error() == 1
    assert k32.DeviceIoControl(server, 0x110004, None, 0, None, 0, ctypes.byref(count), None)  # FSCTL_PIPE_DISCONNECT
    assert not k32.WriteFile(client, b"x", 1, ctypes.byref(count), None)
    assert CT.get_last_error() == 233
    close(k32, server, client)
