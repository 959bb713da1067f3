"""Names that programs with pipes use of pywin32 besides, and what is said of those that are not here."""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from npipe.win32 import _absent, _modules, win32api, win32con, win32file, win32pipe
from tests.helpers import CHECKOUT, until
from tests.win32.helpers import code_of


def test_a_name_that_is_not_here_says_why_and_where_to_read() -> None:
    for module, name, why in (
        ("win32api", "RegOpenKey", "the registry"),
        ("win32file", "WSARecv", "sockets"),
        ("win32security", "LsaOpenPolicy", "policies"),
        ("win32process", "SetPriorityClass", "psutil"),
    ):
        with pytest.raises(AttributeError, match=f"{name}.*{why}.*docs/porting.md") as caught:
            getattr(importlib.import_module(f"npipe.win32.{module}"), name)
        assert caught.value.name == name
        with pytest.raises(ImportError, match=name):
            exec(f"from npipe.win32.{module} import {name}")


def test_what_has_a_reason_is_not_here() -> None:
    for module in _absent.REASONS:
        for name in vars(importlib.import_module(f"npipe.win32.{module}")):
            if not name.startswith("_") and module in ("win32process", "win32event", "servicemanager"):
                assert _absent.reason_of(module, name) is None, (module, name)


@pytest.mark.parametrize("module", _modules.NAMES)
def test_a_star_import_brings_names_of_pywin32s_only(module: str) -> None:
    names: dict[str, Any] = {}
    exec(f"from npipe.win32.{module} import *", names)
    assert not {"annotations", "TYPE_CHECKING", "Any", "Path", "make_error"} & set(names)


def test_modules_that_are_not_here_say_why_within_the_scope() -> None:
    script = """
import importlib.util, sys
import npipe.win32
before = list(sys.meta_path)
def said(name):
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        assert error.name == name
        return str(error)
with npipe.win32.install():
    for name, word in (("win32clipboard", "windows"), ("win32com.client", "COM"), ("win32net", "networks")):
        text = said(name) if "." not in name else None
        if text is not None:
            assert word in text and "docs/porting.md" in text, text
        assert importlib.util.find_spec(name.partition(".")[0]) is None
    with npipe.win32.install():
        pass
    assert "docs/porting.md" in said("win32ui")
    assert said("no_such_module_at_all") == "No module named 'no_such_module_at_all'"
assert said("win32clipboard") == "No module named 'win32clipboard'"
assert sys.meta_path == before
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("module", "name"), [("win32console", "GetStdHandle"), ("win32gui", "EnumWindows")])
def test_a_module_that_is_empty_is_imported_and_says_why(module: str, name: str) -> None:
    empty: Any = importlib.import_module(f"npipe.win32.{module}")
    with pytest.raises(AttributeError, match=rf"'{module}' has no attribute '{name}' \(.* but not .*docs/porting\.md"):
        getattr(empty, name)
    names: dict[str, Any] = {}
    exec(f"from npipe.win32.{module} import *", names)
    assert set(names) == {"__builtins__"}


def test_an_import_of_a_name_that_is_not_there_says_why() -> None:
    for module, name, reason in (
        ("win32api", "RegOpenKey", "the registry"),
        ("win32file", "ReadFileEx", "offers pipes"),
        ("win32gui", "EnumWindows", "windows"),
    ):
        with pytest.raises(
            ImportError, match=rf"name '{name}' from '{module}' \(.*{reason}.*docs/porting\.md\)"
        ) as caught:
            exec(f"from npipe.win32.{module} import {name}")
        assert caught.value.name == module
        assert not hasattr(importlib.import_module(f"npipe.win32.{module}"), name)


def test_there_is_one_list_of_modules() -> None:
    lists = []
    for path in (CHECKOUT / "src" / "npipe").rglob("*.py"):
        listed = set(re.findall(r'^    "(\w+)",$', path.read_text(encoding="utf-8"), re.MULTILINE))
        if len(listed & set(_modules.NAMES)) > 3:
            lists.append(path.name)
    assert lists == ["_modules.py"]


# --- win32api


def test_who_and_where_one_is() -> None:
    user, machine = win32api.GetUserName(), win32api.GetComputerName()
    assert win32api.GetUserNameEx(win32api.NameSamCompatible) == f"{win32api.GetDomainName()}\\{user}"
    assert user == getpass.getuser() or os.environ.get("USER") != user
    assert win32api.GetUserNameEx(win32api.NameDisplay)
    assert code_of(win32api.GetUserNameEx, win32api.NameUserPrincipal) == 1332
    assert win32api.GetComputerNameEx(0) == machine
    assert win32api.GetComputerNameEx(1) == socket.gethostname().partition(".")[0]
    assert code_of(win32api.GetComputerNameEx, 9) == 87


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPIPE_TEST", "value")
    assert win32api.GetEnvironmentVariable("NPIPE_TEST") == "value"
    assert win32api.ExpandEnvironmentStrings("%NPIPE_TEST%-%NO_SUCH%") == "value-%NO_SUCH%"
    win32api.SetEnvironmentVariable("NPIPE_TEST", None)
    assert win32api.GetEnvironmentVariableW("NPIPE_TEST") is None
    assert code_of(win32api.SetEnvironmentVariable, "NPIPE_TEST", None) == 203


def test_numbers_and_messages() -> None:
    assert (win32api.HIWORD(0x12345678), win32api.LOWORD(0x12345678)) == (0x1234, 0x5678)
    assert (win32api.HIBYTE(0x1234), win32api.LOBYTE(0x1234)) == (0x12, 0x34)
    assert (win32api.MAKELONG(1, 0x8000), win32api.MAKEWORD(1, 2)) == (1 - 0x80000000, 0x201)
    assert win32api.MAKELANGID(win32con.LANG_ENGLISH, win32con.SUBLANG_ENGLISH_US) == 0x409
    assert win32api.FormatMessage(5) == win32api.FormatMessageW(0x80070005) == "Access is denied.\r\n"
    text = win32api.FormatMessage(win32con.FORMAT_MESSAGE_FROM_STRING, "%1 and %2!s!%%%n", 0, 0, ["a", "b"])
    assert text == "a and b%\r\n"
    system = win32con.FORMAT_MESSAGE_FROM_SYSTEM | win32con.FORMAT_MESSAGE_IGNORE_INSERTS
    assert win32api.FormatMessage(system, 0, 5, 0, None) == "Access is denied.\r\n"
    assert win32api.GetModuleFileName(0) == sys.executable
    assert win32api.GetSystemInfo()[5] == os.cpu_count()
    assert win32api.SetErrorMode(1) == 0
    assert win32api.SetErrorMode(0) == 1
    assert win32api.SearchPath(None, Path(sys.executable).name)[0]
    assert len(win32api.GetLocalTime()) == len(win32api.GetSystemTime()) == 8


# --- Console events


def test_a_handler_is_told_of_ctrl_c_within_a_wait() -> None:
    script = """
import os, signal, sys
from npipe.win32 import win32api, win32con, win32event
stop = win32event.CreateEvent(None, True, False, None)
told = []
def first(event):
    told.append(("first", event))
    return True
def second(event):
    told.append(("second", event))
    if event == win32con.CTRL_SHUTDOWN_EVENT:
        win32event.SetEvent(stop)
        return True
win32api.SetConsoleCtrlHandler(first, True)
win32api.SetConsoleCtrlHandler(second, True)
print("waiting", flush=True)
assert win32event.WaitForSingleObject(stop, win32event.INFINITE) == 0
print(told)
win32api.SetConsoleCtrlHandler(first, False)
win32api.SetConsoleCtrlHandler(second, False)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("as before")
"""
    child = subprocess.Popen([sys.executable, "-W", "error", "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=60)
    told = eval(out.splitlines()[0])
    assert sorted(told) in ([("first", 0), ("second", 0), ("second", 6)], [("second", 6)])
    assert out.splitlines()[1] == "as before"
    assert child.returncode == 0


def test_nobody_handles_it_and_the_signal_does_what_it_did() -> None:
    script = """
import signal
from npipe.win32 import win32api
win32api.SetConsoleCtrlHandler(lambda event: False, True)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
win32api.SetConsoleCtrlHandler(None, True)
signal.raise_signal(signal.SIGINT)
win32api.SetConsoleCtrlHandler(None, False)
signal.raise_signal(signal.SIGTERM)
print("not reached")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("interrupted\n", -signal.SIGTERM)


def test_the_first_handler_is_the_main_threads() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(code_of(win32api.SetConsoleCtrlHandler, print, True)))
    thread.start()
    thread.join()
    assert codes == [50]
    assert code_of(win32api.SetConsoleCtrlHandler, print, False) == 87
    with pytest.raises(TypeError):
        win32api.SetConsoleCtrlHandler(5, True)  # type: ignore[arg-type]


def test_an_event_is_generated_for_a_group() -> None:
    script = """
import signal
try:
    print("ready", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("told")
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, process_group=0)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    win32api.GenerateConsoleCtrlEvent(win32con.CTRL_C_EVENT, child.pid)
    assert child.communicate(timeout=60)[0] == "told\n"
    assert code_of(win32api.GenerateConsoleCtrlEvent, 9, 0) == 87


# --- Services


SERVICE = r"""
import sys
import servicemanager
import win32event, win32file, win32pipe, win32service, win32serviceutil, winerror

class Echo(win32serviceutil.ServiceFramework):
    _svc_name_ = "NpipeEcho"
    _svc_display_name_ = "npipe's echo"

    def __init__(self, args):
        win32serviceutil.ServiceFramework.__init__(self, args)
        self.args = args
        self.stop = win32event.CreateEvent(None, 0, 0, None)

    def SvcStop(self):
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING)
        win32event.SetEvent(self.stop)

    def SvcDoRun(self):
        servicemanager.LogMsg(servicemanager.EVENTLOG_INFORMATION_TYPE, servicemanager.PYS_SERVICE_STARTED,
                              (self._svc_name_, ""))
        print(self.args, servicemanager.Debugging(), servicemanager.RunningAsService(), flush=True)
        overlapped = win32file.OVERLAPPED()
        overlapped.hEvent = win32event.CreateEvent(None, True, False, None)
        while True:
            pipe = win32pipe.CreateNamedPipe(NAME, 3 | 0x40000000, 4 | 2, 255, 4096, 4096, 0, None)
            if win32pipe.ConnectNamedPipe(pipe, overlapped) == winerror.ERROR_PIPE_CONNECTED:
                win32event.SetEvent(overlapped.hEvent)
            if win32event.WaitForMultipleObjects([self.stop, overlapped.hEvent], False, -1) == 0:
                break
            data = win32file.ReadFile(pipe, 100)[1]
            win32file.WriteFile(pipe, data.upper())
            win32file.FlushFileBuffers(pipe)
        print("stopped", flush=True)

if len(sys.argv) == 1:
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(Echo)
    servicemanager.StartServiceCtrlDispatcher()
else:
    sys.exit(win32serviceutil.HandleCommandLine(Echo))
"""


@pytest.mark.parametrize("arguments", [["debug", "one"], []])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_runs_in_the_foreground_until_it_is_stopped(
    name: str, tmp_path: Path, arguments: list[str], number: int
) -> None:
    script = tmp_path / "service.py"
    script.write_text(f"NAME = {name!r}\n{SERVICE}")
    child = subprocess.Popen(
        [sys.executable, "-m", "npipe", "run", str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    if arguments:
        assert first == "Debugging service NpipeEcho - press Ctrl+C to stop.\n"
        assert child.stdout.readline() == "['NpipeEcho', 'one'] True False\n"
    else:
        assert first == "['NpipeEcho'] False False\n"
    for text in (b"one", b"two"):
        handle = opened(name)
        win32file.WriteFile(handle, text)
        assert win32file.ReadFile(handle, 100) == (0, text.upper())
        handle.Close()
    child.send_signal(number)
    out, errors = child.communicate(timeout=60)
    assert out == "stopped\n"
    assert errors == "Info 0x40001002 - The service NpipeEcho has started.\n"
    assert child.returncode == 0


def opened(name: str) -> Any:
    """A client of the service, which makes its next instance only once a client has gone."""
    handles: list[Any] = []

    def is_open() -> bool:
        with contextlib.suppress(win32file.error):
            handles.append(win32file.CreateFile(name, 0xC0000000, 0, None, 3, 0, None))
        return bool(handles)

    until(is_open, 20)
    return handles[0]


@pytest.mark.parametrize("command", ["install", "start", "stop", "remove", "--startup auto update"])
def test_commands_that_need_a_service_control_manager_say_so(name: str, tmp_path: Path, command: str) -> None:
    script = tmp_path / "service.py"
    script.write_text(f"NAME = {name!r}\n{SERVICE}")
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", str(script), *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "There is no service control manager here" in done.stdout
    assert "docs/porting.md" in done.stdout
    assert done.returncode == 50


@pytest.mark.parametrize("extra", [False, True], ids=["no extra", "no credentials"])
def test_a_machine_that_there_is_no_way_to_is_a_bad_path(extra: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if extra:
        pytest.importorskip("smbprotocol", reason="`make test-samba` installs it")
        monkeypatch.setenv("KRB5CCNAME", "FILE:/no/such/file")
    else:
        # As where it is not installed.
        for module in [name for name in sys.modules if name.startswith("npipe.transports.smb")]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, "smbprotocol", None)
        assert code_of(win32pipe.WaitNamedPipe, r"\\host\pipe\x", 1) == 53
    name = r"\\host\pipe\x"
    assert code_of(win32file.CreateFile, name, win32con.GENERIC_READ, 0, None, win32con.OPEN_EXISTING, 0, None) == 53
