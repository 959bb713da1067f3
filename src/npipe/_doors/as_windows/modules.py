"""The modules by which a program asks where it runs, as they are on Windows."""

# ruff: noqa: E402 - what follows the assertion is not for Windows

from __future__ import annotations

import sys

assert sys.platform != "win32"  # noqa: S101 - for type checkers

import getpass
import os
import platform
import signal
import subprocess
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.as_windows import facts, paths, winreg
from npipe._doors.as_windows.environment import Environment
from npipe._doors.as_windows.said import standing_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["STARTUPINFO", "modules"]

_CREATION_FLAGS: Final = (
    "ABOVE_NORMAL_PRIORITY_CLASS",
    "BELOW_NORMAL_PRIORITY_CLASS",
    "CREATE_BREAKAWAY_FROM_JOB",
    "CREATE_DEFAULT_ERROR_MODE",
    "CREATE_NEW_CONSOLE",
    "CREATE_NEW_PROCESS_GROUP",
    "CREATE_NO_WINDOW",
    "DETACHED_PROCESS",
    "HIGH_PRIORITY_CLASS",
    "IDLE_PRIORITY_CLASS",
    "NORMAL_PRIORITY_CLASS",
    "REALTIME_PRIORITY_CLASS",
)


class STARTUPINFO:
    """`subprocess.STARTUPINFO`: how a window begins. Nothing of it has an effect here."""

    def __init__(
        self,
        *,
        dwFlags: int = 0,  # noqa: N803 - Windows' names
        hStdInput: object = None,  # noqa: N803
        hStdOutput: object = None,  # noqa: N803
        hStdError: object = None,  # noqa: N803
        wShowWindow: int = 0,  # noqa: N803
        lpAttributeList: dict[str, Any] | None = None,  # noqa: N803
    ) -> None:
        self.dwFlags = dwFlags
        self.hStdInput = hStdInput
        self.hStdOutput = hStdOutput
        self.hStdError = hStdError
        self.wShowWindow = wShowWindow
        self.lpAttributeList = lpAttributeList or {"handle_list": []}


STARTUPINFO.__module__ = "subprocess"


def modules(is_open: Callable[[], bool]) -> dict[str, ModuleType]:
    """Return what stands for `sys`, `os`, `os.path`, `platform`, `subprocess` and `signal`, and `winreg`, by name."""

    def constant(value: Any) -> Callable[[], Any]:
        return lambda: value

    def function(real: ModuleType, name: str, ours: Any) -> Callable[[], Any]:
        """Return what gives a function, which a program may keep: it says after the scope what it said before."""

        @wraps(ours)
        def call(*arguments: Any, **keywords: Any) -> Any:
            asked = ours if is_open() else getattr(real, name)
            return asked(*arguments, **keywords)

        call.__name__ = call.__qualname__ = name
        call.__module__ = real.__name__
        return lambda: call

    environment = Environment()
    of_paths = {**paths.FUNCTIONS, "expandvars": paths.expanding(environment)}
    path = standing_for(os.path, {name: function(os.path, name, ours) for name, ours in of_paths.items()}, is_open)

    def getenv(key: str, default: Any = None) -> Any:
        return environment.get(key, default)

    said: dict[str, dict[str, Callable[[], Any]]] = {
        "sys": {
            "platform": constant("win32"),
            "getwindowsversion": constant(facts.windows_version),
            "winver": constant(f"{sys.version_info.major}.{sys.version_info.minor}"),
        },
        "os": {
            "name": constant("nt"),
            "path": constant(path),
            "environ": constant(environment),
            "getenv": function(os, "getenv", getenv),
            "getlogin": function(os, "getlogin", getpass.getuser),  # Linux' own needs a terminal
            "O_BINARY": constant(0),
            "O_TEXT": constant(0),
            "O_NOINHERIT": constant(os.O_CLOEXEC),
            "O_RANDOM": constant(0),
            "O_SEQUENTIAL": constant(0),
            "O_SHORT_LIVED": constant(0),
        },
        "platform": {name: function(platform, name, ours) for name, ours in facts.FACTS_OF_PLATFORM.items()},
        "subprocess": {
            **{name: constant(0) for name in _CREATION_FLAGS},
            "STARTUPINFO": constant(STARTUPINFO),
            "STARTF_USESHOWWINDOW": constant(1),
            "STARTF_USESTDHANDLES": constant(0x100),
            "SW_HIDE": constant(0),
        },
        "signal": {
            "SIGBREAK": constant(signal.SIGQUIT),  # what a terminal's second key for an end sends
            "CTRL_C_EVENT": constant(signal.SIGINT),
            "CTRL_BREAK_EVENT": constant(signal.SIGQUIT),
        },
    }
    real = {"sys": sys, "os": os, "platform": platform, "subprocess": subprocess, "signal": signal}
    return {"os.path": path, "winreg": winreg, **{name: standing_for(real[name], said[name], is_open) for name in said}}
