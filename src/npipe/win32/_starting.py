"""CreateProcess: a program by its command line, with handles that it inherits."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from npipe import transports
from npipe.binding.win32 import handles as _handles
from npipe.win32 import _command_line, _descriptors, _inheritance, _processes
from npipe.win32_error import error, make_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from npipe.binding.win32.handles import PyHANDLE

__all__ = ["STARTUPINFO", "create", "program_of_line"]

_FUNCTION: Final = "CreateProcess"
_CREATE_SUSPENDED: Final = 0x4
_DETACHED_PROCESS: Final = 0x8
_CREATE_NEW_CONSOLE: Final = 0x10
_CREATE_NEW_PROCESS_GROUP: Final = 0x200
_CREATE_NO_WINDOW: Final = 0x8000000
_STARTF_USESTDHANDLES: Final = 0x100
_STANDARD: Final = (-10, -11, -12)
_CODES: Final = {errno.ENOENT: 2, errno.EACCES: 5, errno.ENOEXEC: 193, errno.E2BIG: 206, errno.ENOMEM: 8}
_NO_RESOURCES: Final = 1450
_PYTHON: Final = ("python", "pythonw", "py", "python3")
# A process that stops before it becomes the program, and has its number then.
_SUSPENDED: Final = ("/bin/sh", "-c", 'kill -STOP $$; exec "$0" "$@"')


class STARTUPINFO:
    """What a new process starts with; of all this its standard handles mean something here.

    hStdInput, hStdOutput and hStdError count with STARTF_USESTDHANDLES in dwFlags.
    """

    __slots__ = (
        "_numbers",
        "_objects",
        "lpDesktop",
        "lpTitle",
    )

    def __init__(self) -> None:
        self._numbers = dict.fromkeys(_NUMBERS, 0)
        self._objects: dict[str, Any] = dict.fromkeys(_HANDLES, 0)
        self.lpDesktop: str | None = None
        self.lpTitle: str | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _NUMBERS:
            return self._numbers[name]
        if name in _HANDLES:
            return self._objects[name]
        raise AttributeError(f"'PySTARTUPINFO' object has no attribute {name!r}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _NUMBERS:
            self._numbers[name] = int(value)
        elif name in _HANDLES:
            # The object itself, whose owner closes it; what is no handle raises TypeError.
            self._objects[name] = value if isinstance(value, _handles.PyHANDLE) else _number(value)
        else:
            object.__setattr__(self, name, value)


STARTUPINFO.__name__ = STARTUPINFO.__qualname__ = "PySTARTUPINFO"

_HANDLES: Final = ("hStdInput", "hStdOutput", "hStdError")
_NUMBERS: Final = (
    "dwX",
    "dwY",
    "dwXSize",
    "dwYSize",
    "dwXCountChars",
    "dwYCountChars",
    "dwFillAttribute",
    "dwFlags",
    "wShowWindow",
)


def _number(handle: Any) -> int:
    return int(_handles.PyHANDLE(handle).Detach())


def create(
    application: str | None,
    line: str | None,
    inherits: bool,
    flags: int,
    environment: Mapping[str, str] | None,
    folder: str | None,
    startup: STARTUPINFO,
) -> tuple[PyHANDLE, PyHANDLE, int, int]:
    """Start a program: handles of its process and its thread, and their numbers, which are the same here."""
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    if application is None and line is None:
        raise TypeError("The command line and application parameters can not both be None")
    if not isinstance(startup, STARTUPINFO):
        raise TypeError("The object is not a PySTARTUPINFO object")
    variables = _checked(environment)
    if folder is not None and not Path(folder).is_dir():
        raise make_error(267, _FUNCTION)
    path, arguments = _program(application, line)
    suspended = bool(flags & _CREATE_SUSPENDED)
    command = [*_SUSPENDED, path, *arguments] if suspended else [path, *arguments]
    streams, told = _streams(startup, flags, inherits, (path, arguments))
    with _inheritance.inherited_by(None if inherits else (), told.values()) as (lent, descriptors):
        variables = variables | lent | _inheritance.standard_streams(told)
        pid = _start(command, variables, folder, flags, streams, descriptors, inherits)
    if suspended:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return *_processes.child_handles(pid, suspended=suspended, function=_FUNCTION), pid, pid


def _start(
    command: list[str],
    variables: Mapping[str, str],
    folder: str | None,
    flags: int,
    streams: Iterable[int | None],
    descriptors: list[int],
    inherits: bool,
) -> int:
    if sys.platform == "win32":  # there it is pywin32's
        raise NotImplementedError
    stdin, stdout, stderr = streams
    own_console = bool(flags & (_DETACHED_PROCESS | _CREATE_NEW_CONSOLE | _CREATE_NO_WINDOW))
    try:
        child = subprocess.Popen(
            command,
            env=variables,
            cwd=folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=[*descriptors, *(_inheritable_descriptors() if inherits else ())],
            start_new_session=own_console,  # Ctrl-C of this one's terminal is not its
            process_group=0 if flags & _CREATE_NEW_PROCESS_GROUP and not own_console else None,
        )
    except OSError as failure:
        raise make_error(_CODES.get(failure.errno or 0, _NO_RESOURCES), _FUNCTION) from failure
    child.returncode = 0  # what it comes to is _processes' from here on
    return child.pid


def _inheritable_descriptors() -> list[int]:
    """Return the descriptors that the program has made inheritable, beyond the standard ones (FdCreatePipe)."""
    found = []
    for place in Path("/proc/self/fd").iterdir():
        descriptor = int(place.name)
        try:
            if descriptor > 2 and os.get_inheritable(descriptor):
                found.append(descriptor)
        except OSError:  # the listing's own, or one that another thread has closed since
            continue
    return found


def _checked(environment: Mapping[str, str] | None) -> dict[str, str]:
    """Return the child's environment; one that is given keeps what says where pipes are, which is no variable there."""
    if environment is None:
        return dict(os.environ)
    if not hasattr(environment, "keys"):
        raise TypeError("environment parameter must be a dictionary object of strings or unicode objects.")
    variables = dict(environment)
    if not all(isinstance(text, str) for item in variables.items() for text in item):
        raise TypeError("dictionary must have keys and values as strings or unicode objects.")
    root = transports.default().root()
    if root is not None:
        variables.setdefault("NPIPE_ROOT", root)
    return variables


# ---- The program


def _program(application: str | None, line: str | None) -> tuple[str, list[str]]:
    """Return the program's path and its arguments; raises 2, 5."""
    if application is not None:
        path = _found([application])
        if path is None:
            raise make_error(2, _FUNCTION)
        return _runnable(path), _command_line.split(line)[1:] if line is not None else []
    return program_of_line(line or "")


def program_of_line(line: str) -> tuple[str, list[str]]:
    """Return the path of a command line's program, as CreateProcess finds it, and its arguments; raises 2, 5."""
    for name, rest in _command_line.splits_of_program(line):
        path = _found(_places(name))
        if path is not None:
            return _runnable(path), _command_line.split('""' + rest)[1:]
    if _bare(_command_line.split(line)[0]).lower() in _PYTHON and sys.executable:
        return sys.executable, _command_line.split(line)[1:]
    raise make_error(2, _FUNCTION)


def _bare(name: str) -> str:
    return name[:-4] if name.lower().endswith(".exe") else name


def _places(name: str) -> list[str]:
    """Return where CreateProcess looks: beside this program, here, and in PATH; a name with a folder only there."""
    if not name:
        return []
    if "/" in name or "\\" in name:
        return [name, name.replace("\\", "/")]
    folders = [str(Path(sys.executable).parent), os.curdir, *os.environ.get("PATH", os.defpath).split(os.pathsep)]
    return [str(Path(folder) / name) for folder in folders if folder]


def _found(places: Iterable[str]) -> str | None:
    for place in places:
        for path in (place, _bare(place)):
            if path and Path(path).is_file():
                return path if "/" in path else "./" + path
    return None


def _runnable(path: str) -> str:
    if not os.access(path, os.X_OK):
        raise make_error(5, _FUNCTION)
    return str(Path(path).absolute()) if not path.startswith("/") else path


# ---- Its standard streams


def _streams(
    startup: STARTUPINFO, flags: int, inherits: bool, program: tuple[str, list[str]]
) -> tuple[list[int | None], dict[int, int]]:
    """Return (the descriptors of the child's standard streams, {0, 1 or 2: the handle that it has to open itself}).

    None: this process's.
    """
    given = bool(startup.dwFlags & _STARTF_USESTDHANDLES)
    streams: list[int | None] = []
    told: dict[int, int] = {}
    for place, (name, which) in enumerate(zip(_HANDLES, _STANDARD, strict=True)):
        if not given:
            handle: Any = _descriptors.replaced_standard(which)
            if handle is None:
                streams.append(subprocess.DEVNULL if flags & _DETACHED_PROCESS else None)
                continue
        else:
            handle = getattr(startup, name)
        number = _number(handle) if not isinstance(handle, _handles.PyHANDLE) else int(handle)
        if number in (0, -1) or not inherits or not _handles.handle_is_inheritable(number, _FUNCTION):
            streams.append(subprocess.DEVNULL)  # as on Windows it has a number there that means nothing to it
            continue
        try:
            streams.append(_descriptors.descriptor_of(number, _FUNCTION))
        except error:
            if not _inheritance.opens_standard_streams(*program):
                raise
            told[place] = number
            streams.append(subprocess.DEVNULL)
    return streams, told
