"""`npipe.win32.install`: which doors are open, for how long."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import Self

    from npipe._doors.base import Door

__all__ = ["DOORS", "Installation", "install"]

_PLACES: Final = {
    "pywin32": "modules:Pywin32Door",
    "files": "files:FilesDoor",
    "asyncio": "event_loop:EventLoopDoor",
    "ctypes": "kernel32:CtypesDoor",
    "winapi": "winapi:WinapiDoor",
    "platform": "as_windows:PlatformDoor",
    "children": "children:ChildrenDoor",
}
"""Where each door is: a module beside this one, and its class."""

DOORS: Final = tuple(_PLACES)
"""The names of all doors, in the order in which they are opened."""

_lock = threading.RLock()  # of all doors; one thread may be told of a change by a door that it opens
_doors: dict[str, Door] = {}


class Installation:
    """What `install` did: a context manager whose end undoes it, or `uninstall` does, once."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        self._wanted = wanted
        self._entered: list[str] = []

    @property
    def doors(self) -> tuple[str, ...]:
        """The names of the doors that this keeps open, in the order of `npipe._doors.DOORS`; none once it has ended."""
        return tuple(self._entered)

    def begin(self) -> None:
        """Open the doors; `install` does. If one cannot be opened, those before it are closed again."""
        with _lock:
            try:
                for name, wanted in self._wanted.items():
                    _door(name).enter(self, wanted)
                    self._entered.append(name)
                _tell_all()
            except BaseException:
                self.uninstall()
                raise

    def uninstall(self) -> None:
        """Undo it; nothing happens the second time.

        Installations may end in any order: a door stays open until the last one that asks for it ends. What somebody
        else has put in the place of what a door had put there is left alone.
        """
        with _lock:
            while self._entered:
                name = self._entered.pop()
                _door(name).leave(self)
            _tell_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstall()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self._entered) or 'no doors'}>"


def _door(name: str) -> Door:
    if name not in _doors:
        module, _, kind = _PLACES[name].partition(":")
        _doors[name] = getattr(importlib.import_module(f"npipe._doors.{module}"), kind)()
    return _doors[name]


def _tell_all() -> None:
    """Tell the open doors which ones are."""
    asked = {name: _doors[name].asked for name in DOORS if name in _doors and _doors[name].is_open}
    for name in asked:
        _doors[name].others_changed(asked)


def install(
    *,
    pywin32: bool = True,
    files: bool = False,
    asyncio: bool = False,
    ctypes: bool = False,
    winapi: bool = False,
    platform: bool | Iterable[str] = False,
    children: bool = False,
) -> Installation:
    r"""Let programs for Windows find pipes where they look for them, in this process, until the installation ends.

        with npipe.win32.install(files=True):
            import win32pipe

            with open(r"\\.\pipe\log", "w+b", buffering=0) as pipe: ...

    Each argument opens one door (docs/porting.md has what each does, and what it cannot):

    - `pywin32`: `import win32pipe`, `win32file`, `win32event`, `win32api`, `win32con`, `win32security`, `pywintypes`,
      `winerror` and what else of pywin32 pipe programs name;
    - `files`: `open`, `io.open`, `os.open`, `os.stat`, `os.listdir`, `pathlib` and `glob` on pipes' names;
    - `asyncio`: `ProactorEventLoop` and its policy, `create_pipe_connection`, `start_serving_pipe`;
    - `ctypes`: `ctypes.WinDLL("kernel32")`, `windll`, `WinError`, `get_last_error`;
    - `winapi`: the modules `_winapi`, `_overlapped` and `msvcrt`, and multiprocessing's `AF_PIPE`;
    - `platform`: `sys.platform`, `os.name` and `platform.system()` are Windows' for the program's own modules and for
      the packages that are named, or whose folder is, by its absolute path (True: for none but the program's own),
      never for the standard library;
    - `children`: Python processes that this one starts have the same doors.

    The command `npipe run` opens all of them but `platform`. Nothing has to be kept: an installation stays until
    `uninstall` or the end of the `with` block, for good if neither comes. What was imported meanwhile keeps what it
    has, and does outside of the scope what it does without npipe.

    Raises `RuntimeError` where pywin32 itself has been imported. On Windows everything is the system's own: nothing is
    done.
    """
    if isinstance(platform, str):
        raise TypeError(f"platform is True, or the names of packages in a list: [{platform!r}]")
    wanted: dict[str, Any] = {
        "pywin32": bool(pywin32),
        "files": bool(files),
        "asyncio": bool(asyncio),
        "ctypes": bool(ctypes),
        "winapi": bool(winapi),
        "platform": frozenset(platform) if isinstance(platform, Iterable) else bool(platform),
        "children": bool(children),
    }
    installation = Installation({name: value for name, value in wanted.items() if value is not False})
    if sys.platform != "win32":
        installation.begin()
    return installation
