"""The doors on Windows: everything is the system's own, and the same program runs."""

from __future__ import annotations

import ast
import asyncio
import builtins
import ctypes
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import npipe
import npipe.win32

if TYPE_CHECKING:
    from pathlib import Path

TESTS = r"""
import sys
import npipe, win32file, win32pipe

def test_a_message(pipe_name):
    server = win32pipe.CreateNamedPipe(pipe_name, 3, 4, 255, 4096, 4096, 0, None)
    with open(pipe_name, "r+b", buffering=0) as client:
        client.write(b"hello")
        assert win32file.ReadFile(server, 100) == (0, b"hello")

def test_of_one_scope(pipe_name, npipe_windows):
    assert npipe_windows.doors == ()
    with npipe.listen(pipe_name), npipe.connect(pipe_name):
        assert sys.platform == "win32"
"""


def what_doors_are_about() -> list[object]:
    names: list[object] = [builtins.open, os.open, os.stat, os.path.exists, os.listdir, subprocess.Popen]
    loop, library = vars(asyncio)["ProactorEventLoop"], vars(ctypes)["windll"]  # other systems have none
    return [*names, loop, asyncio.new_event_loop, library, sys.platform, os.name]


def test_install_does_nothing() -> None:
    before, finders = what_doors_are_about(), list(sys.meta_path)
    with npipe.win32.install(
        files=True, asyncio=True, ctypes=True, winapi=True, children=True, platform=["json"]
    ) as installation:
        assert all(one is other for one, other in zip(before, what_doors_are_about(), strict=True))
        assert sys.meta_path == finders
        assert installation.doors == ()
        assert "npipe._doors.files" not in sys.modules
    installation.uninstall()


def test_a_script_runs_as_it_is(tmp_path: Path, name: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, _winapi, msvcrt, win32pipe\n"
        "with open(sys.argv[1], 'r+b', buffering=0) as pipe:\n"
        "    pipe.write(b'hello')\n"
        "    print([pipe.read(100), sys.platform, win32pipe.__name__])\n",
        encoding="utf-8",
    )
    with npipe.serve(name, bytes.upper):
        done = subprocess.run(
            [sys.executable, "-m", "npipe", "run", "--as-windows", "--no-files", str(script), name],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == [b"HELLO", "win32", "win32pipe"]


def test_pytest_s_plugin_is_there(tmp_path: Path) -> None:
    (tmp_path / "test_pipes.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--npipe", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
