"""How a process is told which doors it has: NPIPE_DOORS, and a folder with a `sitecustomize` in PYTHONPATH."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["DOORS", "FOLDER", "PATH", "Environment", "doors_of"]

DOORS: Final = "NPIPE_DOORS"
PATH: Final = "PYTHONPATH"
FOLDER: Final = str(Path(__file__).parent / "startup")
"""Where the `sitecustomize` is."""

_NAMES: Final = ("pywin32", "files", "asyncio", "ctypes", "winapi", "platform", "children")
_ESCAPES: Final = {ord(letter): f"%{ord(letter):02X}" for letter in "%:,"}


def doors_of(text: str) -> dict[str, Any]:
    """Return the arguments of `install` that a text of NPIPE_DOORS stands for; another version's doors are left out."""
    asked: dict[str, Any] = {}
    for item in text.split(","):
        name, _, packages = item.partition("=")
        if name in _NAMES:
            asked[name] = [_plain(package) for package in packages.split(":")] if packages else True
    return asked


def _text_of(asked: Mapping[str, Any]) -> str:
    return ",".join(name if wanted is True else f"{name}={_list_of(wanted)}" for name, wanted in asked.items())


def _list_of(names: Iterable[str]) -> str:
    """Return packages' names and folders' paths, which may have any character in them."""
    return ":".join(name.translate(_ESCAPES) for name in sorted(names))


def _plain(name: str) -> str:
    for code, escape in reversed(_ESCAPES.items()):
        name = name.replace(escape, chr(code))
    return name


class Environment:
    """The two variables: in `os.environ` from `put` to `take_away`, and in the environments that a program makes."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}  # what the variables were
        self._ours: dict[str, str] = {}  # and what they are: replaced as a whole, for threads that start processes

    def put(self, asked: Mapping[str, Any]) -> None:
        """Set the variables; what the program has set meanwhile stays."""
        ours = dict(self._ours)
        wanted = {DOORS: _text_of(asked), PATH: _with_folder(os.environ.get(PATH))}
        for name, text in wanted.items():
            now = os.environ.get(name)
            if name not in ours:
                self._before[name] = now
            elif now != ours[name]:
                continue
            ours[name] = os.environ[name] = text
        self._ours = ours

    def take_away(self) -> None:
        """Put back what was there; of a PYTHONPATH that the program has changed all but our folder stays."""
        ours, self._ours = self._ours, {}
        for name, text in ours.items():
            now, before = os.environ.get(name), self._before[name]
            if now == text:
                _set(name, before)
            elif name == PATH and now is not None and FOLDER not in (before or "").split(os.pathsep):
                _set(name, os.pathsep.join(place for place in now.split(os.pathsep) if place != FOLDER))
        self._before.clear()

    def told_in(self, environment: Any) -> Any:
        """Return an environment for a new process, with the variables; None stands for `os.environ`.

        One that is no mapping is the program's mistake, and is returned as it is.
        """
        ours = self._ours
        if environment is None:
            complete = all(os.environ.get(name) == text for name, text in ours.items())
            return None if complete else self.told_in(dict(os.environ))
        if not isinstance(environment, Mapping) or DOORS not in ours:
            return environment
        told = dict(environment)
        path = os.fsencode(PATH) if os.fsencode(PATH) in told else PATH
        try:
            told[path] = _with_folder(None if told.get(path) is None else os.fsdecode(told[path]))
        except TypeError:
            return environment
        if os.fsencode(DOORS) not in told:
            told.setdefault(DOORS, ours[DOORS])
        return told


def _with_folder(path: str | None) -> str:
    if not path:
        return FOLDER
    return path if FOLDER in path.split(os.pathsep) else f"{FOLDER}{os.pathsep}{path}"


def _set(name: str, text: str | None) -> None:
    if text is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = text
