"""A named pipe's handle as the standard stream of a Python program: it opens it itself, under the door of children."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

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
