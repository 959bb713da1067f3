"""The door of `_winapi`, `_overlapped` and `msvcrt`: who finds them, and what they do with pipes."""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import threading
from multiprocessing.managers import BaseManager
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from npipe import win32
from tests.doors.helpers import run
from tests.helpers import DEADLINE, blocked, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Child

mp: Any = importlib.import_module("multiprocessing.connection")

PATCHED: list[tuple[Any, str]] = [
    (builtins, "__import__"),
    (builtins, "WindowsError"),
    (importlib, "import_module"),
    (importlib, "reload"),
    (importlib.util, "find_spec"),
    *((mp, name) for name in ("PipeConnection", "PipeListener", "PipeClient", "families", "_validate_family", "wait")),
]
MODULES = ("_winapi", "_overlapped", "msvcrt")


def state() -> list[object]:
    return [vars(target).get(name) for target, name in PATCHED]


@pytest.fixture
def door() -> Iterator[None]:
    with win32.install(winapi=True):
        yield


@pytest.fixture
def winapi(door: None) -> Any:
    return importlib.import_module("_winapi")


@pytest.fixture
def overlapped(door: None) -> Any:
    return importlib.import_module("_overlapped")


def server(winapi: Any, name: str, mode: int = 6, flags: int = 0x40000000) -> int:
    return int(winapi.CreateNamedPipe(name, 3 | flags, mode, 255, 4096, 4096, 0, 0))


def client(winapi: Any, name: str, flags: int = 0x40000000) -> int:
    access = winapi.GENERIC_READ | winapi.GENERIC_WRITE
    return int(winapi.CreateFile(name, access, 0, winapi.NULL, winapi.OPEN_EXISTING, flags, winapi.NULL))


@pytest.fixture
def pair(winapi: Any, name: str) -> Iterator[tuple[int, int]]:
    one = server(winapi, name)
    two = client(winapi, name)
    winapi.SetNamedPipeHandleState(two, winapi.PIPE_READMODE_MESSAGE, None, None)
    yield one, two
    for handle in (one, two):
        try:
            winapi.CloseHandle(handle)
        except OSError:  # the test did
            continue


class TestWhoFindsThem:
    @pytest.mark.parametrize("module", MODULES)
    def test_whoever_is_not_of_the_library_does(self, door: None, module: str) -> None:
        assert importlib.import_module(module) is __import__(module)
        assert importlib.util.find_spec(module) is not None
        space: dict[str, Any] = {}
        exec(f"import {module} as found", space)
        assert space["found"] is importlib.import_module(module)

    @pytest.mark.parametrize("module", MODULES)
    def test_they_are_not_in_sys_modules(self, door: None, module: str) -> None:
        importlib.import_module(module)
        assert module not in sys.modules

    def test_the_library_does_not(self, tmp_path: Path) -> None:
        printed = run(
            tmp_path,
            """
            import _winapi
            import getpass, mimetypes, shutil, subprocess, multiprocessing.reduction
            print(subprocess.run(["echo", "works"], capture_output=True, text=True).stdout.strip())
            print(hasattr(subprocess, "STARTUPINFO"), getattr(mimetypes, "_winreg", None), getpass.getpass.__name__)
            """,
        )
        assert printed.splitlines() == ["works", "False None unix_getpass"]

    def test_nobody_does_before_and_after(self) -> None:
        for _ in range(2):
            for module in MODULES:
                with pytest.raises(ModuleNotFoundError):
                    importlib.import_module(module)
                assert importlib.util.find_spec(module) is None
            with win32.install(winapi=True):
                pass

    def test_a_name_that_there_is_not_is_told_with_the_page(self, door: None) -> None:
        for module in MODULES:
            with pytest.raises(AttributeError, match=rf"{module}.*nothing.*docs/porting\.md"):
                importlib.import_module(module).nothing  # noqa: B018
            with pytest.raises(ImportError, match=rf"nothing.*{module}.*docs/porting\.md"):
                exec(f"from {module} import nothing")

    def test_an_import_that_fails_has_no_frame_of_npipes(self, door: None) -> None:
        with pytest.raises(ModuleNotFoundError) as caught:
            exec(compile("import no_such_module", "here", "exec"))
        assert [str(entry.path) for entry in caught.traceback][-1].endswith("here")

    def test_a_warning_at_an_import_is_of_who_imports(self, tmp_path: Path) -> None:
        (tmp_path / "old.py").write_text("import warnings\nwarnings.warn('old', DeprecationWarning, stacklevel=2)\n")
        program = """
            import warnings
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                import old
            print(seen[0].filename == __file__)
        """
        assert run(tmp_path, program) == "True\n"


class TestScope:
    def test_nothing_stays_changed(self) -> None:
        before = state()
        with win32.install(winapi=True):
            assert all(one is not other for one, other in zip(before, state(), strict=True))
        assert all(one is other for one, other in zip(before, state(), strict=True))

    def test_opened_twice_and_closed_out_of_order(self) -> None:
        before = state()
        first, second = win32.install(winapi=True), win32.install(winapi=True, platform=["somebody"])
        first.uninstall()
        assert importlib.import_module("_winapi").NULL == 0
        second.uninstall()
        assert all(one is other for one, other in zip(before, state(), strict=True))

    def test_what_stands_above_a_door_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = builtins.__import__
        with win32.install(winapi=True):
            below = builtins.__import__

            def mine(*arguments: Any, **keywords: Any) -> Any:
                return below(*arguments, **keywords)

            monkeypatch.setattr(builtins, "__import__", mine)
            assert __import__("msvcrt")
        assert builtins.__import__ is mine
        with pytest.raises(ModuleNotFoundError):
            __import__("msvcrt")
        builtins.__import__ = original

    def test_connections_live_on_when_it_closes(self, name: str) -> None:
        with win32.install(winapi=True):
            listener = mp.Listener(name)
            accepting = started(listener.accept)
            one, two = mp.Client(name), accepting.result()
        one.send("still")
        assert two.recv() == "still"
        assert not one.poll()
        for thing in (one, two, listener):
            thing.close()
        with pytest.raises(ValueError, match="AF_PIPE"):
            mp.Client(name)

    def test_threads_import_while_it_opens_and_closes(self) -> None:
        over = threading.Event()

        def imports() -> int:
            count = 0
            while not over.is_set():
                exec("import sys, os.path; from json import dumps")
                with contextlib.suppress(ModuleNotFoundError):
                    assert importlib.import_module("msvcrt").LK_UNLCK == 0
                count += 1
            return count

        before = state()
        threads = [started(imports) for _ in range(3)]
        for _ in range(200):
            with win32.install(winapi=True):
                pass
        over.set()
        assert all(thread.result() for thread in threads)
        assert all(one is other for one, other in zip(before, state(), strict=True))

    def test_windows_error_is_os_error(self, tmp_path: Path) -> None:
        program = """
            try:
                open("/no/such/file")
            except WindowsError as error:
                print(type(error).__name__)
        """
        assert run(tmp_path, program) == "FileNotFoundError\n"

    def test_a_program_may_keep_it_closed(self, tmp_path: Path) -> None:
        program = """
            try:
                import msvcrt
            except ImportError:
                print("none")
        """
        assert run(tmp_path, program, "--no-winapi") == "none\n"


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "kind", "number"),
        [
            (2, FileNotFoundError, errno.ENOENT),
            (5, PermissionError, errno.EACCES),
            (6, OSError, errno.EBADF),
            (109, BrokenPipeError, errno.EPIPE),
            (121, OSError, errno.EINVAL),
            (231, OSError, errno.EINVAL),
            (232, BrokenPipeError, errno.EPIPE),
            (233, OSError, errno.EINVAL),
            (258, TimeoutError, errno.ETIMEDOUT),
        ],
    )
    def test_a_code_has_the_class_and_errno_of_python_on_windows(
        self, code: int, kind: type[OSError], number: int
    ) -> None:
        from npipe._doors.os_errors import os_error

        made: Any = os_error(code)
        assert issubclass(type(made), kind)
        assert type(made).__name__ == kind.__name__
        assert (made.winerror, made.errno, made.args[0]) == (code, number, number)
        assert str(made).startswith(f"[WinError {code}] ")
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), again.args, again.winerror) == (type(made), made.args, code)

    def test_texts_end_without_a_stop(self) -> None:
        from npipe._doors.os_errors import os_error

        assert str(os_error(2)) == "[WinError 2] The system cannot find the file specified"
        assert repr(os_error(5)) == "PermissionError(13, 'Access is denied', None, 5, None)"
        assert str(os_error(54321)) == "[WinError 54321] Windows Error 0xd431"

    def test_a_pipe_that_is_not_there(self, winapi: Any, name: str) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            client(winapi, name)
        assert getattr(caught.value, "winerror") == 2  # noqa: B009 - OSError has it on Windows alone
        with pytest.raises(FileNotFoundError):
            winapi.WaitNamedPipe(name, 1)

    def test_a_pipe_that_is_busy(self, winapi: Any, name: str) -> None:
        one = winapi.CreateNamedPipe(name, 3, 0, 1, 0, 0, 0, 0)
        two = client(winapi, name)
        with pytest.raises(OSError, match=r"\[WinError 231\]"):
            client(winapi, name)
        with pytest.raises(OSError, match=r"\[WinError 121\]"):
            winapi.WaitNamedPipe(name, 20)
        winapi.CloseHandle(one)
        winapi.CloseHandle(two)

    def test_a_name_that_is_taken(self, winapi: Any, name: str) -> None:
        one = server(winapi, name)
        with pytest.raises(PermissionError, match=r"\[WinError 5\]"):
            server(winapi, name, flags=winapi.FILE_FLAG_FIRST_PIPE_INSTANCE)
        winapi.CloseHandle(one)

    @pytest.mark.parametrize("handle", [0, 12345677])
    def test_a_handle_that_is_none(self, winapi: Any, handle: int) -> None:
        with pytest.raises(OSError, match=r"\[WinError 6\]"):
            winapi.CloseHandle(handle)
        with pytest.raises(OSError, match=r"\[WinError 6\]"):
            winapi.ReadFile(handle, 1)


class TestPipes:
    def test_a_read_is_pending_until_there_is_a_message(self, winapi: Any, pair: tuple[int, int]) -> None:
        one, two = pair
        operation, code = winapi.ReadFile(one, 100, overlapped=True)
        assert code == winapi.ERROR_IO_PENDING
        assert operation.GetOverlappedResult(False) == (0, 996)
        with pytest.raises(ValueError, match="before GetOverlappedResult"):
            operation.getbuffer()
        assert winapi.WaitForSingleObject(operation.event, 0) == winapi.WAIT_TIMEOUT
        assert winapi.WriteFile(two, b"hello") == (5, 0)
        assert winapi.WaitForMultipleObjects([operation.event], False, 5000) == winapi.WAIT_OBJECT_0
        assert operation.GetOverlappedResult(True) == (5, 0)
        assert operation.getbuffer() == b"hello"

    def test_a_part_of_a_message(self, winapi: Any, pair: tuple[int, int]) -> None:
        one, two = pair
        winapi.WriteFile(two, b"0123456789")
        assert winapi.PeekNamedPipe(one) == (10, 10)
        assert winapi.PeekNamedPipe(one, 4) == (b"0123", 10, 6)
        operation, code = winapi.ReadFile(one, 4, True)
        assert code == winapi.ERROR_MORE_DATA
        assert operation.GetOverlappedResult(True) == (4, winapi.ERROR_MORE_DATA)
        assert operation.getbuffer() == b"0123"
        assert winapi.ReadFile(one, 100) == (b"456789", 0)
        with pytest.raises(ValueError, match="negative size"):
            winapi.PeekNamedPipe(one, -1)

    def test_a_read_that_is_cancelled(self, winapi: Any, pair: tuple[int, int]) -> None:
        one, _ = pair
        operation, _ = winapi.ReadFile(one, 100, True)
        operation.cancel()
        assert operation.GetOverlappedResult(True) == (0, winapi.ERROR_OPERATION_ABORTED)
        assert operation.getbuffer() == b""
        operation.cancel()

    def test_a_read_that_is_forgotten_is_cancelled(self, winapi: Any, pair: tuple[int, int]) -> None:
        one, two = pair
        operation, _ = winapi.ReadFile(one, 100, True)
        del operation
        winapi.WriteFile(two, b"for the next one")
        assert winapi.ReadFile(one, 100) == (b"for the next one", 0)

    def test_the_peer_closes(self, winapi: Any, pair: tuple[int, int]) -> None:
        one, two = pair
        operation, _ = winapi.ReadFile(one, 100, True)
        winapi.CloseHandle(two)
        with pytest.raises(BrokenPipeError, match=r"\[WinError 109\]"):
            operation.GetOverlappedResult(True)
        with pytest.raises(BrokenPipeError, match=r"\[WinError 232\]"):
            winapi.WriteFile(one, b"x")

    def test_a_client_is_waited_for(self, winapi: Any, name: str) -> None:
        one = server(winapi, name)
        operation = winapi.ConnectNamedPipe(one, overlapped=True)
        assert winapi.WaitForSingleObject(operation.event, 0) == winapi.WAIT_TIMEOUT
        two = client(winapi, name)
        assert winapi.WaitForSingleObject(operation.event, 5000) == 0
        assert operation.GetOverlappedResult(True) == (0, 0)
        winapi.CloseHandle(one)
        winapi.CloseHandle(two)

    def test_a_client_was_there_already(self, winapi: Any, name: str) -> None:
        one = server(winapi, name)
        two = client(winapi, name)
        operation = winapi.ConnectNamedPipe(one, True)
        assert winapi.WaitForSingleObject(operation.event, 0) == 0
        assert operation.GetOverlappedResult(True) == (0, 0)
        winapi.CloseHandle(one)
        winapi.CloseHandle(two)
        one = server(winapi, name, flags=0)
        two = client(winapi, name)
        with pytest.raises(OSError, match=r"\[WinError 535\]"):  # as CPython has it: a failure
            winapi.ConnectNamedPipe(one)
        winapi.CloseHandle(one)
        winapi.CloseHandle(two)

    def test_a_nameless_pipe(self, winapi: Any) -> None:
        reader, writer = winapi.CreatePipe(None, 0)
        assert winapi.GetFileType(reader) == winapi.FILE_TYPE_PIPE
        assert winapi.WriteFile(writer, b"abc") == (3, 0)
        copy = winapi.DuplicateHandle(
            winapi.GetCurrentProcess(), writer, winapi.GetCurrentProcess(), 0, False, winapi.DUPLICATE_SAME_ACCESS
        )
        winapi.CloseHandle(writer)
        winapi.WriteFile(copy, b"def")
        winapi.CloseHandle(copy)
        assert winapi.ReadFile(reader, 100) == (b"abcdef", 0)
        with pytest.raises(BrokenPipeError):
            winapi.ReadFile(reader, 100)
        winapi.CloseHandle(reader)

    def test_a_handle_is_duplicated_into_another_process(self, tmp_path: Path, name: str) -> None:
        program = f"""
            import _winapi, subprocess, sys
            code = "import _winapi; _winapi.WriteFile(int(input()), b'from the child')"
            child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
            server = _winapi.CreateNamedPipe({name!r}, 3, 0, 1, 100, 100, 0, 0)
            client = _winapi.CreateFile({name!r}, 0xC0000000, 0, 0, 3, 0, 0)
            process = _winapi.OpenProcess(_winapi.PROCESS_DUP_HANDLE, False, child.pid)
            options = _winapi.DUPLICATE_SAME_ACCESS | _winapi.DUPLICATE_CLOSE_SOURCE
            there = _winapi.DuplicateHandle(_winapi.GetCurrentProcess(), client, process, 0, False, options)
            child.communicate(f"{{there}}\\n")
            print(_winapi.ReadFile(server, 100), _winapi.WaitForSingleObject(process, _winapi.INFINITE))
            try:
                _winapi.GetFileType(client)
            except OSError as error:
                print(error)
        """
        assert run(tmp_path, program).splitlines() == [
            "(b'from the child', 0) 0",
            "[WinError 6] The handle is invalid",
        ]

    def test_handles_are_those_of_win32file(self, winapi: Any, pair: tuple[int, int]) -> None:
        win32file: Any = importlib.import_module("npipe.win32.win32file")
        one, two = pair
        win32file.WriteFile(two, b"from pywin32")
        assert winapi.ReadFile(one, 100) == (b"from pywin32", 0)


class TestWaiting:
    def test_events_and_mutexes(self, winapi: Any) -> None:
        event = winapi.CreateEventW(0, True, False, None)
        mutex = winapi.CreateMutexW(0, False, None)
        assert winapi.WaitForMultipleObjects([event, mutex], False, 0) == 1
        assert winapi.WaitForMultipleObjects((event, mutex), True, 0) == winapi.WAIT_TIMEOUT
        winapi.SetEvent(event)
        assert winapi.WaitForMultipleObjects([event, mutex], True) == 0
        winapi.ResetEvent(event)
        winapi.ReleaseMutex(mutex)
        winapi.ReleaseMutex(mutex)
        with pytest.raises(OSError, match=r"\[WinError 288\]"):
            winapi.ReleaseMutex(mutex)
        winapi.CloseHandle(event)
        winapi.CloseHandle(mutex)

    def test_too_many_and_no_sequence(self, winapi: Any) -> None:
        with pytest.raises(ValueError, match="need at most 63 handles, got a sequence of length 64"):
            winapi.WaitForMultipleObjects([1] * 64, False, 0)
        with pytest.raises(TypeError, match="sequence type expected, got 'int'"):
            winapi.WaitForMultipleObjects(5, False, 0)

    @pytest.mark.parametrize("count", [1, 63, 64, 200])
    def test_as_many_as_one_likes(self, winapi: Any, count: int) -> None:
        events = [winapi.CreateEventW(0, True, False, None) for _ in range(count)]
        with pytest.raises(TimeoutError, match=r"\[WinError 258\]"):
            winapi.BatchedWaitForMultipleObjects(events, False, 20)
        with pytest.raises(TimeoutError):
            winapi.BatchedWaitForMultipleObjects(events, True, 20)
        waiting = started(lambda: winapi.BatchedWaitForMultipleObjects(events, False, 5000))
        winapi.SetEvent(events[-1])
        assert waiting.result() == [count - 1]
        for event in events:
            winapi.SetEvent(event)
        assert winapi.BatchedWaitForMultipleObjects(events, True, 5000) is None
        for event in events:
            winapi.CloseHandle(event)


class TestOverlapped:
    def port(self, overlapped: Any, *handles: int) -> int:
        port = overlapped.CreateIoCompletionPort(overlapped.INVALID_HANDLE_VALUE, overlapped.NULL, 0, 1)
        for handle in handles:
            overlapped.CreateIoCompletionPort(handle, port, 7, 0)
        return int(port)

    def test_a_completion_comes_by_the_port(self, winapi: Any, overlapped: Any, pair: tuple[int, int]) -> None:
        one, two = pair
        port = self.port(overlapped, one)
        reading = overlapped.Overlapped(overlapped.NULL)
        reading.ReadFile(one, 100)
        assert reading.pending
        assert overlapped.GetQueuedCompletionStatus(port, 0) is None
        with pytest.raises(OSError, match=r"\[WinError 996\]"):
            reading.getresult()
        winapi.WriteFile(two, b"hello")
        assert overlapped.GetQueuedCompletionStatus(port, 5000) == (0, 5, 7, reading.address)
        assert not reading.pending
        assert reading.getresult() == b"hello"
        winapi.CloseHandle(port)

    def test_each_kind(self, winapi: Any, overlapped: Any, name: str) -> None:
        one = server(winapi, name, mode=0)
        port = self.port(overlapped, one)
        connecting = overlapped.Overlapped(overlapped.NULL)
        assert connecting.ConnectNamedPipe(one) is False
        two = overlapped.ConnectPipe(name)
        assert overlapped.GetQueuedCompletionStatus(port, 5000)[3] == connecting.address
        assert connecting.getresult() == 0
        writing = overlapped.Overlapped(overlapped.NULL)
        writing.WriteFile(one, b"abcdef")
        assert writing.getresult(True) == 6
        buffer = bytearray(4)
        reading = overlapped.Overlapped()
        assert reading.event
        reading.ReadFileInto(two, buffer)
        assert (reading.getresult(True), bytes(buffer)) == (4, b"abcd")
        with pytest.raises(ValueError, match="already attempted"):
            reading.ReadFile(two, 1)
        with pytest.raises(ValueError, match="not yet attempted"):
            overlapped.Overlapped().getresult()
        winapi.CloseHandle(one)
        at_end = overlapped.Overlapped()
        at_end.ReadFile(two, 100)
        assert at_end.getresult(True) == b"ef"
        over = overlapped.Overlapped()
        with pytest.raises(BrokenPipeError):
            over.ReadFile(two, 100)
        winapi.CloseHandle(two)
        winapi.CloseHandle(port)

    def test_a_client_was_there_already(self, winapi: Any, overlapped: Any, name: str) -> None:
        one, two = server(winapi, name), overlapped.ConnectPipe(name)
        connecting = overlapped.Overlapped(overlapped.NULL)
        assert connecting.ConnectNamedPipe(one) is True
        assert not connecting.pending
        assert connecting.getresult() == 0
        winapi.CloseHandle(one)
        winapi.CloseHandle(two)

    def test_a_cancelled_one_comes_by_the_port_too(self, winapi: Any, overlapped: Any, pair: tuple[int, int]) -> None:
        one, _ = pair
        port = self.port(overlapped, one)
        reading = overlapped.Overlapped(overlapped.NULL)
        reading.ReadFile(one, 100)
        reading.cancel()
        assert overlapped.GetQueuedCompletionStatus(port, 5000) == (995, 0, 7, reading.address)
        with pytest.raises(OSError, match=r"\[WinError 995\]"):
            reading.getresult()
        winapi.CloseHandle(port)

    def test_waiting_for_an_object_by_the_port(self, winapi: Any, overlapped: Any) -> None:
        port, event = self.port(overlapped), overlapped.CreateEvent(None, True, False, None)
        mark = overlapped.Overlapped(overlapped.NULL)
        wait = overlapped.RegisterWaitWithQueue(event, port, mark.address, winapi.INFINITE)
        overlapped.SetEvent(event)
        assert overlapped.GetQueuedCompletionStatus(port, 5000) == (0, 0, 0, mark.address)
        overlapped.UnregisterWait(wait)
        overlapped.ResetEvent(event)
        wait = overlapped.RegisterWaitWithQueue(event, port, mark.address, 1)
        assert overlapped.GetQueuedCompletionStatus(port, 5000) == (0, 1, 0, mark.address)
        done = overlapped.CreateEvent(None, True, False, None)
        overlapped.UnregisterWaitEx(wait, done)
        assert winapi.WaitForSingleObject(done, 0) == 0
        overlapped.PostQueuedCompletionStatus(port, 1, 2, mark.address)
        assert overlapped.GetQueuedCompletionStatus(port, 0) == (0, 1, 2, mark.address)
        for handle in (port, event, done):
            winapi.CloseHandle(handle)

    def test_texts(self, overlapped: Any) -> None:
        assert overlapped.FormatMessage(109) == "The pipe has been ended."


class TestConnectionsThatGo:
    """A connection that is sent, or given to a process, goes there, as on Windows."""

    PROGRAM = r"""
        import multiprocessing, pickle, threading
        from multiprocessing.connection import Client, Listener

        def answer(connection):
            connection.send(("there", connection.recv()))
            connection.close()

        def receive(connection):
            answer(connection.recv())

        def pair(listener):
            accepted = []
            thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
            thread.start()
            client = Client(listener.address)
            thread.join()
            return accepted[0], client

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            with Listener(family="AF_PIPE") as listener:
                for way in ("argument", "message"):
                    server, client = pair(listener)
                    if way == "argument":
                        process = context.Process(target=answer, args=(client,))
                        process.start()
                    else:
                        here, there = context.Pipe()
                        process = context.Process(target=receive, args=(there,))
                        process.start()
                        here.send(client)
                    client.close()
                    server.send(way)
                    print(server.recv())
                    try:
                        server.recv()
                    except EOFError:
                        print("end")
                    process.join()
                server, client = pair(listener)
                pickler = multiprocessing.reduction.ForkingPickler
                copy = pickler.loads(pickler.dumps(client))
                copy.send("from here")
                print(server.recv())
    """

    def test_to_another_process(self, tmp_path: Path) -> None:
        printed = run(tmp_path, self.PROGRAM).splitlines()
        assert printed == ["('there', 'argument')", "end", "('there', 'message')", "end", "from here"]

    def test_no_pickler_knows_of_it_outside_of_the_scope(self) -> None:
        reducers: Any = importlib.import_module("multiprocessing.reduction").ForkingPickler._extra_reducers
        before = dict(reducers)
        with win32.install(winapi=True):
            assert mp.PipeConnection in reducers
        assert reducers == before


class TestDescriptors:
    def test_a_descriptor_of_the_systems_has_a_handle(self, winapi: Any) -> None:
        msvcrt, win32pipe = importlib.import_module("msvcrt"), importlib.import_module("npipe.win32.win32pipe")
        reader, writer = os.pipe()
        handle = msvcrt.get_osfhandle(reader)
        assert msvcrt.get_osfhandle(reader) == handle
        assert winapi.PeekNamedPipe(handle) == (0, 0)
        os.write(writer, b"hello")
        assert winapi.PeekNamedPipe(handle) == (5, 0)
        assert win32pipe.PeekNamedPipe(handle, 0) == (b"", 5, 0)
        assert winapi.ReadFile(handle, 3) == (b"hel", 0)
        assert winapi.WriteFile(msvcrt.get_osfhandle(writer), b"!") == (1, 0)
        os.close(writer)
        assert os.read(reader, 100) == b"lo!"
        with pytest.raises(BrokenPipeError, match=r"\[WinError 109\]"):
            winapi.PeekNamedPipe(handle)
        os.close(reader)
        with pytest.raises(OSError, match="Bad file descriptor"):
            msvcrt.get_osfhandle(reader)

    def test_a_programs_output_without_blocking(self, winapi: Any) -> None:
        """The recipe that is passed on since Python 2: how much is there of a child's output."""
        msvcrt = importlib.import_module("msvcrt")
        program = "import sys; sys.stdout.write('x' * 11); sys.stdout.flush(); input()"
        with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=False) as child:
            assert child.stdout is not None
            handle = msvcrt.get_osfhandle(child.stdout.fileno())
            assert winapi.ReadFile(handle, 5) == (b"xxxxx", 0)
            assert winapi.PeekNamedPipe(handle)[0] == 6
            child.communicate(b"\n", DEADLINE)

    def test_a_descriptor_is_told_not_to_wait(self, tmp_path: Path) -> None:
        """The recipe for os.pipe() that does not block."""
        program = r"""
            import msvcrt, os
            from ctypes import windll, byref, wintypes, GetLastError
            r, w = os.pipe()
            handle = msvcrt.get_osfhandle(r)
            assert windll.kernel32.SetNamedPipeHandleState(handle, byref(wintypes.DWORD(1)), None, None)
            try:
                os.read(r, 1024)
            except OSError as error:
                print(type(error).__name__, error.errno, GetLastError())
            os.write(w, b"x")
            print(os.read(r, 1024))
            assert windll.kernel32.SetNamedPipeHandleState(handle, byref(wintypes.DWORD(0)), None, None)
            print(os.get_blocking(r))
        """
        assert run(tmp_path, program).splitlines() == ["OSError 22 232", "b'x'", "True"]

    def test_a_handle_of_createpipes_becomes_a_childs_output(self, winapi: Any) -> None:
        msvcrt = importlib.import_module("msvcrt")
        reader, writer = winapi.CreatePipe(None, 0)
        winapi.WriteFile(writer, b"before ")
        fd = msvcrt.open_osfhandle(writer, os.O_WRONLY)
        assert msvcrt.get_osfhandle(fd) == writer
        subprocess.run([sys.executable, "-c", "print('child', end='')"], stdout=fd, check=True, timeout=30)
        winapi.WriteFile(writer, b" after")  # the handle is good as long as the descriptor
        os.close(fd)
        assert winapi.ReadFile(reader, 100) == (b"before child after", 0)
        with pytest.raises(BrokenPipeError):
            winapi.ReadFile(reader, 100)
        winapi.CloseHandle(reader)

    def test_a_files_handle_becomes_a_descriptor(self, winapi: Any, tmp_path: Path) -> None:
        msvcrt = importlib.import_module("msvcrt")
        path = tmp_path / "file"
        path.write_bytes(b"content")
        fd = msvcrt.open_osfhandle(winapi.CreateFile(str(path), 0x80000000, 0, 0, 3, 0, 0), os.O_RDONLY)
        with os.fdopen(fd, "rb") as file:
            assert file.read() == b"content"
        second = msvcrt.open_osfhandle(winapi.GetStdHandle(winapi.STD_ERROR_HANDLE), os.O_WRONLY)
        assert os.path.sameopenfile(second, 2)
        os.close(second)

    def test_a_descriptors_number_that_is_another_files_has_another_handle(self, winapi: Any) -> None:
        msvcrt = importlib.import_module("msvcrt")
        reader, writer = os.pipe()
        first = msvcrt.get_osfhandle(reader)
        other, _ = os.pipe()
        os.dup2(other, reader)
        second = msvcrt.get_osfhandle(reader)
        assert second != first
        with pytest.raises(OSError, match=r"\[WinError 6\]"):
            winapi.GetFileType(first)
        for fd in (reader, writer, other, _):
            os.close(fd)

    def test_setmode_changes_nothing(self, door: None) -> None:
        msvcrt = importlib.import_module("msvcrt")
        assert msvcrt.setmode(0, os.O_TRUNC) == 0x8000
        with pytest.raises(OSError, match="Bad file descriptor"):
            msvcrt.setmode(99999, 0x8000)

    def test_locking(self, door: None, tmp_path: Path) -> None:
        msvcrt = importlib.import_module("msvcrt")
        script = """
            import sys
            from npipe import win32
            with win32.install(winapi=True):
                import msvcrt
                with open(sys.argv[1], "r+b") as file:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        """
        path = tmp_path / "file"
        path.write_bytes(b"x")
        with path.open("r+b") as file:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            (tmp_path / "other.py").write_text("\n".join(line[12:] for line in script.splitlines()))
            command = [sys.executable, str(tmp_path / "other.py"), str(path)]
            other = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert "PermissionError: [Errno 13]" in other.stderr
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
            assert subprocess.run(command, timeout=30, check=False).returncode == 0


CHILD = """
    import sys
    from npipe import win32
    with win32.install(winapi=True):
        from multiprocessing.connection import Client
        with Client(sys.argv[1], authkey=b"key") as client:
            try:
                while True:
                    client.send(["echo", client.recv()])
            except EOFError:
                print("over", flush=True)
"""


class TestConnections:
    """multiprocessing's; tests/clients/test_multiprocessing.py has the library's own beside them."""

    def test_a_family_and_an_arbitrary_address(self, door: None) -> None:
        assert "AF_PIPE" in mp.families
        with mp.Listener(family="AF_PIPE") as listener:
            assert str(listener.address).startswith("\\\\.\\pipe\\pyc-")
            accepting = started(listener.accept)
            with mp.Client(listener.address, family="AF_PIPE") as client, accepting.result() as server:
                client.send("hello")
                assert server.recv() == "hello"
                assert isinstance(client, mp.PipeConnection)
                assert isinstance(client, mp._ConnectionBase)

    def test_waiting_for_pipes_sockets_and_events(self, winapi: Any, name: str) -> None:
        event = winapi.CreateEventW(0, True, False, None)
        near, far = socket.socketpair()
        with near, far, mp.Listener(name) as listener:
            accepting = started(listener.accept)
            with mp.Client(name) as client, accepting.result() as server:
                everything = [client, near, event]
                assert mp.wait(everything, 0.02) == []
                server.send_bytes(b"")  # an empty message, which waiting takes and recv still gives
                assert mp.wait(everything, DEADLINE) == [client]
                assert mp.wait(everything, DEADLINE) == [client]
                assert client.poll()
                assert client.recv_bytes() == b""
                far.send(b"x")
                assert mp.wait(everything) == [near]
                winapi.SetEvent(event)
                assert mp.wait(everything) == [near, event]
                near.recv(1)
                winapi.ResetEvent(event)
                waiting = blocked(lambda: mp.wait(everything))
                server.close()
                assert waiting.result() == [client]
                with pytest.raises(EOFError):
                    client.recv()
        winapi.CloseHandle(event)

    def test_a_connection_is_for_this_process(self, door: None, name: str) -> None:
        with mp.Listener(name) as listener:
            accepting = started(listener.accept)
            with mp.Client(name) as client, accepting.result(), pytest.raises(TypeError, match="pipe's name"):
                pickle.dumps(client)

    def test_in_another_process(self, door: None, name: str, child: Callable[..., Child]) -> None:
        with mp.Listener(name, authkey=b"key") as listener:
            other = child(CHILD, name)
            with listener.accept() as server:
                for thing in (1, "text", b"x" * 300_000):
                    server.send(thing)
                    assert server.recv() == ["echo", thing]
            assert other.line() == "over"

    def test_a_manager(self, door: None, name: str) -> None:
        queue: Queue[int] = Queue()

        class Manager(BaseManager):
            pass

        Manager.register("queue", callable=lambda: queue)
        serving = Manager(address=name, authkey=b"key").get_server()
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        manager = Manager(address=name, authkey=b"key")
        manager.connect()
        manager.queue().put(7)  # type: ignore[attr-defined]
        assert queue.get(timeout=DEADLINE) == 7

    def test_a_manager_in_a_process_of_its_own(self, tmp_path: Path, name: str) -> None:
        program = """
            import sys
            from multiprocessing.managers import SyncManager

            if __name__ == "__main__":
                with SyncManager(address=sys.argv[1], authkey=b"key") as manager:
                    shared = manager.list([1, 2])
                    shared.append(3)
                    print(list(shared), manager.address == sys.argv[1])
        """
        assert run(tmp_path, program, arguments=(name,)) == "[1, 2, 3] True\n"
