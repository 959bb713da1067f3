"""python-mpv-jsonipc, unmodified, in its branch for Windows, with a player that npipe plays."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import npipe
from npipe import win32
from tests.helpers import started

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

PROGRAM = """
import sys
import python_mpv_jsonipc as library

mpv = library.MPV(start_mpv=False, ipc_socket=sys.argv[1])
print(hasattr(mpv.mpv_inter.socket, "sock"), mpv.command("add", 2, 3), mpv.volume)
mpv.terminate()
"""


def play(listener: npipe.Listener[npipe.StreamPipe]) -> list[Any]:
    """Answer as mpv does, until the client goes; return its commands."""
    commands = []
    with listener.accept(20) as pipe, contextlib.suppress(npipe.PipeClosedError):
        rest = b""
        while True:
            data = pipe.read(65536)
            *lines, rest = (rest + data).split(b"\n")
            for request in map(json.loads, lines):
                command = request["command"]
                commands.append(command)
                answer: Any = None
                if command[0] == "add":
                    answer = sum(command[1:])
                elif command == ["get_property", "property-list"]:
                    answer = ["volume"]
                elif command == ["get_property", "command-list"]:
                    answer = [{"name": "add"}]
                elif command[0] == "get_property":
                    answer = 77
                reply = {"request_id": request["request_id"], "error": "success", "data": answer}
                pipe.write(json.dumps(reply).encode() + b"\n")
    return commands


def has_kernel32() -> bool:
    with win32.install(ctypes=True):
        import ctypes

        return hasattr(ctypes, "WinDLL")


def test_commands_and_properties(mpv_folder: Path, tmp_path: Path, name: str) -> None:
    source = (mpv_folder / "python_mpv_jsonipc.py").read_text(encoding="utf-8")
    if "WinDLL" in source and not has_kernel32():
        pytest.skip("this version needs the door of ctypes too")
    (tmp_path / "player.py").write_text(PROGRAM)
    with npipe.listen(name, mode="byte") as listener:
        playing = started(lambda: play(listener))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "npipe", "run", "--as-windows", "--also", "python_mpv_jsonipc"),
                *("player.py", name.removeprefix("\\\\.\\pipe\\")),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(mpv_folder)},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.stdout == "False 5 77\n", done.stderr
        assert ["add", 2, 3] in playing.result()
