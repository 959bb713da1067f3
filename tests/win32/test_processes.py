"""win32process and what win32api has of processes: real programs, their ends, their standard handles."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from npipe.win32 import (
    _command_line,
    _inheritance,
    pywintypes,
    win32api,
    win32con,
    win32event,
    win32file,
    win32pipe,
    win32process,
)
from tests.helpers import asleep, until
from tests.win32.helpers import MS, code_of

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = subprocess.list2cmdline([sys.executable])


def start(
    line: str | None,
    *,
    application: str | None = None,
    inherits: bool = False,
    flags: int = 0,
    env: Any = None,
    folder: str | None = None,
    info: Any = None,
) -> Any:
    """CreateProcess: (process, thread, pid, tid)."""
    info = win32process.STARTUPINFO() if info is None else info
    return win32process.CreateProcess(application, line, None, None, inherits, flags, env, folder, info)


def python(code: str, **more: Any) -> Any:
    return start(f"{PYTHON} -c {subprocess.list2cmdline([code])}", **more)


def exit_code(process: Any) -> int:
    """Its code, once it has ended."""
    assert win32event.WaitForSingleObject(process, 60_000) == 0
    return win32process.GetExitCodeProcess(process)


def inheritable() -> Any:
    attributes = pywintypes.SECURITY_ATTRIBUTES()
    attributes.bInheritHandle = 1
    return attributes


def with_streams(stdin: Any = 0, stdout: Any = 0, stderr: Any = 0) -> Any:
    info = win32process.STARTUPINFO()
    info.dwFlags = win32process.STARTF_USESTDHANDLES
    info.hStdInput, info.hStdOutput, info.hStdError = stdin, stdout, stderr
    return info


def all_of(reader: Any) -> bytes:
    """What comes until the other end is closed."""
    data = b""
    with pytest.raises(pywintypes.error) as ended:
        while True:
            data += win32file.ReadFile(reader, 4096)[1]
    assert ended.value.winerror == 109
    return data


# --- Starting and ending


def test_a_process_is_signalled_when_it_ends_and_tells_its_code() -> None:
    process, thread, pid, tid = python("import sys; sys.exit(7)")
    assert pid == tid == win32process.GetProcessId(process)
    assert exit_code(process) == 7
    assert win32event.WaitForMultipleObjects([process, thread], True, MS) == 0
    assert win32process.GetExitCodeThread(thread) == 7


def test_a_process_that_runs_is_not_signalled() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    process, *_ = python("input()", inherits=True, info=with_streams(stdin=reader))
    assert win32event.WaitForSingleObject(process, 0) == win32event.WAIT_TIMEOUT
    assert win32process.GetExitCodeProcess(process) == win32con.STILL_ACTIVE
    win32file.WriteFile(writer, b"\n")
    assert exit_code(process) == 0


def test_a_wait_begins_before_the_end() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    process, *_ = python("input()", inherits=True, info=with_streams(stdin=reader))
    event = win32event.CreateEvent(None, True, False, None)
    results: list[int] = []
    waiter = threading.Thread(
        target=lambda: results.append(win32event.WaitForMultipleObjects([event, process], False, 60_000))
    )
    waiter.start()
    win32file.WriteFile(writer, b"\n")
    waiter.join(60)
    assert results == [1]


def test_terminate_ends_it_with_the_code_that_was_given() -> None:
    for terminate in (win32process.TerminateProcess, win32api.TerminateProcess):
        process, *_ = python("import time; time.sleep(60)")
        terminate(process, 3221225786)
        assert exit_code(process) == win32con.STATUS_CONTROL_C_EXIT
        assert code_of(terminate, process, 1) == 5


def test_a_signal_is_a_code_as_os_kill_makes_it_on_windows() -> None:
    for number, code in ((signal.SIGTERM, 15), (signal.SIGKILL, 9), (signal.SIGABRT, 3)):
        process, _, pid, _ = python("import time; time.sleep(60)")
        os.kill(pid, number)
        assert exit_code(process) == code
    process, _, pid, _ = python(
        "import os, signal; signal.signal(2, signal.SIG_DFL); signal.raise_signal(signal.SIGINT)"
    )
    assert exit_code(process) == win32con.STATUS_CONTROL_C_EXIT


def test_a_child_whose_handles_were_closed_leaves_no_zombie() -> None:
    process, thread, pid, _ = python("")
    watch = os.pidfd_open(pid)
    process.Close()
    thread.Close()
    assert select.select([watch], [], [], 60)[0]
    os.close(watch)
    exit_code(python("")[0])  # whoever comes next notes its end
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_suspended_process_runs_when_its_thread_is_resumed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    process, thread, _, _ = python(
        f"import pathlib; pathlib.Path({str(mark)!r}).touch()", flags=win32con.CREATE_SUSPENDED
    )
    assert win32event.WaitForSingleObject(process, 0) == win32event.WAIT_TIMEOUT
    assert not mark.exists()
    assert win32process.SuspendThread(thread) == 1
    assert win32process.ResumeThread(thread) == 2
    assert win32process.ResumeThread(thread) == 1
    assert exit_code(process) == 0
    assert mark.exists()


def test_a_suspended_process_can_be_ended() -> None:
    process, *_ = python("", flags=win32con.CREATE_SUSPENDED)
    win32process.TerminateProcess(process, 5)
    assert exit_code(process) == 5


# --- The program


def test_a_command_line_is_split_as_windows_splits_it() -> None:
    cases = {
        '"abc" d e': ["abc", "d", "e"],
        r'a\\b d"e f"g h': [r"a\\b", "de fg", "h"],
        r"a\\\"b c d": [r"a\"b", "c", "d"],
        r'a\\\\"b c" d e': [r"a\\b c", "d", "e"],
        'a"b"" c d': ['ab" c d'],
        '""': [""],
        "c:\\dir\\ y": ["c:\\dir\\", "y"],
        " \t ": [],
    }
    for text, arguments in cases.items():
        assert win32api.CommandLineToArgv("x " + text) == ["x", *arguments]
    assert win32api.CommandLineToArgv('"a b" c') == ["a b", "c"]
    for arguments in (["a b", 'c"d', "e\\", "f\\\\ g\\"], ["", '"', "\\", '\\"']):
        assert _command_line.split(subprocess.list2cmdline(["x", *arguments])) == ["x", *arguments]


def test_arguments_arrive_as_they_were_quoted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["a b", 'c"d', "e\\", "ö", ""]
    code = f"import sys, pathlib; pathlib.Path({str(out)!r}).write_text(repr(sys.argv[1:]), encoding='utf-8')"
    assert exit_code(start(f"{PYTHON} -c " + subprocess.list2cmdline([code, *arguments]))[0]) == 0
    assert out.read_text(encoding="utf-8") == repr(arguments)


@pytest.mark.parametrize("name", ["python", "python.exe", "PYTHON.EXE", "pythonw.exe", "py"])
def test_python_by_its_names_for_windows_is_this_one(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"import sys, pathlib; pathlib.Path({str(out)!r}).write_text(sys.prefix)"
    process, *_ = start(f"{name} -c {subprocess.list2cmdline([code])}")
    assert exit_code(process) == 0
    assert out.read_text() == sys.prefix


def test_a_program_is_found_in_path_and_by_its_path_with_and_without_exe(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    program = folder / "tool"
    program.write_text("#!/bin/sh\nexit 4\n")
    program.chmod(0o755)
    for line in (f'"{program}"', f"{program}", f"{program}.exe one", f'"{program}.exe" one'):
        assert exit_code(start(line)[0]) == 4
    assert exit_code(start("ignored one", application=str(program))[0]) == 4
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        assert exit_code(start("tool.exe one")[0]) == 4
    finally:
        os.environ["PATH"] = before


def test_what_cannot_be_started_has_windows_codes(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no program")
    (tmp_path / "text").write_bytes(b"\x00\x01no program")
    (tmp_path / "text").chmod(0o755)
    assert code_of(start, "no-such-program-here one") == 2
    assert code_of(lambda: start("x", application=str(tmp_path / "missing"))) == 2
    assert code_of(lambda: start(str(tmp_path / "data"))) == 5
    assert code_of(lambda: start(str(tmp_path / "text"))) == 193
    assert code_of(lambda: python("", folder=str(tmp_path / "missing"))) == 267
    assert code_of(lambda: python("x" * 3_000_000)) == 206
    with pytest.raises(TypeError, match="can not both be None"):
        start(None)
    with pytest.raises(TypeError, match="PySTARTUPINFO"):
        win32process.CreateProcess(None, "x", None, None, 0, 0, None, None, None)  # type: ignore[arg-type]


def test_environment_and_folder_are_the_childs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"import os, pathlib; pathlib.Path({str(out)!r}).write_text(os.getcwd() + os.environ['WHAT'])"
    env = {"WHAT": "this", "PATH": os.environ["PATH"]}
    assert exit_code(python(code, env=env, folder=str(tmp_path))[0]) == 0
    assert out.read_text() == f"{tmp_path.resolve()}this"
    for wrong in (["a"], {"a": 1}, {1: "a"}):
        with pytest.raises(TypeError):
            python("", env=wrong)


def test_a_child_with_an_environment_of_its_own_finds_the_same_pipes(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 4 | 2, 1, 4096, 4096, 0, None)
    code = f"""
from npipe.win32 import win32file
win32file.WriteFile(win32file.CreateFile({name!r}, 0xC0000000, 0, None, 3, 0, None), b"here")
"""
    process, *_ = python(code, env={"PATH": os.environ["PATH"]})
    win32pipe.ConnectNamedPipe(server, None)
    assert win32file.ReadFile(server, 100) == (0, b"here")
    assert exit_code(process) == 0


# --- Standard handles


def test_ends_of_create_pipe_are_a_childs_standard_handles() -> None:
    """As it has been written for thirty years: three pipes, of which the parent keeps its own ends to itself."""
    attributes = inheritable()
    stdin_reader, stdin_writer = win32pipe.CreatePipe(attributes, 0)
    stdout_reader, stdout_writer = win32pipe.CreatePipe(attributes, 0)
    mine = win32api.GetCurrentProcess()
    kept = []
    for handle in (stdin_writer, stdout_reader):
        kept.append(win32api.DuplicateHandle(mine, handle, mine, 0, 0, win32con.DUPLICATE_SAME_ACCESS))
        win32file.CloseHandle(handle)
    stdin_writer, stdout_reader = kept
    info = with_streams(stdin_reader, stdout_writer, stdout_writer)
    process, *_ = python(
        "import sys; print(sys.stdin.read().upper(), end='', flush=True); print('error', file=sys.stderr)",
        inherits=True,
        info=info,
    )
    for handle in (stdin_reader, stdout_writer):
        win32file.CloseHandle(handle)
    win32file.WriteFile(stdin_writer, b"hello")
    win32file.CloseHandle(stdin_writer)
    assert all_of(stdout_reader) == b"HELLOerror\n"
    assert exit_code(process) == 0


def test_what_a_child_prints_is_peeked_at_and_read() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    again, go = win32pipe.CreatePipe(inheritable(), 0)
    process, *_ = python(
        "import os; os.write(1, b'one\\n'); input(); print('two')", inherits=True, info=with_streams(again, writer)
    )
    writer.Close()
    again.Close()
    assert win32file.ReadFile(reader, 1) == (0, b"o")
    assert win32pipe.PeekNamedPipe(reader, 2) == (b"ne", 3, 0)
    assert win32pipe.PeekNamedPipe(reader, 0) == (b"", 3, 0)
    assert win32file.GetFileType(reader) == win32file.FILE_TYPE_PIPE
    assert win32file.ReadFile(reader, 100) == (0, b"ne\n")
    assert win32pipe.PeekNamedPipe(reader, 10) == (b"", 0, 0)
    win32pipe.SetNamedPipeHandleState(reader, win32pipe.PIPE_NOWAIT, None, None)
    assert win32pipe.GetNamedPipeHandleState(reader)[0] == win32pipe.PIPE_NOWAIT
    assert code_of(win32file.ReadFile, reader, 1) == 232
    win32pipe.SetNamedPipeHandleState(reader, win32pipe.PIPE_WAIT, None, None)
    win32file.WriteFile(go, b"\n")
    assert all_of(reader) == b"two\n"
    assert exit_code(process) == 0
    assert code_of(win32pipe.PeekNamedPipe, reader, 10) == 109
    assert code_of(win32file.WriteFile, go, b"nobody reads") == 232


def test_what_was_unread_in_a_pipe_comes_first() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 200_000)
    sent = os.urandom(100_000)
    win32file.WriteFile(writer, sent)
    out_reader, out_writer = win32pipe.CreatePipe(inheritable(), 0)
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
    process, *_ = python(code, inherits=True, info=with_streams(reader, out_writer))
    reader.Close()
    out_writer.Close()

    def write() -> None:
        win32file.WriteFile(writer, b"behind")
        writer.Close()

    done = threading.Thread(target=write)
    done.start()
    assert all_of(out_reader) == sent + b"behind"
    done.join()
    assert exit_code(process) == 0


def test_two_children_are_joined_by_a_pipe() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    out_reader, out_writer = win32pipe.CreatePipe(inheritable(), 0)
    first, *_ = python("print('from the first')", inherits=True, info=with_streams(stdout=writer))
    writer.Close()
    second, *_ = python("print(input() + ' and the second')", inherits=True, info=with_streams(reader, out_writer))
    reader.Close()
    out_writer.Close()
    assert all_of(out_reader) == b"from the first and the second\n"
    assert [exit_code(process) for process in (first, second)] == [0, 0]


def test_a_handle_that_is_not_inheritable_is_nobodys_standard_handle() -> None:
    reader, writer = win32pipe.CreatePipe(None, 0)
    process, *_ = python("print('nowhere')", inherits=True, info=with_streams(stdout=writer))
    assert exit_code(process) == 0
    assert win32pipe.PeekNamedPipe(reader, 0) == (b"", 0, 0)


def test_files_and_descriptors_are_standard_handles(tmp_path: Path) -> None:
    out = win32file.CreateFile(str(tmp_path / "out"), win32file.GENERIC_WRITE, 0, inheritable(), 2, 0, None)
    descriptor, writer = win32pipe.FdCreatePipe(inheritable(), 0, 0x8000)
    handle = win32file._get_osfhandle(descriptor)
    win32api.SetHandleInformation(handle, 1, 1)
    os.write(writer, b"by descriptor\n")
    os.close(writer)
    process, *_ = python("print(input())", inherits=True, info=with_streams(handle, out))
    assert exit_code(process) == 0
    assert (tmp_path / "out").read_text() == "by descriptor\n"
    os.close(descriptor)
    assert win32file.GetFileType(out) == win32file.FILE_TYPE_DISK


def test_another_pipe_cannot_be_a_standard_handle_and_the_error_says_why(name: str) -> None:
    server = win32pipe.CreateNamedPipe(name, 3, 0, 1, 4096, 4096, 0, None)
    client = win32file.CreateFile(name, 0xC0000000, 0, inheritable(), 3, 0, None)
    with pytest.raises(pywintypes.error, match="CreatePipe") as caught:
        python("", inherits=True, info=with_streams(client, client))
    assert caught.value.args[:2] == (50, "CreateProcess")
    win32file.WriteFile(client, b"as before")
    assert win32file.ReadFile(server, 100) == (0, b"as before")


def test_a_pipe_that_somebody_reads_just_now_stays_what_it_is() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(win32file.ReadFile(reader, 100)))
    thread.start()
    until(lambda: asleep(os.getpid(), thread.native_id))
    with pytest.raises(pywintypes.error, match="under way") as caught:
        python("", inherits=True, info=with_streams(stdout=writer))
    assert caught.value.args[:2] == (231, "CreateProcess")
    win32file.WriteFile(writer, b"for the reader")
    thread.join(60)
    assert results == [(0, b"for the reader")]


def test_a_pipe_is_the_standard_handle_of_python_where_children_open_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inheritance, "children_open_streams", True)
    server = win32pipe.CreateNamedPipe(name, 3, 0, 1, 4096, 4096, 0, None)
    client = win32file.CreateFile(name, 0xC0000000, 0, inheritable(), 3, 0, None)
    process, *_ = python(
        "from npipe.win32 import _inheritance as i; i.open_standard_streams(); print(input().upper(), flush=True)",
        inherits=True,
        info=with_streams(client, client),
    )
    client.Close()
    win32file.WriteFile(server, b"over a named pipe\n")
    assert all_of(server) == b"OVER A NAMED PIPE\n"
    assert exit_code(process) == 0


def test_a_handle_becomes_a_descriptor_which_is_its_owner() -> None:
    reader, writer = win32pipe.CreatePipe(None, 0)
    win32file.WriteFile(writer, b"first ")
    descriptor = win32file._open_osfhandle(writer, 0)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"second")
    assert all_of(reader) == b"first second"
    assert code_of(win32file.WriteFile, int(writer), b"x") == 6


def test_standard_handles_are_those_of_the_descriptors(capfd: pytest.CaptureFixture[str]) -> None:
    out = win32api.GetStdHandle(win32api.STD_OUTPUT_HANDLE)
    assert out == win32api.GetStdHandle(win32api.STD_OUTPUT_HANDLE)
    assert win32file.WriteFile(out, b"by handle\n") == (0, 10)
    assert capfd.readouterr().out == "by handle\n"
    assert code_of(win32api.GetStdHandle, 5) == 6
    info = win32process.GetStartupInfo()
    assert int(info.hStdOutput) == out


def test_startupinfo_keeps_handles_and_refuses_what_is_none() -> None:
    info = win32process.STARTUPINFO()
    handle = win32event.CreateEvent(None, 0, 0, None)
    info.hStdInput = handle
    info.wShowWindow = win32con.SW_HIDE
    assert info.hStdInput is handle
    assert (info.hStdOutput, info.dwFlags, info.wShowWindow, info.lpTitle) == (0, 0, 0, None)
    with pytest.raises(TypeError, match="PyHANDLE"):
        info.hStdError = "no handle"
    with pytest.raises(AttributeError):
        info.hStdNothing = 1
    with pytest.raises(AttributeError, match="nothing"):
        _ = info.nothing


# --- Other processes


def test_a_process_is_opened_by_its_number_and_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    handle = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION | win32con.SYNCHRONIZE, False, child.pid)
    assert win32process.GetExitCodeProcess(handle) == win32con.STILL_ACTIVE
    assert win32event.WaitForSingleObject(handle, 0) == win32event.WAIT_TIMEOUT
    assert win32process.GetModuleFileNameEx(handle, 0) == os.path.realpath(sys.executable)
    assert child.pid in win32process.EnumProcesses()
    times = win32process.GetProcessTimes(handle)
    assert abs(times["CreationTime"].timestamp() - time.time()) < 60  # type: ignore[attr-defined]
    child.communicate(b"\n")
    assert exit_code(handle) == 0
    assert child.returncode == 0


def test_asking_for_a_code_leaves_it_to_whoever_started_the_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(9)"])
    handle = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION, False, child.pid)
    assert exit_code(handle) == 9
    assert child.wait(60) == 9


def test_a_process_that_is_not_there_has_windows_codes() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)
    assert code_of(win32api.OpenProcess, 0x400, False, child.pid) == 87
    assert code_of(win32api.OpenProcess, 0x400, False, 0) == 87
    assert code_of(win32api.OpenProcess, 0x400, False, -1) == 87
    assert code_of(win32process.GetExitCodeProcess, win32event.CreateEvent(None, 0, 0, None)) == 6


def test_a_process_that_has_ended_is_opened_while_there_is_a_handle_of_it() -> None:
    process, thread, pid, _ = python("raise SystemExit(6)")
    assert exit_code(process) == 6
    assert exit_code(win32api.OpenProcess(win32con.SYNCHRONIZE, False, pid)) == 6
    process.Close()
    thread.Close()
    assert code_of(win32api.OpenProcess, win32con.SYNCHRONIZE, False, pid) == 87


def test_this_process_has_a_number_that_stands_for_it() -> None:
    mine = win32process.GetCurrentProcess()
    assert mine == -1
    assert win32process.GetProcessId(mine) == os.getpid() == win32process.GetCurrentProcessId()
    assert win32process.GetExitCodeProcess(mine) == win32con.STILL_ACTIVE
    assert not win32process.IsWow64Process(mine)
    opened = win32api.OpenProcess(0x400, False, os.getpid())
    assert win32event.WaitForSingleObject(opened, 0) == win32event.WAIT_TIMEOUT


def test_a_duplicate_of_a_processs_handle_can_be_waited_for() -> None:
    process, *_ = python("")
    mine = win32api.GetCurrentProcess()
    copy = win32api.DuplicateHandle(mine, process, mine, 0, False, 2)
    process.Close()
    assert exit_code(copy) == 0


def test_a_forked_child_waits_for_its_parents_processes() -> None:
    reader, writer = win32pipe.CreatePipe(inheritable(), 0)
    process, *_ = python("input()", inherits=True, info=with_streams(stdin=reader))
    reader.Close()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(win32event.WaitForSingleObject(process, 60_000))
        os._exit(99)
    win32file.WriteFile(writer, b"\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert exit_code(process) == 0


# --- Threads


def test_beginthreadex_runs_a_thread_whose_handle_is_signalled_at_its_end() -> None:
    event = win32event.CreateEvent(None, True, False, None)
    thread, number = win32process.beginthreadex(
        None, 0, lambda value: win32event.WaitForSingleObject(event, MS) or value, (42,), 0
    )
    assert number > 0
    assert win32process.GetExitCodeThread(thread) == win32con.STILL_ACTIVE
    win32event.SetEvent(event)
    assert win32event.WaitForSingleObject(thread, MS) == 0
    assert win32process.GetExitCodeThread(thread) == 42


def test_a_thread_that_begins_suspended_waits_for_resume() -> None:
    began = win32event.CreateEvent(None, True, False, None)
    thread, _ = win32process.beginthreadex(None, 0, win32event.SetEvent, (began,), win32con.CREATE_SUSPENDED)
    assert win32event.WaitForSingleObject(thread, 0) == win32event.WAIT_TIMEOUT
    assert win32process.ResumeThread(thread) == 1
    assert win32event.WaitForMultipleObjects([began, thread], True, MS) == 0
    assert win32process.ResumeThread(thread) == 0
    with pytest.raises(TypeError, match="callable"):
        win32process.beginthreadex(None, 0, 5, (), 0)  # type: ignore[arg-type]
