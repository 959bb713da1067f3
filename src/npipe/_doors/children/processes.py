"""The functions of the library that start a process, or become another program."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from npipe._doors.children.streams import without_pipes
from npipe._doors.imports import IMPORTS
from npipe._doors.os_errors import os_error
from npipe.win32_error import error as win32_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from npipe._doors.base import Patches
    from npipe._doors.children.environment import Environment
    from npipe._doors.files.descriptors import Descriptor

__all__ = ["Processes"]

_HANDLES: Final = "_npipe_handles"  # of a Popen that is being made: the handle_list of its STARTUPINFO
_STREAMS: Final = "_npipe_streams"  # ... {0, 1 or 2: the handle of the pipe that is its standard stream}
_PROCESS: Final = "_npipe_process"  # a handle of the process, once somebody has asked for it
_ALL_ACCESS: Final = 0x1FFFFF
_WITH_ENVIRONMENT: Final = {"execv": "execve", "execvp": "execvpe"}
_ENVIRONMENT_AT: Final = 5  # among the arguments of fork_exec


class Processes:
    """Replacements for `os` and `subprocess`: a new process is told of the doors, and gets pipes' handles.

    It gets the inheritable ones where a process on Windows would inherit handles: with close_fds=False, with a
    handle_list, from `os.spawn*` and `os.exec*`. They are lent before there is a process, in this one.
    """

    def __init__(self, environment: Environment, is_open: Callable[[], bool]) -> None:
        self._environment = environment
        self._is_open = is_open
        self._lock = threading.Lock()  # of the patches: an import in any thread may make some
        self._patches: Patches | None = None
        self._become_original: Callable[..., Any] = os.execve
        self._is_child = False  # forked by this module, which lends handles beforehand
        self.says_windows = False  # the platform's door is open

    def open(self, patches: Patches) -> None:
        """Replace them; those of `subprocess`, and what it and multiprocessing have in common, when it is imported."""
        self._patches = patches
        patches.replace(os, "execv", self._execv)
        patches.replace(os, "execve", self._execve)
        patches.replace(os, "_spawnvef", self._spawnvef)
        for name in ("posix_spawn", "posix_spawnp"):
            patches.replace(os, name, self._posix_spawn)
        IMPORTS.once_loaded("subprocess", self._loaded)

    def close(self) -> None:
        """Put back all."""
        IMPORTS.never_mind("subprocess")
        with self._lock:
            patches, self._patches = self._patches, None
            if patches is not None:
                patches.undo()

    def _loaded(self, subprocess: ModuleType) -> None:
        with self._lock:
            if self._patches is not None:
                popen: Any = vars(subprocess)["Popen"]
                self._patches.replace(popen, "__init__", self._popen)
                self._patches.replace(popen, "_execute_child", self._execute_child)
                self._patches.replace(popen, "_handle", lambda _: property(_handle_of))
                self._patches.replace(importlib.import_module("_posixsubprocess"), "fork_exec", self._fork_exec)

    # ---- subprocess, and multiprocessing

    def _popen(self, original: Callable[..., None]) -> Callable[..., None]:
        def __init__(popen: Any, *arguments: Any, **keywords: Any) -> None:  # noqa: N807
            attributes = getattr(keywords.get("startupinfo"), "lpAttributeList", None)
            disarmed: list[Descriptor] = []
            if self._is_open():
                if attributes and attributes.get("handle_list"):
                    vars(popen)[_HANDLES] = list(attributes["handle_list"])
                arguments, keywords, pipes, disarmed = without_pipes(arguments, keywords)
                if pipes:
                    vars(popen)[_STREAMS] = pipes
            try:
                original(popen, *arguments, **keywords)
            except BaseException:  # there is no child: the pipes are this program's, as before
                for pipe in disarmed:
                    pipe.arm_again()
                raise

        __init__.__wrapped__ = original  # type: ignore[attr-defined]  # inspect.signature looks there
        return __init__

    def _execute_child(self, original: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(original)

        def _execute_child(popen: Any, *arguments: Any, **keywords: Any) -> None:
            handles = vars(popen).pop(_HANDLES, None)
            streams = vars(popen).pop(_STREAMS, {})
            if not self._is_open():
                original(popen, *arguments, **keywords)
                return
            call = signature.bind(popen, *arguments, **keywords)
            given = call.arguments
            if self.says_windows and not given["shell"] and given["executable"] is None:
                given["args"] = _as_on_windows(given["args"])
            environment = self._environment.told_in(given["env"])
            if handles is None and given["close_fds"]:
                handles = []
            inherits = (handles != [] or bool(streams)) and _is_environment(environment)
            with _inherited(handles, streams.values(), wanted=inherits) as (variables, descriptors):
                if variables:
                    told = _inheritance().standard_streams(streams)
                    environment = {**(os.environ if environment is None else environment), **variables, **told}
                    given["pass_fds"] = (*given["pass_fds"], *descriptors)
                given["env"] = environment
                original(*call.args, **call.kwargs)

        return _execute_child

    def _fork_exec(self, original: Callable[..., int]) -> Callable[..., int]:
        """Return what multiprocessing calls, with no environment."""

        def fork_exec(*arguments: Any) -> int:
            if self._is_open() and arguments[_ENVIRONMENT_AT] is None:
                environment = self._environment.told_in(None)
                if environment is not None:
                    listed = [os.fsencode(name) + b"=" + os.fsencode(text) for name, text in environment.items()]
                    arguments = (*arguments[:_ENVIRONMENT_AT], listed, *arguments[_ENVIRONMENT_AT + 1 :])
            return original(*arguments)

        return fork_exec

    # ---- os

    def _posix_spawn(self, original: Callable[..., int]) -> Callable[..., int]:
        def posix_spawn(path: Any, argv: Any, env: Any, /, **keywords: Any) -> int:
            return original(path, argv, self._environment.told_in(env) if self._is_open() else env, **keywords)

        posix_spawn.__name__ = posix_spawn.__qualname__ = original.__name__
        return posix_spawn

    def _spawnvef(self, original: Callable[..., int]) -> Callable[..., int]:
        """Return what all of `os.spawn*` call."""

        def _spawnvef(mode: int, file: Any, args: Any, env: Any, func: Callable[..., Any]) -> int:
            if not self._is_open():
                return original(mode, file, args, env, func)
            with _inherited(None, wanted=_is_environment(env)) as (variables, descriptors):
                if not variables:
                    return original(mode, file, args, env, func)
                execute = getattr(os, _WITH_ENVIRONMENT.get(func.__name__, func.__name__))

                def in_child(file: Any, args: Any, environment: Any) -> None:
                    self._is_child = True
                    for descriptor in descriptors:
                        os.set_inheritable(descriptor, True)
                    execute(file, args, environment)

                environment = {**(os.environ if env is None else env), **variables}
                return original(mode, file, args, environment, in_child)

        return _spawnvef

    def _execv(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execv(path: Any, argv: Any, /) -> None:
            if self._is_open():
                self._become(path, argv, None)
            original(path, argv)

        return execv

    def _execve(self, original: Callable[..., Any]) -> Callable[..., Any]:
        self._become_original = original

        def execve(path: Any, argv: Any, env: Any) -> None:
            if self._is_open():
                self._become(path, argv, env)
            original(path, argv, env)

        return execve

    def _become(self, path: Any, argv: Any, env: Any) -> None:
        """Become another program, which has the pipes' handles that this process would give a child.

        Returns if that is nothing that has to be said besides.
        """
        told = self._environment.told_in(env)
        wanted = not self._is_child and os.access(path, os.X_OK) and _is_environment(told)
        with _inherited(None, wanted=wanted) as (variables, descriptors):
            if variables:
                told = {**(os.environ if told is None else told), **variables}
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, True)
                _close(variables.get(_inheritance().VARIABLE, ""))
            if told is not env:
                self._become_original(path, argv, told)


def _is_environment(given: Any) -> bool:
    """Whether it is one, or none is given. What is wrong with another the call itself says."""
    return given is None or isinstance(given, Mapping)


def _as_on_windows(command: Any) -> Any:
    """Return a command as it is run here, of a program that takes this for Windows: a line, or `python.exe`.

    What names a program of this system is left alone, and what CreateProcess would not find.
    """
    is_line = isinstance(command, str)
    try:
        program = command if is_line else os.fsdecode(command[0])
        if importlib.import_module("shutil").which(program) is not None:
            return command
        line = command if is_line else importlib.import_module("subprocess").list2cmdline(command)
    except (TypeError, IndexError):  # for Popen to say
        return command
    try:
        path, arguments = importlib.import_module("npipe.win32._starting").program_of_line(line)
    except win32_error:
        return command
    return [path, *(arguments if is_line else command[1:])]


def _handle_of(popen: Any) -> Any:
    """Return a handle of the process, as Popen's `_handle` is on Windows, for pywin32's functions and ctypes."""
    known = vars(popen)
    if _PROCESS not in known:
        if popen.returncode is not None:  # its number may be another process's by now
            raise AttributeError("the process has been waited for: ask for its handle before that", name="_handle")
        known[_PROCESS] = importlib.import_module("npipe.win32.win32api").OpenProcess(_ALL_ACCESS, False, popen.pid)
    return known[_PROCESS]


@contextlib.contextmanager
def _inherited(
    handles: Iterable[int] | None, streams: Iterable[int] = (), *, wanted: bool = True
) -> Iterator[tuple[dict[str, str], list[int]]]:
    """As `inherited_by`, if it is wanted, with Python's own errors of Windows."""
    if not wanted:
        yield {}, []
        return
    with contextlib.ExitStack() as stack:
        try:
            lent = stack.enter_context(_inheritance().inherited_by(handles, streams))
        except win32_error as failure:
            raise os_error(failure.winerror) from None
        yield lent


def _close(lent: str) -> None:
    """Close the pipes' handles that are lent, so that they go at once."""
    close = importlib.import_module("npipe.win32.win32api").CloseHandle
    for item in lent.split(","):
        if item:
            close(int(item.partition(":")[0]))


def _inheritance() -> Any:
    return importlib.import_module("npipe.win32._inheritance")
