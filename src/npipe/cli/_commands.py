"""The shell commands of `npipe serve --exec`, each with the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

__all__ = ["kill_command", "start_command"]

# Out of the terminal's group: Ctrl-C is for the server, which lets the command finish, or kills all of it.
if sys.platform == "win32":
    import weakref
    from typing import Any

    import pywintypes
    import win32api
    import win32con
    import win32job

    _jobs: weakref.WeakKeyDictionary[subprocess.Popen[bytes], Any] = weakref.WeakKeyDictionary()

    def start_command(command: str) -> subprocess.Popen[bytes]:
        """Start a command in the system's shell, with pipes for its input and output."""
        # As the shell takes it: cmd has other rules for quotes than the programs that it starts.
        shell = f'"{os.environ.get("COMSPEC", "cmd.exe")}" /d /s /c "{command}"'
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        process = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, creationflags=flags)
        job: Any = win32job.CreateJobObject(None, "")  # type: ignore[func-returns-value]  # the stubs are wrong
        with contextlib.suppress(pywintypes.error):  # it has ended already
            handle = win32api.OpenProcess(win32con.PROCESS_SET_QUOTA | win32con.PROCESS_TERMINATE, False, process.pid)
            win32job.AssignProcessToJobObject(job, handle)
        _jobs[process] = job
        return process

    def kill_command(process: subprocess.Popen[bytes]) -> None:
        """End a command and what it has started, if it still runs."""
        win32job.TerminateJobObject(_jobs[process], 1)

else:
    import signal

    def start_command(command: str) -> subprocess.Popen[bytes]:
        """Start a command in the system's shell, with pipes for its input and output."""
        return subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )

    def kill_command(process: subprocess.Popen[bytes]) -> None:
        """End a command and what it has started, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
