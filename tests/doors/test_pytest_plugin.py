"""`pytest --npipe` and its fixtures, in sessions of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # sessions of pytest, each with a bound of its own


# What else is installed here and takes longer to import than a session to run; those that do not use `session` have it.
LEFT_OUT = [f"-pno:{name}" for name in ("hypothesispytest", "anyio", "xdist", "xdist.looponfail")]


def session(folder: Path, *options: str, **files: str) -> str:
    """What pytest prints for these files."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *LEFT_OUT,
            *options,
            str(folder),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
    )
    return done.stdout + done.stderr


USES_PIPES = """
import win32pipe, win32file

def test_a_message(pipe_name):
    server = win32pipe.CreateNamedPipe(pipe_name, 3, 4, 255, 4096, 4096, 0, None)
    with open(pipe_name, "r+b", buffering=0) as client:
        client.write(b"hello")
        assert win32file.ReadFile(server, 100) == (0, b"hello")
"""


def test_a_session_has_the_doors_before_conftest_is_imported(tmp_path: Path) -> None:
    out = session(tmp_path, "--npipe", conftest="import win32pipe\n", test_pipes=USES_PIPES)
    assert "1 passed" in out, out


def test_pytest_runs_under_the_command_where_warnings_are_errors(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_pipes.py").write_text(USES_PIPES)
    done = subprocess.run(
        [sys.executable, "-m", "npipe", "run", "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "warning" not in done.stdout


def test_without_the_option_nothing_is_there(tmp_path: Path) -> None:
    out = session(tmp_path, test_pipes=USES_PIPES)
    assert "No module named 'win32pipe'" in out, out


NEEDS_NO_OPTION = """
import sys

def test_it_is_open(npipe_windows, pipe_name):
    import win32pipe
    from multiprocessing.connection import Client, Listener
    import threading
    with Listener(pipe_name) as listener:
        echo = threading.Thread(target=lambda: Client(pipe_name).send("hello"))
        echo.start()
        with listener.accept() as connection:
            assert connection.recv() == "hello"
        echo.join()
    assert "files" in npipe_windows.doors

def test_it_is_closed():
    assert "win32pipe" not in sys.modules
"""


def test_the_fixture_opens_them_for_one_test(tmp_path: Path) -> None:
    out = session(tmp_path, test_pipes=NEEDS_NO_OPTION)
    assert "2 passed" in out, out


STANDS_ON_IT = """
import builtins, sys
import pytest

before = builtins.open

@pytest.fixture(scope="module")
def closed():
    assert "win32pipe" not in sys.modules

@pytest.fixture(autouse=True)
def server():
    import win32pipe

def test_it_is_open(monkeypatch, closed, npipe_windows):
    monkeypatch.setattr(builtins, "open", len)
    assert builtins.open("four") == 4

@pytest.mark.usefixtures("npipe_windows")
class TestInAClass:
    def test_it_is_open(self, monkeypatch):
        monkeypatch.setattr(builtins, "open", len)

def test_nothing_stays_changed(npipe_windows):
    npipe_windows.uninstall()
    assert builtins.open is before
"""


def test_a_tests_doors_are_open_before_its_other_fixtures_and_after_them(tmp_path: Path) -> None:
    out = session(tmp_path, test_pipes=STANDS_ON_IT)
    assert "3 passed" in out, out


def test_names_are_never_the_same(tmp_path: Path) -> None:
    out = session(
        tmp_path,
        test_names="""
names = set()
import pytest
@pytest.mark.parametrize("number", range(3))
def test_name(pipe_name, number):
    assert pipe_name.startswith(chr(92) * 2 + ".") and pipe_name not in names
    names.add(pipe_name)
""",
    )
    assert "3 passed" in out, out


def test_the_tests_modules_are_told_of_windows(tmp_path: Path) -> None:
    told = "import sys, os\n\ndef test_told():\n    assert (sys.platform, os.name) == ('win32', 'nt')\n"
    assert "1 passed" in session(tmp_path, "--npipe", "--npipe-as-windows", test_told=told)
    assert "1 failed" in session(tmp_path, "--npipe", test_told=told)


@pytest.mark.slow
def test_those_who_are_told_do_not_depend_on_how_pytest_is_called(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").touch()
    below = tmp_path / "a, b: 100%"
    below.mkdir()
    (tmp_path / "told.py").write_text("import sys\nprint(sys.platform)\n")
    (below / "test_told.py").write_text(
        """
import subprocess, sys

def test_told():
    assert sys.platform == "win32"

def test_a_child_is_told_too():
    child = [sys.executable, "-c", "import told"]
    assert subprocess.check_output(child, text=True, cwd="/", env={"PYTHONPATH": PLACE}) == "win32\\n"
""".replace("PLACE", repr(str(tmp_path)))
    )
    command = str(Path(sys.executable).with_name("pytest"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for start, folder in (([command], tmp_path), ([command], elsewhere), ([sys.executable, "-m", "pytest"], elsewhere)):
        done = subprocess.run(
            [*start, "-q", "-p", "no:cacheprovider", "--npipe", "--npipe-as-windows", str(below)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=folder,
        )
        assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_doors_are_closed_after_a_session_that_could_not_begin(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import win32pipe, nosuch\n")
    program = """
import builtins, sys, pytest
before = builtins.open, builtins.__import__
assert pytest.main(["--npipe", "-q", "-p", "no:cacheprovider", sys.argv[1]]) == pytest.ExitCode.USAGE_ERROR
assert (builtins.open, builtins.__import__) == before
assert "win32pipe" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_options_that_need_the_first_one_say_so(tmp_path: Path) -> None:
    out = session(tmp_path, "--npipe-also", "package", test_none="")
    assert "--npipe-as-windows and --npipe-also go with --npipe" in out, out


def test_the_help_has_them(tmp_path: Path) -> None:
    out = session(tmp_path, "--help")
    assert "--npipe-also=PACKAGE" in out
    assert "programs for Windows' named pipes" in out


ECHOES = """
import os
import npipe
import pytest

names = []

def test_it_sends_back_what_it_gets(echo_server, pipe_name):
    names.append(echo_server.name)
    assert echo_server.name != pipe_name
    assert echo_server.pid == os.getpid()
    sent = [bytes([number]) * (number * 1000) for number in range(1, 60)]
    with npipe.connect(echo_server.name) as pipe:
        for message in sent:
            pipe.send(message)
            assert pipe.recv(timeout=10) == message

def test_it_is_another_one_and_the_first_has_gone(echo_server):
    assert echo_server.name not in names
    assert [pipe.name for pipe in npipe.list_pipes() if pipe.name in (*names, echo_server.name)] == [echo_server.name]

@pytest.mark.echo_server(process=True)
def test_it_is_a_process_of_its_own(echo_server):
    names.append(echo_server.name)
    assert echo_server.pid != os.getpid()
    assert echo_server.server is None
    assert npipe.call(echo_server.name, b"\\0\\xff" * 50000, timeout=10) == b"\\0\\xff" * 50000
    (listed,) = [pipe for pipe in npipe.list_pipes() if pipe.name == echo_server.name]
    assert listed.pid == echo_server.pid
    os.kill(echo_server.pid, 0)

def test_the_process_has_ended_with_its_test():
    assert not [pipe for pipe in npipe.list_pipes() if pipe.name in names]

@pytest.mark.echo_server(mode="byte", model="completion", max_instances=1)
def test_the_mark_has_options_of_serve(echo_server):
    (listed,) = [pipe for pipe in npipe.list_pipes() if pipe.name == echo_server.name]
    assert (listed.type, listed.max_instances) == ("byte", 1)

@pytest.mark.echo_server(process=True, mode="byte", max_instances=2)
def test_the_mark_has_options_of_a_process_too(echo_server):
    (listed,) = [pipe for pipe in npipe.list_pipes() if pipe.name == echo_server.name]
    assert (listed.type, listed.max_instances) == ("byte", 2)

@pytest.mark.echo_server(process=True)
def test_it_can_be_killed(echo_server):
    with npipe.connect(echo_server.name) as pipe:
        echo_server.kill()
        with pytest.raises(npipe.PipeClosedError):
            pipe.recv(timeout=10)
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(echo_server.name, timeout=0)

def test_the_test_s_own_process_is_not_killed(echo_server):
    with pytest.raises(RuntimeError, match="process=True"):
        echo_server.kill()
    assert npipe.call(echo_server.name, b"alive", timeout=10) == b"alive"

def test_it_can_be_closed_before_its_time(echo_server):
    echo_server.close()
    echo_server.close()
    with pytest.raises(npipe.PipeNotFoundError):
        npipe.connect(echo_server.name, timeout=0)
"""


def test_an_echo_server_is_there_for_one_test(tmp_path: Path) -> None:
    out = session(tmp_path, "--strict-markers", test_echoes=ECHOES)
    assert "9 passed" in out, out


def test_an_echo_server_is_there_with_the_doors_open(tmp_path: Path) -> None:
    out = session(tmp_path, "--npipe", test_echoes=ECHOES)
    assert "9 passed" in out, out


WRONG_OPTIONS = """
import pytest

@pytest.mark.echo_server(nothing=1)
def test_unknown(echo_server):
    raise AssertionError("it ran")

@pytest.mark.echo_server(process=True, nothing=1)
def test_unknown_to_a_process(echo_server):
    raise AssertionError("it ran")

@pytest.mark.echo_server(True)
def test_no_name(echo_server):
    raise AssertionError("it ran")
"""


def test_a_wrong_option_of_the_echo_server_is_told_by_its_name(tmp_path: Path) -> None:
    out = session(tmp_path, test_wrong=WRONG_OPTIONS)
    assert "3 errors" in out, out
    assert out.count("'nothing'") >= 2, out
    assert "has not begun: TypeError" in out
    assert "takes arguments by name only" in out
    assert "it ran" not in out.replace('AssertionError("it ran")', "")


TRACES = """
import threading
import npipe
import pytest

seen = []

def test_each_end_tells_of_each_message(echo_server, pipe_trace, pipe_name):
    assert npipe.call(echo_server.name, b"hello", timeout=10) == b"hello"
    assert [(m.direction, m.data) for m in pipe_trace.messages(echo_server.name, side="client")] == [
        ("out", b"hello"), ("in", b"hello"),
    ]
    assert [(m.direction, m.data) for m in pipe_trace.messages(side="server")] == [("in", b"hello"), ("out", b"hello")]
    assert pipe_trace.messages(pipe_name) == []
    assert len(pipe_trace.messages()) == 4
    seen.append(pipe_trace)
    pipe_trace.clear()
    assert pipe_trace.events == []

def test_what_comes_behind_a_test_is_not_in_its_trace(echo_server, pipe_trace):
    npipe.call(echo_server.name, b"again", timeout=10)
    assert b"again" not in [m.data for m in seen[0].messages()]
    assert {m.data for m in pipe_trace.messages()} == {b"again"}

@pytest.mark.echo_server(process=True)
@pytest.mark.pipe_trace(snaplen=3)
def test_of_another_process_there_is_this_end(echo_server, pipe_trace):
    npipe.call(echo_server.name, b"abcdef", timeout=10)
    assert [(m.data, m.size, m.side) for m in pipe_trace.messages()] == [(b"abc", 6, "client")] * 2

def test_it_fails(echo_server, pipe_trace):
    for _ in range(60):
        npipe.call(echo_server.name, b"x" * 5000, timeout=10)
    assert not "this"

def test_it_passes(pipe_trace):
    pass

@pytest.mark.pipe_trace(7)
def test_no_name(pipe_trace):
    pass
"""


def test_a_trace_is_there_for_assertions_and_in_the_report_of_a_failure(tmp_path: Path) -> None:
    out = session(tmp_path, "--strict-markers", test_traces=TRACES)
    assert "1 failed, 4 passed, 1 error" in out, out
    assert out.count("pipes, as pipe_trace has recorded them (call)") == 1
    lines = [line for line in out.splitlines() if r"\\.\pipe\pytest-" in line and " x" in line]
    assert 40 <= len(lines) <= 100
    assert max(map(len, lines)) <= 503
    assert "... " in out


KEEPS_NOTHING = """
import gc
import weakref

left = []

def test_first(pipe_trace):
    left.append(weakref.ref(pipe_trace))

def test_second():
    gc.collect()
    assert left[0]() is None
"""


def test_a_trace_is_not_kept_when_its_test_has_ended(tmp_path: Path) -> None:
    assert "2 passed" in session(tmp_path, test_it=KEEPS_NOTHING)


def test_a_trace_shows_control_characters_as_escapes(tmp_path: Path) -> None:
    out = session(
        tmp_path,
        test_escapes="""
import npipe

def test_it_fails(echo_server, pipe_trace):
    npipe.call(echo_server.name, b"the culprit\\x1b[31m", timeout=10)
    assert not "this"
""",
    )
    assert "-> 16 the culprit\\x1b[31m" in out, out
    assert "server" in out
    assert "\x1b[31m" not in out
